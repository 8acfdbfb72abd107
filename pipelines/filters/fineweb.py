"""FineWeb's own rules: Penedo et al. 2024 (arXiv:2406.17557), section 3.6.

They were found by comparing statistics of good and bad crawls. What is counted follows datatrove 0.10's
FineWebQualityFilter with its defaults, which add a share of short lines to the paper's three. FineWeb measures the
text that the C4 rules leave.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from pipelines.filters.rules import Rule
from pipelines.filters.spans import Words
from pipelines.provenance.recipe import Recipe


class FineWebRecipe(Recipe):
    """Bounds of FineWeb's rules; the defaults are the published pipeline's."""

    fineweb: bool = Field(default=True, description="drop documents by FineWeb's own rules")
    min_punctuated_lines_ratio: float = Field(
        default=0.12, ge=0, le=1, description="least share of lines that end in terminal punctuation"
    )
    max_short_lines_ratio: float = Field(default=0.67, ge=0, le=1, description="largest share of short lines")
    short_line_chars: int = Field(default=30, ge=0, description="most characters of a short line")
    max_repeated_line_chars_ratio: float = Field(
        default=0.01, ge=0, le=1, description="largest share of characters in lines that repeat an earlier one"
    )
    max_newline_ratio: float = Field(default=0.3, ge=0, description="most line feeds a word")


RULES = (
    Rule("no_lines", "num_visible_lines", "", True, "empty", 1.0),
    Rule("unpunctuated_lines", "punctuated_lines_ratio", "min_punctuated_lines_ratio", True, "line_punct_ratio"),
    Rule("short_lines", "short_lines_ratio", "max_short_lines_ratio", False, "short_line_ratio"),
    Rule("repeated_line_chars", "repeated_line_chars_ratio", "max_repeated_line_chars_ratio", False, "char_dup_ratio"),
    Rule("list_like", "newline_ratio", "max_newline_ratio", False, "list_ratio"),
)

SIGNALS = [
    pa.field("num_visible_lines", pa.int64()),  # lines that are not blank; they are what the shares are of
    pa.field("punctuated_lines_ratio", pa.float64()),
    pa.field("short_lines_ratio", pa.float64()),
    pa.field("repeated_line_chars_ratio", pa.float64()),  # of the characters that are no line feeds
    pa.field("newline_ratio", pa.float64()),  # line feeds a word
]


def signals(texts: pa.LargeStringArray, words: Words, recipe: FineWebRecipe) -> dict[str, pa.Array]:
    """The columns of SIGNALS; of the words only their number matters."""
    import numpy as np

    return counted_signals(texts, np.diff(words.offsets), recipe)


def counted_signals(texts: pa.LargeStringArray, num_words: object, recipe: FineWebRecipe) -> dict[str, pa.Array]:
    """As :func:`signals`, from the number of words of each document: int64 [docs]."""
    from pipelines.filters.bitmap_kernel import bitmaps
    from pipelines.filters.characters import ratio
    from pipelines.filters.fineweb_kernel import counts

    data, offsets, bits, _ = bitmaps(texts)
    table = counts(data, offsets, bits, recipe.short_line_chars)
    lines, punctuated, short, repeated_chars, chars, newlines = (table[:, column] for column in range(6))
    columns = [
        lines,
        ratio(punctuated, lines),
        ratio(short, lines),
        ratio(repeated_chars, chars),
        ratio(newlines, num_words),
    ]
    return {field.name: pa.array(column, field.type) for field, column in zip(SIGNALS, columns, strict=True)}
