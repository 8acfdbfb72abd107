"""How spaCy's English tokenizer splits a piece between white space, as a kernel over Arrow's bytes.

Affixes come off the piece from both sides until a special case, nothing, or a piece without affixes is left, which
infixes then cut. What the kernel is not sure of it leaves to the expressions themselves (a *deferred* piece): pieces that
may be URLs and have an infix and code points from U+20000 on.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.utf8_kernel import decoded

MAX_CODE = 0x20000  # the classes are known below it: no punctuation and no symbol lies above

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
INFIX = 32768  # may be an infix, or begin one

# For functions that make no arrays: without counting references to those that they are passed, which takes three
# quarters of the time of functions as short as these.
SHORT: dict[str, Any] = {"cache": True, "nogil": True, "_nrt": False}

_DOT, _COMMA, _PLUS, _MINUS, _DEGREE, _ELLIPSIS, _DOLLAR = 0x2E, 0x2C, 0x2B, 0x2D, 0xB0, 0x2026, 0x24
_EN_DASH, _EM_DASH, _TILDE, _QUOTE, _RIGHT_QUOTE = 0x2013, 0x2014, 0x7E, 0x27, 0x2019
_FNV_PRIME, _FNV_OFFSET = np.uint64(0x100000001B3), np.uint64(0xCBF29CE484222325)
_PAIR = np.uint64(0x9E3779B97F4A7C15)


class Tables(NamedTuple):
    """What :mod:`pipelines.filters.spacy_rules` reads from the installed spaCy."""

    classes: NDArray[np.uint16]  # [MAX_CODE]
    units: NDArray[np.int32]  # [units, longest]: code points of what comes off after a digit (km, %, US$), 0 beyond
    case_filter: NDArray[np.bool_]  # [65536], by size, first and last byte: a special case may be so
    case_slots: NDArray[np.int32]  # open addressing: special case by hash of its bytes, -1 for a free slot
    case_bytes: NDArray[np.uint8]
    case_offsets: NDArray[np.int64]  # [cases + 1], in case_bytes
    case_words: NDArray[np.int64]  # byte lengths of the words that a special case is split into
    case_word_offsets: NDArray[np.int64]  # [cases + 1], in case_words
    is_known: bool  # the installed expressions are those that this kernel was written for


@njit(**SHORT)
def bytes_hash(data, start, end):
    """FNV-1a of a span of bytes, its last step mixed."""
    state = _FNV_OFFSET
    for at in range(start, end):
        state = (state ^ np.uint64(data[at])) * _FNV_PRIME
    return state ^ (state >> np.uint64(32))


@njit(cache=True, nogil=True, inline="always")
def filter_slot(first, last, size):
    """Where ``case_filter`` tells of a special case of so many bytes between these two."""
    return (np.int64(first) | np.int64(last) << 8) ^ (size * 0x1357 & 0xFFFF)


@njit(**SHORT)
def special_case(data, start, end, t):
    """Number of the special case that these bytes are, or -1."""
    size = end - start
    if not t.case_filter[filter_slot(data[start], data[end - 1], size)]:
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


@njit(**SHORT)
def _dots(codes, start, end):
    run = 0
    while start + run < end and codes[start + run] == _DOT:
        run += 1
    return run


@njit(**SHORT)
def _prefix(codes, bits, lo, hi):
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


@njit(**SHORT)
def _suffix(codes, bits, lo, hi, kinds, units):
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
    if not kinds & DIGIT:
        return 0
    return _unit(codes, bits, lo, hi, units)


@njit(**SHORT)
def _unit(codes, bits, lo, hi, units):
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


@njit(**SHORT)
def _infix(codes, bits, lo, hi, at):
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


@njit(**SHORT)
def _may_be_url(codes, bits, lo, hi):
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


@njit(**SHORT)
def _with_infixes(codes, bits, places, lo, hi, starts, ends, count):
    """Append the words of what is left between the affixes; -1 if it may be a URL."""
    at, start, was_asked = lo, lo, False
    while at < hi:
        size = _infix(codes, bits, lo, hi, at) if bits[at] & INFIX else 0
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


@njit(**SHORT)
def _piece(data, codes, bits, places, num_chars, kinds, t, starts, ends, held):
    """Words of one piece into ``starts`` and ``ends``; how many, or -1 if it may be a URL."""
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
            after = _suffix(codes, bits, lo + before, hi, kinds, t.units)
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
        for k in range(t.case_word_offsets[case], t.case_word_offsets[case + 1]):
            starts[count], ends[count] = at, at + t.case_words[k]
            at += t.case_words[k]
            count += 1
    elif lo < hi and kinds & INFIX:
        count = _with_infixes(codes, bits, places, lo, hi, starts, ends, count)
        if count < 0:
            return -1
    elif lo < hi:
        starts[count], ends[count] = places[lo], places[hi]
        count += 1
    for k in range(num_held - 1, -1, -1):
        starts[count], ends[count] = places[hi], places[held[k]]
        hi = held[k]
        count += 1
    return count


@njit(cache=True, nogil=True)
def split(data, offsets, t):
    """Starts, ends, offsets of the words of each document, and which of them are whole pieces still to be split."""
    num_docs = offsets.size - 1
    classes, case_filter, is_known = t.classes, t.case_filter, t.is_known
    first_words = np.empty(num_docs + 1, np.int64)
    # arrays for the worst case, a word a byte: what is not written to takes no memory, and arrays that grow inside the
    # loops would be counted again at every character, which takes ten times as long
    most, longest = offsets[num_docs] - offsets[0], np.max(np.append(np.diff(offsets), 0)) + 1
    word_starts, word_ends, deferred = np.empty(most, np.int64), np.empty(most, np.int64), np.empty(most, np.int64)
    codes, bits, places = np.empty(longest, np.int32), np.empty(longest, np.uint16), np.empty(longest, np.int64)
    starts, ends, held = np.empty(longest, np.int64), np.empty(longest, np.int64), np.empty(longest, np.int64)
    num_deferred = 0
    count = 0
    for doc in range(num_docs):
        first_words[doc] = count
        at, end = offsets[doc], offsets[doc + 1]
        while at < end:
            code, after = decoded(data, at)
            if code < MAX_CODE and classes[code] & SPACE:
                at = after
                continue
            start = at
            while at < end and data[at] < 0x80 and classes[data[at]] & PLAIN:
                at += 1
            is_plain = is_known and (at == end or (data[at] < 0x80 and classes[data[at]] & SPACE != 0))
            if is_plain and (
                not case_filter[filter_slot(data[start], data[at - 1], at - start)]
                or special_case(data, start, at, t) < 0
            ):
                word_starts[count], word_ends[count] = start, at
                count += 1
                continue
            at, num_chars, is_odd, kinds = start, 0, not is_known, np.uint16(0)
            while at < end:
                code, after = decoded(data, at)
                kind = np.uint16(0)
                if code < MAX_CODE:
                    kind = classes[code]
                    if kind & SPACE:
                        break
                is_odd = is_odd or code >= MAX_CODE
                kinds |= kind
                codes[num_chars], bits[num_chars], places[num_chars] = code, kind, at
                num_chars += 1
                at = after
            places[num_chars] = at
            found = -1
            if not is_odd:
                found = _piece(data, codes, bits, places, num_chars, kinds, t, starts, ends, held)
            if found < 0:
                deferred[num_deferred] = count
                num_deferred += 1
                starts[0], ends[0], found = start, at, 1
            for k in range(found):
                word_starts[count + k], word_ends[count + k] = starts[k], ends[k]
            count += found
    first_words[num_docs] = count
    return word_starts[:count].copy(), word_ends[:count].copy(), first_words, deferred[:num_deferred].copy()
