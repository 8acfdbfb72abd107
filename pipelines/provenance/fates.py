"""Fates: what became of every document at every stage. Nothing vanishes.

A stage that looks at documents writes one row a document: kept, held_out, dropped (reason, measured value),
merged (survivor, true Jaccard, method) or quarantined (what was wrong with the bytes).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

KEPT, HELD_OUT, DROPPED, MERGED, QUARANTINED = FATES = ("kept", "held_out", "dropped", "merged", "quarantined")
FILE = "fates.arrow"

SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("fate", pa.string()),
        ("reason", pa.string()),  # rule that dropped it, or what was wrong with the bytes; empty for kept
        ("value", pa.float64()),  # the measured value that broke the rule; merged by sense: the cosine
        ("survivor", pa.binary(16)),  # merged: the document that stays
        ("jaccard", pa.float64()),  # merged: true Jaccard with the survivor
        ("method", pa.string()),  # merged: exact, normalised, near or semantic
    ]
)


class ConservationError(ValueError):
    """Documents appeared or vanished: seen != kept + held_out + dropped + merged + quarantined."""


@dataclass
class FateRows:
    """Collects fates row by row, for stages that meet few documents or decide one at a time."""

    columns: dict[str, list] = field(default_factory=lambda: {name: [] for name in SCHEMA.names})

    def add(
        self,
        doc_id: bytes,
        fate: str,
        reason: str = "",
        value: float | None = None,
        survivor: bytes | None = None,
        jaccard: float | None = None,
        method: str = "",
    ) -> None:
        row = (doc_id, fate, reason, value, survivor, jaccard, method)
        for column, cell in zip(self.columns.values(), row, strict=True):
            column.append(cell)

    def table(self) -> pa.Table:
        return pa.table(self.columns, schema=SCHEMA)


def all_kept(doc_ids: pa.ChunkedArray | pa.Array) -> pa.Table:
    """The fates of documents of which every one is kept."""
    return from_columns(doc_ids, pa.repeat(pa.scalar(KEPT, pa.string()), len(doc_ids)))


def from_columns(doc_ids: pa.ChunkedArray | pa.Array, fate: pa.Array, **others: pa.Array) -> pa.Table:
    """A table of fates from whole columns; columns that are not given are empty."""
    if unknown := sorted(others.keys() - set(SCHEMA.names)):
        raise TypeError(f"a table of fates has no column {', '.join(unknown)}; it has {', '.join(SCHEMA.names)}.")
    num_rows = len(doc_ids)
    columns = {"doc_id": doc_ids, "fate": fate, **others}
    for name in ("reason", "method"):
        columns.setdefault(name, pa.array([""] * num_rows, pa.string()))
    return pa.table({f.name: columns.get(f.name, pa.nulls(num_rows, f.type)) for f in SCHEMA}).cast(SCHEMA)


def counted(tables: pa.Table | Iterable[pa.Table]) -> dict[str, int]:
    """Number of documents by fate, and ``seen``, their sum."""
    counts = dict.fromkeys(FATES, 0)
    for table in _each(tables):
        for pair in pc.value_counts(table["fate"]).to_pylist():
            if pair["values"] not in counts:
                raise ConservationError(f"unknown fate {pair['values']!r}; known are {', '.join(FATES)}.")
            counts[pair["values"]] += pair["counts"]
    return {"seen": sum(counts.values()), **counts}


def reasons(tables: pa.Table | Iterable[pa.Table]) -> dict[str, int]:
    """Number of documents by reason (or method, for merged ones), of those that were not kept; largest first."""
    found: dict[str, int] = {}
    for table in _each(tables):
        gone = table.filter(pc.not_equal(table["fate"], KEPT))
        reason, method = pc.fill_null(gone["reason"], ""), pc.fill_null(gone["method"], "")
        why = pc.if_else(pc.equal(reason, ""), method, reason)
        names = pc.binary_join_element_wise(gone["fate"], why, ": ")
        for pair in pc.value_counts(names).to_pylist():
            found[pair["values"]] = found.get(pair["values"], 0) + pair["counts"]
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def kinds(tables: pa.Table | Iterable[pa.Table]) -> dict[str, int]:
    """As :func:`reasons`, with all records of a kind together: ``quarantined: not JSON`` wherever they stand."""
    found: dict[str, int] = {}
    for name, number in reasons(tables).items():
        kind = ": ".join(name.split(": ")[:2]).removesuffix(": ")  # behind the second colon: file, line and bytes
        found[kind] = found.get(kind, 0) + number
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def check_conservation(counts: dict[str, int], expected_seen: int | None = None) -> None:
    """Raise unless the books balance.

    Raises:
        ConservationError: if seen differs from the sum of the fates, or from ``expected_seen``.
    """
    total = sum(counts[name] for name in FATES)
    if counts["seen"] != total:
        raise ConservationError(f"{counts['seen']} documents seen, but their fates add up to {total}: {counts}.")
    if expected_seen is not None and counts["seen"] != expected_seen:
        raise ConservationError(f"{counts['seen']} documents seen, {expected_seen} came in: {counts}.")


def _each(tables: pa.Table | Iterable[pa.Table]) -> Iterator[pa.Table]:
    if isinstance(tables, pa.Table):
        yield tables
    else:
        yield from tables
