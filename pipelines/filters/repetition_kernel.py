"""The numbers behind the Gopher repetition rules: repeated lines, paragraphs and word n-grams of each document.

Equality is that of 63-bit hashes. A hash table is cleared for each use, and only as large as that use needs: most are
a few hundred bytes, and stay in the nearest cache.

Most n-grams are unique, and a small table of saturating counters says so for nearly all of them (a counter of one
is proof, a larger one may be chance); only the others are looked up exactly.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.bitmap_kernel import (
    ALL,
    FEEDS,
    ONE,
    SPACES,
    copy,
    count,
    last_clear,
    next_clear,
    next_set,
    num_characters,
    put_bytes,
)
from pipelines.filters.characters import (
    bytes_at,
    inner,
    num_ones,
    num_word_chars,
)
from pipelines.words import mixed

COLUMNS = 16
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xD6E8FEB86659FD93)
_BASE = np.uint64(0xF1357AEA2E62A9C3)
_S32 = np.uint64(32)
_HIGH = np.uint64(0x8080808080808080)


@njit(cache=True, nogil=True)
def counts(data, offsets, bits, base, starts, ends, first_word):
    """Sixteen whole numbers a document: int64 [docs, 16].

    Characters; paragraphs, repeated ones and their characters; lines, repeated ones and their characters; characters
    of the top 2-, 3- and 4-gram times its count; characters of repeated 5- to 10-grams.
    """
    num_docs = offsets.size - 1
    out = np.zeros((num_docs, COLUMNS), np.int64)
    most_words = 16
    for doc in range(num_docs):
        most_words = max(most_words, first_word[doc + 1] - first_word[doc])
    keys = np.empty(1 << table_bits(max(most_words, 2 * most_lines(offsets, bits))), np.uint64)
    values, gate = np.empty(keys.size, np.int32), np.empty(4 * keys.size, np.uint8)
    hashes, prefixes = np.empty(most_words, np.uint64), np.empty(most_words, np.uint64)
    places, slots = np.empty(most_words, np.int64), np.empty(most_words, np.int64)
    chars, begins = np.empty(most_words + 1, np.int64), np.empty(most_words + 1, np.int64)
    text = np.empty(64, np.uint8)
    grams = np.empty((6, 64), np.uint64)
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        first, words = first_word[doc], first_word[doc + 1] - first_word[doc]
        row = out[doc]
        row[0] = num_characters(bits, start, end)
        _lines(data, start, end, bits, keys, row)
        if text.size < end - start + 16:
            text = np.empty(2 * (end - start + 16), np.uint8)
        _read_words(data, base, starts, ends, first, words, hashes, chars, begins, text)
        _top_grams(hashes, chars, words, keys, values, gate, places, slots, row)
        found = _candidates(text, begins, words, keys, values, gate, prefixes, places, slots)
        if grams.shape[1] < found:
            grams = np.empty((6, 2 * found), np.uint64)
        _gram_hashes(text, begins, words, places[:found], 5, 7, grams)
        for n in range(5, 7):
            row[5 + n] = _repeated(grams[n - 5], places[:found], chars, words, n, keys)
        found = _longer(begins, words, places, slots, found)
        _gram_hashes(text, begins, words, places[:found], 7, 11, grams)
        for n in range(7, 11):
            row[5 + n] = _repeated(grams[n - 5], places[:found], chars, words, n, keys)
    return out


@inner
def _read_words(data, base, starts, ends, first, words, hashes, chars, begins, text):
    """Each word's hash, and the characters and bytes before it; ``text``: the words joined by nothing."""
    filled = total = 0
    for word in range(words):
        start, size = starts[first + word] - base, ends[first + word] - starts[first + word]
        begins[word], chars[word] = filled, total
        if size <= 8:
            head = bytes_at(data, start, size)
            put_bytes(text, filled, head)
            key = (head + np.uint64(size) * _BASE) * _STEP
            hashes[word] = (key ^ (key >> _S32)) * _MULTIPLIER
            total += size - np.int64(num_ones(head & ~(head << np.uint64(1)) & _HIGH))  # bytes that begin no character
        else:
            copy(data, start, start + size, text, filled)
            hashes[word] = hash_of(data, start, start + size)
            total += num_word_chars(data, start, start + size)
        filled += size
    begins[words], chars[words] = filled, total
    put_bytes(text, filled, np.uint64(0))
    put_bytes(text, filled + 8, np.uint64(0))


