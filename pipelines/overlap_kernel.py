"""The kernels of n-gram overlap: hashes of words in, places of n-grams out.

Import this module only inside functions, never where the graph is defined: it compiles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.words import LENGTH_SALT, WORD_BASE, gram_hash, mixed

REACH = 16  # words that may stand between a short question and its answer
LABEL = 3  # the same where neither has words enough to be found by itself: "The answer is"


@njit(cache=True, nogil=True)
def hash_table(grams, size, bits):
    keys, values = np.zeros(size, np.uint64), np.full(size, -1, np.int64)
    bitmap = np.zeros(bits // 64, np.uint64)
    for gram in range(grams.size):
        key = grams[gram]
        bit = np.int64(key >> np.uint64(20)) & (bits - 1)
        bitmap[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
        slot = np.int64(key & np.uint64(size - 1))
        while values[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        keys[slot], values[slot] = key, gram
    return keys, values, bitmap


@njit(cache=True, nogil=True)
def scanned(hashes, offsets, n, keys, values, bitmap):
    """(word at which it begins, value) of every n-gram inside a document that the table holds."""
    bits = bitmap.size * 64
    at, found = np.empty(256, np.int64), np.empty(256, np.int64)
    count = 0
    power, salt = np.uint64(1), np.uint64(n) * LENGTH_SALT
    for _ in range(n):
        power = power * WORD_BASE
    for doc in range(offsets.size - 1):
        state = np.uint64(0)
        for word in range(offsets[doc], offsets[doc + 1]):
            state = state * WORD_BASE + hashes[word]
            begin = word - n + 1
            if begin < offsets[doc]:
                continue
            if begin > offsets[doc]:
                state -= hashes[begin - 1] * power
            key = mixed(state ^ salt)
            bit = np.int64(key >> np.uint64(20)) & (bits - 1)
            if (bitmap[bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) == 0:
                continue
            slot = _slot_of(key, keys, values)
            if values[slot] >= 0:
                if count == at.size:
                    at = np.concatenate((at, np.empty(count, np.int64)))
                    found = np.concatenate((found, np.empty(count, np.int64)))
                at[count], found[count] = begin, values[slot]
                count += 1
    return at[:count].copy(), found[:count].copy()


@njit(cache=True, nogil=True, inline="always")
def _slot_of(key, keys, values):
    """Where a key stands in the table of grams, or the free place (value below 0) that ends the search."""
    slot = np.int64(key & np.uint64(keys.size - 1))
    while values[slot] >= 0 and keys[slot] != key:
        slot = (slot + 1) & (keys.size - 1)
    return slot


@njit(cache=True, nogil=True)
def begun(hashes, offsets, n, ends, keys, values):
    """As :func:`scanned` for few grams: of their first (1) and last (2) words, ``ends`` [4096] knows 12 bits."""
    at, found = np.empty(256, np.int64), np.empty(256, np.int64)
    count = 0
    for doc in range(offsets.size - 1):
        for word in range(offsets[doc], offsets[doc + 1] - n + 1):
            if ends[hashes[word] >> np.uint64(52)] & (ends[hashes[word + n - 1] >> np.uint64(52)] >> 1) & 1 == 0:
                continue
            key = gram_hash(hashes, word, n)
            slot = _slot_of(key, keys, values)
            if values[slot] >= 0:
                if count == at.size:
                    at = np.concatenate((at, np.empty(count, np.int64)))
                    found = np.concatenate((found, np.empty(count, np.int64)))
                at[count], found[count] = word, values[slot]
                count += 1
    return at[:count].copy(), found[:count].copy()


@njit(cache=True, nogil=True)
def whole_items(hashes, begins, prefixes, inside, candidates, items, whole, apart):
    """(word at which it begins, item) of every short item that stands whole, or its question and answer apart.

    Looked at is where its first words were found, or those of its answer (items from ``lengths.size`` on).
    """
    at, found = np.empty(256, np.int64), np.empty(256, np.int64)
    lengths, gram_hashes = whole
    starts, ends = inside
    count = 0
    for index in range(begins.size):
        for candidate in range(candidates[prefixes[index]], candidates[prefixes[index] + 1]):
            item = items[candidate]
            if item >= lengths.size:
                item -= lengths.size
                begin = _asked(hashes, starts[index], begins[index], ends[index], item, apart)
            else:
                begin, n = begins[index], lengths[item]
                here = n > 0 and begin + n <= ends[index] and gram_hash(hashes, begin, n) == gram_hashes[item]
                if not here and not _answered(hashes, begin, ends[index], item, apart):
                    begin = -1
            if begin < 0:
                continue
            if count == at.size:
                at = np.concatenate((at, np.empty(count, np.int64)))
                found = np.concatenate((found, np.empty(count, np.int64)))
            at[count], found[count] = begin, item
            count += 1
    return at[:count].copy(), found[:count].copy()


@njit(cache=True, nogil=True)
def _answered(hashes, begin, end, item, apart):
    """Whether a question stands here and its answer a few words behind it."""
    asked, questions, answered, answers, reach = apart
    n, m = asked[item], answered[item]
    if n == 0 or begin + n + m > end or gram_hash(hashes, begin, n) != questions[item]:
        return False
    for at in range(begin + n, min(begin + n + reach[item], end - m) + 1):
        if gram_hash(hashes, at, m) == answers[item]:
            return True
    return False


@njit(cache=True, nogil=True)
def _asked(hashes, start, begin, end, item, apart):
    """Where the question begins whose answer stands here, a few words before it; -1 if there is none."""
    asked, questions, answered, answers, reach = apart
    n, m = asked[item], answered[item]
    if begin + m > end or gram_hash(hashes, begin, m) != answers[item]:
        return -1
    for at in range(begin - n, max(begin - n - reach[item], start) - 1, -1):
        if gram_hash(hashes, at, n) == questions[item]:
            return at
    return -1
