"""The numbers behind FineWeb's rules, in one pass over the bytes.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import SPACE, TERMINAL, flags_at
from pipelines.filters.repetition_kernel import hashed, is_new


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
        start, end = offsets[doc], offsets[doc + 1]
        newlines = 0
        for at in range(start, end):
            newlines += data[at] == 0x0A
        if keys.size < 2 * (newlines + 1):
            size = keys.size
            while size < 2 * (newlines + 1):
                size *= 2
            keys, stamps = np.empty(size, np.uint64), np.zeros(size, np.int64)
        out[doc, 5] = newlines
        at = start
        while at <= end:
            line = at
            is_blank = True
            while at < end and data[at] != 0x0A:
                if is_blank and data[at] & 0xC0 != 0x80:
                    is_blank = flags_at(data, at, table) & SPACE != 0
                at += 1
            key, chars = hashed(data, line, at)
            out[doc, 4] += chars
            if not is_blank:
                out[doc, 0] += 1
                out[doc, 1] += _is_terminal(data, line, at, table)
                out[doc, 2] += chars <= short_chars
                out[doc, 3] += 0 if is_new(key, keys, stamps, doc + 1) else chars
            at += 1
    return out


@njit(inline="always")
def _is_terminal(data, start, end, table):  # noqa: ANN001, ANN202
    last = end - 1
    while last > start and data[last] & 0xC0 == 0x80:
        last -= 1
    return flags_at(data, last, table) & TERMINAL != 0
