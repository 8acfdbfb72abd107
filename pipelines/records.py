"""Records: readers of JSON lines (plain, .gz, .zst), Parquet and plain text, for one file or a directory.

Bad input never stops a reader and never vanishes: it becomes a record with a problem, which says what was wrong
and where. Memory is bounded by ``max_record_bytes``, however long a line is and however well it was compressed.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.documents import Record

CHUNK_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COMPRESSED = (".gz", ".zst")
SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet",),
    "text": (".txt", ".md", ".rst"),
}


class Fields(NamedTuple):
    """Where a record's text, id, licence and group stand; an empty name means that there is none."""

    text: str
    id: str = ""
    licence: str = ""
    group: str = ""


class TornError(ValueError):
    """The rest of a compressed file cannot be read."""


class Line(NamedTuple):
    """One line: its number from 1, the offset of its first byte, its size, and its bytes unless it is too long."""

    number: int
    offset: int
    size: int
    data: bytes | None
    sha256: bytes = b""
    torn: str = ""  # why the file ends here although it should go on


def listed_files(path: Path, reader: str) -> tuple[Path, list[str], list[str]]:
    """Root, files that the reader reads and files that it ignores, both as sorted paths relative to the root.

    A file that is named itself is read whatever its suffix.

    Raises:
        ValueError: if there is nothing at the path.
    """
    if path.is_file():
        return path.parent, [path.name], []
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or directory. Give the source the path of its data.")
    names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    endings = SUFFIXES[reader]
    if reader != "parquet":
        endings += tuple(e + c for e in endings for c in COMPRESSED)
    wanted = [n for n in names if n.lower().endswith(endings) and not Path(n).name.startswith(".")]
    return path, wanted, sorted(set(names) - set(wanted))


def jsonl_records(root: Path, name: str, fields: Fields, max_record_bytes: int) -> Iterator[Record]:
    """One record a line. Blank lines are no records."""
    for line in lines(root / name, max_record_bytes):
        if line.data is not None and not line.data.strip() and not line.torn:
            continue
        yield _jsonl_record(name, line, fields, max_record_bytes)


def _jsonl_record(name: str, line: Line, fields: Fields, max_record_bytes: int) -> Record:
    where = f"{name} line {line.number} (bytes {line.offset}-{line.offset + line.size})"
    uri = f"{name}#L{line.number}"

    def bad(problem: str) -> Record:
        raw = line.data if line.data is not None else line.sha256 + line.size.to_bytes(8, "little")
        return Record(name, line.number, uri, problem=problem, raw=raw)

    if line.torn:
        return bad(f"truncated file: {name} line {line.number} (bytes {line.offset}-end): {line.torn}")
    if line.data is None:
        return bad(f"too large: {where}, {line.size} bytes; max_record_bytes is {max_record_bytes}")
    found, problem = _parsed(line.data, line.offset, where)
    problem = problem or _text_problem(found.get(fields.text), fields.text, where)
    return bad(problem) if problem else _record(name, line.number, uri, found, fields)


def _parsed(data: bytes, offset: int, where: str) -> tuple[dict[str, Any], str]:
    """The object on a line, or what is wrong with it."""
    try:
        found = json.loads(data.decode())
    except UnicodeDecodeError as error:
        return {}, f"invalid UTF-8: {where}, byte {offset + error.start}"
    except (ValueError, RecursionError) as error:
        reason = f"character {error.pos}" if isinstance(error, json.JSONDecodeError) else type(error).__name__
        return {}, f"not JSON: {where}, {reason}"
    if not isinstance(found, dict):
        return {}, f"not an object: {where}, a JSON {type(found).__name__}"
    return found, ""


def _text_problem(text: Any, field: str, where: str) -> str:
    if text is None:
        return f"no text: {where}, field {field!r} is missing or null"
    return "" if isinstance(text, str) else f"text is not a string: {where}, field {field!r} is {type(text).__name__}"


def _record(name: str, position: int, uri: str, found: dict[str, Any], fields: Fields) -> Record:
    cells = ["" if not f or found.get(f) is None else str(found[f]) for f in fields[1:]]
    key, licence, group = (_sound(cell) for cell in cells)
    return Record(name, position, uri, found[fields.text], key=key, group=group, licence=licence)


def _sound(cell: str) -> str:
    """A cell that is no text itself but must be written as UTF-8."""
    return cell.encode("utf-8", "backslashreplace").decode()


class _Pending:
    """A line in the making."""

    def __init__(self, max_bytes: int) -> None:
        self._held: list[bytes] = []
        self._max_bytes = max_bytes
        self._hasher: Any = None
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._hasher is None and self.size > self._max_bytes:
            self._hasher = hashlib.sha256(b"".join(self._held))
            self._held = []
        if self._hasher is None:
            self._held.append(piece)
        else:
            self._hasher.update(piece)

    def line(self, number: int, offset: int, torn: str = "") -> Line:
        if self._hasher is not None:
            return Line(number, offset, self.size, None, self._hasher.digest(), torn)
        return Line(number, offset, self.size, b"".join(self._held), b"", torn)


def lines(path: Path, max_bytes: int) -> Iterator[Line]:
    """Lines without their ends; one that is longer than ``max_bytes`` is hashed and counted, not held.

    Offsets and sizes are those of the decompressed bytes. If the file is torn, the last line says so and holds
    what was read of it.
    """
    number, offset, pending = 1, 0, _Pending(max_bytes)
    try:
        for chunk in chunks(path):
            start = 3 if number == 1 and offset + pending.size == 0 and chunk.startswith(BYTE_ORDER_MARK) else 0
            offset += start
            while (end := chunk.find(b"\n", start)) >= 0:
                pending.add(chunk[start:end])
                yield pending.line(number, offset)
                number, offset, pending, start = number + 1, offset + pending.size + 1, _Pending(max_bytes), end + 1
            pending.add(chunk[start:])
    except TornError as error:
        yield pending.line(number, offset, str(error))
        return
    if pending.size:
        yield pending.line(number, offset)


