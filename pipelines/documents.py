"""Documents: their ids, their columns, and the writer that puts them into an artifact batch by batch.

A document is one row of ``documents.arrow`` (what is known about it) and the row at the same place of
``texts.arrow`` (its text, kept apart so that it can be redacted while everything else still verifies).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import BATCH_ROWS, read_batches

DOCUMENTS, TEXTS, FILES = "documents.arrow", "texts.arrow", "files.arrow"
BATCH_BYTES = 16 << 20  # of text: a batch of whole books must not hold 8,192 of them

RAW_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("key", pa.string()),  # the record's own name inside its source; empty if it has none
        ("uri", pa.string()),  # relative to the source, never a path of the machine that read it
        ("file", pa.string()),
        ("position", pa.int64()),  # line or row, from 1
        ("group", pa.string()),  # documents of one group are held out together or not at all
        ("licence", pa.string()),  # SPDX expression
        ("num_bytes", pa.int64()),  # of the text in UTF-8
    ]
)
CLEAN_SCHEMA = pa.schema(
    [
        *RAW_SCHEMA,
        ("language", pa.string()),
        ("num_words", pa.int64()),
        ("sha256_in", pa.binary(32)),
        ("sha256_out", pa.binary(32)),
    ]
)
TEXTS_SCHEMA = pa.schema([("doc_id", pa.binary(16)), ("text", pa.large_string())])
FILES_SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("blake3", pa.string())])


class Record(NamedTuple):
    """One record as a reader found it: a text, or a problem with the raw bytes that have it."""

    file: str
    position: int
    uri: str
    text: str = ""
    key: str = ""
    group: str = ""  # empty: the record is a group of its own
    licence: str = ""
    problem: str = ""  # "kind: where (detail)"; never a piece of the content
    raw: bytes = b""  # of a record with a problem; of one too large to hold, its SHA-256 and size


def doc_id(source: str, record_key: str, raw: bytes, ordinal: int) -> bytes:
    """The stable name of a document: 16 bytes of SHA-256 over four length-prefixed fields.

    Neither snapshot, file nor position enters, so a record keeps its id when the next snapshot brings it again
    or when files are split differently.

    Args:
        source: name of the source without its snapshot.
        record_key: name of the record inside the source, or "".
        raw: its text in UTF-8 as the source gave it; the bytes themselves where they are no text.
        ordinal: number among records that are equal in all of the above, from 0.
    """
    hasher = hashlib.sha256()
    for field in (source.encode(), record_key.encode("utf-8", "surrogatepass"), raw, ordinal.to_bytes(8, "little")):
        hasher.update(len(field).to_bytes(8, "little"))
        hasher.update(field)
    return hasher.digest()[:16]


class Ids:
    """Gives out the ids of one source. Remembers about 100 bytes a record, to number equal ones."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._seen: dict[bytes, int] = {}

    def next(self, record_key: str, raw: bytes) -> bytes:
        first = doc_id(self._source, record_key, raw, 0)
        ordinal = self._seen.get(first, 0)
        self._seen[first] = ordinal + 1
        return doc_id(self._source, record_key, raw, ordinal) if ordinal else first


class TableWriter:
    """Several Arrow IPC files that are written batch by batch, side by side.

    Every call of :meth:`write` makes one record batch, so rows of files that are written together share their
    batch boundaries and can be read together.
    """

    def __init__(self, draft: Draft, schemas: dict[str, pa.Schema]) -> None:
        self._schemas = schemas
        self._sinks = {name: pa.OSFile(str(draft.path(name)), "wb") for name in schemas}
        self._writers = {name: pa.ipc.new_file(self._sinks[name], schema) for name, schema in schemas.items()}

    def write(self, name: str, table: pa.Table) -> None:
        if table.num_rows:
            # take() copies: a slice would drag its parent's offsets and validity bits into the file
            whole = table.cast(self._schemas[name]).take(pa.array(np.arange(table.num_rows))).combine_chunks()
            self._writers[name].write_batch(whole.to_batches()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, writer in self._writers.items():
            writer.close()
            self._sinks[name].close()


class RecordWriter:
    """Writes records as documents, texts and fates; memory is bounded by one batch."""

    def __init__(self, draft: Draft, source: str) -> None:
        self._ids = Ids(source)
        self._tables = TableWriter(draft, {DOCUMENTS: RAW_SCHEMA, TEXTS: TEXTS_SCHEMA, fates.FILE: fates.SCHEMA})
        self._clear()
        self.counts = {"seen": 0, **dict.fromkeys(fates.FATES, 0)}
        self.reasons: dict[str, int] = {}
        self.num_bytes = 0

    def _clear(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._texts: list[bytes] = []
        self._fates = fates.FateRows()
        self._num_fates = self._num_bytes = 0

    def add(self, record: Record) -> None:
        """One more document: kept, dropped because it is empty, or quarantined."""
        problem, data = record.problem, record.raw
        if not problem:
            problem, data = problem_of(record)
        identity = self._ids.next(record.key, data)
        if problem:
            self._settle(identity, fates.QUARANTINED, problem)
        elif not record.text.strip():
            self._settle(identity, fates.DROPPED, "empty", float(len(data)))
        else:
            self._settle(identity, fates.KEPT)
            self._rows.append(
                (
                    identity,
                    record.key,
                    record.uri,
                    record.file,
                    record.position,
                    record.group or identity.hex(),
                    record.licence,
                    len(data),
                )
            )
            self._texts.append(data)
            self._num_bytes += len(data)
        if self._num_fates >= BATCH_ROWS or self._num_bytes >= BATCH_BYTES:
            self._flush()

    def _settle(self, identity: bytes, fate: str, reason: str = "", value: float | None = None) -> None:
        self._fates.add(identity, fate, reason, value)
        self._num_fates += 1
        self.counts["seen"] += 1
        self.counts[fate] += 1
        if reason:
            name = f"{fate}: {reason.split(':', 1)[0]}"
            self.reasons[name] = self.reasons.get(name, 0) + 1

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [[] for _ in RAW_SCHEMA]
        documents = pa.table([pa.array(c, f.type) for c, f in zip(columns, RAW_SCHEMA, strict=True)], RAW_SCHEMA)
        self._tables.write(DOCUMENTS, documents)
        texts = pa.array(self._texts, pa.large_string())
        self._tables.write(TEXTS, pa.table([documents["doc_id"], texts], TEXTS_SCHEMA))
        self._tables.write(fates.FILE, self._fates.table())
        self.num_bytes += self._num_bytes
        self._clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._tables.__exit__(kind, error, trace)


def problem_of(record: Record) -> tuple[str, bytes]:
    """What is wrong with a text that decoded well, or ""; and its bytes."""
    where = f"{record.file} {record.position}"
    try:
        data = record.text.encode()
    except UnicodeEncodeError as error:
        raw = record.text.encode("utf-8", "surrogatepass")
        return f"lone surrogate: {where} (character {error.start} of the text)", raw
    if "\0" in record.text:
        return f"NUL byte: {where} (character {record.text.index(chr(0))} of the text)", data
    return "", data


def read_documents(artifact: Artifact) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Documents and texts, aligned, batch by batch."""
    pairs = zip(read_batches(artifact.local(DOCUMENTS)), read_batches(artifact.local(TEXTS)), strict=True)
    for documents, texts in pairs:
        assert documents["doc_id"].equals(texts["doc_id"]), f"{artifact.key}: documents and texts are not aligned"
        yield documents, texts
