"""CSV and its kin (tab, semicolon, bar): one record a row, quoted line ends included."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pipelines.documents import Record
from pipelines.readers.columns import check_columns
from pipelines.readers.fields import Fields, record_of
from pipelines.readers.lines import Line, lines
from pipelines.readers.streams import identity_of

DELIMITERS = (",", "\t", ";", "|")
RESCANS = 4  # times the bytes of the file: what reading anew after a stray quote may cost in all


class _Row(NamedTuple):
    """The lines that one row took, its cells, and why they are no row, if they are none."""

    taken: list[Line]
    cells: list[str]
    problem: str = ""


class _TooLongError(Exception):
    """A row goes on beyond the size that a record may have."""


class _Rows:
    """Rows of a CSV file with the lines that each of them took.

    A quote that is never closed swallows what follows it; then only its first line is bad, and the others are read
    anew, as long as that does not cost more than ``RESCANS`` times the file.
    """

    def __init__(self, found: Iterator[Line], delimiter: str, max_bytes: int) -> None:
        self._lines = found
        self._ahead: deque[Line] = deque()
        self._max_bytes = max_bytes
        self._taken: list[Line] = []
        self._size = self._seen = self._rescanned = 0
        # the module's limit on a field is global to the process, and far below a document
        csv.field_size_limit(max(csv.field_size_limit(), min(max_bytes, (1 << 31) - 1)))
        self._reader = csv.reader(self, delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """The next line, for csv.reader; unlike a generator's it can be asked again after an exception."""
        line = self._ahead.popleft() if self._ahead else next(self._lines)
        self._taken.append(line)
        self._size += line.size + 1
        if line.data is None or line.torn or self._size > self._max_bytes + 1:
            raise _TooLongError
        return line.data.decode("utf-8", "surrogateescape") + "\n"

    def row(self) -> _Row | None:
        self._taken, self._size = [], 0
        cells, problem = [], ""
        try:
            cells = next(self._reader)
        except StopIteration:
            if not self._taken:
                return None
            problem = "a quote is never closed"
        except _TooLongError:
            problem = "too long"
        except csv.Error as error:
            problem = (
                "a quote is never closed" if "unexpected end" in str(error) else "a quote or line end is out of place"
            )
        self._seen += self._taken[0].size if self._taken else 0
        return _Row(self._taken, cells, problem)

    def put_back(self, taken: list[Line]) -> bool:
        """Read these lines anew; False if that has happened too often."""
        self._rescanned += sum(line.size for line in taken)
        if self._rescanned > RESCANS * self._seen + (1 << 20):
            return False
        self._ahead.extendleft(reversed(taken))
        return True


def csv_records(path: Path, name: str, fields: Fields, max_record_bytes: int, delimiter: str = "") -> Iterator[Record]:
    """One record a row; the first row names the columns. Blank lines are no records.

    Args:
        path: where the file lies.
        name: what it is called in records and problems.
        fields: which columns are read.
        max_record_bytes: longer rows are quarantined without being held.
        delimiter: what stands between cells; empty: told by the first line.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    delimiter = delimiter or sniffed_delimiter(path, name)
    rows = _Rows(lines(path, max_record_bytes), delimiter, max_record_bytes)
    header = rows.row()
    if header is None:
        return
    if header.problem or _is_escaped(header.cells):
        yield _bad(name, header.taken, f"not CSV: {_where(name, header.taken)}, the first row has no column names")
        header = None
    names = header.cells if header else []
    if header:
        check_columns(names, name, fields)
    while row := rows.row():
        if row.cells or row.problem:
            yield _record(name, row, names, fields, max_record_bytes, rows)


def _record(name: str, row: _Row, names: list[str], fields: Fields, max_bytes: int, rows: _Rows) -> Record:
    taken, problem = row.taken, _problem(name, row, names, max_bytes)
    if not problem:
        found = dict(zip(names, row.cells, strict=True))
        return record_of(name, taken[0].number, f"{name}#L{taken[0].number}", found, fields)
    if len(taken) > 1 and rows.put_back(taken[1:]):
        taken = taken[:1]
        problem = _problem(name, row._replace(taken=taken), names, max_bytes)
    return _bad(name, taken, problem)


def _problem(name: str, row: _Row, names: list[str], max_bytes: int) -> str:
    where = _where(name, row.taken)
    own = row.taken[0].problem(name, max_bytes) if len(row.taken) == 1 else ""
    if own:
        return own
    if row.problem == "too long" and sum(line.size for line in row.taken) > max_bytes:
        return f"too large: {where}; max_record_bytes is {max_bytes}"
    if row.problem:
        return f"not CSV: {where}, {row.problem.replace('too long', 'a quote is never closed')}"
    if len(row.cells) != len(names):
        return f"ragged row: {where}, {len(row.cells)} cells; the first row names {len(names)} columns"
    return f"invalid UTF-8: {where}" if _is_escaped(row.cells) else ""


def _bad(name: str, taken: list[Line], problem: str) -> Record:
    raw = taken[0].raw if len(taken) == 1 else identity_of(b"\n".join(line.raw for line in taken))
    return Record(name, taken[0].number, f"{name}#L{taken[0].number}", problem=problem, raw=raw)


def _where(name: str, taken: list[Line]) -> str:
    first, last = taken[0], taken[-1]
    if first is last:
        return first.where(name)
    return f"{name} lines {first.number}-{last.number} (bytes {first.offset}-{last.offset + last.size})"


def _is_escaped(cells: list[str]) -> bool:
    """Whether a byte that is no UTF-8 was carried through as a lone surrogate."""
    return any(not cell.isascii() and any("\udc80" <= char <= "\udcff" for char in cell) for cell in cells)


def sniffed_delimiter(path: Path, name: str) -> str:
    """The delimiter by the suffix (``.tsv``), else the one that cuts the first line into the most cells."""
    stem = name.lower()
    if ".tsv" in stem[-8:]:
        return "\t"
    first = next(lines(path, 1 << 20), None)
    if first is None or not first.data:
        return ","
    text = first.data.decode("utf-8", "replace")
    return max(DELIMITERS, key=lambda d: len(_cells(text, d)))


def _cells(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []
