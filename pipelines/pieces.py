"""Pieces: Arrow files that tasks wrote, joined into the files of an artifact.

Where a record batch ends depends on the rows alone: not on how the work was cut, nor on who did it. Files whose rows
belong together (a document and its text) have the same batches, so that they can be read side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.provenance.artifact import Draft
from pipelines.provenance.tables import BATCH_ROWS, read_batches, write_batches

BATCH_BYTES = 16 << 20  # of text: a batch of whole books must not hold 8,192 of them
Rows = dict[str, pa.Table]


class TableWriter:
    """Several Arrow IPC files that are written batch by batch, side by side; every call makes one record batch."""

    def __init__(self, folder: Path, schemas: dict[str, pa.Schema]) -> None:
        self._schemas = schemas
        self._sinks = {name: pa.OSFile(str(folder / name), "wb") for name in schemas}
        self._writers = {name: pa.ipc.new_file(self._sinks[name], schema) for name, schema in schemas.items()}

    def write(self, name: str, table: pa.Table) -> None:
        if table.num_rows:
            schema = self._schemas[name]
            columns = [_own(column) for column in table.cast(schema).columns]
            self._writers[name].write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, writer in self._writers.items():
            writer.close()
            self._sinks[name].close()


def _own(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array: as it is if it is nobody's slice, which is written 7 times faster, else a copy.

    A slice would drag its parent's offsets and validity bits into the file.
    """
    if column.num_chunks == 1 and _is_whole(column.chunk(0)):
        return column.chunk(0)
    taken = column.take(pa.array(np.arange(len(column)))).combine_chunks()
    return taken.chunk(0) if isinstance(taken, pa.ChunkedArray) else taken


def _is_whole(array: pa.Array) -> bool:
    """Whether the buffers hold the rows and nothing else; of bits nobody can tell, since they fill whole bytes."""
    nested = (
        pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type)
    )
    for one in (array, array.values) if nested else (array,):
        if one.buffers()[0] is not None or pa.types.is_boolean(one.type):
            return False
    last = 8 if pa.types.is_large_list(array.type) else 0  # nbytes leaves the end of the last row out
    return array.offset == 0 and array.nbytes + last == array.get_total_buffer_size()


def rows_of(pieces: Sequence[Path], name: str, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """One file of every piece, batch after batch."""
    for piece in pieces:
        yield from read_batches(piece / name, columns)


def join(pieces: Sequence[Path], name: str, schema: pa.Schema, draft: Draft) -> None:
    """Write the rows of one file of all pieces, re-cut to ``BATCH_ROWS``."""
    write_batches(draft.path(name), schema, rows_of(pieces, name))


def aligned(piece: Path, names: Iterable[str]) -> Iterator[Rows]:
    """The rows of files that were written side by side, batch after batch."""
    for tables in zip(*(read_batches(piece / name) for name in names), strict=True):
        yield dict(zip(names, tables, strict=True))


def join_aligned(pieces: Sequence[Path], schemas: dict[str, pa.Schema], draft: Draft) -> None:
    """Write files whose rows belong together; the one with a column ``text`` says how much a batch holds."""
    with AlignedWriter(draft, schemas) as writer:
        for piece in pieces:
            for rows in aligned(piece, schemas):
                writer.write(rows)


class AlignedWriter:
    """Writes aligned rows in batches of at most ``BATCH_ROWS`` rows and, but for a single text, ``BATCH_BYTES``."""

    def __init__(self, draft: Draft, schemas: dict[str, pa.Schema]) -> None:
        for name in schemas:
            draft.path(name)
        self._schemas = schemas
        self._text = next(name for name, schema in schemas.items() if "text" in schema.names)
        self._tables = TableWriter(draft.directory, schemas)
        self._pending: Rows = {name: schema.empty_table() for name, schema in schemas.items()}

    def write(self, rows: Rows) -> None:
        self._pending = {
            name: pa.concat_tables([self._pending[name], rows[name].select(schema.names).cast(schema)])
            for name, schema in self._schemas.items()
        }
        while stop := self._full():
            self._flush(stop)

    def _full(self) -> int:
        """Rows of the next batch, 0 if there may be more to come for it."""
        text = self._pending[self._text]["text"]
        ends = np.cumsum(pc.binary_length(text).to_numpy())
        stop = int(np.searchsorted(ends, BATCH_BYTES, side="right"))
        if stop < len(ends):
            return min(max(stop, 1), BATCH_ROWS)
        return BATCH_ROWS if len(ends) >= BATCH_ROWS else 0

    def _flush(self, stop: int) -> None:
        for name, table in self._pending.items():
            self._tables.write(name, table.slice(0, stop))
            self._pending[name] = table.slice(stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush(self._pending[self._text].num_rows)
        self._tables.__exit__(kind, error, trace)
