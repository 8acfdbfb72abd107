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
