"""Tables on disk: uncompressed Arrow IPC files, identical bytes across library versions, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from blake3 import blake3

BATCH_ROWS = 8192  # fixed, so that bytes do not depend on how a producer happened to chunk its rows
MAPPED_BATCHES = 4  # read through one map of the file: what was read of a map stays resident as long as the map


class TableError(ValueError):
    """A file is not the Arrow table that it should be."""


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table in record batches of ``BATCH_ROWS`` rows."""
    write_batches(path, table.schema, [table])


def write_batches(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Stream tables into one file; rows are re-cut to ``BATCH_ROWS``. Returns the number of rows."""
    num_rows, pending = 0, schema.empty_table()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for table in tables:
            pending = pa.concat_tables([pending, table.cast(schema)])
            whole = pending.num_rows - pending.num_rows % BATCH_ROWS
            for batch in _cut(pending.slice(0, whole)):
                writer.write_batch(batch)
            num_rows += whole
            pending = pending.slice(whole)
        for batch in _cut(pending):
            writer.write_batch(batch)
    return num_rows + pending.num_rows


def _cut(table: pa.Table) -> Iterator[pa.RecordBatch]:
    for start in range(0, table.num_rows, BATCH_ROWS):
        # take() copies: a plain slice would drag its parent's offsets and validity bits into the file
        piece = table.slice(start, BATCH_ROWS)
        (batch,) = piece.take(pa.array(np.arange(piece.num_rows))).combine_chunks().to_batches()
        yield batch


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Memory-map a whole file.

    Raises:
        TableError: if it is no whole Arrow IPC file.
    """
    table = _opened(path).read_all()
    return table.select(columns) if columns else table


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """One record batch after another, so that memory is bounded by some batches, however large the file."""
    reader = _opened(path)
    for index in range(reader.num_record_batches):
        if index and index % MAPPED_BATCHES == 0:
            reader = _opened(path)
        table = pa.Table.from_batches([reader.get_batch(index)])
        yield table.select(columns) if columns else table


def read_batch(path: Path, index: int) -> pa.Table:
    """One record batch by its number."""
    return pa.Table.from_batches([_opened(path).get_batch(index)])


def _opened(path: Path) -> pa.ipc.RecordBatchFileReader:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path)))
    except pa.ArrowInvalid as error:
        raise TableError(
            f"{path}: is no whole Arrow file ({error}). `stemma audit verify` tells what changed."
        ) from None


def rows_digest(tables: Iterable[pa.Table]) -> str:
    """Logical digest: names, types and values of all rows, however they are chunked."""
    hasher, pending = blake3(), None
    for table in tables:
        if pending is None:
            hasher.update(str([(f.name, str(f.type)) for f in table.schema]).encode())
            pending = table
        else:
            pending = pa.concat_tables([pending, table])
        whole = pending.num_rows - pending.num_rows % BATCH_ROWS
        for batch in _cut(pending.slice(0, whole)):
            hasher.update(batch.replace_schema_metadata(None).serialize())
        pending = pending.slice(whole)
    for batch in _cut(pending) if pending is not None else ():
        hasher.update(batch.replace_schema_metadata(None).serialize())
    return hasher.hexdigest()
