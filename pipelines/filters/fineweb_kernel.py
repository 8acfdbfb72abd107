"""The numbers behind FineWeb's rules, in one pass over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import TERMINAL, first_visible, flags_at, inner, next_byte, num_chars, num_word_chars
from pipelines.filters.repetition_kernel import hash_of, is_new, num_line_feeds


@njit(cache=True, nogil=True)
def counts(data, offsets, table, short_chars):
    """Six whole numbers a document: int64 [docs, 6].

    Lines that are not blank, those that end in terminal punctuation, short ones, characters of those that repeat an
    earlier one; characters of the text but line feeds; line feeds.
    """
    num_docs = offsets.size - 1
    most_lines = 1
    for doc in range(num_docs):
        most_lines = max(most_lines, num_line_feeds(data, offsets[doc], offsets[doc + 1]) + 1)
    size = 32
    while size < 2 * most_lines:
        size *= 2
    out = np.zeros((num_docs, 6), np.int64)
    _fill(data, offsets, table, short_chars, np.empty(size, np.uint64), np.zeros(size, np.int64), out)
    return out


@inner
def _fill(data, offsets, table, short_chars, keys, stamps, out):
    for doc in range(offsets.size - 1):
        at, end = offsets[doc], offsets[doc + 1]
        while at <= end:
            line = at
            at = next_byte(data, at, end, 0x0A)
            out[doc, 5] += at < end
            if first_visible(data, line, at, table) < at:
                out[doc, 0] += 1
                out[doc, 1] += _is_terminal(data, line, at, table)
                if at - line <= 4 * short_chars:  # no character has more bytes
                    out[doc, 2] += num_word_chars(data, line, at) <= short_chars
                if not is_new(hash_of(data, line, at), keys, stamps, doc + 1):
                    out[doc, 3] += num_chars(data, line, at)
            at += 1
        out[doc, 4] = num_chars(data, offsets[doc], end) - out[doc, 5]


@inner
def _is_terminal(data, start, end, table):
    last = end - 1
    while last > start and data[last] & 0xC0 == 0x80:
        last -= 1
    return flags_at(data, last, table) & TERMINAL != 0
