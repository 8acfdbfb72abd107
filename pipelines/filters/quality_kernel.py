"""The numbers behind the Gopher quality rules, in one pass over the words and one over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.bitmap_kernel import (
    BREAKS,
    ONE,
    SPACES,
    between,
    block_start,
    last_clear,
    next_clear,
    next_set,
    part_mask,
)
from pipelines.filters.characters import (
    LETTER,
    SYMBOL,
    bytes_at,
    char_size,
    code_at,
    inner,
    num_ones,
    num_word_chars,
    trailing_zeros,
)
from pipelines.filters.gopher_quality import STOP_WORDS

# one multiplication sends each stop word to a place of its own in a table of sixteen; others may meet them there
_PLACES = np.uint64(0x5BC8FBBCBDE5C099)
_STOP_WORDS, _SIZES = np.zeros(16, np.uint64), np.zeros(16, np.int64)
for _stop in STOP_WORDS:
    _number = int.from_bytes(_stop.encode(), "little")
    _place = (_number * int(_PLACES) % 2**64) >> 60
    _STOP_WORDS[_place], _SIZES[_place] = _number, len(_stop)


_FIRST, _HIGH = np.uint64(0xFF), np.uint64(0x8080808080808080)
_TWO, _THREE = np.uint64(2), np.uint64(3)


@njit(cache=True, nogil=True)
def counts(data, offsets, bits, base, starts, ends, first_word, table):
    """Ten whole numbers a document: int64 [10, docs].

    Tokens, words with more than symbols, their characters, tokens with a letter, different stop words, lines, lines
    that begin with a bullet, lines that end in an ellipsis, number signs, ellipses.
    """
    num_docs = offsets.size - 1
    out = np.zeros((10, num_docs), np.int64)
    for doc in range(num_docs):
        out[0, doc] = first_word[doc + 1] - first_word[doc]
        _count_words(data, base, starts, ends, first_word[doc], first_word[doc + 1], table, out[:, doc])
        _count_lines(data, offsets[doc], offsets[doc + 1], bits, out[:, doc])
        _count_signs(data, offsets[doc], offsets[doc + 1], out[:, doc])
    return out


@inner
def _count_words(data, base, starts, ends, first, last, table, row):
    words = chars = alpha = seen = 0
    for word in range(first, last):
        start, size = starts[word] - base, ends[word] - starts[word]
        short = bytes_at(data, start, size)
        kind = table[short & _FIRST] if size <= 8 and not short & _HIGH else np.uint16(0)
        if kind & LETTER or (kind and size == 1):  # nearly all
            words += kind & SYMBOL == 0
            chars += size if kind & SYMBOL == 0 else 0
            alpha += kind & LETTER != 0
            place = short * _PLACES >> np.uint64(60)
            seen |= np.int64((_STOP_WORDS[place] == short) & (_SIZES[place] == size)) << np.int64(place)
        else:
            length, is_word, has_letter = _word(data, start, start + size, table)
            words += is_word
            chars += length if is_word else 0
            alpha += has_letter
    row[1], row[2], row[3], row[4] = words, chars, alpha, num_ones(np.uint64(seen))


@inner
def _word(data, start, end, table):
    """Characters of a word, whether one of them is no symbol, and whether one is a letter."""
    if data[start] < 0x80 and table[data[start]] & LETTER:
        return num_word_chars(data, start, end), True, True
    length, at, is_word, has_letter = 0, start, False, False
    while at < end:
        code = code_at(data, at)
        kind = table[code] if code < table.size else np.uint16(0)
        is_word |= kind & SYMBOL == 0
        has_letter |= kind & LETTER != 0
        at += char_size(data[at])
        length += 1
    return length, is_word, has_letter


@inner
def _count_lines(data, start, end, bits, row):
    """Lines as str.splitlines() sees them, those with a bullet before and those with an ellipsis behind."""
    at = start
    while at < end:
        line, at = at, next_set(bits, BREAKS, at, end)
        row[5] += 1
        first = next_clear(bits, SPACES, line, at)
        if first < at:
            row[6] += data[first] == 0x2D or (data[first] == 0xE2 and code_at(data, first) == 0x2022)
            last = last_clear(bits, SPACES, first, at)
            if last - line >= 3:
                tail = bytes_at(data, last - 3, 3)
                row[7] += tail == 0x2E2E2E or tail == 0xA680E2  # "..." or "…", little-endian
        if at < end:
            is_pair = data[at] == 0x0D and at + 1 < end and data[at + 1] == 0x0A
            at += 2 if is_pair else char_size(data[at])


@inner
def _count_signs(data, start, end, row):
    """Number signs and ellipses: str.count() does not look at a full stop twice.

    An ellipsis is looked for at its last byte; those before it in another block are taken on trust, then looked at.
    """
    behind = start + 2
    for block in range(start >> 6, (end + 63) >> 6):
        at, shift = block_start(data, block)
        inside = part_mask(block, start, end)
        row[8] += np.int64(num_ones(between(data, at, 0x23, 1) >> shift & inside))
        dots, last = between(data, at, 0x2E, 1) >> shift, between(data, at, 0xA6, 1) >> shift
        middle = between(data, at, 0x80, 1) >> shift
        found = (dots & (dots << ONE | ONE) & (dots << _TWO | _THREE) | last & (middle << ONE | ONE)) & inside
        while found:
            place = (block << 6) + np.int64(trailing_zeros(found))
            found &= found - ONE
            if place >= start + 2:
                sign = bytes_at(data, place - 2, 3)
                if sign == 0xA680E2:
                    row[9] += 1
                elif sign == 0x2E2E2E and place >= behind:
                    row[9] += 1
                    behind = place + 3