@inner
def hash_of(data, start, end):
    """A hash of the bytes."""
    state = np.uint64(end - start) * _BASE
    at = start
    while at < end:
        state = (state ^ bytes_at(data, at, end - at)) * _STEP
        state ^= state >> _S32
        at += 8
    return mixed(state)


@inner
def table_bits(count):
    """A table of ``1 << bits`` keys is at most half full of so many."""
    bits = np.int64(4)
    while 1 << bits < 2 * count:
        bits += 1
    return bits


@inner
def cleared(keys, count):
    """Make ready a table for so many keys: by how much a key is shifted to be its place there."""
    bits = table_bits(count)
    keys[: 1 << bits] = 0
    return np.uint64(64 - bits)


@inner
def slot_of(key, keys, shift):
    """Where a key is, or is to be put: its place has that key, or 0."""
    slot = key >> shift
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + ONE) & (ALL >> shift)
    return slot


@inner
def is_new(key, keys, shift):
    """Put a key into the table; False if it was there."""
    key |= ONE
    slot = slot_of(key, keys, shift)
    was_there = keys[slot] == key
    keys[slot] = key
    return not was_there


@inner
def _lines(data, start, end, bits, keys, row):
    r"""Lines, ``re.split("\n+", text)``, and paragraphs, ``re.split("\n{2,}", text.strip())``.

    A text that begins or ends with line feeds has an empty line there. A paragraph is the sequence of its lines, of
    which the first and the last one of the text are stripped; their keys share the table.
    """
    first = next_clear(bits, SPACES, start, end)
    last = last_clear(bits, SPACES, first, end)
    at = paragraph = start
    state = np.uint64(0)
    shift = cleared(keys, 2 * count(bits, FEEDS, start, end) + 2)
    if first == last:
        row[1] = 1
    while True:
        line, at = at, next_set(bits, FEEDS, at, end)
        key = hash_of(data, line, at)
        row[4] += 1
        if not is_new(key, keys, shift):
            row[5] += 1
            row[6] += num_characters(bits, line, at)
        behind = next_clear(bits, FEEDS, at, end)
        begin, stop = max(line, first), min(at, last)
        if begin < stop:
            if state == 0:
                paragraph = begin
            key = key if stop - begin == at - line else hash_of(data, begin, stop)
            state = mixed(state * _BASE + key) | np.uint64(1)
            if behind - at != 1 or at >= last:
                row[1] += 1
                if not is_new(state * _STEP, keys, shift):
                    row[2] += 1
                    row[3] += num_characters(bits, paragraph, stop)
                state = np.uint64(0)
        if at == end:
            return
        at = behind


@inner
def most_lines(offsets, bits):
    """The number of lines of the document that has the most."""
    most = 1
    for doc in range(offsets.size - 1):
        most = max(most, count(bits, FEEDS, offsets[doc], offsets[doc + 1]) + 1)
    return most


@inner
def _gate_bits(words):
    """The gate has 8 to 16 counters a word, so that one in ten unique n-grams shares its counter with another."""
    bits = 6
    while 1 << bits < 8 * words:
        bits += 1
    return bits


