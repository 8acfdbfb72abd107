"""JSON lines: one record a line, plain or compressed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pipelines.documents import Record
from pipelines.readers.fields import Fields, cell, record_of, text_problem
from pipelines.readers.lines import Line, Span, lines


def jsonl_records(
    path: Path, name: str, fields: Fields, max_record_bytes: int, span: Span | None = None
) -> Iterator[Record]:
    """One record a line. Blank lines are no records.

    Args:
        path: where the file lies.
        name: what it is called in records and problems.
        fields: which fields are read.
        max_record_bytes: longer lines are quarantined without being held.
        span: which lines; None: all.
    """
    loads = _fast_loads()
    for line in lines(path, max_record_bytes, span):
        if line.data is not None and not line.torn and not line.data.strip():
            continue
        yield _record(name, line, fields, max_record_bytes, loads)


def _record(name: str, line: Line, fields: Fields, max_bytes: int, loads: Callable[[bytes], Any]) -> Record:
    uri = f"{name}#L{line.number}"
    problem = line.problem(name, max_bytes)
    if not problem and line.data is not None:
        try:
            found = loads(line.data)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or _has_float(found, fields):
            found, problem = _exactly(line.data, line, name)
        if not problem:
            problem = text_problem(cell(found, fields.text), fields.text, line.where(name))
        if not problem:
            return record_of(name, line.number, uri, found, fields)
    return Record(name, line.number, uri, problem=problem, raw=line.raw)


def _fast_loads() -> Callable[[bytes], Any]:
    """Orjson takes a third of the time of json, but refuses lone surrogates and NaN, which are not ours to judge."""
    try:
        import orjson
    except ImportError:
        return lambda data: json.loads(data.decode())
    return orjson.loads


def _has_float(found: dict[str, Any], fields: Fields) -> bool:
    """Whether a field beside the text is a number that orjson may have rounded: an integer beyond 64 bits."""
    for field in fields[1:]:  # noqa: SIM110 - a generator would take as long as the parser
        if field and type(cell(found, field)) is float:
            return True
    return False


def _exactly(data: bytes, line: Line, name: str) -> tuple[dict[str, Any], str]:
    """The object on a line as Python's own parser reads it, or what is wrong with it."""
    where = line.where(name)
    try:
        found = json.loads(data.decode())
    except UnicodeDecodeError as error:
        return {}, f"invalid UTF-8: {where}, byte {line.offset + error.start}"
    except (ValueError, RecursionError) as error:
        reason = f"character {error.pos}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        return {}, f"not JSON: {where}, {reason}"
    if not isinstance(found, dict):
        return {}, f"not an object: {where}, a JSON {type(found).__name__}"
    return found, ""
