"""Lines: a stream cut at line feeds, each line with its number and place; one that is too long is not held."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.readers.streams import BYTE_ORDER_MARK, TornError, chunks, compression, section, sized


class Span(NamedTuple):
    """Some lines of a file that is not compressed: their first byte, the byte behind the last, the first's number."""

    start: int
    stop: int
    number: int


class Line(NamedTuple):
    """One line: its number from 1, the offset of its first byte, its size, and its bytes unless it is too long."""

    number: int
    offset: int
    size: int
    data: bytes | None
    sha256: bytes = b""
    torn: str = ""  # why the file ends here although it should go on

    @property
    def raw(self) -> bytes:
        return self.data if self.data is not None else sized(self.sha256, self.size)

    def problem(self, name: str, max_bytes: int) -> str:
        """Why the line cannot be read, or ""."""
        if self.torn:
            return f"truncated file: {name} line {self.number} (bytes {self.offset}-end): {self.torn}"
        if self.data is None:
            return f"too large: {self.where(name)}, {self.size} bytes; max_record_bytes is {max_bytes}"
        return ""

    def where(self, name: str) -> str:
        return f"{name} line {self.number} (bytes {self.offset}-{self.offset + self.size})"


class _Pending:
    """A line in the making, of several pieces."""

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


def spans(path: Path, num_bytes: int) -> list[Span]:
    """A file cut at ends of lines into spans of at least so many bytes; none where it is compressed, or small.

    The file is read for the numbers of its lines, at the speed of counting a byte.
    """
    if path.stat().st_size < 2 * num_bytes or compression(path):
        return []
    found, start, position, number, line = [], 0, 0, 1, 1
    for chunk in chunks(path):
        end = chunk.rfind(b"\n") + 1
        line += chunk.count(b"\n")
        if end and position + end - start >= num_bytes:
            found.append(Span(start, position + end, number))
            start, number = position + end, line
        position += len(chunk)
    return [*found, Span(start, position, number)] if start < position else found


def lines(path: Path, max_bytes: int, span: Span | None = None) -> Iterator[Line]:
    """Lines without their ends; one that is longer than ``max_bytes`` is hashed and counted, not held.

    Offsets and sizes are those of the decompressed bytes. If the file is torn, the last line says so and holds
    what was read of it. A byte order mark at the very beginning belongs to no line. With a span, its lines alone.
    """
    number, offset = (span.number, span.start) if span else (1, 0)
    pending, opening = _Pending(max_bytes), b""
    is_open = offset > 0  # whether the first three bytes of the file are known, or of no interest
    try:
        for chunk in section(path, span.start, span.stop) if span else chunks(path):
            piece = chunk
            if not is_open:
                piece = opening + chunk
                if len(piece) < 3 and BYTE_ORDER_MARK.startswith(piece):
                    opening = piece
                    continue
                is_open, opening = True, b""
                if piece.startswith(BYTE_ORDER_MARK):
                    piece, offset = piece[3:], 3
            first, *others = piece.split(b"\n")
            pending.add(first)
            for other in others:
                yield pending.line(number, offset)
                number, offset, pending = number + 1, offset + pending.size + 1, _Pending(max_bytes)
                pending.add(other)
    except TornError as error:
        pending.add(opening)
        yield pending.line(number, offset, str(error))
        return
    pending.add(opening)
    if pending.size:
        yield pending.line(number, offset)
