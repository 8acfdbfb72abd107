"""Look-ups of an n-gram model over the tokens of a column.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.utf8_kernel import decoded
from pipelines.words import I64, U64, mixed

UNKNOWN, BEGIN, END, FIRST_WORD = range(4)  # token ids; words have ids from 3 on, in the order of their hashes
MAX_ORDER = 5


@njit(cache=True, nogil=True)
def character_hashes(data, offsets, table):
    """One hash for each word character, in lower case, and where those of each document begin: as word_hashes."""
    num_docs = offsets.size - 1
    hashes = np.empty(offsets[num_docs] - offsets[0], np.uint64)
    starts = np.empty(num_docs + 1, np.int64)
    count = 0
    for doc in range(num_docs):
        starts[doc] = count
        at, end = offsets[doc], offsets[doc + 1]
        while at < end:
            code, at = decoded(data, at)
            lower = table[code] if code < table.size else np.uint32(0)
            if lower != 0:
                hashes[count] = mixed(np.uint64(lower))
                count += 1
    starts[num_docs] = count
    return hashes[:count].copy(), starts


@njit(cache=True, nogil=True)
def slots_of(keys: U64):
    """Open-addressed table of distinct keys, half empty: their positions, -1 where a slot is empty."""
    size = 16
    while size < 2 * keys.size:
        size *= 2
    slots = np.full(size, -1, np.int32)
    for i in range(keys.size):
        at = np.int64(mixed(keys[i]) & np.uint64(size - 1))
        while slots[at] >= 0:
            at = (at + 1) & (size - 1)
        slots[at] = i
    return slots


@njit(cache=True, nogil=True, inline="always")
def _position(keys, first_key, slots, first_slot, num_slots, key):
    mask = np.uint64(num_slots - 1)
    at = mixed(key) & mask
    while True:
        found = slots[first_slot + np.int64(at)]
        if found < 0 or keys[first_key + found] == key:
            return np.int64(found)
        at = (at + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def token_ids(hashes: U64, words: U64, slots):
    """Ids of words by their hashes; UNKNOWN where the vocabulary has none."""
    ids = np.empty(hashes.size, np.int32)
    for i in range(hashes.size):
        found = _position(words, 0, slots, 0, slots.size, hashes[i])
        ids[i] = found + FIRST_WORD if found >= 0 else UNKNOWN
    return ids


@njit(cache=True, nogil=True)
def log_probabilities(ids, offsets: I64, order, num_tokens, keys: U64, first_key, slots, first_slot, logs, backoffs):
    """Natural logarithm of the probability of every token and of the end of each document: float64 [tokens + docs].

    The tokens of document d are ids[offsets[d]:offsets[d+1]]. Of the model: ``keys`` of its n-grams from order 2 on,
    order after order, each (position of the context in the order below) * num_tokens + word; ``first_key[n]``, where
    those of order n begin in ``logs`` and ``backoffs``, which have order 1 as well; ``slots``, their tables as
    :func:`slots_of` makes them, from ``first_slot[n]`` on; ``logs`` of probabilities; ``backoffs``, the logarithms of
    the weight of what follows unseen.
    """
    num_docs = offsets.size - 1
    out = np.empty(ids.size + num_docs)
    context, longer = np.empty(MAX_ORDER + 1, np.int64), np.empty(MAX_ORDER + 1, np.int64)
    place = 0
    for doc in range(num_docs):
        context[:] = -1
        context[1] = BEGIN
        for at in range(offsets[doc], offsets[doc + 1] + 1):
            word = np.int64(ids[at]) if at < offsets[doc + 1] else np.int64(END)
            total, matched = 0.0, False
            longer[:] = -1
            for n in range(order, 1, -1):
                before = context[n - 1]
                if before < 0:
                    continue
                key = np.uint64(before) * np.uint64(num_tokens) + np.uint64(word)
                found = _position(
                    keys, first_key[n] - num_tokens, slots, first_slot[n], first_slot[n + 1] - first_slot[n], key
                )
                longer[n] = found
                if not matched:
                    if found >= 0:
                        total += logs[first_key[n] + found]
                        matched = True
                    else:
                        total += backoffs[first_key[n - 1] + before]
            out[place] = total if matched else total + logs[word]
            place += 1
            longer[1] = word
            context[:] = longer
    return out
