"""A list of words and phrases as a trie, and the walk that finds them in the bytes of an Arrow column.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.utf8_kernel import decoded
from pipelines.words import TABLE_SIZE, character_table, mixed

SEPARATOR, LETTER, UNSPACED = 0, 1, 2
# scripts that put no space between words: Thai to Tibetan, Myanmar, Khmer, kana and ideographs; Hangul has spaces
UNSPACED_RANGES = (
    (0x0E00, 0x0FFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9D), (0x20000, 0x323AF),
)  # fmt: skip
SYMBOL_BITS = 21  # a code point has 21 bits


class Trie(NamedTuple):
    """Edges in an open-addressed table: a slot holds node << 21 | symbol, plus one, and the node it leads to."""

    slots: NDArray[np.uint64]
    children: NDArray[np.int64]
    ends: NDArray[np.bool_]  # node -> an entry ends here
    begins: NDArray[np.bool_]  # lower-case code point -> an entry begins with it


@functools.cache
def lower_and_class() -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """By code point: its lower-case code point, and whether it is a separator, a letter, or one of an unspaced script.

    Marks belong to their letter; the low line separates.
    """
    words = character_table()
    lower = np.where(words > 0, words, np.arange(TABLE_SIZE)).astype(np.int32)
    kind = (words > 0).astype(np.uint8)
    kind[ord("_")] = SEPARATOR
    for code in range(0x300, TABLE_SIZE):
        if unicodedata.category(chr(code))[0] == "M":
            kind[code] = LETTER
    for first, last in UNSPACED_RANGES:
        span = kind[first : last + 1]
        span[span > 0] = UNSPACED
    return lower, kind


def trie_of(entries: list[list[int]]) -> Trie:
    """The trie of entries that are lists of symbols: lower-case code points, 0 for what stands between two words."""
    edges: dict[tuple[int, int], int] = {}
    ends = [False]
    begins = np.zeros(TABLE_SIZE, np.bool_)
    for entry in entries:
        node = 0
        for symbol in entry:
            child = edges.setdefault((node, symbol), len(ends))
            if child == len(ends):
                ends.append(False)
            node = child
        ends[node] = True
        if entry[0] < TABLE_SIZE:
            begins[entry[0]] = True
    keys = np.array([(node << SYMBOL_BITS | symbol) + 1 for node, symbol in edges], np.uint64)
    slots, children = _filled(keys, np.array(list(edges.values()), np.int64))
    return Trie(slots, children, np.array(ends, np.bool_), begins)


@njit(cache=True, nogil=True)
def _filled(keys, children):
    size = 16
    while size < 2 * keys.size:
        size *= 2
    slots, values = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    for i in range(keys.size):
        at = np.int64(mixed(keys[i]) & np.uint64(size - 1))
        while slots[at] != 0:
            at = (at + 1) & (size - 1)
        slots[at], values[at] = keys[i], children[i]
    return slots, values


@njit(cache=True, nogil=True, inline="always")
def _child(slots, children, node, symbol):
    key = (np.uint64(node) << np.uint64(SYMBOL_BITS) | np.uint64(symbol)) + np.uint64(1)
    at = np.int64(mixed(key) & np.uint64(slots.size - 1))
    while slots[at] != 0:
        if slots[at] == key:
            return children[at]
        at = (at + 1) & (slots.size - 1)
    return np.int64(-1)


@njit(cache=True, nogil=True)
def found(data, offsets, lower, kind, slots, children, ends, begins):
    """For each document: entries found, the characters that they cover, and all its characters.

    At each place the longest entry counts, and the search goes on behind it: no character counts twice.
    """
    num_docs = offsets.size - 1
    counts, covered, totals = np.zeros(num_docs, np.int64), np.zeros(num_docs, np.int64), np.zeros(num_docs, np.int64)
    longest = 0
    for doc in range(num_docs):
        longest = max(longest, offsets[doc + 1] - offsets[doc])
    codes, kinds = np.empty(longest, np.int32), np.empty(longest, np.uint8)
    for doc in range(num_docs):
        size = _read(data, offsets[doc], offsets[doc + 1], lower, kind, codes, kinds)
        totals[doc] = size
        start = 0
        while start < size:
            last = _longest_entry(codes, kinds, start, size, slots, children, ends, begins)
            if last > start:
                counts[doc] += 1
                covered[doc] += last - start
            start = max(last, start + 1)
    return counts, covered, totals


@njit(cache=True, nogil=True)
def _read(data, at, end, lower, kind, codes, kinds):
    """The characters of a document, in lower case and by class; how many."""
    size = 0
    while at < end:
        code, at = decoded(data, at)
        if code < lower.size:
            codes[size], kinds[size] = lower[code], kind[code]
        else:
            codes[size], kinds[size] = code, SEPARATOR
        size += 1
    return size


@njit(cache=True, nogil=True)
def _longest_entry(codes, kinds, start, size, slots, children, ends, begins):
    """Behind the longest entry that begins at ``start``, or 0 if none does; letters are never cut out of a word."""
    if codes[start] >= begins.size or not begins[codes[start]]:
        return 0
    if start > 0 and kinds[start] == LETTER and kinds[start - 1] == LETTER:
        return 0
    node, place, last = np.int64(0), start, 0
    while place < size:
        child = _child(slots, children, node, codes[place])
        if child >= 0:
            place += 1
        elif kinds[place] == SEPARATOR:
            child = _child(slots, children, node, 0)
            while child >= 0 and place < size and kinds[place] == SEPARATOR:
                place += 1
        if child < 0:
            break
        node = child
        if ends[node] and (place == size or kinds[place - 1] != LETTER or kinds[place] != LETTER):
            last = place
    return last
