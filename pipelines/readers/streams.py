"""Streams: the bytes of a file, decompressed (gzip, zstd, bz2), in pieces of bounded size.

Bad input never stops a reader and never vanishes: a stream that is torn, damaged or blown up says where and why,
after everything before that place was given out.
"""

from __future__ import annotations

import bz2
import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

CHUNK_BYTES = 1 << 20  # of a piece; gzip and bz2 give at most this, zstd at most 1,024 blocks of 128 KiB once
READ_BYTES = 1 << 16
ZSTD_READ_BYTES = 1 << 12
MAX_RATIO = 1000  # gzip reaches 1,030 on nothing but repetition; text stays below 20
MIN_BLOWN_BYTES = 64 << 20  # what is smaller after decompression harms nobody, whatever its ratio
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COMPRESSED = (".gz", ".zst", ".bz2")
_BZ2_BLOCK = b"1AY&SY"  # "BZh" alone may begin a text
MAGIC = {b"\x1f\x8b\x08": ".gz", b"\x28\xb5\x2f\xfd": ".zst", b"BZh": ".bz2"}


class TornError(ValueError):
    """The rest of a compressed file cannot be read.

    Attributes:
        member: offset in the file of the compressed member that is torn.
    """

    def __init__(self, message: str, member: int = 0) -> None:
        super().__init__(message)
        self.member = member


class Whole(NamedTuple):
    """A whole file: its bytes unless it is too long, its decompressed size, and why it ends too early, if it does."""

    data: bytes | None
    size: int
    sha256: bytes
    torn: str

    @property
    def raw(self) -> bytes:
        return self.data if self.data is not None else sized(self.sha256, self.size)


def sized(sha256: bytes, size: int) -> bytes:
    """The identity of bytes that are not kept: their SHA-256, then their size as 8 bytes, little-endian."""
    return sha256 + size.to_bytes(8, "little")


def identity_of(data: bytes) -> bytes:
    return sized(hashlib.sha256(data).digest(), len(data))


def compression(path: Path) -> str:
    """The suffix of a file's compression, by its name, else by its first bytes; or ""."""
    named = next((suffix for suffix in COMPRESSED if path.name.lower().endswith(suffix)), "")
    if named:
        return named
    with path.open("rb") as file:
        opening = file.read(10)
    return next(
        (s for magic, s in MAGIC.items() if opening.startswith(magic) and (s != ".bz2" or _BZ2_BLOCK in opening)), ""
    )


