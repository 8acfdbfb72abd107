"""Two texts side by side: what both have is left out but for a line around it, what differs is marked.

The base install suffices; no Dagster.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from itertools import zip_longest

from rich.table import Table
from rich.text import Text

CONTEXT = 1  # equal lines that stay visible around a difference
LONG = 200  # characters of a line beyond which it is cut at the ends of sentences
WHOLE = 1000  # characters beyond which a sentence is cut too: comparing words takes time by the square
MOST = 200_000  # characters that are compared
ONLY_HERE, ONLY_THERE = "bold red", "bold green"
Row = tuple[str, Text, Text]  # "≠" where the two differ, left, right


def comparison(left: str, right: str, titles: tuple[str, str]) -> Table:
    """A table of two columns, and one that marks the rows that differ."""
    made = Table("", *titles, title_justify="left", header_style="bold", show_lines=False)
    made.columns[1].ratio = made.columns[2].ratio = 1
    for row in rows(left, right):
        made.add_row(*row)
    return made


def rows(left: str, right: str) -> Iterator[Row]:
    """Lines of both texts, aligned; long runs of equal lines are told by their number."""
    one, other = _lines(left[:MOST]), _lines(right[:MOST])
    blocks = SequenceMatcher(None, one, other, autojunk=len(one) + len(other) > 5000).get_opcodes()
    for number, (kind, start, stop, begin, end) in enumerate(blocks):
        if kind == "equal":
            yield from _equal(one[start:stop], first=number == 0, last=number == len(blocks) - 1)
        else:
            for here, there in zip_longest(one[start:stop], other[begin:end], fillvalue=""):
                yield ("≠", *_marked(here, there))
    if max(len(left), len(right)) > MOST:
        yield "", _rest(left), _rest(right)


def _rest(text: str) -> Text:
    return Text(f"… {max(0, len(text) - MOST):,} more characters, not compared", "dim")


def _lines(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        for sentence in re.split(r"(?<=[.!?;:])\s+", line) if len(line) > LONG else [line]:
            found += [sentence[start : start + WHOLE] for start in range(0, max(1, len(sentence)), WHOLE)]
    return found


def _equal(lines: list[str], *, first: bool, last: bool) -> Iterator[Row]:
    """The lines next to a difference, and how many others there are."""
    head, tail = (0 if first else CONTEXT), (0 if last else CONTEXT)
    hidden = len(lines) - head - tail
    if hidden <= 1:
        head, tail, hidden = len(lines), 0, 0
    for line in lines[:head]:
        yield "", Text(line), Text(line)
    if hidden:
        told = Text(f"… {hidden:,} equal lines …", style="dim")
        yield "", told, told
    for line in lines[len(lines) - tail :] if tail else []:
        yield "", Text(line), Text(line)


def _marked(left: str, right: str) -> tuple[Text, Text]:
    """Both lines; words that only one of them has are coloured."""
    one, other = re.findall(r"\s+|\S+", left), re.findall(r"\s+|\S+", right)
    here, there = Text(), Text()
    for kind, start, stop, begin, end in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        same = kind == "equal"
        here.append("".join(one[start:stop]), style="" if same else ONLY_HERE)
        there.append("".join(other[begin:end]), style="" if same else ONLY_THERE)
    return here, there
