"""Entries of a mixture: what a person writes to read some documents more often than others.

    wiki=2                  a source, or all that match a pattern: twice as often as its tokens alone would have it
    language:de=1/2         documents whose column says so; licence, group and every other column of words
    num_words>=500=3        documents by a number; the columns of documents and every signal of cleaning
    wiki=3 epochs           exactly so often, whatever the others say

Of the entries about one column (or about sources) the first that matches a document counts; factors of different
columns multiply.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

SOURCE = "source"
EPOCHS = (" epochs", " epoch")


class Selector(NamedTuple):
    """Which documents an entry is about."""

    column: str  # SOURCE, or a column of documents or signals
    relation: str  # ":", ">=" or "<"
    value: str  # a pattern or a number

    def __str__(self) -> str:
        return self.value if self.column == SOURCE else f"{self.column}{self.relation}{self.value}"


class Entry(NamedTuple):
    """What is asked for some documents: a factor or a number of epochs."""

    text: str
    selector: Selector
    value: Fraction
    is_epochs: bool


class PhaseEntries(NamedTuple):
    """Entries that hold from a place in the run on: a step, or a fraction of it."""

    start: Fraction  # below 1: of the steps; else the first step, from 1
    entries: list[Entry]

    def first_step(self, steps: int) -> int:
        return int(self.start) if self.start >= 1 else int(self.start * steps) + 1


def parsed_entry(text: str) -> Entry:
    """One entry.

    Raises:
        ValueError: if it is none.
    """
    pattern, _, value = (piece.strip() for piece in text.rpartition("="))
    epochs = next((ending for ending in EPOCHS if value.endswith(ending)), "")
    try:
        number = Fraction(value.removesuffix(epochs))
    except (ValueError, ZeroDivisionError):
        number = Fraction(-1)
    if not pattern or number < 0:
        raise ValueError(
            f"weight {text!r}: expected NAME=FACTOR with a number from 0 on, such as 'wiki=2', 'wiki=3 epochs', "
            "'language:de=2' or 'num_words>=500=2'."
        )
    return Entry(text.strip(), _selector(text, pattern), number, bool(epochs))


def _selector(text: str, pattern: str) -> Selector:
    for relation in (">=", "<"):
        column, found, bound = pattern.partition(relation)
        if found:
            try:
                Fraction(bound)
            except (ValueError, ZeroDivisionError):
                raise ValueError(f"weight {text!r}: {bound!r} is no number to compare {column} with.") from None
            return Selector(column.strip(), relation, bound.strip())
    column, found, value = pattern.partition(":")
    return Selector(column.strip(), ":", value.strip()) if found else Selector(SOURCE, ":", pattern)


def parsed_phase(text: str) -> PhaseEntries:
    """``0.8: wiki=2, language:de=0``: from there on these entries hold instead.

    Raises:
        ValueError: if it is no phase.
    """
    start, colon, rest = text.partition(":")
    try:
        number = Fraction(start.strip())
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if not colon or number <= 0 or (number > 1 and number.denominator > 1):
        raise ValueError(
            f"phase {text!r}: expected FROM: NAME=FACTOR, … with a fraction of the run or the first step, such as "
            "'0.8: wiki=2, web=0.5' or '601: wiki=2'."
        )
    return PhaseEntries(number, [parsed_entry(entry) for entry in rest.split(",") if entry.strip()])


def phases_of(weights: Sequence[str], phases: Sequence[str], steps: int) -> list[tuple[int, list[Entry]]]:
    """(first step, entries) of every phase; ``weights`` hold from step 1.

    Raises:
        ValueError: if a phase does not begin behind the one before it, or not within the run.
    """
    found = [(1, [parsed_entry(entry) for entry in weights])]
    for text in phases:
        phase = parsed_phase(text)
        first = phase.first_step(steps)
        if not found[-1][0] < first <= steps:
            raise ValueError(
                f"phase {text!r} begins at step {first}; it must come after step {found[-1][0]} and within the "
                f"{steps} steps of the run."
            )
        found.append((first, phase.entries))
    return found
