"""Crawls: the captures of a WARC, WET or ARC file as records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipelines.documents import Record
from pipelines.readers.fields import sound
from pipelines.readers.http import answer, media_type
from pipelines.readers.pages import page_record
from pipelines.readers.streams import identity_of
from pipelines.readers.warc import Capture, captures

DOCUMENTS = {"response", "resource", "conversion"}
OTHERS = {"warcinfo", "request", "metadata", "revisit", "continuation"}
HTML_TYPES = {
    "",
    "text/html",
    "application/xhtml+xml",
    "application/octet-stream",
    "unknown/unknown",
    "unknown",
    "no-type",
}


def warc_records(path: Path, name: str, recipe: Any, max_record_bytes: int) -> Iterator[Record]:
    """One record a response, resource or conversion; other types (requests, metadata, …) are no documents.

    A page's key is its address and its group the host. Its date is the page's own where it states one, else the
    capture's. The position is the record's offset in the file, as CDX indexes have it; where a compressed member
    holds several records, the uri says how many bytes of it to skip.

    Args:
        path: where the file lies.
        name: what it is called in records and problems.
        recipe: with the fields of ``HtmlRecipe``.
        max_record_bytes: larger captures are quarantined without being held.
    """
    for capture in captures(path, name, max_record_bytes):
        if capture.kind in OTHERS:
            continue
        place = _place(name, capture)
        if capture.problem:
            yield place._replace(problem=capture.problem, raw=capture.raw)
        elif capture.kind in DOCUMENTS:
            yield _document(place, capture, recipe, max_record_bytes)
        else:
            problem = f"not a record: {name} {capture.place}, its WARC-Type is missing or unknown"
            yield place._replace(problem=problem, raw=identity_of(capture.block))


def _place(name: str, capture: Capture) -> Record:
    stated = capture.headers
    url = sound(stated.get("warc-target-uri", "").strip("<>"))  # wget writes <http://…>
    return Record(
        name,
        capture.place.member,
        capture.place.uri(name),
        key=url,
        group=_host(url),
        url=url,
        date=stated.get("warc-date", ""),
        language=stated.get("warc-identified-content-language", "").split(",")[0],
    )


def _document(place: Record, capture: Capture, recipe: Any, max_bytes: int) -> Record:
    where, payload = f"{place.file} {capture.place}", capture.block
    stated = capture.headers.get("content-type", "")
    kind, charset = media_type(stated)
    if capture.kind == "conversion":
        return _plain(place, payload, where, charset)
    if kind == "application/http" or payload.startswith(b"HTTP/"):
        found = answer(payload, max_bytes)
        payload, kind, charset = found.payload, found.content_type, found.charset
        place = place._replace(language=place.language or found.language)
        bad = found.problem or ("" if found.status in {0, *range(200, 300)} else f"HTTP status {found.status}")
        if bad:
            return place._replace(problem=f"no page: {where}, {bad}", raw=identity_of(payload))
    if not payload.strip():
        return place._replace(problem=f"no page: {where}, the payload is empty", raw=identity_of(payload))
    if kind == "text/plain":
        return _plain(place, payload, where, charset)
    if kind not in HTML_TYPES:
        return place._replace(problem=f"not HTML: {where}, {_shown(kind)}", raw=identity_of(payload))
    return page_record(place, payload, recipe, where, charset)


def _plain(place: Record, payload: bytes, where: str, charset: str) -> Record:
    for encoding in (charset, "utf-8"):
        try:
            if encoding:
                return place._replace(text=payload.decode(encoding))
        except (LookupError, ValueError):  # no such charset, or the payload is not in it
            continue
    return place._replace(problem=f"invalid UTF-8: {where}, text/plain", raw=identity_of(payload))


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def _shown(kind: str) -> str:
    """A media type that somebody else wrote, fit for a reason."""
    return "".join(char for char in kind[:40] if char.isalnum() or char in "/+-._")
