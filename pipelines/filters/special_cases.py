"""Special cases that spaCy recognises in its finished words: emoticons and abbreviations that affixes cut up.

After all pieces of a text are split, spaCy looks for the words of every special case that has affixes of its own (":",
")" for ":)"), over the whole text: also across a single space. Of overlapping finds the longest wins, then the first.
One within a piece becomes the words of its special case; one across a space stays as it is, but has kept those that
it overlaps from being taken: "x:)" is two words, and "x:) )" four.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.spacy_kernel import bytes_hash, special_case

_STEP = np.uint64(0x9E3779B97F4A7C15)


class CaseWords(NamedTuple):
    """The words of the special cases that are looked for."""

    openings: NDArray[np.uint64]  # sorted hashes of their first two words
    sequences: NDArray[np.uint64]  # sorted hashes of all their words
    first_bytes: NDArray[np.bool_]  # [256, 256]: first bytes of the first two words
    longest: int  # in words


@njit(cache=True, nogil=True)
def _is_in(values, value):  # noqa: ANN001, ANN202
    at = np.searchsorted(values, value)
    return at < values.size and values[at] == value


@njit(cache=True, nogil=True)
def next_hash(state, data, start, end):  # noqa: ANN001, ANN201
    """Hash of a sequence of words, one word longer; 0 is that of no word."""
    return (state ^ bytes_hash(data, start, end)) * _STEP


@njit(cache=True, nogil=True)
def _are_neighbours(data, end, start):  # noqa: ANN001, ANN202
    return end == start or (start == end + 1 and data[end] == 0x20)


@njit(cache=True, nogil=True)
def _found(data, starts, ends, offsets, w):  # noqa: ANN001, ANN202
    """First word and number of words of each special case's words, wherever they stand, with the document."""
    found, count = np.empty((64, 3), np.int64), 0
    for doc in range(offsets.size - 1):
        for word in range(offsets[doc], offsets[doc + 1] - 1):
            if not w.first_bytes[data[starts[word]], data[starts[word + 1]]]:
                continue
            state = next_hash(np.uint64(0), data, starts[word], ends[word])
            for last in range(word + 1, min(word + w.longest, offsets[doc + 1])):
                if not _are_neighbours(data, ends[last - 1], starts[last]):
                    break
                state = next_hash(state, data, starts[last], ends[last])
                if last == word + 1 and not _is_in(w.openings, state):
                    break
                if _is_in(w.sequences, state):
                    if count == found.shape[0]:
                        longer = np.empty((2 * count, 3), np.int64)
                        longer[:count] = found
                        found = longer
                    found[count, 0], found[count, 1], found[count, 2] = word, last - word + 1, doc
                    count += 1
    return found[:count]


@njit(cache=True, nogil=True)
def _taken(found, longest):  # noqa: ANN001, ANN202
    """Which finds are taken: the longest first, then the first; each keeps all that overlap it from being taken.

    Finds are in the order of their first words, so overlapping ones stand together: a run of them is settled alone.
    """
    taken = np.zeros(found.shape[0], np.bool_)
    first = 0
    while first < found.shape[0]:
        last, end = first + 1, found[first, 0] + found[first, 1]
        while last < found.shape[0] and found[last, 0] < end:
            end = max(end, found[last, 0] + found[last, 1])
            last += 1
        seen = np.zeros(end - found[first, 0], np.bool_)
        for size in range(longest, 1, -1):
            for k in range(first, last):
                if found[k, 1] == size:
                    a = found[k, 0] - found[first, 0]
                    taken[k] = not seen[a] and not seen[a + size - 1]
                    seen[a : a + size] = True
        first = last
    return taken


@njit(cache=True, nogil=True)
def with_special_cases(data, starts, ends, offsets, w, t):  # noqa: ANN001, ANN201
    """The words after spaCy's last step; starts, ends and offsets."""
    found = _found(data, starts, ends, offsets, w)
    if found.shape[0] == 0:
        return starts, ends, offsets
    taken = _taken(found, w.longest)
    cases = np.full(found.shape[0], -1, np.int64)
    growth = 0
    for k in range(found.shape[0]):
        word, size = found[k, 0], found[k, 1]
        is_one_piece = taken[k]
        for at in range(word + 1, word + size):
            is_one_piece = is_one_piece and ends[at - 1] == starts[at]
        if is_one_piece:
            cases[k] = special_case(data, starts[word], ends[word + size - 1], t)
            growth += max(0, t.case_word_offsets[cases[k] + 1] - t.case_word_offsets[cases[k]] - size)
    new_starts, new_ends = np.empty(starts.size + growth, np.int64), np.empty(starts.size + growth, np.int64)
    new_offsets, change = offsets.copy(), np.zeros(offsets.size, np.int64)
    at, count = 0, 0
    for k in range(found.shape[0]):
        if cases[k] < 0:
            continue
        word, size, doc = found[k, 0], found[k, 1], found[k, 2]
        num = word - at
        new_starts[count : count + num], new_ends[count : count + num] = starts[at:word], ends[at:word]
        count += num
        place = starts[word]
        first, last = t.case_word_offsets[cases[k]], t.case_word_offsets[cases[k] + 1]
        for part in range(first, last):
            new_starts[count], new_ends[count] = place, place + t.case_words[part]
            place += t.case_words[part]
            count += 1
        change[doc + 1] += last - first - size
        at = word + size
    num = starts.size - at
    new_starts[count : count + num], new_ends[count : count + num] = starts[at:], ends[at:]
    count += num
    total = 0
    for doc in range(offsets.size):
        total += change[doc]
        new_offsets[doc] += total
    return new_starts[:count], new_ends[:count], new_offsets
