"""WARC and ARC: captures of web pages, framed record by record; what is broken ends at the next sound record.

fastwarc raises or stops at the first broken record and does not say which bytes it left out, so the frames are read
here and every byte of the file is accounted for; its figures on sound files are the tests' oracle.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.readers.streams import sized
from pipelines.readers.window import Place, Window, next_member, range_identity

MAX_HEAD_BYTES = 1 << 16
MAX_RESTARTS = 16  # records that claim more bytes than the file has: each costs reading the rest once more
# the look-behind (a line begins here) stands after the literal, by which garbage is searched nine times as fast
WARC_START = re.compile(rb"WARC/(?<![^\n]WARC/)[01]\.\d{1,2}\r?\n")
ARC_START = re.compile(
    rb"(?:(?<=\n)|\A)[a-z][a-z0-9+.-]{1,20}:[^\r\n]{0,4096} [0-9a-fA-F.:]{3,45} \d{8,14} [^ \r\n]{1,200} \d{1,12}\r?\n"
)


class Capture(NamedTuple):
    """One record of an archive: its type (``response``, ``resource``, …), headers, and block; or a problem."""

    place: Place
    kind: str
    headers: dict[str, str]
    block: bytes
    problem: str = ""
    raw: bytes = b""


class _Head(NamedTuple):
    kind: str
    headers: dict[str, str]
    length: int


def captures(path: Path, name: str, max_bytes: int) -> Iterator[Capture]:
    """Every record of a WARC or ARC file, plain or compressed record by record or as a whole.

    A block above ``max_bytes`` is hashed and counted, not held. Bytes that belong to no record are captures with a
    problem that names their range.
    """
    window = Window(path)
    is_arc = window.peek(9) == b"filedesc:" or (".arc" in name.lower()[-12:] and window.peek(5) != b"WARC/")
    start, restarts = ARC_START if is_arc else WARC_START, 0
    while True:
        place = yield from _framed(window, name, start, max_bytes)
        if place is None:
            return
        if window.torn is not None:
            after = next_member(path, window.torn.member + 1, window.suffix, start)
            yield _torn(path, name, place, after, str(window.torn))
            if after is None:
                return
            window = Window(path, Place(after, 0))
            continue
        restarts += 1
        again = Window(path, place)
        sha256, size = again.drop_to(start) if restarts <= MAX_RESTARTS else again.drop(1 << 62)
        is_end = not again.peek(1)
        why = "the file ends inside the record" if is_end else "the record claims more bytes than there are"
        yield _unreadable(name, place, size, why, sha256, "truncated file" if is_end else "not a record")
        window = again


def _torn(path: Path, name: str, place: Place, after: int | None, why: str) -> Capture:
    end = path.stat().st_size if after is None else after
    problem = f"truncated file: {name} {place} (bytes {place.member}-{end}): {why}"
    raw = range_identity(path, place.member, end) + place.skip.to_bytes(8, "little")
    return Capture(place, "", {}, b"", problem, raw)


def _framed(
    window: Window, name: str, start: re.Pattern[bytes], max_bytes: int
) -> Generator[Capture, None, Place | None]:
    """Records up to the end, or to where the stream is torn, or to one that claims more bytes than there are.

    Returns:
        None at the end, else the place of the record that could not be read whole.
    """
    while True:
        window.drop_blank()
        window.mark()
        place, is_end = window.place(window.offset), not window.peek(1)
        if is_end:
            return place if window.torn is not None else None
        head = _head(window, start)
        if head is None and window.torn is not None:
            return place
        if head is None:
            sha256, size = window.drop_to(start)
            yield _unreadable(name, place, size, "no record begins here", sha256)
            continue
        if head.length > max_bytes:
            sha256, size = window.drop(head.length)
            block, identity = b"", sized(sha256, size)
        else:
            block = window.take(head.length)
            size, identity = len(block), b""
        if size < head.length:
            return place
        if identity:
            problem = f"too large: {name} {place}, {size} bytes; max_record_bytes is {max_bytes}"
            yield Capture(place, head.kind, head.headers, b"", problem, identity)
            continue
        if cut := _swallowed(window, block, start):
            window.unread(block[cut:])
            sha256 = hashlib.sha256(block[:cut]).digest()
            yield _unreadable(name, place, cut, "the record claims bytes of the next one", sha256)
            continue
        yield Capture(place, head.kind, head.headers, block)


def _head(window: Window, start: re.Pattern[bytes]) -> _Head | None:
    """The head of the record that begins here, taken from the window; None if none begins here."""
    data = window.peek(4096)
    if start is ARC_START:
        found = start.match(data)
        if found is None:
            return None
        window.take(found.end())
        return _arc_head(found[0])
    if start.match(data) is None:
        return None
    end = _head_end(data)
    if end < 0:
        end = _head_end(window.peek(MAX_HEAD_BYTES))
    if end < 0:
        return None
    headers = _warc_headers(window.peek(end))
    length = headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or len(length) > 15:
        return None
    window.take(end)
    return _Head(headers.get("warc-type", "").lower(), headers, int(length))


def _head_end(data: bytes) -> int:
    ends = [at + len(end) for end in (b"\r\n\r\n", b"\n\n") if (at := data.find(end)) >= 0]
    return min(ends, default=-1)


def _warc_headers(head: bytes) -> dict[str, str]:
    """Names in lower case; of a name that stands twice the first counts, lines that begin with a blank go on."""
    found: dict[str, str] = {}
    last = ""
    for line in head.decode("utf-8", "replace").split("\n")[1:]:
        if line[:1] in {" ", "\t"} and last:
            found[last] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        last = name.strip().lower() if colon else ""
        if last:
            found.setdefault(last, value.strip())
    return found


def _arc_head(line: bytes) -> _Head:
    url, address, date, kind, length = line.decode("utf-8", "replace").rstrip("\r\n").rsplit(" ", 4)
    is_about = url.startswith("filedesc:")
    stamp = f"{date[:4]}-{date[4:6]}-{date[6:8]}"
    if len(date) >= 14:
        stamp += f"T{date[8:10]}:{date[10:12]}:{date[12:14]}Z"
    headers = {"warc-target-uri": url, "warc-date": stamp, "content-type": kind, "warc-ip-address": address}
    return _Head("warcinfo" if is_about else "response", headers, int(length))


def _swallowed(window: Window, block: bytes, start: re.Pattern[bytes]) -> int:
    """Where in a block the next record begins, if the block's length is wrong; else 0."""
    follows = window.peek(8)
    if not follows.strip() or follows.startswith((b"\r\n", b"\n")):
        return 0
    found = start.search(block)
    return found.start() if found and found.start() else 0


def _unreadable(name: str, place: Place, size: int, why: str, sha256: bytes, kind: str = "not a record") -> Capture:
    return Capture(place, "", {}, b"", f"{kind}: {name} {place}, {size} bytes: {why}", sized(sha256, size))
