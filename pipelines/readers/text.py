"""Text: a plain text or Markdown file as one record."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.documents import Record
from pipelines.readers.fields import sound
from pipelines.readers.streams import BYTE_ORDER_MARK, Whole, whole


def text_records(path: Path, name: str, max_record_bytes: int) -> Iterator[Record]:
    """One record a file; its key is its name, and so is its group."""
    found = whole(path, max_record_bytes)
    place = Record(name, 1, name, key=sound(name), group=sound(name))
    if problem := whole_problem(found, name, max_record_bytes):
        yield place._replace(problem=problem, raw=found.raw)
        return
    data = found.data or b""
    try:
        yield place._replace(text=data.removeprefix(BYTE_ORDER_MARK).decode())
    except UnicodeDecodeError as error:
        problem = f"invalid UTF-8: {name} (bytes 0-{found.size}), byte {error.start}"
        yield place._replace(problem=problem, raw=data)


def whole_problem(found: Whole, name: str, max_record_bytes: int) -> str:
    """Why a file cannot be one record, or ""."""
    if found.torn:
        return f"truncated file: {name} (bytes 0-end): {found.torn}"
    if found.data is None:
        return f"too large: {name} (bytes 0-{found.size}); max_record_bytes is {max_record_bytes}"
    return ""
