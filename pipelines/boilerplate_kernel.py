"""The kernels of boilerplate: where the lines of texts end, which of them many documents have, what goes.

Import this module only inside functions, never where the graph is defined: it compiles.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_NEWLINE, _RETURN, _TAB, _BLANK = (np.uint8(code) for code in (10, 13, 9, 32))


@njit(cache=True, nogil=True)
def units(data, offsets, paragraphs):
    """Bounds of the units of all texts, int64 [units + 1], and the text of each, int64 [units].

    The units of a text are all of it: a line ends behind its line feed, a paragraph behind the blank lines after it.
    """
    bounds, whose = np.empty(1024, np.int64), np.empty(1024, np.int64)
    count = 0
    for doc in range(offsets.size - 1):
        at, end = offsets[doc], offsets[doc + 1]
        was_blank, seen = False, False  # blank lines before the first paragraph belong to it
        begin = at
        while at < end:
            stop, is_blank = at, True
            while stop < end and data[stop] != _NEWLINE:
                is_blank = is_blank and _is_white(data[stop])
                stop += 1
            stop = min(stop + 1, end)
            if at == begin or not paragraphs or (was_blank and seen and not is_blank):
                if count + 1 >= bounds.size:
                    bounds = np.concatenate((bounds, np.empty(count + 1, np.int64)))
                    whose = np.concatenate((whose, np.empty(count + 1, np.int64)))
                bounds[count], whose[count] = at, doc
                count += 1
            was_blank, seen = is_blank, seen or not is_blank
            at = stop
    bounds[count] = offsets[-1]
    return bounds[: count + 1].copy(), whose[:count].copy()


@njit(cache=True, nogil=True)
def hash_table(keys, size):
    """Slots, int64 [size] (a power of two): the row of each key (two words of 64 bits), or -1."""
    slots = np.full(size, -1, np.int64)
    for row in range(keys.shape[0]):
        slot = np.int64(keys[row, 0] & np.uint64(size - 1))
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = row
    return slots


@njit(cache=True, nogil=True)
def looked_up(wanted, keys, slots):
    """The row of each wanted key, or -1."""
    out = np.full(wanted.shape[0], -1, np.int64)
    for index in range(wanted.shape[0]):
        slot = np.int64(wanted[index, 0] & np.uint64(slots.size - 1))
        while slots[slot] >= 0:
            row = slots[slot]
            if keys[row, 0] == wanted[index, 0] and keys[row, 1] == wanted[index, 1]:
                out[index] = row
                break
            slot = (slot + 1) & (slots.size - 1)
    return out


@njit(cache=True, nogil=True)
def spans(data, offsets, bounds, whose, goes):
    """Longest runs of units that go, int64 [spans, 5]: text, start and stop in its bytes, start and length in characters.

    Blank lines that would then begin or end the text go as well, and all of it where nothing but blanks would stay.
    """
    out = np.empty((np.count_nonzero(goes), 5), np.int64)
    count = unit = 0
    while unit < goes.size:
        if not goes[unit]:
            unit += 1
            continue
        doc, first = whose[unit], unit
        while unit < goes.size and goes[unit] and whose[unit] == doc:
            unit += 1
        begin, end, start, stop = offsets[doc], offsets[doc + 1], bounds[first], bounds[unit]
        while True:
            if start == begin:
                stop = _behind_blank_lines(data, stop, end)
            while stop == end and start > begin and _is_white(data[start - 1]):
                start -= 1
            if count == 0 or out[count - 1, 0] != doc or out[count - 1, 2] < start - begin:
                break
            count -= 1  # nothing but blanks between
            start = begin + out[count, 1]
        row = out[count]
        row[0], row[1], row[2] = doc, start - begin, stop - begin
        row[3], row[4] = _characters(data, begin, start), _characters(data, start, stop)
        count += 1
    return _without_blanks(data, offsets, out[:count])


@njit(cache=True, nogil=True)
def _without_blanks(data, offsets, out):
    """The same spans, one for all of a text of which they leave nothing but blanks."""
    kept = first = 0
    while first < out.shape[0]:
        doc, last, at, is_blank = out[first, 0], first, np.int64(0), True
        begin, end = offsets[doc], offsets[doc + 1]
        while last < out.shape[0] and out[last, 0] == doc:
            is_blank = is_blank and _all_white(data, begin + at, begin + out[last, 1])
            at = out[last, 2]
            last += 1
        if is_blank and _all_white(data, begin + at, end):
            out[first, 1], out[first, 2], out[first, 3] = 0, end - begin, 0
            out[first, 4] = _characters(data, begin, end)
            out[kept] = out[first]
            kept += 1
        else:
            for row in range(first, last):
                out[kept] = out[row]
                kept += 1
        first = last
    return out[:kept].copy()


@njit(cache=True, nogil=True)
def _all_white(data, at, end):
    while at < end and _is_white(data[at]):
        at += 1
    return at >= end


@njit(cache=True, nogil=True)
def _is_white(code):
    return code in (_NEWLINE, _RETURN, _TAB, _BLANK)


@njit(cache=True, nogil=True)
def _behind_blank_lines(data, at, end):
    """Where the first line that is not blank begins; the end if there is none."""
    line = at
    while at < end and _is_white(data[at]):
        at += 1
        if data[at - 1] == _NEWLINE:
            line = at
    return end if at == end else line


@njit(cache=True, nogil=True)
def _characters(data, start, stop):
    count = 0
    for at in range(start, stop):
        count += (data[at] & 0xC0) != 0x80
    return count
