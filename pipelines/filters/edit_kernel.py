"""How an edit becomes text and cuts: spans of a document that a rule removed, in order; the rest is kept.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.bitmap_kernel import SPACES, copy, last_clear, next_clear, num_characters
from pipelines.filters.characters import inner
from pipelines.filters.spans import CUTS

KEPT, WHITE_SPACE, BREAK_START = (np.int64(number) for number in range(3))
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


@njit(cache=True, nogil=True)
def room_for(rows, count, more):
    """The table of cuts or spans with room for so many more."""
    if count + more <= len(rows):
        return rows
    longer = np.empty((2 * (count + more), rows.shape[1]), np.int64)
    longer[:count] = rows[:count]
    return longer


@inner
def add_span(spans, num_spans, start, end, label):
    """Append a span (start, end, label), or make the last one longer if it ends here and bears the same label."""
    if start >= end:
        return num_spans
    if num_spans and label != BREAK_START:
        last = spans[num_spans - 1]
        if last[1] == start and last[2] == label:
            last[1] = end
            return num_spans
    row = spans[num_spans]
    row[0], row[1], row[2] = start, end, label
    return num_spans + 1


@inner
def visible_bounds(bits, start, end, spans):
    """The first and behind the last visible byte that is kept, ``end`` twice if there is none: ``str.strip()``."""
    first, at = end, start
    for number in range(len(spans) + 1):
        stop = spans[number, 0] if number < len(spans) else end
        found = next_clear(bits, SPACES, at, stop)
        if found < stop:
            first = found
            break
        if number < len(spans):
            at = spans[number, 1]
    if first == end:
        return end, end
    stop = end
    for number in range(len(spans) - 1, -2, -1):
        at = max(first, spans[number, 1]) if number >= 0 else first
        if at < stop:
            last = last_clear(bits, SPACES, at, stop)
            if last > at:
                return first, last
        stop = spans[number, 0]
    return first, first


@inner
def _add_cut(cuts, count, row, rule, chars, length):
    """Append a cut, or make the last one longer if it ends here and is of the same rule."""
    if count and rule != BREAK_START:
        last = cuts[count - 1]
        if last[0] == row and last[1] == rule and last[2] + last[3] == chars:
            last[3] += length
            return count
    cut = cuts[count]
    cut[0], cut[1], cut[2], cut[3] = row, rule, chars, length
    return count + 1


@inner
def emit(data, bits, start, end, spans, first, last, row, out, filled, cuts, count):
    """Append what is kept from ``first`` to ``last`` to ``out`` and the cuts, in characters, to ``cuts`` [n, 4]: row, rule, start,
    length. There have to be places for two cuts more than there are spans.
    """
    at, chars = start, 0
    for number in range(len(spans) + 1):
        stop = spans[number, 0] if number < len(spans) else end
        if at < stop:
            begin = min(max(at, first), stop)
            close = max(begin, min(stop, last))
            if begin > at:
                length = num_characters(bits, at, begin)
                count = _add_cut(cuts, count, row, WHITE_SPACE, chars, length)
                chars += length
            filled = copy(data, begin, close, out, filled)
            chars += num_characters(bits, begin, close)
            if close < stop:
                length = num_characters(bits, close, stop)
                count = _add_cut(cuts, count, row, WHITE_SPACE, chars, length)
                chars += length
        if number < len(spans):
            start_of, at, label = spans[number, 0], spans[number, 1], spans[number, 2]
            length = num_characters(bits, start_of, at)
            if label == BREAK_START:
                if start_of < first or start_of >= last:
                    label = WHITE_SPACE
                else:
                    out[filled] = 0x0A
                    filled += 1
            count = _add_cut(cuts, count, row, label, chars, length)
            chars += length
    return filled, count
