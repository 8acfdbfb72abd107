"""Trace: which documents a step read, and which steps and checkpoints have read a document.

Answers come from manifests, the closed-form plan and the sorted shards alone; there is no log to lose. A sequence
holds T + 1 tokens, and the document of its last target counts as read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from string import hexdigits
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.consumption import planned_documents
from pipelines.layouts import LaidOut, stream
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import FILE as FATES_FILE
from pipelines.provenance.lineage import CHECKPOINTS, ancestor, ancestors, upstream_first
from pipelines.provenance.plan import Plan
from pipelines.provenance.store import Store
from pipelines.provenance.tables import read_batches
from pipelines.shard_reader import ShardReader


class Read(NamedTuple):
    """Tokens of one document that one step read: from ``start`` to ``start + length`` inside the document."""

    step: int
    slot: int
    part: str  # of the shards
    doc_id: bytes
    start: int
    length: int


@dataclass(frozen=True)
class Fate:
    """What became of a document at one stage."""

    stage: str
    part: str
    fate: str
    reason: str
    value: float | None
    survivor: bytes | None
    jaccard: float | None
    method: str


class Tracer:
    """Answers for one checkpoint.

    Args:
        checkpoint: a pretrained model, one of its milestones, which answers for its own steps alone, or a pruned model,
            which answers for those of its recovery.

    Raises:
        ValueError: for a fine-tune, whose steps read examples and not sequences of the mixture, for a model from
            elsewhere, and for one that was made smaller without training.
    """

    def __init__(self, checkpoint: Artifact) -> None:
        if refused := _without_steps(checkpoint):
            raise ValueError(f"{checkpoint.key} {refused}")
        self.checkpoint = checkpoint
        self.mixture = ancestor(checkpoint, "mixture")
        is_recovery = checkpoint.key.asset == "compressed_model"  # it has an order of its own, and takes all of it
        self.plan = Plan.model_validate((checkpoint if is_recovery else self.mixture).json("plan.json"))
        self.num_steps = self.plan.num_steps
        if not is_recovery:
            self.num_steps = min(self.num_steps, checkpoint.facts.get("step", self.num_steps))
        self._shards = self.mixture.input("token_shards")
        self._planned = {part.name: part for part in self.plan.parts}
        self._readers: dict[str, ShardReader | LaidOut] = {}

    def reader(self, part: str) -> ShardReader | LaidOut:
        """The token stream of one part of the plan, opened when it is first asked for."""
        if part not in self._readers:
            planned = self._planned[part]
            self._readers[part] = stream(self._shards.part(planned.shards), self.mixture, planned)
        return self._readers[part]

    @cached_property
    def readers(self) -> dict[str, ShardReader | LaidOut]:
        return {part.name: self.reader(part.name) for part in self.plan.parts}

    def documents(self, step: int) -> list[Read]:
        """Everything that a step read, slot by slot.

        Raises:
            ValueError: if the checkpoint has not got that far.
        """
        if not 1 <= step <= self.num_steps:
            raise ValueError(f"{self.checkpoint.key} read steps 1 to {self.num_steps}, not {step}.")
        slots = self.plan.slots(step)
        parts, sequences = self.plan.sequences(slots)
        used = [self.plan.parts[part].name for part in np.unique(parts).tolist()]
        seen = planned_documents(self.plan, {name: self.reader(name) for name in used}, parts, sequences)
        sources = [part.shards for part in self.plan.parts]
        columns = (slots.start + seen.ranges).tolist(), [sources[part] for part in parts[seen.ranges].tolist()]
        rows = zip(repeat(step), *columns, seen.doc_ids(), seen.starts.tolist(), seen.lengths.tolist(), strict=False)
        return list(map(tuple.__new__, repeat(Read), rows))  # Read() itself would take a third of the time

    def reads(self, doc_id: bytes) -> list[Read]:
        """Every reading of a document, in the order of the steps; empty if no step has read it."""
        found = []
        for index, part in enumerate(self.plan.parts):
            for place, first_token, size in self.reader(part.name).places(doc_id):
                found += self._reads_of(index, doc_id, place, first_token, size)
        return sorted(found, key=lambda read: (read.step, read.slot, read.start))

    def _reads_of(self, part: int, doc_id: bytes, place: int, first_token: int, size: int) -> Iterator[Read]:
        """Every reading of the tokens [place, place + size) of a part, which are a document's from ``first_token`` on."""
        length, stride, planned = self.plan.sequence_length, self.plan.stride(part), self.plan.parts[part]
        # sequence i holds tokens i * stride to i * stride + length: neighbours share one token if stride is length
        first = max(0, -(-(place - length) // stride))
        last = min(planned.num_sequences - 1, (place + size - 1) // stride)
        sequences = np.arange(first, last + 1)
        which, slots = self.plan.readings(part, sequences)
        steps = self.plan.steps_of(slots)
        known = (steps > 0) & (steps <= self.num_steps)
        begins = np.maximum(place, sequences[which[known]] * stride)
        ends = np.minimum(place + size, sequences[which[known]] * stride + length + 1)
        starts, lengths = (begins - place + first_token).tolist(), (ends - begins).tolist()
        columns = steps[known].tolist(), slots[known].tolist(), repeat(planned.shards), repeat(doc_id), starts, lengths
        return map(Read, *columns)

    def described(self, doc_ids: list[bytes]) -> dict[bytes, dict]:
        """uri, file, licence and the rest of the columns of documents, by id."""
        documents = self._shards.input("training_documents")
        wanted = pa.array(sorted(set(doc_ids)), pa.binary(16))
        found: dict[bytes, dict] = {}
        for part in documents.parts():
            for batch in read_batches(part.local("documents.arrow")):
                for row in batch.filter(pc.is_in(batch["doc_id"], wanted)).to_pylist():
                    found[row["doc_id"]] = {**row, "part": part.key.part}
        return found


def has_steps(model: Artifact) -> bool:
    """Whether a model has read sequences of a mixture, so that a :class:`Tracer` can answer for it."""
    return not _without_steps(model)


def _without_steps(model: Artifact) -> str:
    if model.key.asset == "imported_model":
        return "is a model from elsewhere: what it was trained on is not known here."
    if model.key.asset == "finetuned_model":
        return (
            f"is a fine-tune: its steps read examples, which `stemma show finetuning_shards {model.key.partition}` lists "
            f"with their documents. Its base, whose steps can be asked, is {_base_of(model)}."
        )
    if model.key.asset == "compressed_model" and "plan.json" not in model.names():
        return f"was made smaller without any training. Its base, whose steps can be asked, is {_base_of(model)}."
    return ""


def _base_of(model: Artifact) -> str:
    return model.input("pretrained_model").key.partition


def fates(artifacts: list[Artifact], doc_id: bytes) -> list[Fate]:
    """What became of a document at every stage of the given family trees, upstream first."""
    wanted = pa.scalar(doc_id, pa.binary(16))
    found = []
    for artifact in upstream_first(*artifacts):
        if FATES_FILE not in artifact.names():
            continue
        for batch in read_batches(artifact.local(FATES_FILE)):
            for row in batch.filter(pc.equal(batch["doc_id"], wanted)).to_pylist():
                row.pop("doc_id")
                found.append(Fate(artifact.key.asset, artifact.key.part or artifact.key.partition, **row))
    return found


def find_documents(store: Store, needle: str) -> Iterator[tuple[bytes, Artifact]]:
    """Documents by id (32 hexadecimal digits), uri, or text (whole, or a passage of at least eight words).

    Looks at raw documents first (uri, id, raw text), then at clean ones (a passage copied from what a model has
    read): the published ones, and those that a checkpoint was made from before its sources moved on. Yields each
    document once, with the artifact in which it was found.
    """
    matches = _matcher(needle)
    seen: set[bytes] = set()
    for asset in ("raw_documents", "clean_documents"):
        for artifact in known(store, asset):
            for doc_id in matches(artifact):
                if doc_id not in seen:
                    seen.add(doc_id)
                    yield doc_id, artifact
        if seen:
            return


def known(store: Store, asset: str) -> list[Artifact]:
    """Published artifacts of an asset, and superseded ones that a published checkpoint was made from."""
    found: dict[str, Artifact] = {}
    for key in store.keys():
        if key.asset == asset and not key.part:
            artifact = store.open(*key)
            found[artifact.digest] = artifact
    for key in store.keys():
        if key.asset in CHECKPOINTS and not key.part:
            for artifact in ancestors(store.open(*key)):
                if artifact.key.asset == asset and not artifact.key.part:
                    found.setdefault(artifact.digest, artifact)
    return list(found.values())


def _matcher(needle: str) -> Callable[[Artifact], Iterator[bytes]]:
    words = needle.split()
    if (as_id := _as_id(needle)) is not None:
        wanted = pa.scalar(as_id, pa.binary(16))
        return lambda artifact: _equal(artifact, ("documents.arrow", FATES_FILE), "doc_id", wanted)
    if len(words) == 1:
        return lambda artifact: _equal(artifact, ("documents.arrow",), "uri", needle)
    passage = " ".join(words)
    compare = pc.match_substring if len(words) >= 8 else pc.equal  # so few words would match too much: only whole texts
    return lambda artifact: _with_text(artifact, passage, compare)


def _equal(artifact: Artifact, names: tuple[str, ...], column: str, value: Any) -> Iterator[bytes]:
    for name in names:
        for batch in read_batches(artifact.local(name)):
            yield from batch.filter(pc.equal(batch[column], value))["doc_id"].to_pylist()


def _with_text(artifact: Artifact, passage: str, compare: Callable[..., Any]) -> Iterator[bytes]:
    for batch in read_batches(artifact.local("texts.arrow")):
        # all white space is one, as in str.split: a passage may have been wrapped anew on its way here
        flat = pc.utf8_trim_whitespace(pc.replace_substring_regex(batch["text"], r"[\s\p{Z}\x0b\x1c-\x1f\x{85}]+", " "))
        yield from batch.filter(compare(flat, passage))["doc_id"].to_pylist()


def _as_id(text: str) -> bytes | None:
    # bytes.fromhex would skip white space and give fewer than 16 bytes
    return bytes.fromhex(text) if len(text) == 32 and set(text) <= set(hexdigits) else None
