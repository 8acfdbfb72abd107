"""Pages: an HTML payload as a record, whether it lay in a file of its own or in an archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.documents import Record
from pipelines.readers.fields import sound
from pipelines.readers.streams import identity_of, whole
from pipelines.readers.text import whole_problem


def page_records(path: Path, name: str, recipe: Any, max_record_bytes: int) -> Iterator[Record]:
    """One record a file; its key is its name, and so is its group. ``recipe`` has the fields of ``HtmlRecipe``."""
    found = whole(path, max_record_bytes)
    place = Record(name, 1, name, key=sound(name), group=sound(name))
    if problem := whole_problem(found, name, max_record_bytes):
        yield place._replace(problem=problem, raw=found.raw)
        return
    yield page_record(place, found.data or b"", recipe, f"{name} (bytes 0-{found.size})")


def page_record(place: Record, payload: bytes, recipe: Any, where: str, charset: str = "") -> Record:
    """The place with the text of a page and what the page says of itself, or with what is wrong with it.

    The identity of a page is its payload, so that another extractor changes the text and not the document.
    """
    from pipelines.readers.html import extract

    page = extract(payload, recipe, url=place.url, charset=charset)
    raw = identity_of(payload)
    if page.problem:
        kind, _, detail = page.problem.partition(": ")
        return place._replace(problem=f"{kind}: {where}" + (f", {detail}" if detail else ""), raw=raw)
    return place._replace(
        text=page.text,
        raw=raw,
        title=sound(page.title),
        date=page.date or place.date,
        language=page.language or place.language,
        links=page.links,
    )
