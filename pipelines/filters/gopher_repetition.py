"""Gopher repetition: Rae et al. 2021 (arXiv:2112.11446), appendix A.1.1, Table A1.

What is counted follows datatrove 0.10's GopherRepetitionFilter, which made FineWeb. Lines are split at runs of line
feeds, paragraphs at runs of two and more; every occurrence but the first is a duplicate. All character shares are
of the whole text, white space included.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from pipelines.filters.rules import Rule
from pipelines.filters.spans import Words
from pipelines.provenance.recipe import Recipe

TOP_GRAMS = (2, 3, 4)
DUPLICATE_GRAMS = (5, 6, 7, 8, 9, 10)


def _share(default: float, what: str) -> float:
    return Field(default=default, ge=0, le=1, description=f"largest share {what}")


class GopherRepetitionRecipe(Recipe):
    """Bounds of the repetition rules; the defaults are the paper's (Table A1)."""

    gopher_repetition: bool = Field(default=True, description="drop documents by the Gopher repetition rules")
    max_duplicate_paragraphs_ratio: float = _share(0.30, "of paragraphs that repeat an earlier one")
    max_duplicate_paragraph_chars_ratio: float = _share(0.20, "of characters in repeated paragraphs")
    max_duplicate_lines_ratio: float = _share(0.30, "of lines that repeat an earlier one")
    max_duplicate_line_chars_ratio: float = _share(0.20, "of characters in repeated lines")
    max_top_2_gram_ratio: float = _share(0.20, "of characters in the commonest 2 words in a row")
    max_top_3_gram_ratio: float = _share(0.18, "of characters in the commonest 3 words in a row")
    max_top_4_gram_ratio: float = _share(0.16, "of characters in the commonest 4 words in a row")
    max_duplicate_5_gram_ratio: float = _share(0.15, "of characters in repeated runs of 5 words")
    max_duplicate_6_gram_ratio: float = _share(0.14, "of characters in repeated runs of 6 words")
    max_duplicate_7_gram_ratio: float = _share(0.13, "of characters in repeated runs of 7 words")
    max_duplicate_8_gram_ratio: float = _share(0.12, "of characters in repeated runs of 8 words")
    max_duplicate_9_gram_ratio: float = _share(0.11, "of characters in repeated runs of 9 words")
    max_duplicate_10_gram_ratio: float = _share(0.10, "of characters in repeated runs of 10 words")


RULES = (
    Rule("empty", "num_chars", "", True, "empty", 1.0),
    Rule("duplicate_paragraphs", "duplicate_paragraphs_ratio", "max_duplicate_paragraphs_ratio", False,
         "dup_para_frac"),
    Rule("duplicate_paragraph_chars", "duplicate_paragraph_chars_ratio", "max_duplicate_paragraph_chars_ratio", False,
         "dup_para_char_frac"),
    Rule("duplicate_lines", "duplicate_lines_ratio", "max_duplicate_lines_ratio", False, "dup_line_frac"),
    Rule("duplicate_line_chars", "duplicate_line_chars_ratio", "max_duplicate_line_chars_ratio", False,
         "dup_line_char_frac"),
    *(Rule(f"top_{n}_gram", f"top_{n}_gram_ratio", f"max_top_{n}_gram_ratio", False, f"top_{n}_gram")
      for n in TOP_GRAMS),
    *(Rule(f"duplicate_{n}_grams", f"duplicate_{n}_gram_ratio", f"max_duplicate_{n}_gram_ratio", False,
           f"duplicated_{n}_n_grams")
      for n in DUPLICATE_GRAMS),
)  # fmt: skip

SIGNALS = [pa.field("num_chars", pa.int64())] + [pa.field(rule.signal, pa.float64()) for rule in RULES[1:]]


def signals(texts: pa.LargeStringArray, words: Words) -> dict[str, pa.Array]:
    """The columns of SIGNALS.

    top_n_gram_ratio: characters of the commonest n-gram, its words joined by spaces, times its count, a character
    of text; of equally common ones the first to appear; 0.0 with fewer than n words. duplicate_n_gram_ratio: from
    left to right, an n-gram whose words, joined by nothing, appeared before counts in full and the walk goes on
    behind it.
    """
    from pipelines.filters.bitmap_kernel import bitmaps
    from pipelines.filters.characters import ratio
    from pipelines.filters.repetition_kernel import counts

    data, offsets, bits, base = bitmaps(texts)
    table = counts(data, offsets, bits, base, *words)
    chars, paragraphs, lines = table[:, 0], table[:, 1], table[:, 4]
    wholes = [paragraphs, chars, lines, chars] + [chars] * (len(TOP_GRAMS) + len(DUPLICATE_GRAMS))
    parts = [table[:, column] for column in (2, 3, 5, 6, *range(7, 7 + len(wholes) - 4))]
    shares = [ratio(part, whole) for part, whole in zip(parts, wholes, strict=True)]
    return {field.name: pa.array(column, field.type) for field, column in zip(SIGNALS, [chars, *shares], strict=True)}
