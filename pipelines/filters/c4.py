"""C4: Raffel et al. 2020 (JMLR 21:140), section 2.2, line by line; the text that is left is the document.

What is cut and counted follows datatrove 0.10's C4QualityFilter. FineWeb's published pipeline keeps lines without
terminal punctuation, and so does this recipe; ``c4_terminal_punctuation`` turns the paper's rule on. Beyond the
paper, as in C4's own code: lines with a word of over 1,000 characters go, and so do policy notices and citations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pydantic import Field

from pipelines.filters.rules import Rule
from pipelines.filters.spans import LINE_BREAK, Edited
from pipelines.provenance.recipe import Recipe

CUT_RULES = (
    "", "white_space", LINE_BREAK, LINE_BREAK,
    "c4_long_word", "c4_unterminated", "c4_few_words", "c4_javascript", "c4_policy", "c4_citation",
)  # fmt: skip


class C4Recipe(Recipe):
    """What is cut out of a document, and what drops it; the defaults are FineWeb's."""

    c4: bool = Field(default=True, description="cut lines and drop documents by the C4 rules")
    max_c4_word_chars: int = Field(default=1000, ge=1, description="cut lines with a longer word")
    c4_citations: bool = Field(default=True, description="cut [1], [edit] and [citation needed]")
    c4_terminal_punctuation: bool = Field(default=False, description="cut lines that do not end in . ! ? or a quote")
    min_c4_line_words: int = Field(default=3, ge=0, description="cut lines of fewer words")
    c4_javascript: bool = Field(default=True, description="cut lines that speak of javascript")
    c4_policy: bool = Field(default=True, description="cut lines that speak of cookies, terms of use or privacy policy")
    max_lorem_ipsum_lines: int = Field(default=0, ge=0, description="most lines with lorem ipsum")
    max_curly_bracket_lines: int = Field(default=0, ge=0, description="most lines with an opening curly bracket")
    min_sentences: int = Field(default=5, ge=0, description="fewest sentences that are left")


RULES = (
    # datatrove's walk ends at the first line with either, so a curly bracket before any lorem ipsum is the reason
    Rule("curly_bracket", "early_curly_bracket_lines", "max_curly_bracket_lines", False, "curly_bracket"),
    Rule("lorem_ipsum", "lorem_ipsum_lines", "max_lorem_ipsum_lines", False, "lorem_ipsum"),
    Rule("curly_bracket", "curly_bracket_lines", "max_curly_bracket_lines", False, "curly_bracket"),
    Rule("few_sentences", "num_sentences", "min_sentences", True, "too_few_sentences"),
)

SIGNALS = [
    pa.field("lorem_ipsum_lines", pa.int64()),
    pa.field("curly_bracket_lines", pa.int64()),
    pa.field("early_curly_bracket_lines", pa.int64()),  # before the first line with lorem ipsum
    pa.field("num_kept_lines", pa.int64()),
    pa.field("num_sentences", pa.int64()),  # of the kept lines, each of which has one at least
]

SentenceCounts = Callable[[pa.LargeStringArray, Any], Any]  # texts, where lines begin and end [2, lines] -> [lines]


def edited(texts: pa.LargeStringArray, recipe: C4Recipe, sentence_counts: SentenceCounts | None = None) -> Edited:
    """The lines that are kept, stripped and joined by line feeds, and the columns of SIGNALS.

    ``sentence_counts`` is the sentence rule, ``regex_sentence_counts`` if not given; it sees every kept line.
    """
    import numpy as np

    from pipelines.filters import c4_kernel
    from pipelines.filters.bitmap_kernel import bitmaps, memory
    from pipelines.filters.characters import flags
    from pipelines.filters.edit_kernel import cut_table, edited_column
    from pipelines.filters.regex_words import regex_sentence_counts

    switches = (recipe.c4_citations, recipe.c4_terminal_punctuation, recipe.c4_javascript, recipe.c4_policy)
    bounds = (recipe.max_c4_word_chars, recipe.min_c4_line_words)
    data, offsets, bits, _ = bitmaps(texts)
    room = [memory(offsets[-1], np.uint8) for _ in range(2)]
    out, ends, cuts, lines, first_line, counted = c4_kernel.edited(
        data, offsets, bits, flags(), *bounds, *switches, *room
    )
    left = edited_column(out, ends)
    sentences = np.zeros(lines.shape[1] + 1, np.int64)
    np.cumsum((sentence_counts or regex_sentence_counts)(left, lines), out=sentences[1:])
    columns = [*counted, np.diff(first_line), np.diff(sentences[first_line])]
    signals = {f.name: pa.array(column, f.type) for f, column in zip(SIGNALS, columns, strict=True)}
    return Edited(left, cut_table(cuts, CUT_RULES), signals)
