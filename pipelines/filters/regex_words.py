r"""regex-1: the word rule that needs no tokenizer: runs of ``\w`` and single other visible characters.

So "x.shape" is three words, one of them a symbol. On 2,212 documents (docstrings, speeches, books, planted ones, 194
languages) it keeps or drops as spaCy's English words do in 92 % by the Gopher quality rules, 98 % by repetition, 99.8 %
by C4 (with this file's sentences) and 100 % by FineWeb's own.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.bitmap_kernel import (
    ONE,
    RESTS,
    SPACES,
    TERMINALS,
    WORDS,
    bitmaps,
    memory,
    next_set,
    part,
    part_mask,
)
from pipelines.filters.characters import inner, num_ones, trailing_zeros
from pipelines.filters.spans import Words

WORD_RULE = "regex-1"


def regex_words(texts: pa.LargeStringArray) -> Words:
    """The words of each text, in order."""
    _, offsets, bits, base = bitmaps(texts)
    first_word = _first_words(offsets, bits)
    starts, ends = (memory(first_word[-1] + 8, np.int64) for _ in range(2))  # eight places are written at a time
    _fill(offsets, bits, base, starts, ends)
    return Words(starts[: first_word[-1]], ends[: first_word[-1]], first_word)


def regex_word_counts(texts: pa.LargeStringArray) -> NDArray[np.int64]:
    """How many words each text has: int64 [docs]."""
    _, offsets, bits, _ = bitmaps(texts)
    return np.diff(_first_words(offsets, bits))


def regex_sentence_counts(texts: pa.LargeStringArray, lines: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """How many sentences each text has, at least one: int64 [texts]; or each of the ``lines`` within them.

    ``lines``: where they begin and end, in bytes from the first text on, int64 [2, lines].

    A sentence ends behind a run of characters that end sentences; closing signs and spaces belong to it, and the next
    one begins at the next word character. A full stop between word characters (3.14, e.g) ends nothing.
    """
    _, offsets, bits, _ = bitmaps(texts)
    return _sentences(bits, *((offsets[:-1], offsets[1:]) if lines is None else lines))


@inner
def _edges(bits, block, start, end, words_before, visible_before):
    """Where words begin and, behind their last byte, end; the last bits, which the next block needs.

    Both are first bytes of characters, and no word character behind another.
    """
    words = part(bits, WORDS, block, start, end)
    visible = ~bits[block, SPACES] & part_mask(block, start, end)
    outside = ~(words & (words << ONE | words_before)) & ~bits[block, RESTS]
    behind = (visible << ONE | visible_before) & part_mask(block, start, end)
    return visible & outside, behind & outside, words >> np.uint64(63), visible >> np.uint64(63)


@njit(cache=True, nogil=True)
def _first_words(offsets, bits):
    """The number of words before each document, and of all: int64 [docs + 1]."""
    first_word = np.zeros(offsets.size, np.int64)
    for doc in range(offsets.size - 1):
        start, end = offsets[doc], offsets[doc + 1]
        total, words, visible = np.uint64(0), np.uint64(0), np.uint64(0)
        if start < end:
            for block in range(start >> 6, ((end - 1) >> 6) + 1):
                starts, _, words, visible = _edges(bits, block, start, end, words, visible)
                total += num_ones(starts)
        first_word[doc + 1] = first_word[doc] + np.int64(total)
    return first_word


@njit(cache=True, nogil=True)
def _fill(offsets, bits, base, starts, ends):
    begun = ended = np.int64(0)
    for doc in range(offsets.size - 1):
        start, end = offsets[doc], offsets[doc + 1]
        words = visible = np.uint64(0)
        if start < end:
            for block in range(start >> 6, ((end - 1) >> 6) + 1):
                begin, stop, words, visible = _edges(bits, block, start, end, words, visible)
                begun = _places(begin, base + (block << 6), starts, begun)
                ended = _places(stop, base + (block << 6), ends, ended)
        if ended < begun:
            ends[ended] = base + end
            ended += 1


@inner
def _places(found, start, places, count):
    """Append the place of every bit: eight at a time, as a branch for each would be hard to foresee."""
    total = count + np.int64(num_ones(found))
    while count < total:
        for one in range(8):
            places[count + one] = start + np.int64(trailing_zeros(found))
            found &= found - ONE
        count += 8
    return total


@njit(cache=True, nogil=True)
def _sentences(bits, starts, ends):
    counts = np.ones(starts.size, np.int64)
    for line in range(counts.size):
        at, end, count = starts[line], ends[line], 1
        while at < end:
            at = next_set(bits, TERMINALS, at, end)
            word = next_set(bits, WORDS, at, end)
            if word == end:
                break
            last = at
            while at < word:  # the last one before the word
                last = at
                at = next_set(bits, TERMINALS, at + 1, word)
            count += next_set(bits, SPACES, last, word) < word
        counts[line] = count
    return counts
