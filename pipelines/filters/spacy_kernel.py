"""How spaCy's English tokenizer splits a piece between white space, as a kernel over Arrow's bytes.

Affixes come off the piece from both sides until a special case, nothing, or a piece without affixes is left, which
infixes then cut. What the kernel is not sure of it leaves to spaCy (a *deferred* piece): pieces that may be URLs and
have an infix, words in which a special case may be recognised afterwards, code points from U+20000 on, and pieces of
over ``MAX_CHARS`` characters. On English prose that is one piece in a thousand.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

MAX_CODE = 0x20000  # the classes are known below it: no punctuation and no symbol lies above
MAX_CHARS = 1024

# classes of characters; one character may be in many
SPACE = 1  # str.isspace()
PLAIN = 2  # ASCII letters: a piece of nothing else is a special case or one word
PREFIX = 4  # one of them at the start comes off
SUFFIX = 8  # one of them at the end comes off
DOT_LEFT = 16  # a full stop after it comes off: lower case, digits, %, quotes and other punctuation
UPPER = 32  # a full stop after two of them comes off
PERIOD_LEFT, PERIOD_RIGHT = 64, 128  # a full stop between them is an infix: lower.Upper
ALPHA = 256
DIGIT = 512  # ASCII
ICON = 1024  # symbols and … are infixes anywhere
HOST = 2048  # what stands before a full stop in the name of a host
LOWER = 4096  # what top-level domains are made of
PUNCT = 8192  # Unicode's categories P*
TERMINATOR = 16384  # ends a sentence

_DOT, _COMMA, _PLUS, _MINUS, _DEGREE, _ELLIPSIS, _DOLLAR = 0x2E, 0x2C, 0x2B, 0x2D, 0xB0, 0x2026, 0x24
_EN_DASH, _EM_DASH, _TILDE, _QUOTE, _RIGHT_QUOTE = 0x2013, 0x2014, 0x7E, 0x27, 0x2019
_FNV_PRIME, _FNV_OFFSET = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)
_PAIR = np.uint64(0x9E3779B97F4A7C15)


class Tables(NamedTuple):
    """What :mod:`pipelines.filters.spacy_rules` reads from the installed spaCy."""

    classes: NDArray[np.uint16]  # [MAX_CODE]
    units: NDArray[np.int32]  # [units, longest]: code points of what comes off after a digit (km, %, US$), 0 beyond
    case_slots: NDArray[np.int32]  # open addressing: special case by hash of its bytes, -1 for a free slot
    case_bytes: NDArray[np.uint8]
    case_offsets: NDArray[np.int64]  # [cases + 1], in case_bytes
    case_tokens: NDArray[np.int64]  # byte lengths of the words that a special case is split into
    case_token_offsets: NDArray[np.int64]  # [cases + 1], in case_tokens
    case_lengths: NDArray[np.uint64]  # [256]: bit n: a special case of n bytes begins with this byte
    first_pairs: NDArray[np.uint64]  # sorted: first two words of each special case that is recognised afterwards
    parts: NDArray[np.uint64]  # sorted hashes of all words of them
    pair_bytes: NDArray[np.bool_]  # [256, 256]: first bytes of two successive words in ``first_pairs``
    is_known: bool  # the installed expressions are those that this kernel was written for


@njit(cache=True, nogil=True)
def bytes_hash(data, start, end):  # noqa: ANN001, ANN201
    """FNV-1a of a span of bytes, its last step mixed."""
    state = _FNV_OFFSET
    for at in range(start, end):
        state = (state ^ np.uint64(data[at])) * _FNV_PRIME
    return state ^ (state >> np.uint64(32))


@njit(cache=True, nogil=True)
def pair_hash(data, start, end, next_start, next_end):  # noqa: ANN001, ANN201
    """Of two successive words."""
    return bytes_hash(data, start, end) * _PAIR ^ bytes_hash(data, next_start, next_end)


@njit(cache=True, nogil=True)
def is_in(values, value):  # noqa: ANN001, ANN201
    """Whether a sorted array holds a value."""
    at = np.searchsorted(values, value)
    return at < values.size and values[at] == value


@njit(cache=True, nogil=True, inline="always")
def decoded(data, at):  # noqa: ANN001, ANN201
    """The code point at a byte of valid UTF-8, and where the next one begins."""
    code = np.int64(data[at])
    if code < 0x80:
        return code, at + 1
    size = 2 if code < 0xE0 else 3 if code < 0xF0 else 4
    code &= 0x7F >> size
    for k in range(1, size):
        code = (code << 6) | (np.int64(data[at + k]) & 0x3F)
    return code, at + size


@njit(cache=True, nogil=True)
def special_case(data, start, end, t):  # noqa: ANN001, ANN201
    """Number of the special case that these bytes are, or -1."""
    size = end - start
    if size > 63 or not (t.case_lengths[data[start]] >> np.uint64(size)) & np.uint64(1):
        return -1
    mask = np.uint64(t.case_slots.size - 1)
    slot = bytes_hash(data, start, end) & mask
    while True:
        case = t.case_slots[slot]
        if case < 0:
            return -1
        first = t.case_offsets[case]
        if t.case_offsets[case + 1] - first == size:
            same = True
            for k in range(size):
                if t.case_bytes[first + k] != data[start + k]:
                    same = False
                    break
            if same:
                return case
        slot = (slot + np.uint64(1)) & mask


@njit(cache=True, nogil=True)
def _dots(codes, start, end):  # noqa: ANN001, ANN202
    run = 0
    while start + run < end and codes[start + run] == _DOT:
        run += 1
    return run


@njit(cache=True, nogil=True)
def _prefix(codes, bits, lo, hi):  # noqa: ANN001, ANN202
    code = codes[lo]
    if code == _DOT:
        run = _dots(codes, lo, hi)
        return run if run > 1 else 0
    if code == _PLUS:
        return 0 if lo + 1 < hi and bits[lo + 1] & DIGIT else 1
    if bits[lo] & PREFIX:
        return 1
    if code in (0x41, 0x43) and lo + 1 < hi and codes[lo + 1] == _DOLLAR:  # A$ C$
        return 2
    if code == 0x55 and lo + 2 < hi and codes[lo + 1] == 0x53 and codes[lo + 2] == _DOLLAR:  # US$
        return 3
    return 0


@njit(cache=True, nogil=True)
def _suffix(codes, bits, lo, hi, units):  # noqa: ANN001, ANN202
    if hi <= lo:
        return 0
    last, size = codes[hi - 1], hi - lo
    if last == _DOT:
        run = 1
        while run < size and codes[hi - 1 - run] == _DOT:
            run += 1
        if run > 1:
            return run
        if size == 1:
            return 0
        before = bits[hi - 2]
        if before & DOT_LEFT or (before & UPPER and size > 2 and bits[hi - 3] & UPPER):
            return 1
        # a full stop after °C; their lower case is in DOT_LEFT
        return 1 if size > 2 and codes[hi - 3] == _DEGREE and codes[hi - 2] in (0x46, 0x43, 0x4B) else 0
    if size > 1 and last in (0x73, 0x53) and codes[hi - 2] in (_QUOTE, _RIGHT_QUOTE):  # 's
        return 2
    if last == _ELLIPSIS:
        return 2 if size > 1 and codes[hi - 2] == _ELLIPSIS else 1
    if bits[hi - 1] & SUFFIX:
        return 1
    if last == _PLUS:
        return 1 if size > 1 and bits[hi - 2] & DIGIT else 0
    return _unit(codes, bits, lo, hi, units)


@njit(cache=True, nogil=True)
def _unit(codes, bits, lo, hi, units):  # noqa: ANN001, ANN202
    """Characters after the last digit if they are a unit or a currency."""
    longest = units.shape[1]
    at = hi - 1
    while at >= lo and hi - at <= longest + 1 and not bits[at] & DIGIT:
        at -= 1
    size = hi - at - 1
    if at < lo or size == 0 or size > longest or not bits[at] & DIGIT:
        return 0
    for unit in range(units.shape[0]):
        same = size == longest or units[unit, size] == 0
        for k in range(size):
            same = same and units[unit, k] == codes[at + 1 + k]
        if same:
            return size
    return 0


@njit(cache=True, nogil=True)
def _infix(codes, bits, lo, hi, at):  # noqa: ANN001, ANN202
    """Length of the infix at ``at``, 0 if there is none; ``lo`` to ``hi`` is all that is looked at."""
    code = codes[at]
    if code == _DOT:
        run = _dots(codes, at, hi)
        if run > 1:
            return run
        return 1 if at > lo and at + 1 < hi and bits[at - 1] & PERIOD_LEFT and bits[at + 1] & PERIOD_RIGHT else 0
    if bits[at] & ICON:
        return 1
    if at == lo or at + 1 >= hi:
        return 0
    left, right = bits[at - 1], bits[at + 1]
    if code in (_PLUS, _MINUS, 0x2A, 0x5E) and left & DIGIT and (right & DIGIT or codes[at + 1] == _MINUS):
        return 1
    if code == _COMMA:
        return 1 if left & ALPHA and right & ALPHA else 0
    if not left & (ALPHA | DIGIT):
        return 0
    if code in (0x3A, 0x3C, 0x3E, 0x3D, 0x2F):  # : < > = /
        return 1 if right & ALPHA else 0
    if code in (_MINUS, _EN_DASH, _EM_DASH, _TILDE):
        longest = 3 if code == _MINUS else 2 if code == _EM_DASH else 1
        for size in range(1, longest + 1):
            if at + size >= hi:
                return 0
            if bits[at + size] & ALPHA:
                return size
            if codes[at + size] != code:
                return 0
    return 0


@njit(cache=True, nogil=True)
def _may_be_url(codes, bits, lo, hi):  # noqa: ANN001, ANN202
    """False only for what spaCy's pattern of URLs does not match: no host name and no address of four numbers."""
    dots, has_digit = 0, False
    for at in range(lo, hi):
        has_digit = has_digit or bits[at] & DIGIT != 0
        if codes[at] != _DOT:
            continue
        dots += 1
        if at == lo or not bits[at - 1] & HOST:
            continue
        end = at + 1
        while end < hi and bits[end] & LOWER:
            end += 1
        if end - at > 2 and (end == hi or codes[end] in (0x3A, 0x2F, 0x3F, 0x23)):  # : / ? #
            return True
    return dots > 2 and has_digit


