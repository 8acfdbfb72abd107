"""Examples: for every reason, some documents that went for it; short, and with everything masked that can be."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from assets.markdown import literal, num_bytes
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import FILE, KEPT, kinds
from pipelines.provenance.tables import read_batches

if TYPE_CHECKING:
    from pipelines.profile.signal_counts import Bound

MOST, CHARACTERS = 10, 120  # examples a reason, characters an example
_HEAD = 16_384  # characters that are masked before they are cut to CHARACTERS: a private key has some 3,200
TEXTS = "texts.arrow"


class Example(NamedTuple):
    """A document that went."""

    doc_id: bytes
    reason: str
    value: float | None


def examples(artifact: Artifact, bounds: Sequence[Bound], most_bytes: int) -> str:
    """Ten documents of every reason as Markdown, the commonest reason first; fewer where there is no room.

    The documents are those with the smallest ids: as good as drawn by lot, and the same every time.
    """
    chosen = chosen_examples(artifact)
    ids = [example.doc_id for found in chosen.values() for example in found]
    texts = texts_of(artifact.inputs("raw_documents"), ids, _HEAD)
    shown = dict(zip(texts, shown_texts(list(texts.values())), strict=True))
    counts = kinds(read_batches(artifact.local(FILE)))
    reasons = {name.partition(": ")[2]: number for name, number in counts.items()}
    heads = {r: _head(r, number, bounds) for r, number in reasons.items() if r in chosen}
    rows: dict[str, list[str]] = {reason: [] for reason in heads}
    room = most_bytes - sum(num_bytes(head) + 2 for head in heads.values())
    for rank in range(MOST):
        for reason in heads:
            if rank < len(chosen[reason]):
                example = chosen[reason][rank]
                row = f"| {_measured(example.value)} | {literal(shown.get(example.doc_id, ''))} |"
                room -= num_bytes(row) + 2
                if room >= 0:
                    rows[reason].append(row)
    return "\n".join(line for reason in heads if rows[reason] for line in [heads[reason], *rows[reason]]).strip()


def chosen_examples(artifact: Artifact, most: int = MOST) -> dict[str, list[Example]]:
    """Of every reason the documents with the smallest ids."""
    chosen: dict[str, list[Example]] = {}
    for table in read_batches(artifact.local(FILE), ["doc_id", "fate", "reason", "value"]):
        gone = table.filter(pc.not_equal(table["fate"], KEPT))
        for reason in gone["reason"].unique().to_pylist():
            found = gone.filter(pc.equal(gone["reason"], reason))
            first = found.take(pc.sort_indices(found["doc_id"])[:most])
            rows = zip(*(first[name].to_pylist() for name in ("doc_id", "reason", "value")), strict=True)
            chosen[reason] = sorted([*chosen.get(reason, []), *(Example(*row) for row in rows)])[:most]
    return chosen


def shown_texts(texts: list[str]) -> list[str]:
    """Texts in normal form, masked by every rule there is, in one line, and short; nothing invisible is left in them."""
    import polars as pl

    from pipelines.normalize import NormalizeRecipe, written
    from pipelines.privacy.masking import RULES, PrivacyRecipe, masked_column

    heads = written(pl.Series(texts, dtype=pl.String), NormalizeRecipe())
    everything = PrivacyRecipe(**{f"mask_{rule}": True for rule in RULES})
    masked, _ = masked_column(pa.array(heads.to_list(), pa.large_string()), everything)
    return [_short(text) for text in masked.to_pylist()]


def _short(text: str) -> str:
    line = " ".join(text[: 40 * CHARACTERS].split())
    cut = line if len(line) <= CHARACTERS else line[: CHARACTERS - 1] + "…"
    return "".join(c if unicodedata.category(c)[0] != "C" else f"\\u{ord(c):04x}" for c in cut)


def texts_of(artifacts: list[Artifact], ids: list[bytes], most: int | None = None) -> dict[bytes, str]:
    """The texts of some documents, or so many of their first characters, from the first artifact that has each."""
    wanted = pa.array(sorted(set(ids)), pa.binary(16))
    found: dict[bytes, str] = {}
    for artifact in artifacts if ids else []:
        if TEXTS in artifact.names():
            for batch in read_batches(artifact.local(TEXTS)):
                rows = batch.filter(pc.is_in(batch["doc_id"], wanted))
                texts = rows["text"] if most is None else pc.utf8_slice_codeunits(rows["text"], 0, most)
                for doc_id, text in zip(rows["doc_id"].to_pylist(), texts.to_pylist(), strict=True):
                    found.setdefault(doc_id, text)
    return found


def _head(reason: str, number: int, bounds: Sequence[Bound]) -> str:
    rules = [f"{b.signal} {'<' if b.is_least else '>'} {b.limit:g}" for b in bounds if b.reason == reason]
    rule = f" ({literal(' or '.join(rules))})" if rules else ""
    return f"\n**{literal(reason)}**{rule}, {number:,} documents\n\n| measured | text |\n|---:|---|"


def _measured(value: Any) -> str:
    return "" if value is None else f"{value:.4g}"
