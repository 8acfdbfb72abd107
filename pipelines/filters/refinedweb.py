"""RefinedWeb's line rules: Penedo et al. 2023 (arXiv:2306.01116), appendix G.2, line-wise corrections.

What is cut follows DCLM's implementation (Li et al. 2024, arXiv:2406.11794), which reproduced them, in its order and
with its bounds: a rule sees what the rules before it left, stripped. A document that loses too many of its words is
dropped; a word is here what DCLM counts, a run between ASCII white space that begins with a letter or a digit.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from pipelines.filters.rules import Rule
from pipelines.filters.spans import Edited
from pipelines.provenance.recipe import Recipe

CUT_RULES = (
    "", "white_space", "line_break", "line_break",
    "refinedweb_upper_case", "refinedweb_digits", "refinedweb_counter", "refinedweb_few_words", "refinedweb_phrase",
)  # fmt: skip


class RefinedWebRecipe(Recipe):
    """Which lines are cut, and how much may be lost; the defaults are DCLM's."""

    refinedweb: bool = Field(default=True, description="cut lines and drop documents by the RefinedWeb line rules")
    max_upper_case_ratio: float = Field(
        default=0.5, ge=0, le=1, description="cut lines with a larger share of upper-case characters"
    )
    # the paper cuts lines of digits alone; DCLM's bound leaves room for rounding
    max_digits_ratio: float = Field(default=0.999999, ge=0, le=1, description="cut lines with a larger share of digits")
    refinedweb_counters: bool = Field(default=True, description="cut lines that count, as 3 likes")
    min_refinedweb_line_words: int = Field(default=2, ge=0, description="cut lines of fewer words; empty ones stay")
    refinedweb_phrases: bool = Field(
        default=True, description="cut items in cart, a final Read more... and an initial Sign-in out of short lines"
    )
    max_phrase_line_words: int = Field(default=10, ge=0, description="most words of a line that loses such a phrase")
    max_removed_words_ratio: float = Field(
        default=0.05, ge=0, le=1, description="largest share of words that the line rules may cut"
    )


RULES = (Rule("words_removed", "removed_words_ratio", "max_removed_words_ratio", False),)

SIGNALS = [pa.field("removed_words_ratio", pa.float64())]  # 1.0 of a text without words, as DCLM drops it


def edited(texts: pa.LargeStringArray, recipe: RefinedWebRecipe) -> Edited:
    """What the line rules leave, and the share of words that they cut."""
    import numpy as np

    from pipelines.filters import refinedweb_kernel
    from pipelines.filters.bitmap_kernel import bitmaps, memory
    from pipelines.filters.characters import flags
    from pipelines.filters.edit_kernel import cut_table, edited_column

    data, offsets, bits, _ = bitmaps(texts)
    out, ends, cuts, removed = refinedweb_kernel.edited(
        data,
        offsets,
        bits,
        flags(),
        recipe.max_upper_case_ratio,
        recipe.max_digits_ratio,
        recipe.refinedweb_counters,
        recipe.min_refinedweb_line_words,
        recipe.max_phrase_line_words if recipe.refinedweb_phrases else -1,
        memory(offsets[-1], np.uint8),
    )
    return Edited(edited_column(out, ends), cut_table(cuts, CUT_RULES), {SIGNALS[0].name: pa.array(removed)})
