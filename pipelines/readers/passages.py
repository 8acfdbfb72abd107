"""Passages: a long text file as many documents, cut where its author left a blank line.

A book is no document to train on: nothing of it could be dropped, deduplicated or held out but the whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipelines.documents import Record
from pipelines.readers.lines import Line, lines

LONGEST = 16  # times the wanted length: where no blank line comes, a passage ends with a line
GROUP_PASSAGES = 32  # neighbours continue each other, so a run of them, about a chapter, is held out together


def passage_records(path: Path, name: str, passage_bytes: int, max_record_bytes: int) -> Iterator[Record]:
    """Passages of at least ``passage_bytes`` (but for the last one) that end before a blank line.

    They have no key: a passage keeps its id by its text when others are written before it. Bytes that are no
    UTF-8 spoil only their own passage.
    """
    number, held, size = 0, list[Line](), 0
    for line in lines(path, max_record_bytes):
        is_blank = line.data is not None and not line.data.strip()
        is_sound = line.data is not None and not line.torn
        ends = (is_blank and size >= passage_bytes) or size >= LONGEST * passage_bytes or not is_sound
        if held and ends:
            yield _passage(name, held, number)
            number, held, size = number + 1, [], 0
        if not is_sound:
            yield _unreadable(name, line, number, max_record_bytes)
            number += 1
        elif held or not is_blank:
            held.append(line)
            size += line.size
    if held:
        yield _passage(name, held, number)


def _passage(name: str, held: list[Line], number: int) -> Record:
    first, last = held[0], held[-1]
    raw = b"\n".join(line.data or b"" for line in held).rstrip()
    place = Record(name, first.number, f"{name}#L{first.number}", group=f"{name}#{number // GROUP_PASSAGES}")
    try:
        return place._replace(text=raw.decode())
    except UnicodeDecodeError as error:
        where = f"{name} lines {first.number}-{last.number} (bytes {first.offset}-{last.offset + last.size})"
        return place._replace(problem=f"invalid UTF-8: {where}, byte {first.offset + error.start}", raw=raw)


def _unreadable(name: str, line: Line, number: int, max_record_bytes: int) -> Record:
    group = f"{name}#{number // GROUP_PASSAGES}"
    problem = line.problem(name, max_record_bytes)
    return Record(name, line.number, f"{name}#L{line.number}", group=group, problem=problem, raw=line.raw)
