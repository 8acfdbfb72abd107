"""The numbers behind the Gopher quality rules, in one pass over the words and one over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import (
    BREAK,
    LETTER,
    SYMBOL,
    bytes_at,
    char_size,
    code_at,
    first_of,
    first_visible,
    inner,
    is_byte,
    is_less,
    is_wide,
    last_visible,
    num_word_chars,
)
from pipelines.filters.gopher_quality import STOP_WORDS

# one multiplication sends each stop word to a place of its own in a table of sixteen; others may meet them there
_PLACES = np.uint64(0x5BC8FBBCBDE5C099)
_STOP_WORDS, _SIZES = np.zeros(16, np.uint64), np.zeros(16, np.int64)
for _stop in STOP_WORDS:
    _number = int.from_bytes(_stop.encode(), "little")
    _place = (_number * int(_PLACES) % 2**64) >> 60
    _STOP_WORDS[_place], _SIZES[_place] = _number, len(_stop)


@njit(cache=True, nogil=True)
def counts(data, offsets, starts, ends, first_word, table):
    """Ten whole numbers a document: int64 [10, docs].

    Tokens, words with more than symbols, their characters, tokens with a letter, different stop words, lines, lines
    that begin with a bullet, lines that end in an ellipsis, number signs, ellipses.
    """
    num_docs = offsets.size - 1
    out = np.zeros((10, num_docs), np.int64)
    for doc in range(num_docs):
        words = chars = alpha = 0
        seen = 0
        for word in range(first_word[doc], first_word[doc + 1]):
            start, end = starts[word], ends[word]
            length, is_word, has_letter = _word(data, start, end, table)
            words += is_word
            chars += length if is_word else 0
            alpha += has_letter
            short = bytes_at(data, start, end - start)
            place = short * _PLACES >> np.uint64(60)
            seen |= np.int64((_STOP_WORDS[place] == short) & (_SIZES[place] == end - start)) << np.int64(place)
        out[0, doc] = first_word[doc + 1] - first_word[doc]
        out[1, doc], out[2, doc], out[3, doc] = words, chars, alpha
        while seen:
            out[4, doc] += seen & 1
            seen >>= 1
        out[5, doc], out[6, doc], out[7, doc], out[8, doc], out[9, doc] = _lines(
            data, offsets[doc], offsets[doc + 1], table
        )
    return out


@inner
def _word(data, start, end, table):
    """Characters of a word, whether one of them is no symbol, and whether one is a letter."""
    size = end - start
    kind = table[data[start]]
    if data[start] < 0x80 and (size == 1 or kind & LETTER):  # most words
        if size > 8 or is_wide(bytes_at(data, start, size)):
            size = num_word_chars(data, start, end)
        return size, kind & SYMBOL == 0, kind & LETTER != 0
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
def _lines(data, start, end, table):
    """Lines as str.splitlines() sees them, those with a bullet before and an ellipsis behind; # signs, ellipses."""
    lines = bullets = trailing = hashes = ellipses = 0
    line_start, at = start, start
    while at < end:
        word = bytes_at(data, at, end - at)
        marks = is_less(word, 0x20) | is_byte(word, 0x23) | is_byte(word, 0x2E) | is_wide(word)
        if not marks:
            at += 8
            continue
        at += first_of(marks)
        if at >= end:  # a zero behind the end of the text
            break
        byte = data[at]
        size = char_size(byte)
        if byte == 0x2E:
            dots = 1
            while dots < 3 and at + dots < end and data[at + dots] == 0x2E:
                dots += 1
            ellipses += dots == 3  # str.count() does not look at a full stop twice
            at += dots
            continue
        if byte == 0x23:
            hashes += 1
        elif byte < 0x20 or byte == 0xC2 or byte == 0xE2:  # all others end no line and are no ellipsis
            code = code_at(data, at)
            if table[code] & BREAK:
                lines += 1
                bullets += _is_bullet(data, line_start, at, table)
                trailing += _is_trailing(data, line_start, at, table)
                if byte == 0x0D and at + 1 < end and data[at + 1] == 0x0A:
                    at += 1
                line_start = at + size
            ellipses += code == 0x2026
        at += size
    if line_start < end:
        lines += 1
        bullets += _is_bullet(data, line_start, end, table)
        trailing += _is_trailing(data, line_start, end, table)
    return lines, bullets, trailing, hashes, ellipses


@inner
def _is_bullet(data, start, end, table):
    at = first_visible(data, start, end, table)
    return at < end and (data[at] == 0x2D or (data[at] == 0xE2 and code_at(data, at) == 0x2022))


@inner
def _is_trailing(data, start, end, table):
    end = last_visible(data, start, end, table)
    if end - start < 3:
        return False
    last = bytes_at(data, end - 3, 3)
    return last == 0x2E2E2E or last == 0xA680E2  # "..." or "…", little-endian
