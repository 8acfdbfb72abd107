"""The RefinedWeb line rules in DCLM's order: each sees what the ones before it left, stripped at both ends.

Most documents break none of them, which one walk over the bytes finds out; the others go through the stages.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.bitmap_kernel import (
    ALL,
    DIGITS,
    FEEDS,
    ONE,
    RESTS,
    SPACES,
    UPPERS,
    WORDS,
    between,
    block_start,
    copy,
    count,
    letter,
    next_set,
    part_mask,
)
from pipelines.filters.characters import (
    DECIMAL,
    SPACE,
    WORD,
    char_size,
    code_at,
    flags_at,
    inner,
    num_ones,
    trailing_zeros,
)
from pipelines.filters.edit_kernel import KEPT, WHITE_SPACE, add_span, emit, room_for
from pipelines.filters.phrases_kernel import ITEMS, LAST, cut, has_phrase

UPPER_CASE, ONLY_DIGITS, COUNTER, FEW_WORDS, PHRASE = np.uint8(4), np.uint8(5), np.uint8(6), np.uint8(7), np.uint8(8)

# columns of the table of lines
_START, _END, _CHARS, _UPPER, _DIGITS, _WORDS, _ALIVE, _PHRASE = range(8)
# columns of the bitmaps that only these rules need: where words begin, letters and digits, where a phrase may stand
_BEGINNINGS, _ALNUM, _ANCHORS = (np.int64(number) for number in range(3))
_COUNTED = np.frombuffer(
    b" likes shares comments retweets reposts quotes bookmarks upvotes downvotes downloads views followers ", np.uint8
)


@njit(cache=True, nogil=True)
def edited(data, offsets, bits, table, max_upper, max_digits, counters, min_words, phrase_words, out):
    """Edited bytes and where each text ends; cuts [n, 4]; the share of words that each document lost."""
    num_docs = offsets.size - 1
    marks = _marks(data, bits)
    ends, removed = np.empty(num_docs, np.int64), np.zeros(num_docs, np.float64)
    cuts, lines, spans = np.empty((64, 4), np.int64), np.empty((256, 8), np.int64), np.empty((256, 3), np.int64)
    labels, text, origin = np.zeros(1024, np.uint8), np.empty(1024, np.uint8), np.empty(1024, np.int64)
    filled = num_cuts = np.int64(0)
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        lines = room_for(lines, np.int64(0), count(bits, FEEDS, start, end) + 1)
        num_lines = _measure(start, end, bits, marks, lines)
        before = _num_words(data, marks, start, end, True)
        if not _is_touched(data, start, end, bits, table, lines[:num_lines], max_upper, max_digits, counters, min_words,
                           phrase_words):  # fmt: skip
            filled = copy(data, start, end, out, filled)
            removed[doc] = 0.0 if before else 1.0
            ends[doc] = filled
            continue
        if labels.size < end - start + 64:
            labels = np.zeros(2 * (end - start + 64), np.uint8)
            text, origin = np.empty(labels.size, np.uint8), np.empty(labels.size, np.int64)
        else:
            labels[: end - start] = KEPT
        _stages(data, start, end, table, lines[:num_lines], labels, max_upper, max_digits, counters, min_words,
                phrase_words, text, origin)  # fmt: skip
        spans, num_spans = _spans(labels, start, end, spans)
        after = _num_kept_words(data, marks, start, end, spans[:num_spans])
        removed[doc] = (before - after) / before if before else 1.0
        cuts = room_for(cuts, num_cuts, num_spans + np.int64(2))
        filled, num_cuts = emit(data, bits, start, end, spans[:num_spans], start, end, doc, out, filled, cuts, num_cuts)
        ends[doc] = filled
    return out[:filled], ends, cuts[:num_cuts], removed


@inner
def _fill_marks(data, bits, marks):
    last, over = ~(ALL >> ONE), np.uint64(0)
    last2 = last | last >> ONE
    for block in range(len(bits)):
        at, shift = block_start(data, block)
        parted = (between(data, at, 0x20, 1) | between(data, at, 0x09, 5) | between(data, at, 0x00, 1)) >> shift
        alnum = bits[block, WORDS] & ~bits[block, RESTS] & ~(between(data, at, 0x5F, 1) >> shift)
        marks[block, _BEGINNINGS] = alnum & (parted << ONE | over)
        marks[block, _ALNUM] = alnum
        over = parted >> np.uint64(63)
        a, m, r, t = (letter(data, at, 0x61), letter(data, at, 0x6D), letter(data, at, 0x72), letter(data, at, 0x74))
        found = letter(data, at, 0x63) & (a >> ONE | last) & (r >> np.uint64(2) | last2)  # cart
        found &= t >> np.uint64(3) | last2 | last >> np.uint64(2)
        d, space = letter(data, at, 0x64), between(data, at, 0x20, 1)
        found |= d & (a << ONE | ONE) & (space >> ONE | last) & (m >> np.uint64(2) | last2)  # read more
        n, g = letter(data, at, 0x6E), letter(data, at, 0x67)
        found |= between(data, at, 0x2D, 1) & (n << ONE | ONE) & (g << np.uint64(2) | np.uint64(3))  # sign-in
        marks[block, _ANCHORS] = found >> shift


@njit(cache=True, nogil=True)
def _marks(data, bits):
    """The bitmaps that only these rules need; letters of an anchor in the next block are taken on trust."""
    marks = np.empty((len(bits), 3), np.uint64)
    _fill_marks(data, bits, marks)
    return marks


@inner
def _measure(start, end, bits, marks, lines):
    """Every line between line feeds: its bytes, characters, upper-case ones, digits, words between white space."""
    at, number = start, 0
    while True:
        row = lines[number]
        row[_START], row[_ALIVE] = at, 1
        number += 1
        line, at = at, next_set(bits, FEEDS, at, end)
        row[_END] = at
        _count_line(bits, line, at, row)
        row[_PHRASE] = next_set(marks, _ANCHORS, line, at) < at
        if at >= end:
            return number
        at += 1


@inner
def _count_line(bits, start, end, row):
    rests = upper = digits = words = before = np.uint64(0)
    if start < end:
        for block in range(start >> 6, ((end - 1) >> 6) + 1):
            inside = part_mask(block, start, end)
            rests += num_ones(bits[block, RESTS] & inside)
            upper += num_ones(bits[block, UPPERS] & inside)
            digits += num_ones(bits[block, DIGITS] & inside)
            visible = ~bits[block, SPACES] & inside
            words += num_ones(visible & ~(visible << ONE | before))
            before = visible >> np.uint64(63)
    row[_CHARS], row[_UPPER] = end - start - np.int64(rests), np.int64(upper)
    row[_DIGITS], row[_WORDS] = np.int64(digits), np.int64(words)


@njit(cache=True, nogil=True)
def _spans(labels, start, end, spans):
    """What is labelled, as spans; and how many there are."""
    at, size, num_spans = np.int64(0), end - start, np.int64(0)
    while at < size:
        found = between(labels, at, 1, 255)
        if not found:
            at += 64
            continue
        at += np.int64(trailing_zeros(found))
        if at >= size:
            break
        stop = at + 1
        while stop < size and labels[stop] == labels[at]:
            stop += 1
        spans = room_for(spans, num_spans, np.int64(1))
        num_spans = add_span(spans, num_spans, start + at, start + stop, np.int64(labels[at]))
        at = stop
    return spans, num_spans


@inner
def _num_words(data, marks, start, end, after_space):
    """Words as DCLM counts them: letters or digits behind ASCII white space; ``after_space`` is of the first byte."""
    if start == end:
        return 0
    first = next_set(marks, _ALNUM, start, start + 1) == start
    return np.int64(first and after_space) + count(marks, _BEGINNINGS, start + 1, end)


@inner
def _num_kept_words(data, marks, start, end, spans):
    total, at, after_space = 0, start, True
    for number in range(len(spans) + 1):
        stop = spans[number, 0] if number < len(spans) else end
        if at < stop:
            total += _num_words(data, marks, at, stop, after_space)
            after_space = _parts_words(data[stop - 1])
        if number < len(spans):
            at = spans[number, 1]
    return total


@inner
def _is_touched(data, start, end, bits, table, lines, max_upper, max_digits, counters, min_words, phrase_words):
    """Whether any rule, or stripping, would change the document."""
    if start == end:
        return False
    if next_set(bits, SPACES, start, start + 1) == start or next_set(bits, SPACES, end - 1, end) < end:
        return True
    for line in lines:
        if line[_CHARS] == 0:
            continue
        if line[_UPPER] / line[_CHARS] > max_upper or line[_DIGITS] / line[_CHARS] > max_digits:
            return True
        if line[_WORDS] < min_words or line[_WORDS] == 0:
            return True
        if counters and line[_DIGITS] and _is_counter(data, line[_START], line[_END], table):
            return True
        if line[_PHRASE] and line[_WORDS] <= phrase_words and has_phrase(data, line[_START], line[_END]):
            return True
    return False


@inner
def _stages(
    data, start, end, table, lines, labels, max_upper, max_digits, counters, min_words, phrase_words, text, origin
):
    """Label what each rule cuts, one rule after the other over all lines."""
    for line in lines:
        if line[_CHARS] and line[_UPPER] / line[_CHARS] > max_upper:
            _drop(line, start, labels, UPPER_CASE)
    _strip(data, start, table, lines, labels)
    for line in lines:
        if line[_ALIVE] and line[_CHARS] and line[_DIGITS] / line[_CHARS] > max_digits:
            _drop(line, start, labels, ONLY_DIGITS)
    _strip(data, start, table, lines, labels)
    if counters:
        for line in lines:
            if line[_ALIVE] and line[_DIGITS] and _is_counter(data, line[_START], line[_END], table):
                _drop(line, start, labels, COUNTER)
        _strip(data, start, table, lines, labels)
    for line in lines:
        if line[_ALIVE] and line[_CHARS] and line[_WORDS] < min_words:
            _drop(line, start, labels, FEW_WORDS)
    for phrase in range(ITEMS, LAST + 1 if phrase_words >= 0 else ITEMS):
        for line in lines:
            if not line[_ALIVE] or not line[_CHARS] or line[_WORDS] > phrase_words:
                continue
            if line[_PHRASE]:
                line[_WORDS], line[_CHARS] = cut(
                    data, line[_START], line[_END], start, labels, table, phrase, PHRASE, text, origin
                )
            if line[_WORDS] == 0:
                _drop(line, start, labels, PHRASE)
        _strip(data, start, table, lines, labels)
    _label_line_feeds(data, start, end, lines, labels)


@inner
def _drop(line, start, labels, rule):
    line[_ALIVE] = 0
    for place in range(line[_START] - start, line[_END] - start):
        if labels[place] == KEPT:
            labels[place] = rule
    line[_WORDS] = -np.int64(rule)  # whose line feed goes with it


@inner
def _strip(data, start, table, lines, labels):
    """str.strip() of the lines that are left, joined by line feeds."""
    for line in lines:
        if line[_ALIVE]:
            at = line[_START]
            while at < line[_END]:
                if labels[at - start] == KEPT:
                    if not flags_at(data, at, table) & SPACE:
                        break
                    labels[at - start : at - start + char_size(data[at])] = WHITE_SPACE
                    line[_CHARS] -= 1
                at += char_size(data[at])
            line[_START] = at
            if at < line[_END]:
                break
            _drop(line, start, labels, WHITE_SPACE)
    for place in range(len(lines) - 1, -1, -1):
        line = lines[place]
        if line[_ALIVE]:
            end = line[_END]
            while end > line[_START]:
                at = end - 1
                while data[at] & 0xC0 == 0x80:
                    at -= 1
                if labels[at - start] == KEPT:
                    if not flags_at(data, at, table) & SPACE:
                        break
                    labels[at - start : end - start] = WHITE_SPACE
                    line[_CHARS] -= 1
                end = at
            line[_END] = end
            if end > line[_START]:
                break
            _drop(line, start, labels, WHITE_SPACE)


@inner
def _label_line_feeds(data, start, end, lines, labels):
    """A line that goes takes its line feed along; so does the last line that stays."""
    place, is_last = end, True
    for number in range(len(lines) - 1, -1, -1):
        line = lines[number]
        if number < len(lines) - 1:
            place -= 1
            while data[place] != 0x0A:
                place -= 1
            if not line[_ALIVE]:
                labels[place - start] = np.uint8(-line[_WORDS])
            elif is_last:
                labels[place - start] = WHITE_SPACE
        is_last = is_last and not line[_ALIVE]


@inner
def _parts_words(byte):
    """What DCLM's word counter (fastText's) splits at: ASCII white space and NUL."""
    return byte == 0x20 or 0x09 <= byte <= 0x0D or byte == 0


@inner
def _is_counter(data, at, end, table):
    r"""``^\W*\d(?:,|\.|\d)*[kmb]?\s+(?:likes|shares|...)\W*$`` over the lower-cased line."""
    while at < end and not flags_at(data, at, table) & WORD:
        at += char_size(data[at])
    if at == end or not flags_at(data, at, table) & DECIMAL:
        return False
    while at < end and (data[at] == 0x2C or data[at] == 0x2E or flags_at(data, at, table) & DECIMAL):
        at += char_size(data[at])
    if at < end and (_lower(data, at) == 0x6B or _lower(data, at) == 0x6D or _lower(data, at) == 0x62):
        at += char_size(data[at])
    behind = at
    while at < end and flags_at(data, at, table) & SPACE:
        at += char_size(data[at])
    if at == behind:
        return False
    word = at
    while at < end and flags_at(data, at, table) & WORD:
        at += char_size(data[at])
    counted = _is_counted(data, word, at)
    while at < end and not flags_at(data, at, table) & WORD:
        at += char_size(data[at])
    return at == end and counted


@inner
def _lower(data, at):
    """str.lower() where it is ASCII: the Kelvin sign is the one other character with such a lower case."""
    byte = data[at]
    if byte < 0x80:
        return byte | 0x20 if 0x41 <= byte <= 0x5A else byte
    return np.uint8(0x6B) if byte == 0xE2 and code_at(data, at) == 0x212A else byte


@inner
def _is_counted(data, start, end):
    """Whether the word is one of those that are counted."""
    for first in range(1, _COUNTED.size):
        if _COUNTED[first - 1] != 0x20:
            continue
        at, place = start, first
        while at < end and _lower(data, at) == _COUNTED[place] and _COUNTED[place] != 0x20:
            at += char_size(data[at])
            place += 1
        if at == end and at > start and _COUNTED[place] == 0x20:
            return True
    return False
