r"""regex-1: the word rule that needs no tokenizer: runs of ``\w`` and single other visible characters.

So "x.shape" is three words, one of them a symbol. On 2,212 documents (docstrings, speeches, books, planted ones, 194
languages) it keeps or drops as spaCy's English words do in 92 % by the Gopher quality rules, 98 % by repetition, 99.8 %
by C4 (with this file's sentences) and 100 % by FineWeb's own.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.characters import (
    SPACE,
    TERMINAL,
    WORD,
    bytes_at,
    char_size,
    first_of,
    flags,
    flags_at,
    inner,
    is_byte,
    is_no_word,
    is_wide,
)
from pipelines.filters.spans import Words
from pipelines.words import text_buffers

WORD_RULE = "regex-1"


def regex_words(texts: pa.LargeStringArray) -> Words:
    """The words of each text, in order."""
    data, offsets = text_buffers(texts)
    return Words(*_spans(data, offsets, flags(), _kinds()))


def regex_word_counts(texts: pa.LargeStringArray) -> NDArray[np.int64]:
    """How many words each text has: int64 [docs]."""
    return _counts(*text_buffers(texts), flags(), _kinds())


def regex_sentence_counts(lines: pa.LargeStringArray) -> NDArray[np.int64]:
    """How many sentences each text has, at least one: int64 [texts].

    A sentence ends behind a run of characters that end sentences; closing signs and spaces belong to it, and the next
    one begins at the next word character. A full stop between word characters (3.14, e.g) ends nothing.
    """
    return _sentences(*text_buffers(lines), flags())


@functools.cache
def _kinds() -> NDArray[np.uint8]:
    """By byte: 0 white space, 1 part of a word, 2 another visible character, 3 the beginning of a longer character."""
    table = np.full(256, 3, np.uint8)
    ascii_flags = flags()[:128]
    table[:128] = np.where(ascii_flags & WORD, 1, np.where(ascii_flags & SPACE, 0, 2))
    return table


@inner
def _kind_at(data, at, table):
    found = flags_at(data, at, table)
    return np.uint8(1) if found & WORD else np.uint8(0) if found & SPACE else np.uint8(2)


@njit(cache=True, nogil=True)
def _spans(data, offsets, table, kinds):
    counts = _counts(data, offsets, table, kinds)
    first_word = np.zeros(counts.size + 1, np.int64)
    for doc in range(counts.size):
        first_word[doc + 1] = first_word[doc] + counts[doc]
    starts, ends = np.empty(first_word[counts.size], np.int64), np.empty(first_word[counts.size], np.int64)
    _fill(data, offsets, table, kinds, starts, ends)
    return starts, ends, first_word


@inner
def _fill(data, offsets, table, kinds, starts, ends):
    count = 0
    for doc in range(offsets.size - 1):
        at, end = offsets[doc], offsets[doc + 1]
        while at < end:
            start = at
            at = _run_end(data, at, end, table)
            if at == start:  # no word character: white space or another visible one
                kind = kinds[data[at]]
                if kind == 3:
                    kind = _kind_at(data, at, table)
                at += char_size(data[at])
                if kind == 0:
                    continue
            starts[count], ends[count] = start, at
            count += 1
            if at < end:  # the one space behind most words, without a branch that is hard to foresee
                at += data[at] == 0x20


@inner
def _run_end(data, at, end, table):
    """Behind the word characters from ``at`` on, eight bytes at a time."""
    while at < end:
        run = first_of(is_no_word(bytes_at(data, at, end - at)))
        at += run
        if run < 8:
            if at >= end or data[at] < 0x80 or not flags_at(data, at, table) & WORD:
                return at
            at += char_size(data[at])
    return at


@njit(cache=True, nogil=True)
def _counts(data, offsets, table, kinds):
    """A word begins at every visible character but a word character behind another."""
    counts = np.zeros(offsets.size - 1, np.int64)
    for doc in range(counts.size):
        at, end, count, before = offsets[doc], offsets[doc + 1], 0, np.uint8(0)
        while at < end:
            kind = kinds[data[at]]
            if kind == 3:
                kind = _kind_at(data, at, table)
                at += char_size(data[at])
            else:
                at += 1
            count += (kind != 0) & (kind & before != 1)  # 1 & 1 alone is 1
            before = kind
        counts[doc] = count
    return counts


@njit(cache=True, nogil=True)
def _sentences(data, offsets, table):
    counts = np.ones(offsets.size - 1, np.int64)
    for doc in range(counts.size):
        at, end, count = offsets[doc], offsets[doc + 1], 1
        while at < end:
            at = _terminal(data, at, end, table)
            after_space = False
            while at < end:
                kind = flags_at(data, at, table)
                after_space = not kind & TERMINAL and (after_space or kind & SPACE != 0)
                if kind & WORD:
                    count += after_space
                    break
                at += char_size(data[at])
        counts[doc] = count
    return counts


@inner
def _terminal(data, at, end, table):
    """Where a character that ends sentences comes next, or ``end``."""
    while at < end:
        word = bytes_at(data, at, end - at)
        marks = is_byte(word, 0x2E) | is_byte(word, 0x3F) | is_byte(word, 0x21) | is_wide(word)
        at += first_of(marks)
        if not marks:
            continue
        if flags_at(data, at, table) & TERMINAL:
            return at
        at += char_size(data[at])
    return min(at, end)
