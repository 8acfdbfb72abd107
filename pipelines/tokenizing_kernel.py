"""Texts as units, over UTF-8 bytes, and the table that says which units are known.

Units follow one another without a gap, so that the end of each says where the next begins. What added tokens stand
between is split by itself, as if each were a text of its own.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import bytes_at, char_size, code_at, inner
from pipelines.units_kernel import digits_bound, end_by_rule

UNKNOWN = -1  # a unit that is not in the table; added token t is -2 - t
SKIPPED = -2  # an added token that is read as text

_SEED, _STEP = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


@inner
def unit_hash(data, start, end):
    """64 bits of a unit and its length."""
    state = np.uint64(end - start) * _SEED
    at = start
    while at < end:
        state = (state ^ bytes_at(data, at, end - at)) * _STEP
        state ^= state >> _HALF
        at += 8
    return state


@inner
def is_same(data, start, other, other_start, size):
    """Whether two spans of one size hold the same bytes."""
    at = 0
    while at < size:
        if bytes_at(data, start + at, size - at) != bytes_at(other, other_start + at, size - at):
            return False
        at += 8
    return True


@inner
def added_at(data, at, end, trie, tokens):
    """The longest added token that begins at ``at``: where it ends (``at`` if there is none) and its id."""
    node, place, stop, token = 0, at, at, np.int64(UNKNOWN)
    while place < end:
        node = trie[node, data[place]]
        if node == 0:
            break
        place += 1
        if tokens[node] != UNKNOWN:
            stop, token = place, np.int64(tokens[node])
    return stop, token


@inner
def next_added(data, at, end, trie, tokens):
    """Where the next added token begins and ends, and its id; ``end`` and UNKNOWN if there is none."""
    while at < end:
        if trie[0, data[at]] != 0:
            stop, token = added_at(data, at, end, trie, tokens)
            if token >= 0:
                return at, stop, token
            if token == SKIPPED:
                at = stop
                continue
        at += 1
    return end, end, np.int64(UNKNOWN)


@inner
def number_of(data, start, end, table):
    """The number of a unit in the table, UNKNOWN if it is not there."""
    value = unit_hash(data, start, end)
    mask = np.uint64(table.slots.size - 1)
    slot = value & mask
    while True:
        number = np.int64(table.slots[slot])
        if number < 0:
            return np.int64(UNKNOWN)
        if table.hashes[slot] == value:
            first = table.offsets[number]
            if table.offsets[number + 1] - first == end - start and is_same(
                data, start, table.data, first, end - start
            ):
                return number
        slot = (slot + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def numbered_units(data, rows, cuts, table):
    """Units of some texts: bounds [units + 1], numbers in the table [units], units before each text [texts + 1]."""
    size = rows[-1] - rows[0]
    bounds, numbers = np.empty(size + 1, np.int64), np.empty(size, np.int32)
    of_text = np.zeros(rows.size, np.int64)
    bounds[0], count = rows[0], 0
    for text in range(rows.size - 1):
        at, end = rows[text], rows[text + 1]
        while at < end:
            raw, raw_after, raw_token = end, end, np.int64(UNKNOWN)
            if cuts.raw_tokens.size > 1:
                raw, raw_after, raw_token = next_added(data, at, end, cuts.raw_tree, cuts.raw_tokens)
            while at < raw:
                stop, after, token = raw, raw, np.int64(UNKNOWN)
                if cuts.tokens.size > 1:
                    stop, after, token = next_added(data, at, raw, cuts.tree, cuts.tokens)
                bound = at if cuts.digits else stop
                while at < stop:
                    if at == bound:
                        bound = digits_bound(data, at, stop, cuts.digits, cuts.is_digit)
                    unit = end_by_rule(data, at, bound, cuts.classes, cuts.rule)
                    numbers[count] = number_of(data, at, unit, table)
                    at = unit
                    count += 1
                    bounds[count] = at
                if token >= 0:
                    numbers[count] = -2 - token
                    at = after
                    count += 1
                    bounds[count] = at
            if raw_token >= 0:
                numbers[count] = -2 - raw_token
                at = raw_after
                count += 1
                bounds[count] = at
        of_text[text + 1] = count
    return bounds[: count + 1], numbers[:count], of_text


@njit(cache=True, nogil=True)
def first_ones(data, bounds, where):
    """Of the units at ``where``, the first of equal ones."""
    size = 16
    while size < 2 * where.size:
        size *= 2
    slots, mask = np.full(size, -1, np.int64), np.uint64(size - 1)
    found, count = np.empty(where.size, np.int64), 0
    for unit in where:
        start, end = bounds[unit], bounds[unit + 1]
        slot = unit_hash(data, start, end) & mask
        is_new = True
        while slots[slot] >= 0:
            other = slots[slot]
            first = bounds[other]
            if bounds[other + 1] - first == end - start and is_same(data, first, data, start, end - start):
                is_new = False
                break
            slot = (slot + np.uint64(1)) & mask
        if is_new:
            slots[slot] = unit
            found[count] = unit
            count += 1
    return found[:count].copy()


@njit(cache=True, nogil=True)
def renumber(data, bounds, numbers, where, table):
    """Number the units at ``where``, which the table has learned meanwhile."""
    for unit in where:
        numbers[unit] = number_of(data, bounds[unit], bounds[unit + 1], table)


@njit(cache=True, nogil=True)
def fill(slots, hashes, data, offsets, first):
    """Put the units from number ``first`` on into the slots; none of them is there."""
    mask = np.uint64(slots.size - 1)
    for number in range(first, offsets.size - 1):
        value = unit_hash(data, offsets[number], offsets[number + 1])
        slot = value & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot], hashes[slot] = number, value


@njit(cache=True, nogil=True)
def token_offsets(numbers, of_text, id_offsets, more):
    """Where the tokens of each text begin [texts + 1], with ``more`` of them at the end of each text."""
    offsets = np.zeros(of_text.size, np.int64)
    for text in range(of_text.size - 1):
        count = more
        for unit in range(of_text[text], of_text[text + 1]):
            number = numbers[unit]
            count += id_offsets[number + 1] - id_offsets[number] if number >= 0 else 1
        offsets[text + 1] = offsets[text] + count
    return offsets


@njit(cache=True, nogil=True)
def gather(numbers, of_text, id_offsets, ids, end_id, out):
    """Write the tokens of all texts one after another; ``end_id`` ends each, if it is not negative."""
    at = 0
    for text in range(of_text.size - 1):
        for unit in range(of_text[text], of_text[text + 1]):
            number = numbers[unit]
            if number >= 0:
                for place in range(id_offsets[number], id_offsets[number + 1]):
                    out[at] = ids[place]
                    at += 1
            else:
                out[at] = -2 - number
                at += 1
        if end_id >= 0:
            out[at] = end_id
            at += 1


@njit(cache=True, nogil=True)
def not_inert(data, rows, inert):
    """Which texts hold a character that a normal form may change or move."""
    found = np.zeros(rows.size - 1, np.bool_)
    for text in range(rows.size - 1):
        at, end = rows[text], rows[text + 1]
        while at < end:
            if data[at] < 0xCC:  # below U+0300 every character is its own normal form, whatever stands beside it
                at += 1
                continue
            code = code_at(data, at)
            if code >= inert.size or not inert[code]:
                found[text] = True
                break
            at += char_size(data[at])
    return found
