"""Ingest: the stage that takes a source in, file by file, and gives every record its name and its fate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import doc_ids
from pipelines.documents import (
    DOCUMENTS,
    FILES,
    FILES_SCHEMA,
    PAGES,
    PAGES_SCHEMA,
    RAW_SCHEMA,
    TEXTS,
    TEXTS_SCHEMA,
    Record,
    doc_id,
    documents_digest,
    problem_of,
)
from pipelines.pieces import BATCH_BYTES, AlignedWriter, TableWriter, aligned, rows_of
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import BATCH_ROWS, read_batches, write_batches, write_table
from pipelines.sources import IngestRecipe, Listing, Unit, listing, unit_records, units
from pipelines.tasks import Task, grouped, run_tasks

INGEST_VERSION = "2"

# A piece knows each record by the id that it has if it is the first of its kind. Which of several equal records is
# the second, only the whole source can tell; their ids are made when the pieces are joined.
RECORD = pa.field("record", pa.int64())  # number of the record in its piece
PIECE_DOCUMENTS = pa.schema([*RAW_SCHEMA, RECORD])
PIECE_FATES = pa.schema([*fates.SCHEMA, ("key", pa.string()), ("raw", pa.binary())])  # raw: null if it is the text
PIECE_SCHEMAS = {DOCUMENTS: PIECE_DOCUMENTS, TEXTS: TEXTS_SCHEMA, PAGES: PAGES_SCHEMA, fates.FILE: PIECE_FATES}
ALIGNED = {DOCUMENTS: RAW_SCHEMA, TEXTS: TEXTS_SCHEMA, PAGES: PAGES_SCHEMA}


def ingest(recipe: IngestRecipe, draft: Draft, *, path: Path | str | None = None, workers: int = 0) -> Artifact:
    """Take a source in: documents, texts, what pages say of themselves, fates and the files that were read.

    Args:
        recipe: what to read, and the origin that its files must have.
        draft: where it goes.
        path: file, directory or URL of the data; not for installed documentation.
        workers: processes; 0: one a core. The bytes do not depend on it.

    Raises:
        ValueError: if the source has no records, or is not what the recipe's origin says.
    """
    found = listing(recipe, path)
    name = f"{recipe.source}/{recipe.snapshot}"
    if recipe.origin and recipe.origin != found.origin:
        raise ValueError(
            f"source {name}: its files have origin {found.origin[:12]}…, the recipe says {recipe.origin[:12]}…. "
            "They changed after the run was planned; run again."
        )
    pieces = run_tasks(read_piece, _tasks(recipe, found), draft.workshop, workers=workers, tell=draft.tell)
    _join(pieces, recipe.source, draft)
    counts = fates.counted(read_batches(draft.path(fates.FILE)))
    if counts["seen"] == 0:
        raise ValueError(f"source {name}: {len(found.files)} files, but no record in them. Check path and reader.")
    fates.check_conservation(counts)
    write_table(draft.path(FILES), pa.Table.from_pylist([f.model_dump() for f in found.files], FILES_SCHEMA))
    return draft.seal(
        counts={"docs": counts["kept"], **counts, "files": len(found.files), "num_bytes": _num_bytes(draft)},
        facts={**_licences(draft), **_facts(recipe, found, draft)},
        rows=documents_digest(
            read_batches(draft.path(DOCUMENTS), ["doc_id", "sha256"]),
            read_batches(draft.path(fates.FILE), ["doc_id", "fate"]),
        ),
    )


def _tasks(recipe: IngestRecipe, found: Listing) -> list[Task]:
    """Small files together, so that a source of 100,000 files is no 100,000 tasks."""
    groups = grouped((unit, unit.num_bytes) for unit in units(recipe, found))
    return [
        Task(f"{n:06d}", (recipe, files, group))
        for n, (files, group) in enumerate(zip(found.apart(groups), groups, strict=True))
    ]


def read_piece(folder: Path, recipe: IngestRecipe, found: Listing, group: Sequence[Unit]) -> None:
    """Read some units of a source; memory is bounded by one batch."""
    with PieceWriter(folder, recipe.source) as writer:
        for unit in group:
            for record in unit_records(recipe, found, unit):
                writer.add(record)


class PieceWriter:
    """Writes records as documents, texts, pages and fates; memory is bounded by one batch."""

    def __init__(self, folder: Path, source: str) -> None:
        self._source = source
        self._tables = TableWriter(folder, PIECE_SCHEMAS)
        self._num_records = 0
        self._clear()

    def _clear(self) -> None:
        self._documents: list[tuple[Any, ...]] = []
        self._texts: list[bytes] = []
        self._pages: list[tuple[Any, ...]] = []
        self._fates: list[tuple[Any, ...]] = []
        self._num_bytes = 0

    def add(self, record: Record) -> None:
        """One more record: kept, dropped because it is empty, or quarantined."""
        problem, text = record.problem, b""
        if not problem:
            problem, text = problem_of(record)
        raw = record.raw or text
        identity = doc_id(self._source, record.key, raw, 0)
        fate, reason, value = fates.KEPT, "", None
        if problem:
            fate, reason = fates.QUARANTINED, problem
        elif not record.text.strip():
            fate, reason, value = fates.DROPPED, "empty", float(len(text))
        else:
            self._keep(record, identity, text)
        kept_raw = raw if fate != fates.KEPT or record.raw else None
        self._fates.append((identity, fate, reason, value, record.key, kept_raw))
        self._num_records += 1
        self._num_bytes += len(raw)
        if len(self._fates) >= BATCH_ROWS or self._num_bytes >= BATCH_BYTES:
            self._flush()

    def _keep(self, record: Record, identity: bytes, text: bytes) -> None:
        group = record.group or identity.hex()
        sha256 = hashlib.sha256(text).digest()
        self._documents.append((
            identity, record.key, record.uri, record.file, record.position, group, record.licence, record.url,
            len(text), sha256, self._num_records,
        ))  # fmt: skip
        self._texts.append(text)
        self._pages.append((identity, record.title, record.date, record.language, record.links))
        self._num_bytes += len(text) if record.raw else 0

    def _flush(self) -> None:
        documents = _table(self._documents, PIECE_DOCUMENTS)
        self._tables.write(DOCUMENTS, documents)
        texts = pa.array(self._texts, pa.large_string())
        self._tables.write(TEXTS, pa.table([documents["doc_id"], texts], TEXTS_SCHEMA))
        self._tables.write(PAGES, _table(self._pages, PAGES_SCHEMA))
        told = _table(self._fates, pa.schema([PIECE_FATES.field(n) for n in _TOLD]))
        columns = {
            n: told[n] if n in _TOLD else pa.nulls(len(told), PIECE_FATES.field(n).type) for n in PIECE_FATES.names
        }
        columns["method"] = pa.array([""] * len(told), pa.string())
        self._tables.write(fates.FILE, pa.table(columns, PIECE_FATES))
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._tables.__exit__(kind, error, trace)


_TOLD = ("doc_id", "fate", "reason", "value", "key", "raw")


def _table(rows: list[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [[] for _ in schema]
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema)


def _join(pieces: Sequence[Path], source: str, draft: Draft) -> None:
    """Join the pieces under the final ids of their records."""
    ids = _final_ids(pieces, source)
    with AlignedWriter(draft, ALIGNED) as writer:
        for start, piece in zip(_starts(pieces), pieces, strict=True):
            for rows in aligned(piece, ALIGNED):
                column = doc_ids.as_arrow(ids[start + rows[DOCUMENTS][RECORD.name].to_numpy()])
                writer.write({name: table.set_column(0, "doc_id", column) for name, table in rows.items()})
    write_batches(draft.path(fates.FILE), fates.SCHEMA, _fates(pieces, ids))


def _fates(pieces: Sequence[Path], ids: doc_ids.Ids) -> Iterator[pa.Table]:
    start = 0
    for table in rows_of(pieces, fates.FILE, fates.SCHEMA.names):
        yield table.set_column(0, "doc_id", doc_ids.as_arrow(ids[start : start + len(table)]))
        start += len(table)


def _starts(pieces: Sequence[Path]) -> list[int]:
    """Number of the first record of each piece."""
    sizes = [sum(len(table) for table in rows_of([piece], fates.FILE, ["doc_id"])) for piece in pieces]
    return [int(start) for start in np.cumsum([0, *sizes])[:-1]]


def _final_ids(pieces: Sequence[Path], source: str) -> doc_ids.Ids:
    """The ids of all records in order; of equal ones the first keeps its id, the n-th gets the id of ordinal n - 1."""
    found = [doc_ids.as_numpy(table["doc_id"]) for table in rows_of(pieces, fates.FILE, ["doc_id"])]
    ids = np.concatenate(found) if found else np.zeros(0, "S16")
    ordinals = _ordinals(ids)
    if not ordinals:
        return ids
    for start, piece in zip(_starts(pieces), pieces, strict=True):
        for row, key, raw in _identities(piece, start, np.array(sorted(ordinals), np.int64)):
            ids[row : row + 1] = np.frombuffer(doc_id(source, key, raw, ordinals[row]), "S16")
    return ids


def _ordinals(ids: doc_ids.Ids) -> dict[int, int]:
    """Of records that repeat an earlier one: row -> how many equal ones came before."""
    order = doc_ids.order(ids)
    begins = np.flatnonzero(np.append(True, ids[order][1:] != ids[order][:-1])[: len(ids)])
    ordinal = np.arange(len(ids)) - np.repeat(begins, np.diff(np.append(begins, len(ids))))
    return (
        {int(row): int(number) for row, number in zip(order, ordinal, strict=True) if number} if ordinal.any() else {}
    )


def _identities(piece: Path, start: int, wanted: np.ndarray) -> Iterator[tuple[int, str, bytes]]:
    """Row, key and identity bytes of the wanted records of a piece, which begins with row ``start``."""
    first, by_text = start, set()
    for table in rows_of([piece], fates.FILE, ["key", "raw"]):
        for row in wanted[slice(*np.searchsorted(wanted, [first, first + len(table)]))].tolist():
            raw = table["raw"][row - first].as_py()
            if raw is None:
                by_text.add(row)
            else:
                yield row, table["key"][row - first].as_py(), raw
        first += len(table)
    for rows in aligned(piece, {DOCUMENTS: PIECE_DOCUMENTS, TEXTS: TEXTS_SCHEMA}) if by_text else ():
        records = start + rows[DOCUMENTS][RECORD.name].to_numpy()
        for place in np.flatnonzero(np.isin(records, list(by_text))).tolist():
            text = rows[TEXTS]["text"][place].as_buffer().to_pybytes()
            yield int(records[place]), rows[DOCUMENTS]["key"][place].as_py(), text


def _licences(draft: Draft) -> dict[str, Any]:
    documents = read_batches(draft.path(DOCUMENTS), ["licence"])
    names = sorted({name for table in documents for name in table["licence"].unique().to_pylist()})
    stated = " AND ".join(f"({name})" if " " in name and len(names) > 1 else name for name in names)
    return {"license": stated, "licences": names}


def _facts(recipe: IngestRecipe, found: Listing, draft: Draft) -> dict[str, Any]:
    """What people read of it; reasons without the places that each of them names."""
    reasons: dict[str, int] = {}
    for table in read_batches(draft.path(fates.FILE), ["fate", "reason"]):
        gone = table.filter(pc.not_equal(table["fate"], fates.KEPT))
        for fate, reason in zip(gone["fate"].to_pylist(), gone["reason"].to_pylist(), strict=True):
            name = f"{fate}: {reason.split(':', 1)[0]}"
            reasons[name] = reasons.get(name, 0) + 1
    return {
        "reader": recipe.reader,
        "files": len(found.files),
        "ignored_files": found.ignored,
        "origin": found.origin,
        "reasons": dict(sorted(reasons.items())),
    }


def _num_bytes(draft: Draft) -> int:
    return sum(pc.sum(table["num_bytes"]).as_py() or 0 for table in read_batches(draft.path(DOCUMENTS), ["num_bytes"]))
