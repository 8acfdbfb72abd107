"""Where things stand in ``stemma.toml``: the line of every table and key, and what a table may hold."""

from __future__ import annotations

import tomllib
from typing import Any

from pydantic import BaseModel


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """Line (from 1) of every table header and of every key that begins a line."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):  # splitlines would cut at U+2028 and others as well
        stripped = line.strip()
        if stripped.startswith("["):
            table = _path_of(f"{stripped.split(']')[0].lstrip('[')}=0") or table
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], number)
            lines[table] = number
        elif "=" in stripped and not stripped.startswith("#"):
            key = _path_of(f"{stripped.split('=')[0]}=0")
            for depth in range(1, len(key) + 1):
                lines.setdefault((*table, *key[:depth]), number)
    return lines


def _path_of(assignment: str) -> tuple[str, ...]:
    """``a."b/c".d=0`` as ("a", "b/c", "d"); empty if it is no assignment."""
    try:
        value: Any = tomllib.loads(assignment)
    except tomllib.TOMLDecodeError:
        return ()
    path: tuple[str, ...] = ()
    while isinstance(value, dict):
        name, value = next(iter(value.items()))
        path = (*path, name)
    return path


def fields_at(kind: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """Names of the fields that a table at this place may have."""
    current: Any = kind
    for step in location:
        if isinstance(current, type) and issubclass(current, BaseModel) and step in current.model_fields:
            current = current.model_fields[step].annotation
        args = getattr(current, "__args__", ())
        if args and isinstance(args[-1], type) and issubclass(args[-1], BaseModel):
            current = args[-1]
    return sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
