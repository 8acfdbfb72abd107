"""How an edit becomes text and cuts: every byte of a document bears the number of the rule that removed it, or 0.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.characters import SPACE, bytes_at, char_size, flags_at, inner, num_chars
from pipelines.filters.spans import CUTS

KEPT, WHITE_SPACE, BREAK_START, BREAK_REST = np.uint8(0), np.uint8(1), np.uint8(2), np.uint8(3)
FIRST_RULE = 4  # a family's own rules follow


def edited_column(out: NDArray[np.uint8], ends: NDArray[np.int64]) -> pa.LargeStringArray:
    """The edited texts from their bytes and the place where each ends."""
    offsets = np.concatenate([np.zeros(1, np.int64), ends])
    return pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(out))


def cut_table(cuts: NDArray[np.int64], rules: tuple[str, ...]) -> pa.Table:
    """The cuts of a kernel under their rules' names; ``rules`` begins with those of all families."""
    names = pa.DictionaryArray.from_arrays(pa.array(cuts[:, 1].astype(np.int32)), pa.array(rules)).cast(pa.string())
    columns = [pa.array(np.ascontiguousarray(cuts[:, place])) for place in (0, 2, 3)]
    return pa.table([columns[0], names, columns[1], columns[2]], schema=CUTS)


@inner
def strip(data, start, end, labels, table):
    """str.strip() of what is kept of ``data[start:end]``; ``labels`` begin at ``start``."""
    at = start
    while at < end:
        size = char_size(data[at])
        if labels[at - start] == KEPT:
            if not flags_at(data, at, table) & SPACE:
                break
            labels[at - start : at - start + size] = WHITE_SPACE
        elif labels[at - start] == BREAK_START or labels[at - start] == BREAK_REST:
            labels[at - start : at - start + size] = WHITE_SPACE
        at += size
    stop = end
    while stop > at:
        place = stop - 1
        while data[place] & 0xC0 == 0x80:
            place -= 1
        if labels[place - start] == KEPT:
            if not flags_at(data, place, table) & SPACE:
                break
            labels[place - start : stop - start] = WHITE_SPACE
        elif labels[place - start] == BREAK_START or labels[place - start] == BREAK_REST:
            labels[place - start : stop - start] = WHITE_SPACE
        stop = place


@inner
def num_runs(labels, size):
    """At least as many as there are cuts: the places where a label differs from the one before."""
    count, before = 0, KEPT
    for at in range(size):
        count += labels[at] != before
        before = labels[at]
    return count


@njit(cache=True, nogil=True)
def room_for(cuts, count, more):
    """The table of cuts with room for so many more."""
    if count + more <= len(cuts):
        return cuts
    longer = np.empty((2 * (count + more), 4), np.int64)
    longer[:count] = cuts[:count]
    return longer


@inner
def emit(data, start, end, labels, row, out, filled, cuts, count):
    """Append what is kept to ``out`` and the cuts, in characters, to ``cuts`` [n, 4]: row, rule, start, length."""
    at, chars = start, 0
    while at < end:
        label = labels[at - start]
        stop = at + 1
        if label == KEPT:
            while stop < end and labels[stop - start] == KEPT:
                stop += 8 if bytes_at(labels, stop - start, 8) == 0 else 1
            stop = min(stop, end)
            filled = copy(data, at, stop, out, filled)
            length = num_chars(data, at, stop)
        else:
            same = BREAK_REST if label == BREAK_START else label
            while stop < end and labels[stop - start] == same:
                stop += 1
            length = num_chars(data, at, stop)
            if label == BREAK_START:
                out[filled] = 0x0A
                filled += 1
            cuts[count, 0], cuts[count, 1], cuts[count, 2], cuts[count, 3] = row, label, chars, length
            count += 1
        chars += length
        at = stop
    return filled, count


@inner
def copy(data, start, end, out, filled):
    """Append a document that stays as it is."""
    for place in range(start, end):
        out[filled + place - start] = data[place]
    return filled + end - start
