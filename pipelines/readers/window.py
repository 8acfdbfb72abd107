"""Window: a decompressed stream looked at through a buffer, for formats whose records say how long they are.

It knows where in the file every byte came from, so that a record can be found again, and where the next sound part
of a damaged file begins.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.readers.streams import CHUNK_BYTES, Stream, TornError, compression, sized

MAX_START_BYTES = 8 << 10  # longer is no pattern's match
MAX_CANDIDATES = 100_000  # places that look like the beginning of a gzip member and are none: then the rest is given up


class Place(NamedTuple):
    """A byte: offset in the file of the compressed member (or of the byte itself), and bytes to skip after it."""

    member: int
    skip: int

    def __str__(self) -> str:
        return f"offset {self.member}" + (f" (and {self.skip} bytes after it)" if self.skip else "")

    def uri(self, name: str) -> str:
        return f"{name}#offset={self.member}" + (f"&skip={self.skip}" if self.skip else "")


class Window:
    """The bytes of a file from a place on; ``torn`` says why they end too early, once they have."""

    def __init__(self, path: Path, start: Place = Place(0, 0)) -> None:  # noqa: B008
        self.path, self.suffix = path, compression(path)
        self._stream = Stream(path, start.member, self.suffix)
        self._pieces: Iterator[bytes] | None = iter(self._stream)
        self._buffer, self._at = b"", 0
        self._end = 0  # decompressed bytes that were read, from the first member on
        self._members = [(0, start.member)]
        self.torn: TornError | None = None
        self.drop(start.skip)

    @property
    def offset(self) -> int:
        return self._end - (len(self._buffer) - self._at)

    def place(self, offset: int) -> Place:
        """Where in the file a byte came from; only of bytes since the last :meth:`mark`."""
        begins, member = next((b, m) for b, m in reversed(self._members) if b <= offset)
        return Place(member, offset - begins) if self.suffix else Place(member + offset - begins, 0)

    def mark(self) -> None:
        """Forget where bytes before this one came from."""
        while len(self._members) > 1 and self._members[1][0] <= self.offset:
            self._members.pop(0)

    def fill(self, num_bytes: int) -> bool:
        """Whether so many bytes are there; reads as far as needed."""
        held = [self._buffer[self._at :]]
        size = len(held[0])
        while size < num_bytes and self._pieces is not None:
            try:
                piece = next(self._pieces, None)
            except TornError as error:
                self.torn, piece = error, None
                if self._members[-1][1] != error.member:  # nothing came out of it
                    self._members.append((self._end, error.member))
            if piece is None:
                self._pieces = None
                break
            if self._members[-1][1] != self._stream.member and self.suffix:
                self._members.append((self._end, self._stream.member))
            held.append(piece)
            size += len(piece)
            self._end += len(piece)
        if len(held) > 1:
            self._buffer, self._at = b"".join(held), 0
        return size >= num_bytes

    def peek(self, num_bytes: int) -> bytes:
        if len(self._buffer) - self._at < num_bytes:
            self.fill(num_bytes)
        return self._buffer[self._at : self._at + num_bytes]

    def take(self, num_bytes: int) -> bytes:
        data = self.peek(num_bytes)
        self._at += len(data)
        return data

    def unread(self, data: bytes) -> None:
        """Put back what was taken last."""
        self._buffer, self._at = data + self._buffer[self._at :], 0

    def drop(self, num_bytes: int) -> tuple[bytes, int]:
        """Pass over bytes: their SHA-256, and how many there were."""
        hasher, left = hashlib.sha256(), num_bytes
        while left and (data := self.take(min(left, CHUNK_BYTES))):
            hasher.update(data)
            left -= len(data)
        return hasher.digest(), num_bytes - left

    def drop_blank(self) -> None:
        while (data := self.peek(64)) and not data.strip():
            self._at += len(data)
        self._at += len(data) - len(data.lstrip())

    def drop_to(self, start: re.Pattern[bytes]) -> tuple[bytes, int]:
        """Pass over at least one byte, up to the next match or the end: their SHA-256, and how many there were."""
        hasher, size = hashlib.sha256(), 0
        while True:
            data = self.peek(CHUNK_BYTES)
            found = start.search(data, 1)
            is_last = len(data) < CHUNK_BYTES
            end = found.start() if found else len(data) - (0 if is_last else MAX_START_BYTES)
            hasher.update(data[:end])
            size += len(self.take(end))
            if found or is_last:
                return hasher.digest(), size


def next_member(path: Path, after: int, suffix: str, start: re.Pattern[bytes]) -> int | None:
    """Offset of the next gzip member or bz2 stream behind ``after`` in a damaged file, or None.

    A gzip member must begin with a record (its three bytes of magic may stand anywhere); the ten bytes with which a
    bz2 stream begins are enough.
    """
    pattern = {".gz": re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"), ".bz2": re.compile(rb"BZh[1-9]1AY&SY")}.get(suffix)
    if pattern is None:
        return None
    tried, base, held = 0, after, b""
    with path.open("rb") as file:
        file.seek(after)
        while chunk := file.read(CHUNK_BYTES):
            held += chunk
            for found in pattern.finditer(held):
                if suffix == ".bz2" or _begins(held[found.start() : found.start() + 4096], start):
                    return base + found.start()
                tried += 1
                if tried >= MAX_CANDIDATES:
                    return None
            keep = min(len(held), 4096)  # a member that is cut by the chunk's end is tried again, whole
            base, held = base + len(held) - keep, held[len(held) - keep :]
    return None


def _begins(data: bytes, start: re.Pattern[bytes]) -> bool:
    try:
        return start.match(zlib.decompressobj(wbits=31).decompress(data, 1024)) is not None
    except zlib.error:
        return False


def range_identity(path: Path, start: int, end: int) -> bytes:
    """SHA-256 and size of a range of a file's own bytes."""
    hasher, left = hashlib.sha256(), end - start
    with path.open("rb") as file:
        file.seek(start)
        while left > 0 and (data := file.read(min(left, CHUNK_BYTES))):
            hasher.update(data)
            left -= len(data)
    return sized(hasher.digest(), end - start)