@njit(cache=True, nogil=True)
def _with_infixes(codes, bits, places, lo, hi, starts, ends, count):  # noqa: ANN001, ANN202
    """Append the words of what is left between the affixes; -1 if it may be a URL."""
    at, start, was_asked = lo, lo, False
    while at < hi:
        size = _infix(codes, bits, lo, hi, at)
        if size == 0:
            at += 1
            continue
        if at > lo:  # an infix at the very start stays with what follows
            if not was_asked and _may_be_url(codes, bits, lo, hi):
                return -1
            was_asked = True
            if at > start:
                starts[count], ends[count] = places[start], places[at]
                count += 1
            starts[count], ends[count] = places[at], places[at + size]
            count += 1
            start = at + size
        at += size
    if start < hi:
        starts[count], ends[count] = places[start], places[hi]
        count += 1
    return count


@njit(cache=True, nogil=True)
def _piece(data, codes, bits, places, num_chars, t, starts, ends, held):  # noqa: ANN001, ANN202
    """Words of one piece into ``starts`` and ``ends``; how many, or -1 if spaCy must be asked."""
    lo, hi, count, num_held, last = 0, num_chars, 0, 0, 0
    case = -1
    while lo < hi and hi - lo != last:
        case = special_case(data, places[lo], places[hi], t)
        if case >= 0:
            break
        last = hi - lo
        before = _prefix(codes, bits, lo, hi)
        if before and lo + before < hi:
            case = special_case(data, places[lo + before], places[hi], t)
        after = 0
        if case < 0:
            after = _suffix(codes, bits, lo + before, hi, t.units)
            if after and hi - after > lo:
                case = special_case(data, places[lo], places[hi - after], t)
                if case >= 0:
                    before = 0
        if before:
            starts[count], ends[count] = places[lo], places[lo + before]
            count += 1
            lo += before
        if after:
            held[num_held] = hi
            num_held += 1
            hi -= after
        if case >= 0:
            break
    if case >= 0:
        at = places[lo]
        for k in range(t.case_token_offsets[case], t.case_token_offsets[case + 1]):
            starts[count], ends[count] = at, at + t.case_tokens[k]
            at += t.case_tokens[k]
            count += 1
    elif lo < hi:
        count = _with_infixes(codes, bits, places, lo, hi, starts, ends, count)
        if count < 0:
            return -1
    for k in range(num_held - 1, -1, -1):
        starts[count], ends[count] = places[hi], places[held[k]]
        hi = held[k]
        count += 1
    for k in range(count - 1):
        if t.pair_bytes[data[starts[k]], data[starts[k + 1]]] and is_in(
            t.first_pairs, pair_hash(data, starts[k], ends[k], starts[k + 1], ends[k + 1])
        ):
            return -1
    return count


