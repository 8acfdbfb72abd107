"""The numbers behind the Gopher repetition rules: repeated lines, paragraphs and word n-grams of each document.

Equality is that of 64-bit hashes. Hash tables are as large as the document needs and are used again for the next
one: an entry counts only if it bears the stamp of the present use, so that nothing has to be cleared.

Most n-grams are unique, and a small table of saturating counters says so for nearly all of them (a counter of one
is proof, a larger one may be chance); only the others are looked up exactly.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import bytes_at, first_visible, flags, last_visible
from pipelines.words import mixed

COLUMNS = 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xD6E8FEB86659FD93)
_BASE = np.uint64(0xF1357AEA2E62A9C3)
_S29, _S32 = np.uint64(29), np.uint64(32)


def counts(data, offsets, starts, ends, first_word):  # noqa: ANN001, ANN201
    """Sixteen whole numbers a document: int64 [docs, 16].

    Characters; paragraphs, repeated ones and their characters; lines, repeated ones and their characters; characters
    of the top 2-, 3- and 4-gram times its count; characters of repeated 5- to 10-grams.
    """
    return _counts(data, offsets, starts, ends, first_word, flags())


@njit(cache=True, nogil=True)
def _counts(data, offsets, starts, ends, first_word, table):  # noqa: ANN001, ANN202
    num_docs = offsets.size - 1
    out = np.zeros((num_docs, COLUMNS), np.int64)
    size = 1024
    keys, stamps, values = np.empty(size, np.uint64), np.zeros(size, np.int64), np.empty(size, np.int64)
    stamp = 0
    hashes, lengths = np.empty(0, np.uint64), np.empty(0, np.int64)
    sums, prefix = np.empty(0, np.int64), np.empty(0, np.uint64)
    seen = np.empty(0, np.uint8)
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        first, words = first_word[doc], first_word[doc + 1] - first_word[doc]
        breaks = 0
        for at in range(start, end):
            out[doc, 0] += data[at] & 0xC0 != 0x80
            breaks += data[at] == 0x0A
        while size < 2 * max(words, breaks + 1):
            size *= 2
        if keys.size < size:
            keys, stamps, values = np.empty(size, np.uint64), np.zeros(size, np.int64), np.empty(size, np.int64)
        stamp = _paragraphs(data, start, end, keys, stamps, stamp, table, out[doc])
        stamp = _lines(data, start, end, keys, stamps, stamp, out[doc])
        if hashes.size < words:
            hashes, lengths = np.empty(2 * words, np.uint64), np.empty(2 * words, np.int64)
        for word in range(words):
            hashes[word], lengths[word] = hashed(data, starts[first + word], ends[first + word])
        for n in range(2, 5):
            stamp += 1
            out[doc, 5 + n] = _top_gram(hashes, lengths, words, n, keys, stamps, values, stamp)
        for n in range(5, 11):
            stamp += 1
            out[doc, 5 + n] = _duplicate_grams(data, starts, ends, first, lengths, words, n, keys, stamps, stamp)
    return out


@njit(cache=True, nogil=True)
def hashed(data, start, end):  # noqa: ANN001, ANN202
    """A hash of the bytes, and the number of characters."""
    state = np.uint64(end - start) * _BASE
    at, chars = start, 0
    while at < end:
        state = (state ^ bytes_at(data, at, end - at)) * _STEP
        state ^= state >> _S32
        at += 8
    for place in range(start, end):
        chars += data[place] & 0xC0 != 0x80
    return mixed(state), chars


@njit(inline="always")
def is_new(key, keys, stamps, stamp):  # noqa: ANN001, ANN202
    """Put a key into the table; False if it was there."""
    mask = keys.size - 1
    slot = np.int64(key & np.uint64(mask))
    while stamps[slot] == stamp:
        if keys[slot] == key:
            return False
        slot = (slot + 1) & mask
    stamps[slot], keys[slot] = stamp, key
    return True


@njit(cache=True, nogil=True)
def _lines(data, start, end, keys, stamps, stamp, out):  # noqa: ANN001, ANN202
    """re.split("\\n+", text): a text that begins or ends with line feeds has an empty line there."""
    stamp += 1
    at = start
    while True:
        line = at
        while at < end and data[at] != 0x0A:
            at += 1
        key, chars = hashed(data, line, at)
        out[4] += 1
        if not is_new(key, keys, stamps, stamp):
            out[5] += 1
            out[6] += chars
        if at == end:
            return stamp
        while at < end and data[at] == 0x0A:
            at += 1


@njit(cache=True, nogil=True)
def _paragraphs(data, start, end, keys, stamps, stamp, table, out):  # noqa: ANN001, ANN202
    """re.split("\\n{2,}", text.strip())"""
    stamp += 1
    start = first_visible(data, start, end, table)
    end = last_visible(data, start, end, table)
    at = start
    while True:
        paragraph = at
        while at < end and not (data[at] == 0x0A and data[at + 1] == 0x0A):
            at += 1
        key, chars = hashed(data, paragraph, at)
        out[1] += 1
        if not is_new(key, keys, stamps, stamp):
            out[2] += 1
            out[3] += chars
        if at == end:
            return stamp
        while at < end and data[at] == 0x0A:
            at += 1


@njit(cache=True, nogil=True)
def _top_gram(hashes, lengths, words, n, keys, stamps, values, stamp):  # noqa: ANN001, ANN202
    """Characters of the commonest n-gram times its count; of equally common ones the first to appear."""
    if words < n:
        return 0
    mask = keys.size - 1
    best = 1
    for at in range(words - n + 1):
        key = np.uint64(0)
        for word in range(at, at + n):
            key = key * _BASE + hashes[word]
        key = mixed(key)
        slot = np.int64(key & np.uint64(mask))
        while stamps[slot] == stamp and keys[slot] != key:
            slot = (slot + 1) & mask
        if stamps[slot] != stamp:
            stamps[slot], keys[slot], values[slot] = stamp, key, 0
        values[slot] += 1
        best = max(best, values[slot])
    for at in range(words - n + 1):
        key = np.uint64(0)
        for word in range(at, at + n):
            key = key * _BASE + hashes[word]
        key = mixed(key)
        slot = np.int64(key & np.uint64(mask))
        while keys[slot] != key:
            slot = (slot + 1) & mask
        if values[slot] == best:
            return (lengths[at : at + n].sum() + n - 1) * best
    return 0


@njit(cache=True, nogil=True)
def _duplicate_grams(data, starts, ends, first, lengths, words, n, keys, stamps, stamp):  # noqa: ANN001, ANN202
    """Characters of the n-grams that appeared before, found by a walk that goes on behind each of them."""
    at, repeated = 0, 0
    while at < words - n + 1:
        key = np.uint64(0)
        for word in range(first + at, first + at + n):
            for place in range(starts[word], ends[word]):
                key = (key + np.uint64(data[place]) + np.uint64(1)) * _BASE
        if is_new(mixed(key), keys, stamps, stamp):
            at += 1
        else:
            repeated += lengths[at : at + n].sum()
            at += n
    return repeated
