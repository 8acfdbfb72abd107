"""Arrow IPC: files (a unit of work is some record batches) and streams (the whole stream is one unit)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.documents import Record
from pipelines.readers.columns import BATCH_ROWS, UNREADABLE, batch_records, check_columns, unreadable
from pipelines.readers.fields import Fields

STRIPE_BYTES = 64 << 20  # of the file: what one unit of work reads
MAGIC = b"ARROW1"


def is_file_format(path: Path) -> bool:
    """Whether it is an IPC file; a stream has no magic and no footer."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def stripes(path: Path, name: str, fields: Fields) -> int:
    """How many units an IPC file has; 1 for a stream and for what cannot be read.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    if not is_file_format(path):
        return 1
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            check_columns(reader.schema.names, name, fields)
            return max(1, -(-reader.num_record_batches // _stripe_batches(path, reader.num_record_batches)))
    except UNREADABLE:
        return 1


def _stripe_batches(path: Path, num_batches: int) -> int:
    return max(1, num_batches * STRIPE_BYTES // max(path.stat().st_size, 1))


def arrow_records(path: Path, name: str, fields: Fields, max_record_bytes: int, stripe: int = -1) -> Iterator[Record]:
    """One record a row, of one stripe of a file or of all. What cannot be read is one record with a problem.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    if is_file_format(path):
        yield from _file_records(path, name, fields, max_record_bytes, stripe)
    else:
        yield from _stream_records(path, name, fields, max_record_bytes)


def _file_records(path: Path, name: str, fields: Fields, max_bytes: int, stripe: int) -> Iterator[Record]:
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(pa.memory_map(str(path)))
            reader = stack.enter_context(pa.ipc.open_file(source))
            names, num_batches = reader.schema.names, reader.num_record_batches
        except UNREADABLE as error:
            yield unreadable(path, name, 1, 0, error, "Arrow")
            return
        columns, row = check_columns(names, name, fields), 1
        first, end = 0, num_batches
        if stripe >= 0:
            each = _stripe_batches(path, num_batches)
            first, end = stripe * each, min(end, (stripe + 1) * each)
        for index in range(end):
            try:
                batch = reader.get_batch(index)
                if index >= first:
                    batch.validate()
            except UNREADABLE as error:
                if index >= first:
                    yield unreadable(path, f"{name} batch {index}", row, row, error, "Arrow")
                continue
            if index >= first:
                yield from _sliced(path, batch.select(columns), name, row, fields, max_bytes)
            row += batch.num_rows
        if end == num_batches < (held := _held_batches(path)):
            hidden = pa.ArrowInvalid(f"the footer names {num_batches} of {held} batches")
            yield unreadable(path, name, row, row, hidden, "Arrow")


def _held_batches(path: Path) -> int:
    """Record batches that stand in an IPC file, whatever its footer says; up to the first that cannot be read."""
    count = 0
    with contextlib.suppress(*UNREADABLE), pa.memory_map(str(path)) as source:
        source.seek(8)  # behind the magic, padded, begins a stream
        for message in pa.ipc.MessageReader.open_stream(source):
            count += message.type == "record batch"
    return count


def _stream_records(path: Path, name: str, fields: Fields, max_bytes: int) -> Iterator[Record]:
    row, is_open = 1, False
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(pa.memory_map(str(path)) if path.stat().st_size else pa.BufferReader(b""))
            reader = stack.enter_context(pa.ipc.open_stream(source))
            names, is_open = reader.schema.names, True
            columns = check_columns(names, name, fields)
            for batch in reader:
                batch.validate()
                yield from _sliced(path, batch.select(columns), name, row, fields, max_bytes)
                row += batch.num_rows
            if left := path.stat().st_size - source.tell():  # a damaged length reads as the mark of the end
                raise pa.ArrowInvalid(f"{left} bytes after the end of the stream")
        except UNREADABLE as error:
            yield unreadable(path, name, row, row if is_open else 0, error, "Arrow")


def _sliced(path: Path, batch: pa.RecordBatch, name: str, row: int, fields: Fields, max_bytes: int) -> Iterator[Record]:
    """The rows of a batch, some at a time; those whose offsets lead astray are one record."""
    for start in range(0, batch.num_rows, BATCH_ROWS):
        some = batch.slice(start, BATCH_ROWS)
        try:
            yield from batch_records(some, name, row + start, fields, max_bytes)
        except UNREADABLE as error:
            yield unreadable(path, name, row + start, row + start + some.num_rows - 1, error, "Arrow")