@inner
def _top_grams(hashes, chars, words, keys, values, gate, places, slots, row):
    """Characters of the commonest 2-, 3- and 4-gram times its count; of equally common ones the first to appear.

    An n-gram can be repeated only where the (n-1)-grams at its two ends are.
    """
    if words < 2:
        return
    bits = _gate_bits(words)
    gate_shift = np.uint64(64 - bits)
    gate[: 1 << bits] = 0
    for at in range(words - 1):
        slot = (hashes[at] * _BASE + hashes[at + 1]) >> gate_shift
        gate[slot] += gate[slot] < 2
    found = 0
    for at in range(words - 1):
        places[found] = at
        found += gate[(hashes[at] * _BASE + hashes[at + 1]) >> gate_shift] > 1
    for n in range(2, min(words, 4) + 1):
        shift = cleared(keys, found)
        best, used = np.int32(1), 0
        for number in range(found):
            at = places[number]
            if at > words - n:
                break
            key = hashes[at]
            for word in range(at + 1, at + n):
                key = key * _BASE + hashes[word]
            key |= ONE
            slot = slot_of(key, keys, shift)
            times = np.int32(1) + (values[slot] if keys[slot] == key else np.int32(0))
            keys[slot], values[slot], slots[number] = key, times, slot
            best = max(best, times)
            used += 1
        top, repeated = 0, 0
        if best > 1:
            top = -1
            for number in range(used):
                times = values[slots[number]]
                if times == best and top < 0:
                    top = places[number]
                places[repeated] = places[number]
                repeated += times > 1
        row[5 + n] = (chars[top + n] - chars[top] + n - 1) * best
        found = 0
        for number in range(repeated - 1):
            is_next = places[number + 1] == places[number] + 1
            places[found] = places[number]
            found += is_next


@inner
def _candidates(text, begins, words, keys, values, gate, prefixes, places, slots):
    """The places from where a 5-gram's characters may stand twice, in order; how many.

    n-grams are equal if their words, joined by nothing, are: "can not" is "cannot". So what is compared are the
    next twelve bytes without white space, wherever words end; an n-gram of fewer bytes is always looked up.
    """
    if words < 5:
        return 0
    bits = _gate_bits(words)
    gate[: 1 << bits] = 0
    gate_shift = np.uint64(64 - bits)
    for word in range(words):
        low, high = bytes_at(text, begins[word], 8), bytes_at(text, begins[word] + 8, 4)
        key = (low ^ (high * _BASE)) * _STEP
        key = (key ^ (key >> _S32)) * _MULTIPLIER
        prefixes[word] = key
        slot = key >> gate_shift
        gate[slot] += gate[slot] < 2
    found = 0
    for word in range(words - 4):
        is_short = begins[word + 5] - begins[word] < 12
        places[found], slots[found] = word, is_short
        found += is_short or gate[prefixes[word] >> gate_shift] > 1
    shift = cleared(keys, found)
    for number in range(found):
        # a short one is counted too: its longer n-grams may equal those of one that is not
        key = prefixes[places[number]] | ONE
        slot = slot_of(key, keys, shift)
        values[slot] = (values[slot] if keys[slot] == key else 0) + 1
        keys[slot] = key
        slots[number] = (slot << ONE) + np.uint64(slots[number])
    kept = 0
    for number in range(found):
        is_twice = values[slots[number] >> 1] > 1
        is_short = slots[number] & 1
        places[kept], slots[kept] = places[number], is_twice
        kept += is_short | is_twice
    return kept


@inner
def _longer(begins, words, places, is_twice, found):
    """Of the places of :func:`_candidates` those from where a 7-gram's characters may stand twice; how many."""
    kept = 0
    for number in range(found):
        at = places[number]
        if at > words - 7:
            break
        places[kept] = at
        kept += is_twice[number] | (begins[at + 7] - begins[at] < 12)
    return kept


@inner
def _gram_hashes(text, begins, words, places, least, most, grams):
    """For each place the hashes of the characters of its n-grams from ``least`` on, below ``most``: [n - 5, places]."""
    for number in range(places.size):
        word = places[number]
        start, state = begins[word], np.uint64(0)
        at = start
        for n in range(least, min(most, words - word + 1)):
            end = begins[word + n]
            while at + 8 <= end:
                state = (state ^ bytes_at(text, at, 8)) * _STEP
                state ^= state >> _S32
                at += 8
            key = (state ^ bytes_at(text, at, end - at)) * _BASE + np.uint64(end - start)
            grams[n - 5, number] = mixed(key)


@inner
def _repeated(grams, places, chars, words, n, keys):
    """Characters of the n-grams that appeared before, found by a walk that goes on behind each of them."""
    behind, repeated = 0, 0
    shift = cleared(keys, places.size)
    for number in range(places.size):
        at = places[number]
        if at < behind:
            continue
        if at > words - n:
            break
        if not is_new(grams[number], keys, shift):
            repeated += chars[at + n] - chars[at]
            behind = at + n
    return repeated
