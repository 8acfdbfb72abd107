"""Wikipedia: the articles of a MediaWiki XML dump, streamed page by page.

The exporter escapes every ``<`` of an article, so ``<page>`` and ``</page>`` frame the pages even of a dump that is
damaged: a broken page is one bad record, and memory is bounded by a page.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree as ET

from pipelines.documents import Record
from pipelines.readers.fields import sound
from pipelines.readers.streams import identity_of, sized
from pipelines.readers.wikitext import NAMESPACES, plain_text
from pipelines.readers.window import Place, Window, next_member, range_identity

START, END = b"<page>", b"</page>"
_START = re.compile(re.escape(START))
_HEAD_BYTES = 1 << 16
_HIDDEN = {"6", "14", "-2"}  # files, categories and media show nothing in the text


class _Site(NamedTuple):
    """What the dump says of itself: address of an article without its title, language, names of hidden namespaces."""

    base: str
    language: str
    hidden: frozenset[str]


def wikipedia_records(path: Path, name: str, max_record_bytes: int) -> Iterator[Record]:
    """One record an article; redirects and pages outside namespace 0 are no documents.

    The key is the page's number, which outlives a renaming; the identity is the wikitext. The uri names the
    compressed stream that holds the page and the bytes to skip in it, as a multistream index does.
    """
    window = Window(path)
    site, is_first = _site(window.peek(_HEAD_BYTES)), True
    while True:
        place = yield from _pages(window, name, site, max_record_bytes, is_first)
        if window.torn is None:
            return
        after = next_member(path, window.torn.member + 1, window.suffix, _START)
        end = path.stat().st_size if after is None else after
        problem = f"truncated file: {name} {place} (bytes {place.member}-{end}): {window.torn}"
        raw = range_identity(path, place.member, end) + place.skip.to_bytes(8, "little")
        yield _bad(name, place, problem, raw)
        if after is None:
            return
        window, is_first = Window(path, Place(after, 0)), False


def _pages(window: Window, name: str, site: _Site, max_bytes: int, is_first: bool) -> Generator[Record, None, Place]:
    """The pages up to the end or to where the stream is torn; returns the place that was reached."""
    while True:
        window.mark()
        place = window.place(window.offset)
        if not window.peek(1):
            return place
        if window.peek(len(START)) != START:
            opening = window.peek(_HEAD_BYTES)
            sha256, size = window.drop_to(_START)
            is_head = is_first and b"<mediawiki" in opening
            if not is_head and opening[:size].strip() not in {b"", b"</mediawiki>"} and not window.torn:
                yield _bad(name, place, f"not a page: {name} {place}, {size} bytes", sized(sha256, size))
            is_first = False
            continue
        is_first = False
        data = _page_bytes(window, max_bytes)
        if data is not None:
            yield from _page(data, name, place, site)
            continue
        if window.torn is not None:
            return place
        sha256, size = window.drop_to(_START)
        kind = "too large" if size > max_bytes else "truncated file"
        problem = f"{kind}: {name} {place}, {size} bytes without {END.decode()}"
        yield _bad(name, place, problem, sized(sha256, size))


def _page_bytes(window: Window, max_bytes: int) -> bytes | None:
    """The bytes of the page that begins here, taken from the window; None if it has no end."""
    wanted = 1 << 15
    while True:
        data = window.peek(min(wanted, max_bytes))
        end, another = data.find(END), data.find(START, 1)
        if end >= 0 and not 0 <= another < end:
            return window.take(end + len(END))
        if another >= 0 or len(data) < wanted:
            return None
        wanted *= 4


def _page(data: bytes, name: str, place: Place, site: _Site) -> Iterator[Record]:
    try:
        page = ET.fromstring(data)  # noqa: S314 - no document type can stand inside a page
    except (ET.ParseError, ValueError) as error:
        code = getattr(error, "code", 0)
        yield _bad(name, place, f"not XML: {name} {place}, {len(data)} bytes, expat error {code}", data)
        return
    if page.findtext("ns", "0").strip() != "0" or page.find("redirect") is not None:
        return
    wikitext = page.findtext("revision/text") or ""
    title, key = page.findtext("title", "").strip(), page.findtext("id", "").strip()
    record = Record(name, place.member, place.uri(name), key=sound(key), title=sound(title))
    record = record._replace(
        raw=identity_of(wikitext.encode("utf-8", "surrogatepass")),
        url=site.base + quote(title.replace(" ", "_"), safe="/:(),'!*") if site.base and title else "",
        date=page.findtext("revision/timestamp", ""),
        language=site.language,
    )
    yield record._replace(text=plain_text(wikitext, site.hidden))


def _bad(name: str, place: Place, problem: str, raw: bytes) -> Record:
    return Record(name, place.member, place.uri(name), problem=problem, raw=raw)


def _site(opening: bytes) -> _Site:
    head = opening.partition(START)[0].decode("utf-8", "replace")
    base = re.search(r"<base>([^<]{1,500})</base>", head)
    language = re.search(r'xml:lang="([A-Za-z-]{2,20})"', head)
    named = re.findall(r'<namespace key="(-?\d+)"[^>]*>([^<]{1,100})</namespace>', head)
    hidden = NAMESPACES | {title.strip().lower() for key, title in named if key in _HIDDEN}
    return _Site(base[1].rpartition("/")[0] + "/" if base else "", language[1] if language else "", hidden)
