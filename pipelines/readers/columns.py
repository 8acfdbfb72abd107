"""Columns: rows of Arrow record batches as records; Parquet and Arrow files share it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.documents import Record
from pipelines.readers.fields import Fields, cell, record_of, text_problem
from pipelines.readers.streams import identity_of, sized

BATCH_BYTES = 16 << 20  # of columns that are read at once
BATCH_ROWS = 1024
# what pyarrow raises for bytes that are no such file; a column that is missing is a plain ValueError and none of these
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError, MemoryError, OverflowError)


def check_columns(found: list[str], name: str, fields: Fields) -> list[str]:
    """Names of the columns that must be read.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    chosen = [f if f in found else f.split(".")[0] for f in fields.named]
    missing = [f for f, column in zip(fields.named, chosen, strict=True) if column not in found]
    if missing:
        raise ValueError(
            f"{name}: has no column {', '.join(map(repr, missing))}; it has {', '.join(found) or 'none'}. "
            "Name the right one in text_field, id_field, license_field or group_field (url_field, title_field, "
            "date_field)."
        )
    return list(dict.fromkeys(chosen))


def batch_records(
    batch: pa.RecordBatch, name: str, first_row: int, fields: Fields, max_record_bytes: int
) -> Iterator[Record]:
    """One record a row; ``first_row`` is the number of the batch's first row, from 1."""
    for row, found in enumerate(_rows(batch), first_row):
        yield _row_record(name, row, found, fields, max_record_bytes)


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries; where one string of a column is bad, all stay bytes, and it spoils only its own row."""
    columns = [_cells(column) for column in batch.columns]
    names = batch.schema.names
    for cells in zip(*columns, strict=True):
        yield dict(zip(names, cells, strict=True))


def _cells(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        column.validate(full=True)
        return column.to_pylist()
    as_bytes = column.view(pa.binary() if pa.types.is_string(column.type) else pa.large_binary())
    as_bytes.validate(full=True)  # of the offsets: with bad ones the cells would lie outside the buffer
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return as_bytes.to_pylist()
    return column.to_pylist()


def _row_record(name: str, row: int, found: dict[str, Any], fields: Fields, max_bytes: int) -> Record:
    where, uri = f"{name} row {row}", f"{name}#R{row}"
    text = cell(found, fields.text)
    if isinstance(text, bytes):
        if len(text) > max_bytes:
            return _too_large(name, row, text, max_bytes)
        try:
            text = text.decode()
        except UnicodeDecodeError as error:
            problem = f"invalid UTF-8: {where}, byte {error.start} of the text"
            return Record(name, row, uri, problem=problem, raw=text)
        found = {**found, fields.text: text}
    elif isinstance(text, str) and len(text) * 4 > max_bytes and len(data := text.encode()) > max_bytes:
        return _too_large(name, row, data, max_bytes)
    for field in fields[1:]:
        if field and isinstance(value := cell(found, field), bytes):
            found[field] = value.decode("utf-8", "backslashreplace")
    if problem := text_problem(text, fields.text, where):
        raw = json.dumps(found, default=str, sort_keys=True).encode()
        return Record(name, row, uri, problem=problem, raw=raw)
    return record_of(name, row, uri, found, fields)


def _too_large(name: str, row: int, data: bytes, max_bytes: int) -> Record:
    problem = f"too large: {name} row {row}, {len(data)} bytes; max_record_bytes is {max_bytes}"
    return Record(name, row, f"{name}#R{row}", problem=problem, raw=identity_of(data))


def unreadable(path: Path, name: str, row: int, end: int, error: Exception, kind: str = "Parquet") -> Record:
    """The rows from ``row`` to ``end`` (0: no row of the file) that cannot be read, as one record."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").digest()
    size = path.stat().st_size
    kind = "truncated file" if end else f"not {kind}"
    rows = f"rows {row}-{end}" if end else "rows 1-end"
    raw = sized(sha256, size) + row.to_bytes(8, "little")
    problem = f"{kind}: {name} {rows} (bytes 0-{size}), {type(error).__name__}"
    return Record(name, row, f"{name}#R{row}", problem=problem, raw=raw)
