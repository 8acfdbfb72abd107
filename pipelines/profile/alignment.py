"""Alignment: tables with the same rows in the same order, whose record batches end in different places."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def side_by_side(*streams: Iterator[pa.Table]) -> Iterator[tuple[pa.Table, ...]]:
    """Rows of tables that have the same rows in the same order, cut alike.

    Raises:
        ValueError: if one has more rows than another.
    """
    pending: list[pa.Table | None] = [next(stream, None) for stream in streams]
    while all(table is not None for table in pending):
        tables = [table for table in pending if table is not None]
        size = min(table.num_rows for table in tables)
        if size:
            yield tuple(table.slice(0, size) for table in tables)
        rest = [table.slice(size) for table in tables]
        pending = [t if t.num_rows else next(s, None) for t, s in zip(rest, streams, strict=True)]
    if any(table is not None and table.num_rows for table in pending):
        raise ValueError("tables that should have the same rows have not the same number of them.")
