"""What there is to tell of a training: its curves, scores, data and digests, from the artifact and the ledger."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.ledger import entries
from pipelines.provenance.lineage import ancestor, checkpoint
from pipelines.provenance.plan import Plan
from pipelines.provenance.store import Store

BASELINES = ("trigram", "bigram", "unigram")


@dataclass(frozen=True)
class RunFacts:
    """One finished run or fine-tune."""

    name: str
    artifact: Artifact
    plan: Plan
    losses: dict[str, list[Any]]  # step, loss, lr, grad_norm of every step that was taken
    evaluations: list[dict[str, Any]]  # held-out figures; none of a fine-tune
    baselines: dict[str, float]  # bits per byte by name
    skipped: list[dict[str, Any]]  # steps that were not taken, with the reason
    training: dict[str, Any]  # circumstances: device, seconds, speeds by step
    sources: list[dict[str, Any]]  # part, licence, docs, tokens, slots, epochs

    @classmethod
    def of(cls, store: Store, name: str) -> RunFacts:
        """Of the checkpoint with this name.

        Raises:
            StoreError: if there is no such checkpoint (the message lists what there is), or nothing was trained for it.
        """
        found = checkpoint(store, name)
        if "losses.arrow" not in found.names():
            raise StoreError(
                f"{found.key} has no losses.arrow: it was not trained here. A report is of a run, a fine-tune or a pruned "
                "model that has recovered."
            )
        heldout = found.json("heldout.json") if "heldout.json" in found.names() else {}
        table = found.table("losses.arrow")
        planned = found if "plan.json" in found.names() else found.input("mixture")
        skipped = found.table("skipped.arrow").to_pylist() if "skipped.arrow" in found.names() else []
        return cls(
            name, found, Plan.model_validate(planned.json("plan.json")),
            {column: table[column].to_pylist() for column in table.column_names},
            heldout.get("evaluations", []),
            {n: v for n in BASELINES if (v := heldout.get("baselines", {}).get(f"{n}_bpb")) is not None},
            skipped, circumstances_of(store, found).get("training", {}), _sources(found),
        )  # fmt: skip

    @property
    def is_finetune(self) -> bool:
        return self.artifact.key.asset != "pretrained_model"

    def tokens(self, steps: Sequence[int]) -> list[int]:
        """Targets that had been read after each of these steps, which must ascend."""
        found, read, at = [], 0, 0
        for step in steps:
            read += sum(self.plan.batch_size(n) for n in range(at + 1, step + 1))
            at = step
            found.append(read * self.plan.sequence_length)
        return found

    def by_source(self) -> dict[str, list[tuple[int, float]]]:
        """Step and held-out bits per byte of every source, those with most documents first."""
        found: dict[str, list[tuple[int, float]]] = {}
        for evaluation in self.evaluations:  # before version 2 only the last has them
            for part, score in evaluation.get("by_part", {}).items():
                if score["bpb"] is not None:
                    found.setdefault(part, []).append((evaluation["step"], score["bpb"]))
        docs = {part: score["docs"] for part, score in self.last_by_source().items()}
        return {part: found[part] for part in sorted(found, key=lambda part: (-docs.get(part, 0), part))}

    def last_by_source(self) -> dict[str, dict[str, Any]]:
        return self.evaluations[-1].get("by_part", {}) if self.evaluations else {}


def circumstances_of(store: Store, artifact: Artifact) -> dict[str, Any]:
    """What the ledger holds of the making of an artifact: machine, time, speed. Empty if it is of another store."""
    for entry in entries(store.files):
        if entry.event == "sealed" and entry.manifest == artifact.digest:
            return json.loads(store.files.read(f"circumstances/{entry.circumstances}.json"))
    return {}


def smoothed(values: Sequence[float], window: int = 0) -> list[float]:
    """The mean of ``window`` values around each, a twenty-fifth of the run by default; what is no number is left out."""
    half = max(window or len(values) // 25, 1) // 2
    sums, numbers = [0.0], [0]
    for value in values:
        is_number = math.isfinite(value)
        sums.append(sums[-1] + (value if is_number else 0.0))
        numbers.append(numbers[-1] + is_number)
    found = []
    for place in range(len(values)):
        before = min(half, place)
        # at its steep beginning as many on either side, or the curve would bend; at its flat end the mean counts more
        first, last = place - before, min(place + (before if place < half else half) + 1, len(values))
        many = numbers[last] - numbers[first]
        found.append((sums[last] - sums[first]) / many if many else math.nan)
    return found


def _sources(found: Artifact) -> list[dict[str, Any]]:
    try:
        mixture = ancestor(found, "mixture")
    except StoreError:
        return []
    rows = mixture.table("sources.arrow").to_pylist() if "sources.arrow" in mixture.names() else []
    return sorted(rows, key=lambda row: (-row["slots"], row["part"]))
