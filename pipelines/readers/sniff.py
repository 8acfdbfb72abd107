"""Sniff: what kind of data lies at a path, and which of its fields are which; for a person to agree to."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.readers.files import SUFFIXES, listed_files, reader_of
from pipelines.readers.lines import lines
from pipelines.readers.streams import TornError, chunks, compression

LOOKED_AT = 100  # records
LINE_BYTES = 8 << 20  # a line that is longer says nothing
# names that data sets use, the most telling first
TEXT_NAMES = ("text", "content", "body", "raw_content", "document", "article", "passage", "markdown", "story", "page",
              "message", "abstract", "review", "description", "sentence")  # fmt: skip
ID_NAMES = ("id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "record_id", "page_id", "key")
URL_NAMES = ("url", "source_url", "web_url", "page_url", "uri", "link", "permalink")
LICENCE_NAMES = ("license", "licence", "license_id", "license_type", "rights")
TITLE_NAMES = ("title", "headline")
DATE_NAMES = (
    "date",
    "published",
    "publish_date",
    "published_at",
    "date_published",
    "created",
    "created_at",
    "timestamp",
)


class Sniffed(NamedTuple):
    """What was found: the reader, and the recipe's fields that are not their defaults."""

    reader: str
    compression: str = ""
    delimiter: str = ""
    columns: tuple[str, ...] = ()  # of a table, in order
    fields: dict[str, str] = {}  # noqa: RUF012 - text_field, id_field, … that were found


def sniffed(path: Path, reader: str = "") -> Sniffed:
    """What lies at a path: by the names of its files, else by the first bytes of the first one.

    Args:
        path: a file or directory.
        reader: which reader to use whatever the names say.

    Raises:
        ValueError: if nothing is there, or nothing that is known.
    """
    reader = reader or sniffed_reader(path)
    if reader in {"hub", "installed-docs"}:
        return Sniffed(reader)
    root, names, _ = listed_files(path, reader)
    if not names:
        raise ValueError(f"{path}: has no file that reader {reader!r} reads. Name another with --reader.")
    first = root / names[0]
    packed = "" if reader in {"parquet", "arrow"} else compression(first)
    delimiter, columns, rows = _table(first, names[0], reader)
    return Sniffed(reader, packed, delimiter, tuple(columns), found_fields(columns, rows) if columns else {})


