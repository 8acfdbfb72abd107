"""HTTP: what a server answered, as archives store it: status, content type, and the payload decoded."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE)
_CHUNK = re.compile(rb"\s*([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
NO_CODING = {"identity", "none", "utf-8", "utf8", "binary"}


class Answer(NamedTuple):
    """A response: 0 as its status where there is no status line; a problem where its payload cannot be decoded."""

    status: int
    content_type: str  # lower case, without parameters
    charset: str
    language: str
    payload: bytes
    problem: str = ""


def answer(message: bytes, max_bytes: int) -> Answer:
    """The answer in a message of an archive.

    Crawlers often store the payload as it was decoded and leave the headers as they came: a body that is not what
    its transfer or content encoding says is taken as it is. Of a body that was cut off, what can be decoded counts.
    """
    found = _STATUS.match(message)
    if found is None:
        return Answer(0, "", "", "", message)
    head, body = _parted(message)
    headers = _headers(head)
    kind, charset = media_type(headers.get("content-type", ""))
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    problem = ""
    for coding in reversed(headers.get("content-encoding", "").lower().replace(",", " ").split()):
        body, problem = _decoded(body, coding, max_bytes)
        if problem:
            break
    language = headers.get("content-language", "").split(",")[0].strip()
    return Answer(int(found[1]), kind, charset, language, body, problem)


def media_type(stated: str) -> tuple[str, str]:
    """A media type in lower case without parameters, and its charset."""
    found = _CHARSET.search(stated)
    return stated.split(";", maxsplit=1)[0].strip().lower(), found[1] if found else ""


def _parted(message: bytes) -> tuple[bytes, bytes]:
    ends = [(at, len(end)) for end in (b"\r\n\r\n", b"\n\n") if (at := message.find(end)) >= 0]
    if not ends:
        return message, b""
    at, size = min(ends)
    return message[:at], message[at + size :]


def _headers(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in head.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def _unchunked(body: bytes) -> bytes:
    """The chunks joined; the body itself if it does not begin with one, what was whole if a later one is broken."""
    pieces, at = [], 0
    while at < len(body):
        found = _CHUNK.match(body, at)
        if found is None:
            break
        size = int(found[1], 16)
        if size == 0:
            return b"".join(pieces)
        pieces.append(body[found.end() : found.end() + size])
        at = found.end() + size
    return b"".join(pieces) if pieces else body


def _decoded(body: bytes, coding: str, max_bytes: int) -> tuple[bytes, str]:
    """The body without one content encoding, and what is wrong with it."""
    decoders: dict[str, Callable[[bytes, int], bytes]] = {
        "gzip": _gunzipped,
        "x-gzip": _gunzipped,
        "deflate": _deflated,
        "zstd": _zstd,
        "br": _brotli,
    }
    if coding in NO_CODING:
        return body, ""
    if coding not in decoders:
        return body, "" if _is_plain(body) else "an unknown content encoding"
    try:
        data = decoders[coding](body, max_bytes)
    except (zlib.error, ValueError, ImportError) as error:
        # crawlers leave the header and store what it was decoded to
        return body, "" if _is_plain(body) else f"damaged {coding}: {type(error).__name__}"
    return (data, "") if len(data) <= max_bytes else (b"", f"larger than {max_bytes} bytes when it is decompressed")


def _gunzipped(body: bytes, max_bytes: int) -> bytes:
    return zlib.decompressobj(wbits=31).decompress(body, max_bytes + 1)


def _deflated(body: bytes, max_bytes: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(body, max_bytes + 1)
    except zlib.error:  # many servers send deflate without the zlib header
        if _is_plain(body):
            raise
        return zlib.decompressobj(wbits=-15).decompress(body, max_bytes + 1)


def _zstd(body: bytes, max_bytes: int) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(body) as reader:
            return reader.read(max_bytes + 1)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from None


def _brotli(body: bytes, max_bytes: int) -> bytes:
    if _is_plain(body):  # it has no magic, and almost any bytes are the beginning of a stream
        return body
    import brotli

    decoder = brotli.Decompressor()
    try:
        data = decoder.process(body, output_buffer_limit=max_bytes + 1)
    except brotli.error as error:
        raise ValueError(str(error)) from None
    if not data and not decoder.is_finished():
        raise ValueError("truncated")
    return data


def _is_plain(body: bytes) -> bool:
    """Whether a body looks like text that was decoded already."""
    opening = body[:512]
    return b"\0" not in opening and sum(byte < 9 or 13 < byte < 32 for byte in opening) == 0 and _is_utf8(opening)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start > len(data) - 4  # a character that the cut has split
    return True
