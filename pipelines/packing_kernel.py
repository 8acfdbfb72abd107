"""The loop of best-fit packing, compiled; imported inside functions alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(cache=True)
def best_fit(lengths: np.ndarray, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """Put pieces, in the order given, each into the fullest bin with room for it, or into a new one.

    Bins of equal room are taken last come, first served; the room is found by a bitmap over all rooms.

    Args:
        lengths: int64, each from 1 to ``capacity``.
        capacity: of every bin.

    Returns:
        bin of each piece; room left in each bin.
    """
    bins = np.empty(len(lengths), np.int64)
    rooms = np.empty(len(lengths), np.int64)
    newest = np.full(capacity + 1, -1, np.int64)  # by room: the bin that came last
    older = np.empty(len(lengths), np.int64)  # by bin: the one of the same room before it
    words = np.zeros((capacity >> 6) + 1, np.uint64)  # bit r: there is a bin with room r
    num_bins = 0
    for piece in range(len(lengths)):
        need = lengths[piece]
        word, found = need >> 6, -1
        bits = words[word] >> np.uint64(need & 63) << np.uint64(need & 63)
        while True:
            if bits:
                found = (word << 6) + _lowest(bits)
                break
            word += 1
            if word == len(words):
                break
            bits = words[word]
        if found < 0:
            chosen, room = num_bins, capacity - need
            num_bins += 1
        else:
            chosen, room = newest[found], found - need
            newest[found] = older[chosen]
            if newest[found] < 0:
                words[found >> 6] ^= np.uint64(1) << np.uint64(found & 63)
        bins[piece] = chosen
        rooms[chosen] = room
        if room:
            older[chosen] = newest[room]
            newest[room] = chosen
            words[room >> 6] |= np.uint64(1) << np.uint64(room & 63)
    return bins, rooms[:num_bins]


@njit(cache=True)
def _lowest(bits: Any) -> int:
    """Number of the lowest bit that is set."""
    place = 0
    for step in (32, 16, 8, 4, 2, 1):
        if not bits & ((np.uint64(1) << np.uint64(step)) - np.uint64(1)):
            bits >>= np.uint64(step)
            place += step
    return place
