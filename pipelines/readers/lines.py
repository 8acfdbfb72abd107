"""Lines: a stream cut at line feeds, each line with its number and place; one that is too long is not held."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.readers.streams import BYTE_ORDER_MARK, TornError, chunks, sized


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


def lines(path: Path, max_bytes: int) -> Iterator[Line]:
    """Lines without their ends; one that is longer than ``max_bytes`` is hashed and counted, not held.

    Offsets and sizes are those of the decompressed bytes. If the file is torn, the last line says so and holds
    what was read of it. A byte order mark at the very beginning belongs to no line.
    """
    number, offset, pending, opening = 1, 0, _Pending(max_bytes), b""
    is_open = False  # whether the first three bytes are known
    try:
        for chunk in chunks(path):
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
