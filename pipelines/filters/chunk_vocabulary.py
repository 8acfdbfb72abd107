"""Pieces of text that were split by spaCy's own expressions, with the words of each, kept as arrays.

A piece is what stands between white space. A thousand pieces cost 30 ms to split and 0.1 ms to find here. The table forgets
everything when it has grown beyond its bounds: it changes how long a text takes, never its words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.spacy_kernel import bytes_hash

MAX_PIECES = 1 << 19
MAX_BYTES = 64 << 20

I64 = NDArray[np.int64]


class Pieces(NamedTuple):
    """Pieces by number, and the slots of a hash table of them (open addressing, -1 for a free slot)."""

    slots: NDArray[np.int64]
    data: NDArray[np.uint8]
    offsets: I64  # [pieces + 1], in data
    word_starts: I64  # in bytes from the start of the piece
    word_ends: I64
    word_offsets: I64  # [pieces + 1], in word_starts and word_ends


def _none() -> Pieces:
    nothing, start = np.zeros(0, np.int64), np.zeros(1, np.int64)
    return Pieces(np.full(1 << 10, -1, np.int64), np.zeros(0, np.uint8), start, nothing, nothing, start)


class ChunkVocabulary:
    """A growing table of split pieces; not for use from two threads at once."""

    def __init__(self, max_pieces: int = MAX_PIECES, max_bytes: int = MAX_BYTES) -> None:
        self.max_pieces, self.max_bytes = max_pieces, max_bytes
        self.pieces = _none()

    def __len__(self) -> int:
        return len(self.pieces.offsets) - 1

    def trim(self) -> None:
        """Forget everything if the bounds are passed."""
        if len(self) > self.max_pieces or self.pieces.data.size > self.max_bytes:
            self.pieces = _none()

    def numbers(self, data: NDArray[np.uint8], starts: I64, ends: I64) -> I64:
        """Number of each piece, -1 for one that is not here."""
        return _numbers(data, starts, ends, self.pieces)

    def unseen(self, data: NDArray[np.uint8], starts: I64, ends: I64) -> I64:
        """Which of the pieces are not here, each different one once, in the order of the text."""
        where = np.flatnonzero(self.numbers(data, starts, ends) < 0)
        return where[_first_ones(data, starts[where], ends[where])]

    def add(self, data: NDArray[np.uint8], offsets: I64, words: tuple[I64, I64, I64]) -> None:
        """Pieces that are not here yet, one after another in ``data``; starts, ends and offsets of their words."""
        old, (starts, ends, word_offsets) = self.pieces, words
        all_offsets = np.concatenate([old.offsets, offsets[1:] + old.data.size])
        all_data = np.concatenate([old.data, data])
        size = max(1 << 10, 1 << (2 * len(all_offsets)).bit_length())
        slots = np.full(size, -1, np.int64)
        _fill(slots, all_data, all_offsets)
        self.pieces = Pieces(
            slots,
            all_data,
            all_offsets,
            np.concatenate([old.word_starts, starts]),
            np.concatenate([old.word_ends, ends]),
            np.concatenate([old.word_offsets, word_offsets[1:] + old.word_starts.size]),
        )


@njit(cache=True, nogil=True)
def _equal(one, start, other, other_start, size):  # noqa: ANN001, ANN202
    for k in range(size):  # noqa: SIM110 (compiled)
        if one[start + k] != other[other_start + k]:
            return False
    return True


@njit(cache=True, nogil=True)
def _fill(slots, data, offsets):  # noqa: ANN001, ANN202
    mask = np.uint64(slots.size - 1)
    for piece in range(offsets.size - 1):
        slot = bytes_hash(data, offsets[piece], offsets[piece + 1]) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = piece


@njit(cache=True, nogil=True)
def _numbers(data, starts, ends, pieces):  # noqa: ANN001, ANN202
    mask = np.uint64(pieces.slots.size - 1)
    numbers = np.empty(starts.size, np.int64)
    for k in range(starts.size):
        size = ends[k] - starts[k]
        slot = bytes_hash(data, starts[k], ends[k]) & mask
        while True:
            piece = pieces.slots[slot]
            if piece < 0:
                break
            first = pieces.offsets[piece]
            if pieces.offsets[piece + 1] - first == size and _equal(pieces.data, first, data, starts[k], size):
                break
            slot = (slot + np.uint64(1)) & mask
        numbers[k] = piece
    return numbers


@njit(cache=True, nogil=True)
def _first_ones(data, starts, ends):  # noqa: ANN001, ANN202
    """Indices of the first of equal spans."""
    size = 16
    while size < 2 * starts.size:
        size *= 2
    slots, mask = np.full(size, -1, np.int64), np.uint64(size - 1)
    first, count = np.empty(starts.size, np.int64), 0
    for k in range(starts.size):
        slot = bytes_hash(data, starts[k], ends[k]) & mask
        is_new = True
        while slots[slot] >= 0:
            other = slots[slot]
            same = ends[other] - starts[other] == ends[k] - starts[k]
            if same and _equal(data, starts[other], data, starts[k], ends[k] - starts[k]):
                is_new = False
                break
            slot = (slot + np.uint64(1)) & mask
        if is_new:
            slots[slot] = k
            first[count] = k
            count += 1
    return first[:count].copy()


@njit(cache=True, nogil=True)
def expanded(starts, ends, offsets, where, numbers, pieces):  # noqa: ANN001, ANN201
    """The words with those at ``where`` replaced by the words of their pieces: starts, ends and offsets."""
    total = starts.size - where.size
    for number in numbers:
        total += pieces.word_offsets[number + 1] - pieces.word_offsets[number]
    new_starts, new_ends = np.empty(total, np.int64), np.empty(total, np.int64)
    new_offsets = np.empty(offsets.size, np.int64)
    at, piece, doc = 0, 0, 0
    for word in range(starts.size + 1):
        while doc < offsets.size and offsets[doc] == word:
            new_offsets[doc] = at
            doc += 1
        if word == starts.size:
            break
        if piece < where.size and where[piece] == word:
            first, last = pieces.word_offsets[numbers[piece]], pieces.word_offsets[numbers[piece] + 1]
            for k in range(first, last):
                new_starts[at] = starts[word] + pieces.word_starts[k]
                new_ends[at] = starts[word] + pieces.word_ends[k]
                at += 1
            piece += 1
        else:
            new_starts[at], new_ends[at] = starts[word], ends[word]
            at += 1
    return new_starts, new_ends, new_offsets
