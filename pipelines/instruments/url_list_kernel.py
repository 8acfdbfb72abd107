"""Block lists of domains, URLs and words as tables of 64-bit hashes, and the walk over a column of URLs.

Addresses are compared as :mod:`pipelines.instruments.url_list` describes; hashes are those of :mod:`pipelines.words`, so that every
machine computes alike. Among a million entries a wrong hit has a chance of 1 in 2⁴⁴ for each look-up.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.words import U64, mixed

FINE, DOMAIN, EXACT, HARD_WORD, SOFT_WORDS = range(5)
_SEED = np.uint64(0x9E3779B97F4A7C15)
_BYTE = np.uint64(0xD6E8FEB86659FD93)  # odd, so that each step is a bijection of the state
_S32 = np.uint64(32)
_DOT, _SLASH, _COLON, _AT, _QUESTION, _HASH = (ord(c) for c in "./:@?#")


@njit(cache=True, nogil=True)
def table_of(hashes):
    """Distinct hashes in an open-addressed table, half empty; 0 marks an empty slot and stands for no hash."""
    size = 16
    while size < 2 * hashes.size:
        size *= 2
    table = np.zeros(size, np.uint64)
    for i in range(hashes.size):
        at = np.int64(hashes[i] & np.uint64(size - 1))
        while table[at] != 0 and table[at] != hashes[i]:
            at = (at + 1) & (size - 1)
        table[at] = hashes[i]
    return table


@njit(cache=True, nogil=True, inline="always")
def _has(table, value):
    at = np.int64(value & np.uint64(table.size - 1))
    while table[at] != 0:
        if table[at] == value:
            return True
        at = (at + 1) & (table.size - 1)
    return False


@njit(cache=True, nogil=True, inline="always")
def _step(state, byte):
    state = (state ^ np.uint64(byte)) * _BYTE
    return state ^ (state >> _S32)


@njit(cache=True, nogil=True, inline="always")
def _lower(byte):
    return byte + 32 if 65 <= byte <= 90 else byte


@njit(cache=True, nogil=True, inline="always")
def _finished(state):
    value = mixed(state)
    return value if value != 0 else np.uint64(1)


@njit(cache=True, nogil=True)
def host_span(data, start, end):
    """Where the host of an address begins and ends, and where its path begins: no scheme, user, www. or port."""
    first = start
    for at in range(start, end - 2):  # a scheme ends at the first "://", before any / ? #
        if data[at] == _COLON and data[at + 1] == _SLASH and data[at + 2] == _SLASH:
            first = at + 3
            break
        if data[at] == _SLASH or data[at] == _QUESTION or data[at] == _HASH:
            break
    if first == start and end - start >= 2 and data[start] == _SLASH and data[start + 1] == _SLASH:
        first = start + 2
    stop = first
    while stop < end and data[stop] != _SLASH and data[stop] != _QUESTION and data[stop] != _HASH:
        stop += 1
    path = stop
    for at in range(first, stop):
        if data[at] == _AT:
            first = at + 1
    port = stop
    while port > first and 48 <= data[port - 1] <= 57:
        port -= 1
    if port > first and data[port - 1] == _COLON:
        stop = port - 1
    while stop > first and data[stop - 1] == _DOT:
        stop -= 1
    if (
        stop - first > 4
        and _lower(data[first]) == 119
        and _lower(data[first + 1]) == 119
        and _lower(data[first + 2]) == 119
        and data[first + 3] == _DOT
    ):
        first += 4
    return first, stop, path


@njit(cache=True, nogil=True)
def _path_end(data, path, end):
    """Where a path ends without its fragment and the slashes before it."""
    stop = path
    while stop < end and data[stop] != _HASH:
        stop += 1
    while stop > path and data[stop - 1] == _SLASH:
        stop -= 1
    return stop


@njit(cache=True, nogil=True)
def domain_hashes(data, offsets):
    """One hash an address: of its host, read from the end."""
    out = np.empty(offsets.size - 1, np.uint64)
    for row in range(offsets.size - 1):
        first, stop, _ = host_span(data, offsets[row], offsets[row + 1])
        state = _SEED
        for at in range(stop - 1, first - 1, -1):
            state = _step(state, _lower(data[at]))
        out[row] = _finished(state)
    return out


@njit(cache=True, nogil=True)
def _url_hash(data, first, stop, path, end):
    state = _SEED
    for at in range(first, stop):
        state = _step(state, _lower(data[at]))
    state = _step(state, 0)
    for at in range(path, _path_end(data, path, end)):
        state = _step(state, data[at])
    return _finished(state)


@njit(cache=True, nogil=True)
def url_hashes(data, offsets):
    """One hash an address: of its host in lower case and its path and query as they are."""
    out = np.empty(offsets.size - 1, np.uint64)
    for row in range(offsets.size - 1):
        first, stop, path = host_span(data, offsets[row], offsets[row + 1])
        out[row] = _url_hash(data, first, stop, path, offsets[row + 1])
    return out


@njit(cache=True, nogil=True)
def text_hashes(data, offsets):
    """One hash a row: of all its bytes, ASCII letters in lower case; what a word of an address is compared by."""
    out = np.empty(offsets.size - 1, np.uint64)
    for row in range(offsets.size - 1):
        state = _SEED
        for at in range(offsets[row], offsets[row + 1]):
            state = _step(state, _lower(data[at]))
        out[row] = _finished(state)
    return out


@njit(cache=True, nogil=True)
def blocked(data, offsets, domains: U64, urls: U64, hard: U64, soft: U64, min_soft):
    """For each address the first reason to block it, and how many soft words it has (0 where a reason came before)."""
    num_rows = offsets.size - 1
    reasons, softs = np.zeros(num_rows, np.uint8), np.zeros(num_rows, np.int64)
    for row in range(num_rows):
        start, end = offsets[row], offsets[row + 1]
        if start == end:
            continue
        first, stop, path = host_span(data, start, end)
        state = _SEED
        for at in range(stop - 1, first - 1, -1):
            if data[at] == _DOT and _has(domains, _finished(state)):
                reasons[row] = DOMAIN
                break
            state = _step(state, _lower(data[at]))
        if reasons[row] == FINE and stop > first and _has(domains, _finished(state)):
            reasons[row] = DOMAIN
        if reasons[row] == FINE and _has(urls, _url_hash(data, first, stop, path, end)):
            reasons[row] = EXACT
        if reasons[row] != FINE:
            continue
        state, inside = _SEED, False
        for at in range(start, end + 1):
            byte = _lower(data[at]) if at < end else np.uint8(0)
            if byte >= 0x80 or 97 <= byte <= 122 or 48 <= byte <= 57:
                state, inside = _step(state, byte), True
            elif inside:
                value = _finished(state)
                if _has(hard, value):
                    reasons[row] = HARD_WORD
                    break
                softs[row] += _has(soft, value)
                state, inside = _SEED, False
        if reasons[row] == HARD_WORD:
            softs[row] = 0
        elif softs[row] >= min_soft:
            reasons[row] = SOFT_WORDS
    return reasons, softs
