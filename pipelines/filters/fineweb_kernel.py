"""The numbers behind FineWeb's rules, in one pass over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import TERMINAL, first_visible, flags_at, next_byte
from pipelines.filters.repetition_kernel import grown, hashed, is_new


@njit(cache=True, nogil=True)
def counts(data, offsets, table, short_chars):  # noqa: ANN001, ANN201
    """Six whole numbers a document: int64 [docs, 6].

    Lines that are not blank, those that end in terminal punctuation, short ones, characters of those that repeat an
    earlier one; characters of the text but line feeds; line feeds.
    """
    num_docs = offsets.size - 1
    out = np.zeros((num_docs, 6), np.int64)
    keys, stamps = np.empty(1024, np.uint64), np.zeros(1024, np.int64)
    for doc in range(num_docs):
        at, end = offsets[doc], offsets[doc + 1]
        row = out[doc]
        while at <= end:
            line = at
            at = next_byte(data, at, end, 0x0A)
            row[5] += at < end
            key, chars = hashed(data, line, at)
            row[4] += chars
            if first_visible(data, line, at, table) < at:
                row[0] += 1
                row[1] += _is_terminal(data, line, at, table)
                row[2] += chars <= short_chars
                if row[0] * 2 > keys.size:
                    keys, stamps = grown(keys, stamps, doc + 1)
                row[3] += 0 if is_new(key, keys, stamps, doc + 1) else chars
            at += 1
    return out


@njit(inline="always")
def _is_terminal(data, start, end, table):  # noqa: ANN001, ANN202
    last = end - 1
    while last > start and data[last] & 0xC0 == 0x80:
        last -= 1
    return flags_at(data, last, table) & TERMINAL != 0
