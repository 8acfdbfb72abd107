"""The numbers behind the Gopher quality rules, in one pass over the words and one over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.bitmap_kernel import (
    BREAKS,
    ONE,
    RESTS,
    SPACES,
    between,
    block_start,
    count,
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
        is_ascii = count(bits, RESTS, offsets[doc], offsets[doc + 1]) == 0
        _count_words(data, base, starts, ends, first_word[doc], first_word[doc + 1], is_ascii, table, out[:, doc])
        _count_lines(data, offsets[doc], offsets[doc + 1], bits, out[:, doc])
        _count_signs(data, offsets[doc], offsets[doc + 1], bits, out[:, doc])
    return out


@inner
def _count_words(data, base, starts, ends, first, last, is_ascii, table, row):
    words = chars = alpha = seen = 0
    for word in range(first, last):
        start, size = starts[word] - base, ends[word] - starts[word]
        short = bytes_at(data, start, size)
        kind = table[short & _FIRST] if is_ascii or (size <= 8 and not short & _HIGH) else np.uint16(0)
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
    """Lines as str.splitlines() sees them, and those with a bullet before.

    Bullets are looked for where visible characters begin; what stands in another block is taken on trust.
    """
    for block in range(start >> 6, (end + 63) >> 6):
        at, shift = block_start(data, block)
        inside = part_mask(block, start, end)
        row[5] += np.int64(num_ones(bits[block, BREAKS] & inside))
        pairs = between(data, at, 0x0D, 1) >> shift & inside
        while pairs:
            place = (block << 6) + np.int64(trailing_zeros(pairs))
            pairs &= pairs - ONE
            row[5] -= place + 1 < end and data[place + 1] == 0x0A
        signs = (between(data, at, 0x2D, 1) | between(data, at, 0xE2, 1)) >> shift & inside
        signs &= (bits[block, SPACES] | ~inside) << ONE | ONE
        while signs:
            row[6] += _is_bullet(data, (block << 6) + np.int64(trailing_zeros(signs)), start, bits)
            signs &= signs - ONE
    if start < end:
        row[5] += not _is_break(bits, data, start, end)


@inner
def _count_signs(data, start, end, bits, row):
    """Number signs, ellipses, of which str.count() does not look at a full stop twice, and lines that end in one.

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
            sign = bytes_at(data, place - 2, 3) if place >= start + 2 else np.uint64(0)
            if sign == 0xA680E2 or sign == 0x2E2E2E:  # "…" or "...", little-endian
                row[7] += _ends_line(place + 1, end, bits)
                if sign == 0xA680E2 or place >= behind:
                    row[9] += 1
                    behind = place + 3


@inner
def _is_bullet(data, at, start, bits):
    """Whether a line's first visible character is at ``at``, and a hyphen or a bullet."""
    before = last_clear(bits, SPACES, start, at)
    is_first = before == start or next_set(bits, BREAKS, before, at) < at
    return is_first and (data[at] == 0x2D or code_at(data, at) == 0x2022)


@inner
def _ends_line(at, end, bits):
    """Whether nothing visible is left of the line from ``at`` on."""
    visible = next_clear(bits, SPACES, at, end)
    return visible == end or next_set(bits, BREAKS, at, visible) < visible


@inner
def _is_break(bits, data, start, end):
    """Whether a text ends with a line break, of which only the first byte is marked."""
    first = end - 1
    while first > start and data[first] & 0xC0 == 0x80:
        first -= 1
    return next_set(bits, BREAKS, first, end) == first
