"""The numbers behind the Gopher quality rules, in one pass over the words and one over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import (
    BREAK, LETTER, SYMBOL, bytes_at, char_size, code_at, first_of, first_visible, is_byte, is_less, is_wide,
    last_visible, num_chars,
)

_TWO = np.frombuffer(b"be\0\0\0\0\0\0to\0\0\0\0\0\0of\0\0\0\0\0\0", "<u8").astype(np.uint64)
_THREE = np.frombuffer(b"the\0\0\0\0\0and\0\0\0\0\0", "<u8").astype(np.uint64)
_FOUR = np.frombuffer(b"that\0\0\0\0have\0\0\0\0with\0\0\0\0", "<u8").astype(np.uint64)


@njit(cache=True, nogil=True)
def counts(data, offsets, starts, ends, first_word, table):  # noqa: ANN001, ANN201
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
            if 2 <= end - start <= 4:
                seen |= _stop_word(bytes_at(data, start, end - start), end - start)
        out[0, doc] = first_word[doc + 1] - first_word[doc]
        out[1, doc], out[2, doc], out[3, doc] = words, chars, alpha
        while seen:
            out[4, doc] += seen & 1
            seen >>= 1
        out[5, doc], out[6, doc], out[7, doc], out[8, doc], out[9, doc] = _lines(
            data, offsets[doc], offsets[doc + 1], table
        )
    return out


@njit(inline="always")
def _word(data, start, end, table):  # noqa: ANN001, ANN202
    """Characters of a word, whether one of them is no symbol, and whether one is a letter."""
    if data[start] < 0x80 and table[data[start]] & LETTER:  # most words: only their length is open
        if end - start <= 8 and not is_wide(bytes_at(data, start, end - start)):
            return end - start, True, True
        return num_chars(data, start, end), True, True
    length, at, is_word, has_letter = 0, start, False, False
    while at < end:
        code = code_at(data, at)
        kind = table[code] if code < table.size else np.uint16(0)
        is_word |= kind & SYMBOL == 0
        has_letter |= kind & LETTER != 0
        at += char_size(data[at])
        length += 1
    return length, is_word, has_letter


@njit(inline="always")
def _stop_word(word, size):  # noqa: ANN001, ANN202
    """The bit of a stop word, 0 for any other word."""
    if size == 3:
        return 1 if word == _THREE[0] else 2 if word == _THREE[1] else 0
    if size == 2:
        return 4 if word == _TWO[0] else 8 if word == _TWO[1] else 16 if word == _TWO[2] else 0
    return 32 if word == _FOUR[0] else 64 if word == _FOUR[1] else 128 if word == _FOUR[2] else 0


@njit(cache=True, nogil=True)
def _lines(data, start, end, table):  # noqa: ANN001, ANN202
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


@njit(inline="always")
def _is_bullet(data, start, end, table):  # noqa: ANN001, ANN202
    at = first_visible(data, start, end, table)
    return at < end and (data[at] == 0x2D or (data[at] == 0xE2 and code_at(data, at) == 0x2022))


@njit(inline="always")
def _is_trailing(data, start, end, table):  # noqa: ANN001, ANN202
    end = last_visible(data, start, end, table)
    if end - start < 3:
        return False
    last = bytes_at(data, end - 3, 3)
    return last == 0x2E2E2E or last == 0xA680E2  # "..." or "…", little-endian