class Stream:
    """The decompressed bytes of one file, from a compressed member's first byte on, in pieces of bounded size.

    Attributes:
        member: while a piece is looked at, the offset in the file of the gzip member (zstd frame, bz2 stream) that
            it came from; of a file that is not compressed, the offset of the piece.

    Raises:
        TornError: from the iteration, where a compressed file ends too early, is damaged, or is blown up to more
            than ``MAX_RATIO`` times its size; what came before was given out.
    """

    def __init__(self, path: Path, start: int = 0, suffix: str | None = None) -> None:
        self.path = path
        self.suffix = compression(path) if suffix is None else suffix
        self.member = start
        self._consumed = start
        self._given = 0

    def __iter__(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            file.seek(self._consumed)
            if not self.suffix:
                yield from self._plain(file)
            else:
                yield from self._members(file, *_decoder(self.suffix))

    def _plain(self, file: BinaryIO) -> Iterator[bytes]:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            self.member += len(chunk)

    def _members(self, file: BinaryIO, kind: str, begin: Callable[[], _Decoder], num_bytes: int) -> Iterator[bytes]:
        """Decompress one member (gzip), frame (zstd) or stream (bz2) after another."""
        decoder: _Decoder | None = None
        first = self._consumed
        while data := file.read(num_bytes):
            while data or (decoder is not None and decoder.is_full):
                if decoder is None:
                    if self._consumed > first and not data.strip(
                        b"\0"
                    ):  # padding after the last member, as tar and dd leave it
                        self._consumed += len(data)
                        break
                    decoder, self.member = begin(), self._consumed
                try:
                    piece, rest = decoder.step(data)
                except decoder.error as problem:
                    raise self._torn(f"damaged {kind} after {self._consumed} compressed bytes ({problem})") from None
                self._consumed += len(data) - len(rest)
                self._given += len(piece)
                if piece:
                    yield piece
                if self._given > max(MIN_BLOWN_BYTES, MAX_RATIO * (self._consumed - first)):
                    raise self._torn(f"more than {MAX_RATIO} times its compressed size, {self._consumed} bytes")
                decoder, data = (None if decoder.is_done else decoder), rest
        if decoder is not None:
            raise self._torn(
                f"truncated {kind}: the file ends inside a member, after {self._consumed} compressed bytes"
            )

    def _torn(self, message: str) -> TornError:
        return TornError(message, self.member)


class _Decoder:
    """One member being decompressed: what went in comes out in pieces of at most ``CHUNK_BYTES`` (but zstd)."""

    error: type[Exception] = ValueError

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        self.is_full = False  # more may come without another byte of input

    @property
    def is_done(self) -> bool:
        return self._decoder.eof

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        """A piece, and the input that is left."""
        piece = self._decoder.decompress(data)
        return piece, self._decoder.unused_data if self._decoder.eof else b""


class _Gzip(_Decoder):
    error = zlib.error

    def __init__(self) -> None:
        super().__init__(zlib.decompressobj(wbits=31))

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        piece = self._decoder.decompress(data, CHUNK_BYTES)
        self.is_full = len(piece) == CHUNK_BYTES and not self._decoder.eof
        return piece, self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail


class _Bzip2(_Decoder):
    error = OSError

    def __init__(self) -> None:
        super().__init__(bz2.BZ2Decompressor())

    def step(self, data: bytes) -> tuple[bytes, bytes]:
        piece = self._decoder.decompress(data, CHUNK_BYTES)
        self.is_full = not self._decoder.eof and not self._decoder.needs_input
        return piece, self._decoder.unused_data if self._decoder.eof else b""


def _decoder(suffix: str) -> tuple[str, Callable[[], _Decoder], int]:
    """What the format is called, a decoder for one member, and how many bytes to feed at a time."""
    if suffix == ".gz":
        return "gzip", _Gzip, READ_BYTES
    if suffix == ".bz2":
        return "bz2", _Bzip2, READ_BYTES
    try:
        import zstandard
    except ImportError:
        raise ValueError("reading .zst files needs zstandard: pip install -e '.[pipelines]'.") from None

    class _Zstd(_Decoder):
        error = zstandard.ZstdError

        def __init__(self) -> None:
            super().__init__(zstandard.ZstdDecompressor().decompressobj())

    return "zstd", _Zstd, ZSTD_READ_BYTES


def chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes of a file in pieces of bounded size.

    Raises:
        TornError: as :class:`Stream`.
    """
    return iter(Stream(path))


def section(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from ``start`` up to ``stop``, as they are, in pieces of bounded size.

    Raises:
        ValueError: if the file ends before ``stop``: what is missing must not vanish without a word.
    """
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (chunk := file.read(min(CHUNK_BYTES, stop - start))):
            yield chunk
            start += len(chunk)
    if start < stop:
        raise ValueError(
            f"{path} ends at byte {start}, and had {stop} when it was cut. It changed while it was read; run again."
        )


def whole(path: Path, max_bytes: int) -> Whole:
    """All of a file if it has no more than ``max_bytes``; what is longer is hashed and counted, not held."""
    held: list[bytes] = []
    hasher, size, torn = hashlib.sha256(), 0, ""
    try:
        for chunk in chunks(path):
            hasher.update(chunk)
            size += len(chunk)
            if size <= max_bytes:
                held.append(chunk)
            else:
                held.clear()
    except TornError as error:
        torn = str(error)
    return Whole(b"".join(held) if size <= max_bytes else None, size, hasher.digest(), torn)
