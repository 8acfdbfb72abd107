"""Word rules: what a word and a sentence are, under a name and a version that a recipe can hold.

This module reaches for kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.filters.spans import Words

Counts = Callable[[pa.LargeStringArray], NDArray[np.int64]]
LineCounts = Callable[..., NDArray[np.int64]]  # of texts or, given where they begin and end, of lines within them


class WordRule(NamedTuple):
    """One way to read words and sentences."""

    version: str
    words: Callable[[pa.LargeStringArray], Words]
    word_counts: Counts
    sentence_counts: LineCounts


def word_rule(name: str) -> WordRule:
    """The rule of a name: ``regex-1`` (ours) or ``spacy-en`` (the English tokenizer that datatrove uses).

    Raises:
        ValueError: if spaCy is asked for and not installed; the message names the extra.
    """
    if name == "regex-1":
        from pipelines.filters.regex_words import regex_sentence_counts, regex_word_counts, regex_words

        return WordRule("regex-1", regex_words, regex_word_counts, regex_sentence_counts)
    from importlib import metadata

    from pipelines.filters.spacy_words import spacy_sentence_counts, spacy_words

    def counts(texts: pa.LargeStringArray) -> NDArray[np.int64]:
        return np.diff(spacy_words(texts).offsets)

    return WordRule(f"{name} (spacy {metadata.version('spacy')})", spacy_words, counts, spacy_sentence_counts)