@njit(cache=True, nogil=True)
def _longer(values, count):  # noqa: ANN001, ANN202
    longer = np.empty(2 * values.size + MAX_CHARS, values.dtype)
    longer[:count] = values[:count]
    return longer


@njit(cache=True, nogil=True)
def split(data, offsets, t):  # noqa: ANN001, ANN201
    """Starts, ends, offsets of the words of each document, and which of them are whole pieces that spaCy must split."""
    num_docs = offsets.size - 1
    first_words = np.empty(num_docs + 1, np.int64)
    word_starts = np.empty((offsets[num_docs] - offsets[0]) // 4 + MAX_CHARS, np.int64)
    word_ends = np.empty(word_starts.size, np.int64)
    deferred, num_deferred = np.empty(MAX_CHARS, np.int64), 0
    codes, bits = np.empty(MAX_CHARS + 1, np.int32), np.empty(MAX_CHARS + 1, np.uint16)
    places, held = np.empty(MAX_CHARS + 1, np.int64), np.empty(MAX_CHARS + 1, np.int64)
    starts, ends = np.empty(MAX_CHARS + 1, np.int64), np.empty(MAX_CHARS + 1, np.int64)
    count = 0
    for doc in range(num_docs):
        first_words[doc] = count
        at, end = offsets[doc], offsets[doc + 1]
        while at < end:
            code, after = decoded(data, at)
            if code < MAX_CODE and t.classes[code] & SPACE:
                at = after
                continue
            start = at
            while at < end and data[at] < 0x80 and t.classes[data[at]] & PLAIN:
                at += 1
            if count + MAX_CHARS > word_starts.size:
                word_starts, word_ends = _longer(word_starts, count), _longer(word_ends, count)
            is_plain = t.is_known and (at == end or (data[at] < 0x80 and t.classes[data[at]] & SPACE != 0))
            if is_plain and special_case(data, start, at, t) < 0:
                word_starts[count], word_ends[count] = start, at
                count += 1
                continue
            at, num_chars, is_odd = start, 0, not t.is_known
            while at < end:
                code, after = decoded(data, at)
                kind = np.uint16(0)
                if code < MAX_CODE:
                    kind = t.classes[code]
                    if kind & SPACE:
                        break
                if code >= MAX_CODE or num_chars == MAX_CHARS:
                    is_odd = True
                else:
                    codes[num_chars], bits[num_chars], places[num_chars] = code, kind, at
                    num_chars += 1
                at = after
            places[num_chars] = at
            found = -1 if is_odd else _piece(data, codes, bits, places, num_chars, t, starts, ends, held)
            if found < 0:
                if num_deferred == deferred.size:
                    deferred = _longer(deferred, num_deferred)
                deferred[num_deferred] = count
                num_deferred += 1
                starts[0], ends[0], found = start, at, 1
            for k in range(found):
                word_starts[count + k], word_ends[count + k] = starts[k], ends[k]
            count += found
    first_words[num_docs] = count
    return word_starts[:count], word_ends[:count], first_words, deferred[:num_deferred]
