"""Fields: which field of a row holds the text, and which ones its id, licence, group, address, title and date."""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.documents import Record


class Fields(NamedTuple):
    """Where a record's text and what is known about it stand; an empty name means that there is none.

    A name with dots leads into objects (``meta.url``) unless a field has just that name.
    """

    text: str
    id: str = ""
    licence: str = ""
    group: str = ""
    url: str = ""
    title: str = ""
    date: str = ""

    @property
    def named(self) -> list[str]:
        """Every field that is read, once, the text first."""
        return [name for name in dict.fromkeys(self) if name]


def cell(found: dict[str, Any], name: str) -> Any:
    """The value of a field, or None."""
    value: Any = found.get(name)
    if value is not None or "." not in name or name in found:
        return value
    value = found
    for step in name.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def text_problem(text: Any, field: str, where: str) -> str:
    if text is None:
        return f"no text: {where}, field {field!r} is missing or null"
    return "" if isinstance(text, str) else f"text is not a string: {where}, field {field!r} is {type(text).__name__}"


def record_of(name: str, position: int, uri: str, found: dict[str, Any], fields: Fields) -> Record:
    """The record of a row whose text is a string."""
    cells = []
    for field in fields[1:]:
        value = cell(found, field) if field else None
        cells.append("" if value is None else sound(value))
    key, licence, group, url, title, date = cells
    return Record(name, position, uri, cell(found, fields.text), key, group, licence, url=url, title=title, date=date)


def sound(value: Any) -> str:
    """A value that is no text itself but must be written as UTF-8."""
    text = value if isinstance(value, str) else str(value)
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
