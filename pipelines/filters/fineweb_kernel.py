"""The numbers behind FineWeb's rules, in one pass over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.bitmap_kernel import FEEDS, SPACES, TERMINALS, count, next_clear, next_set, num_characters
from pipelines.filters.characters import inner
from pipelines.filters.repetition_kernel import cleared, hash_of, is_new, most_lines, table_bits


@njit(cache=True, nogil=True)
def counts(data, offsets, bits, short_chars):
    """Six whole numbers a document: int64 [docs, 6].

    Lines that are not blank, those that end in terminal punctuation, short ones, characters of those that repeat an
    earlier one; characters of the text but line feeds; line feeds.
    """
    num_docs = offsets.size - 1
    out = np.zeros((num_docs, 6), np.int64)
    keys = np.empty(1 << table_bits(most_lines(offsets, bits)), np.uint64)
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        out[doc, 5] = count(bits, FEEDS, start, end)
        _fill(data, start, end, bits, short_chars, keys, cleared(keys, out[doc, 5] + 1), out[doc])
        out[doc, 4] = num_characters(bits, start, end) - out[doc, 5]
    return out


@inner
def _fill(data, at, end, bits, short_chars, keys, shift, row):
    while at < end:
        line = at
        at = next_set(bits, FEEDS, at, end)
        if next_clear(bits, SPACES, line, at) < at:
            row[0] += 1
            chars = num_characters(bits, line, at)
            row[1] += _is_terminal(data, bits, line, at)
            row[2] += chars <= short_chars
            if not is_new(hash_of(data, line, at), keys, shift):
                row[3] += chars
        at += 1


@inner
def _is_terminal(data, bits, start, end):
    last = end - 1
    while last > start and data[last] & 0xC0 == 0x80:
        last -= 1
    return next_set(bits, TERMINALS, last, last + 1) == last
