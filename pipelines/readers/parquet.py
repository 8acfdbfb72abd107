"""Parquet: one record a row, one unit of work a row group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from pipelines.documents import Record
from pipelines.readers.columns import BATCH_BYTES, BATCH_ROWS, UNREADABLE, batch_records, check_columns, unreadable
from pipelines.readers.fields import Fields

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile


def row_groups(path: Path | BinaryIO, name: str, fields: Fields) -> list[int]:
    """Uncompressed bytes of every row group, by the footer; empty if the file cannot be read as Parquet.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, memory_map=isinstance(path, Path)) as file:
            check_columns(file.schema_arrow.names, name, fields)
            return [file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups)]
    except UNREADABLE:
        return []


def parquet_records(path: Path, name: str, fields: Fields, max_record_bytes: int, group: int = -1) -> Iterator[Record]:
    """One record a row, of one row group or of all; what cannot be read of a row group is one record with a problem.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path, memory_map=True)
    except UNREADABLE as error:
        yield unreadable(path, name, 1, 0, error)
        return
    with file:
        columns = check_columns(file.schema_arrow.names, name, fields)
        rows = [max(0, file.metadata.row_group(i).num_rows) for i in range(file.num_row_groups)]
        for index in range(len(rows)) if group < 0 else [group]:
            row, end = sum(rows[:index]) + 1, sum(rows[: index + 1])
            try:
                for batch in file.iter_batches(_batch_rows(file, index), row_groups=[index], columns=columns):
                    yield from batch_records(batch, name, row, fields, max_record_bytes)
                    row += batch.num_rows
                if row <= end:  # a damaged count of values ends a column too early, without a word
                    raise pa.ArrowInvalid(f"{end - row + 1} rows are missing")
            except UNREADABLE as error:
                yield unreadable(path, name, row, end, error)
        if file.metadata.num_rows != sum(rows) and group in (-1, len(rows) - 1):
            hidden = pa.ArrowInvalid(f"{file.metadata.num_rows} rows are stated, the row groups have {sum(rows)}")
            yield unreadable(path, name, sum(rows) + 1, 0, hidden)


def _batch_rows(file: ParquetFile, group: int) -> int:
    """So many rows that a batch of average ones has ``BATCH_BYTES``."""
    about = file.metadata.row_group(group)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * about.num_rows // max(about.total_byte_size, 1)))