def sniffed_reader(path: Path) -> str:
    """The reader of most files of a directory, or of a file; by its first bytes where the name says nothing.

    Raises:
        ValueError: if it cannot be told.
    """
    if path.is_file():
        names = [path.name]
    elif path.is_dir():
        names = [p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
        if {"dataset_dict.json", "state.json"} & {p.name for p in path.iterdir()}:
            return "hub"
    else:
        raise ValueError(f"{path}: no such file or directory.")
    known = Counter(reader for name in names if (reader := reader_of(name)))
    if known:
        return min(known, key=lambda reader: (-known[reader], list(SUFFIXES).index(reader)))
    found = {reader for name in sorted(names)[:1] if (reader := _by_content(path / name if path.is_dir() else path))}
    if found:
        return found.pop()
    suffixes = ", ".join(suffix for each in SUFFIXES.values() for suffix in each)
    raise ValueError(
        f"{path}: no file with a suffix that is known ({suffixes}; also .gz, .zst, .bz2), and the first bytes say "
        f"nothing. Name the reader with --reader ({', '.join(SUFFIXES)}, hub)."
    )


def _by_content(path: Path) -> str:
    with path.open("rb") as file:
        opening = file.read(8)
    if opening.startswith(b"PAR1"):
        return "parquet"
    if opening.startswith(b"ARROW1"):
        return "arrow"
    try:
        opening = next(iter(chunks(path)), b"")[:65536]
    except TornError:
        return ""
    start = opening.removeprefix(b"\xef\xbb\xbf").lstrip()
    for reader, pattern in (
        ("warc", rb"WARC/[01]\.|filedesc://"),
        ("wikipedia", rb"(<\?xml[^>]*>\s*)?<mediawiki"),
        ("html", rb"(?i)<(!doctype html|html|head|body)\b"),
        ("jsonl", rb'\{\s*("|\})'),
    ):
        if re.match(pattern, start):
            return reader
    if b"\0" in opening or not _is_text(opening):
        return ""
    return "csv" if _is_table(start.decode("utf-8", "replace")) else "text"


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4  # a character that the cut has split
    return True


def _is_table(text: str) -> bool:
    """Whether the first lines all have the same number of some delimiter, and at least one."""
    found = [line for line in text.splitlines()[:20] if line]
    return len(found) > 1 and any(len(n := {line.count(d) for line in found}) == 1 and n != {0} for d in "\t;|,")


def _table(path: Path, name: str, reader: str) -> tuple[str, list[str], list[dict[str, Any]]]:
    """Delimiter, columns and first rows of a table; nothing for what is none."""
    if reader == "jsonl":
        return "", *_json_rows(path)
    if reader == "csv":
        return _csv_rows(path, name)
    if reader in {"parquet", "arrow"}:
        return "", *_arrow_rows(path, reader)
    return "", [], []


def _json_rows(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    import json

    rows = []
    for line in islice(lines(path, LINE_BYTES), LOOKED_AT):
        try:
            found = json.loads((line.data or b"").decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            rows.append(found)
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _csv_rows(path: Path, name: str) -> tuple[str, list[str], list[dict[str, Any]]]:
    import csv

    from pipelines.readers.csv import sniffed_delimiter

    delimiter = sniffed_delimiter(path, name)
    csv.field_size_limit(max(csv.field_size_limit(), LINE_BYTES))
    texts = ((line.data or b"").decode("utf-8-sig", "replace") for line in islice(lines(path, LINE_BYTES), LOOKED_AT))
    rows = []
    with contextlib.suppress(csv.Error):  # what stands before a carriage return that is no line end, say, was read
        rows.extend(csv.reader((text + "\n" for text in texts), delimiter=delimiter))
    columns = rows[0] if rows else []
    return delimiter, columns, [dict(zip(columns, row, strict=False)) for row in rows[1:]]


def _arrow_rows(path: Path, reader: str) -> tuple[list[str], list[dict[str, Any]]]:
    import pyarrow as pa
    from pyarrow import parquet

    from pipelines.readers.arrow import is_file_format

    try:
        if reader == "parquet":
            with parquet.ParquetFile(path) as file:
                schema, batches = file.schema_arrow, file.iter_batches(LOOKED_AT)
                first = next(batches, None)
        else:
            with pa.memory_map(str(path)) as source:
                opened = pa.ipc.open_file(source) if is_file_format(path) else pa.ipc.open_stream(source)
                schema = opened.schema
                batches = (
                    (opened.get_batch(i) for i in range(opened.num_record_batches)) if is_file_format(path) else opened
                )
                first = next(iter(batches), None)
        return schema.names, first.slice(0, LOOKED_AT).to_pylist() if first is not None else []
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return [], []


def found_fields(columns: list[str], rows: list[dict[str, Any]]) -> dict[str, str]:
    """The recipe's fields by the names of the columns; the text else by the longest strings."""
    lower = {name.lower(): name for name in reversed(columns)}
    wanted = {
        "text_field": TEXT_NAMES, "id_field": ID_NAMES, "url_field": URL_NAMES, "license_field": LICENCE_NAMES,
        "title_field": TITLE_NAMES, "date_field": DATE_NAMES,
    }  # fmt: skip
    found = {}
    for field, names in wanted.items():
        there = [lower[name] for name in names if name in lower and _has_values(rows, lower[name], field)]
        if there:
            found[field] = there[0]
    if "text_field" not in found and (longest := _longest(columns, rows)):
        found["text_field"] = longest
    return found


def _has_values(rows: list[dict[str, Any]], name: str, field: str) -> bool:
    kinds = (str,) if field in {"text_field", "url_field"} else (str, int)
    values = [row[name] for row in rows if row.get(name) is not None]
    if field == "date_field":
        return bool(values) or not rows
    return any(isinstance(value, kinds) for value in values) or not rows


def _longest(columns: list[str], rows: list[dict[str, Any]]) -> str:
    """The column with the most characters of text, if any has some."""
    sizes = {name: sum(len(row[name]) for row in rows if isinstance(row.get(name), str)) for name in columns}
    best = max(sizes, key=lambda name: sizes[name], default="")
    return best if best and sizes[best] else ""
