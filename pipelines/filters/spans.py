"""Spans: what a word rule found in a column of texts, and what a family cut out of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

I64 = NDArray[np.int64]

CUTS = pa.schema([("row", pa.int64()), ("rule", pa.string()), ("start", pa.int64()), ("length", pa.int64())])


class Words(NamedTuple):
    """Every word of a column of texts, as byte spans of the column's data buffer."""

    starts: I64  # [words]
    ends: I64  # [words]
    offsets: I64  # [docs + 1]: the words of document d are offsets[d] to offsets[d + 1]


class Edited(NamedTuple):
    """A column after a family that edits: rows stay in place, and a row does not depend on the others."""

    texts: pa.LargeStringArray
    cuts: pa.Table  # CUTS, by row and place: characters of the text before the edit; see replacement()
    signals: dict[str, pa.Array]


# A line end that is not a line feed (a vertical tab, U+2028, CR LF) becomes one; every other cut leaves nothing.
LINE_BREAK = "line_break"


def replacement(rule: str) -> str:
    """What stands in the edited text where a cut of this rule was."""
    return "\n" if rule == LINE_BREAK else ""


def column_of(texts: pa.LargeStringArray, spans: NDArray[np.int64]) -> pa.LargeStringArray:
    """Spans of a column's bytes, from its first text on, as texts of their own; int64 [2, spans], one behind the other."""
    offsets, data = texts.buffers()[1:]
    base = np.frombuffer(offsets, np.int64)[texts.offset] if len(texts) else 0
    sizes = spans[1] - spans[0]
    rows = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    bytes_of = np.repeat(spans[0] - rows[:-1] + base, sizes) + np.arange(rows[-1])
    taken = np.frombuffer(data if data is not None else b"", np.uint8)[bytes_of]
    return pa.LargeStringArray.from_buffers(len(sizes), pa.py_buffer(rows), pa.py_buffer(taken))
