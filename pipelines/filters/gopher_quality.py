"""Gopher quality: Rae et al. 2021 (arXiv:2112.11446), appendix A.1.1, paragraph "Quality Filtering".

The paper does not say what a word is: the word rule does. What is counted follows datatrove 0.10's
GopherQualityFilter, which made FineWeb: words of symbols alone are no words to the length rules, yet they stand in
the denominator of the other ratios.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from pipelines.filters.rules import Rule
from pipelines.filters.spans import Words
from pipelines.provenance.recipe import Recipe

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")  # matched as they stand: "The" is none


class GopherQualityRecipe(Recipe):
    """Bounds of the quality rules; the defaults are the paper's (A.1.1, "Quality Filtering")."""

    gopher_quality: bool = Field(default=True, description="drop documents by the Gopher quality rules")
    min_words: int = Field(default=50, ge=0, description="fewest words")
    max_words: int = Field(default=100_000, ge=1, description="most words")
    min_mean_word_length: float = Field(default=3.0, ge=0, description="least mean length of a word in characters")
    max_mean_word_length: float = Field(default=10.0, ge=0, description="greatest mean length of a word in characters")
    max_hash_ratio: float = Field(default=0.1, ge=0, description="most # signs a token")
    max_ellipsis_ratio: float = Field(default=0.1, ge=0, description="most ellipses a token")
    max_bullet_lines_ratio: float = Field(
        default=0.9, ge=0, le=1, description="largest share of lines that begin with a bullet"
    )
    max_ellipsis_lines_ratio: float = Field(
        default=0.3, ge=0, le=1, description="largest share of lines that end in an ellipsis"
    )
    min_alpha_words_ratio: float = Field(default=0.8, ge=0, le=1, description="least share of tokens with a letter")
    min_stop_words: int = Field(
        default=2, ge=0, le=8, description="fewest different ones of the, be, to, of, and, that, have, with"
    )


RULES = (
    Rule("too_short", "num_words", "min_words", True, "gopher_short_doc"),
    Rule("too_long", "num_words", "max_words", False, "gopher_long_doc"),
    Rule("short_words", "mean_word_length", "min_mean_word_length", True, "gopher_below_avg_threshold"),
    Rule("long_words", "mean_word_length", "max_mean_word_length", False, "gopher_above_avg_threshold"),
    Rule("hash_signs", "hash_ratio", "max_hash_ratio", False, "gopher_too_many_hashes"),
    Rule("ellipses", "ellipsis_ratio", "max_ellipsis_ratio", False, "gopher_too_many_ellipsis"),
    Rule("bullet_lines", "bullet_lines_ratio", "max_bullet_lines_ratio", False, "gopher_too_many_bullets"),
    Rule("ellipsis_lines", "ellipsis_lines_ratio", "max_ellipsis_lines_ratio", False, "gopher_too_many_end_ellipsis"),
    Rule("few_letters", "alpha_words_ratio", "min_alpha_words_ratio", True, "gopher_below_alpha_threshold"),
    Rule("few_stop_words", "num_stop_words", "min_stop_words", True, "gopher_enough_stop_words"),
)

SIGNALS = [
    pa.field("num_tokens", pa.int64()),  # all that the word rule found
    pa.field("num_words", pa.int64()),  # tokens with a character that is no punctuation
    pa.field("num_lines", pa.int64()),  # as str.splitlines() counts them, blank ones included
    pa.field("mean_word_length", pa.float64()),  # characters; 0.0 without words, as all ratios of nothing
    pa.field("hash_ratio", pa.float64()),  # a token
    pa.field("ellipsis_ratio", pa.float64()),  # "..." and "…", a token
    pa.field("bullet_lines_ratio", pa.float64()),  # lines that begin with "•" or "-"
    pa.field("ellipsis_lines_ratio", pa.float64()),
    pa.field("alpha_words_ratio", pa.float64()),  # tokens with a letter
    pa.field("num_stop_words", pa.int64()),  # different ones
]


def signals(texts: pa.LargeStringArray, words: Words) -> dict[str, pa.Array]:
    """The columns of SIGNALS: whole numbers, and ratios of two whole numbers."""
    from pipelines.filters.bitmap_kernel import bitmaps
    from pipelines.filters.characters import flags, ratio
    from pipelines.filters.quality_kernel import counts

    data, offsets, bits, base = bitmaps(texts)
    counted = counts(data, offsets, bits, base, *words, flags())
    tokens, symbols_free, chars, alpha, stop, lines, bullets, ellipsis_lines, hashes, ellipses = counted
    measured = {
        "num_tokens": tokens,
        "num_words": symbols_free,
        "num_lines": lines,
        "mean_word_length": ratio(chars, symbols_free),
        "hash_ratio": ratio(hashes, tokens),
        "ellipsis_ratio": ratio(ellipses, tokens),
        "bullet_lines_ratio": ratio(bullets, lines),
        "ellipsis_lines_ratio": ratio(ellipsis_lines, lines),
        "alpha_words_ratio": ratio(alpha, tokens),
        "num_stop_words": stop,
    }
    return {field.name: pa.array(measured[field.name], field.type) for field in SIGNALS}