def text_records(root: Path, name: str, max_record_bytes: int) -> Iterator[Record]:
    """One record a file; its key is the path, and so is its group."""
    pending = _Pending(max_record_bytes)
    torn = ""
    try:
        for chunk in chunks(root / name):
            pending.add(chunk)
    except TornError as error:
        torn = str(error)
    whole = pending.line(1, 0, torn)
    raw = whole.data if whole.data is not None else whole.sha256 + whole.size.to_bytes(8, "little")
    problem, text = "", ""
    if torn:
        problem = f"truncated file: {name} (bytes 0-end): {torn}"
    elif whole.data is None:
        problem = f"too large: {name} (bytes 0-{whole.size}); max_record_bytes is {max_record_bytes}"
    else:
        try:
            text = raw.removeprefix(BYTE_ORDER_MARK).decode()
        except UnicodeDecodeError as error:
            problem = f"invalid UTF-8: {name} (bytes 0-{whole.size}), byte {error.start}"
    yield Record(name, 1, name, text, key=_sound(name), group=_sound(name), problem=problem, raw=raw)


def parquet_records(root: Path, name: str, fields: Fields) -> Iterator[Record]:
    """One record a row. A file or row group that cannot be read is one record with a problem.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    from pyarrow import parquet

    path, row = root / name, 0
    try:
        with parquet.ParquetFile(path, memory_map=True) as file:
            _check_columns(file.schema_arrow.names, name, fields)
            columns = [f for f in dict.fromkeys(fields) if f]
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                for found in _rows(batch):
                    row += 1
                    yield _parquet_record(name, row, found, fields)
    except (pa.ArrowInvalid, OSError) as error:
        size, sha256 = _hashed(path)
        where = f"{name} rows {row + 1}-end (bytes 0-{size})"
        kind = "not Parquet" if row == 0 else "truncated file"
        raw = sha256 + size.to_bytes(8, "little") + row.to_bytes(8, "little")
        reason = type(error).__name__
        yield Record(name, row + 1, f"{name}#R{row + 1}", problem=f"{kind}: {where}, {reason}", raw=raw)


def _check_columns(found: list[str], name: str, fields: Fields) -> None:
    missing = [f for f in fields if f and f not in found]
    if missing:
        raise ValueError(
            f"{name}: has no column {', '.join(map(repr, missing))}; it has {', '.join(found) or 'none'}. "
            "Name the right one in text_field, id_field, license_field or group_field."
        )


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as dictionaries; strings stay bytes, so that a bad one spoils only its own row."""
    columns = []
    for column in batch.columns:
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        columns.append((column.cast(pa.large_binary()) if is_text else column).to_pylist())
    for cells in zip(*columns, strict=True):
        yield dict(zip(batch.schema.names, cells, strict=True))


def _parquet_record(name: str, row: int, found: dict[str, Any], fields: Fields) -> Record:
    where, uri = f"{name} row {row}", f"{name}#R{row}"
    text = found[fields.text]
    if isinstance(text, bytes):
        try:
            found[fields.text] = text.decode()
        except UnicodeDecodeError as error:
            return Record(name, row, uri, problem=f"invalid UTF-8: {where}, byte {error.start} of the text", raw=text)
    for field in fields[1:]:
        if field and isinstance(found[field], bytes):
            found[field] = found[field].decode("utf-8", "backslashreplace")
    problem = _text_problem(found[fields.text], fields.text, where)
    if problem:
        raw = json.dumps(found, default=str, sort_keys=True).encode()
        return Record(name, row, uri, problem=problem, raw=raw)
    return _record(name, row, uri, found, fields)


def _hashed(path: Path) -> tuple[int, bytes]:
    with path.open("rb") as file:
        return path.stat().st_size, hashlib.file_digest(file, "sha256").digest()


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file in pieces of bounded size.

    Raises:
        TornError: where a compressed file ends too early or is damaged; what came before was given out.
    """
    name = path.name.lower()
    with path.open("rb") as file:
        if name.endswith(".gz"):
            yield from _members(file.read, lambda: zlib.decompressobj(wbits=31), zlib.error, "gzip")
        elif name.endswith(".zst"):
            yield from _zstd(file.read)
        else:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _zstd(read: Callable[[int], bytes]) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise ValueError("reading .zst files needs zstandard: pip install -e '.[pipelines]'.") from None
    frame = zstandard.ZstdDecompressor().decompressobj
    yield from _members(read, frame, zstandard.ZstdError, "zstd")


def _members(
    read: Callable[[int], bytes], begin: Callable[[], Any], error: type[Exception], kind: str
) -> Iterator[bytes]:
    """Decompress one member (gzip) or frame (zstd) after another.

    4 KiB go in at a time: at their worst ratios gzip makes 4 MiB of them (1:1,030) and zstd 128 MiB.
    """
    consumed, decoder = 0, None
    while data := read(4096):
        while data:
            decoder = decoder or begin()
            try:
                out = decoder.decompress(data)
            except error as problem:
                raise TornError(f"damaged {kind} after {consumed} compressed bytes ({problem})") from None
            if out:
                yield out
            rest = decoder.unused_data if decoder.eof else b""
            consumed += len(data) - len(rest)
            decoder, data = (None if decoder.eof else decoder), rest
            if decoder is None and not data.strip(b"\0"):  # padding after the last member, as tar and dd leave it
                data = b""
    if decoder is not None:
        raise TornError(f"truncated {kind}: the file ends inside a member, after {consumed} compressed bytes")
