"""The RefinedWeb line rules in DCLM's order: each sees what the ones before it left, stripped at both ends.

Most documents break none of them, which one walk over the bytes finds out; the others go through the stages.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.filters.characters import (
    DECIMAL,
    DIGIT,
    SPACE,
    UPPER,
    WORD,
    bytes_at,
    char_size,
    code_at,
    flags_at,
    inner,
    next_byte,
)
from pipelines.filters.edit_kernel import KEPT, WHITE_SPACE, copy, emit, num_runs, room_for
from pipelines.filters.phrases_kernel import ITEMS, LAST, cut, has_phrase

UPPER_CASE, DIGITS, COUNTER, FEW_WORDS, PHRASE = np.uint8(4), np.uint8(5), np.uint8(6), np.uint8(7), np.uint8(8)

# columns of the table of lines
_START, _END, _CHARS, _UPPER, _DIGITS, _WORDS, _ALIVE = range(7)
_COUNTED = np.frombuffer(
    b" likes shares comments retweets reposts quotes bookmarks upvotes downvotes downloads views followers ", np.uint8
)


@njit(cache=True, nogil=True)
def edited(data, offsets, table, max_upper, max_digits, counters, min_words, phrase_words):
    """Edited bytes and where each text ends; cuts [n, 4]; the share of words that each document lost."""
    num_docs = offsets.size - 1
    out = np.empty(offsets[num_docs] - offsets[0], np.uint8)
    ends, removed = np.empty(num_docs, np.int64), np.zeros(num_docs, np.float64)
    cuts, lines = np.empty((64, 4), np.int64), np.empty((256, 7), np.int64)
    labels, text, origin = np.zeros(1024, np.uint8), np.empty(1024, np.uint8), np.empty(1024, np.int64)
    filled = num_cuts = 0
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        lines, num_lines = _measured(data, start, end, table, lines, max(min_words, phrase_words) + 1)
        if not _is_touched(data, start, end, table, lines[:num_lines], max_upper, max_digits, counters, min_words,
                           phrase_words):  # fmt: skip
            filled = copy(data, start, end, out, filled)
            removed[doc] = 0.0 if _has_word(data, start, end, table) else 1.0
            ends[doc] = filled
            continue
        if labels.size < end - start:
            labels = np.zeros(2 * (end - start), np.uint8)
            text, origin = np.empty(labels.size, np.uint8), np.empty(labels.size, np.int64)
        else:
            labels[: end - start] = KEPT
        before = _num_words(data, start, end, table, labels)
        _stages(data, start, end, table, lines[:num_lines], labels, max_upper, max_digits, counters, min_words,
                phrase_words, text, origin)  # fmt: skip
        after = _num_words(data, start, end, table, labels)
        removed[doc] = (before - after) / before if before else 1.0
        cuts = room_for(cuts, num_cuts, num_runs(labels, end - start))
        filled, num_cuts = emit(data, start, end, labels, doc, out, filled, cuts, num_cuts)
        ends[doc] = filled
    return out[:filled], ends, cuts[:num_cuts], removed


@njit(cache=True, nogil=True)
def _measured(data, start, end, table, lines, most_words):
    """Every line between line feeds: its bytes, characters, upper-case ones, digits, words between white space,
    these counted up to one more than matters.
    """
    at, count = start, 0
    while True:
        line = at
        at = next_byte(data, at, end, 0x0A)
        chars = upper = digits = wide = 0
        for place in range(line, at):
            byte = data[place]
            chars += byte & 0xC0 != 0x80
            wide += byte >= 0x80
            upper += (byte >= 0x41) & (byte <= 0x5A)
            digits += (byte >= 0x30) & (byte <= 0x39)
        if wide:
            upper, digits = _wide_counts(data, line, at, table)
        words = _split_count(data, line, at, table, most_words)
        if count == len(lines):
            longer = np.empty((2 * count, 7), np.int64)
            longer[:count] = lines
            lines = longer
        row = lines[count]
        row[0], row[1], row[2], row[3], row[4], row[5], row[6] = line, at, chars, upper, digits, words, 1
        count += 1
        if at >= end:
            return lines, count
        at += 1


@inner
def _wide_counts(data, at, end, table):
    """Upper-case characters and digits of any script."""
    upper = digits = 0
    while at < end:
        kind = flags_at(data, at, table)
        at += char_size(data[at])
        upper += kind & UPPER != 0
        digits += kind & DIGIT != 0
    return upper, digits


@inner
def _split_count(data, at, end, table, most):
    """len(line.split()), or ``most`` if there are more."""
    words, inside = 0, False
    while at < end and words < most:
        byte = data[at]
        visible = (table[byte] if byte < 0x80 else flags_at(data, at, table)) & SPACE == 0
        at += 1 if byte < 0x80 else char_size(byte)
        words += visible and not inside
        inside = visible
    return words


@inner
def _is_touched(data, start, end, table, lines, max_upper, max_digits, counters, min_words, phrase_words):
    """Whether any rule, or stripping, would change the document."""
    if start == end:
        return False
    last = end - 1
    while data[last] & 0xC0 == 0x80:
        last -= 1
    if flags_at(data, start, table) & SPACE or flags_at(data, last, table) & SPACE:
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
        if line[_WORDS] <= phrase_words and has_phrase(data, line[_START], line[_END]):
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
            _drop(line, start, labels, DIGITS)
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
def _is_word_start(data, at, table):
    """str.isalnum()"""
    return data[at] != 0x5F and flags_at(data, at, table) & WORD != 0


@inner
def _parts_words(byte):
    """What DCLM's word counter (fastText's) splits at: ASCII white space and NUL."""
    return byte == 0x20 or 0x09 <= byte <= 0x0D or byte == 0


@inner
def _num_words(data, start, end, table, labels):
    """Words of what is kept, without a branch that is hard to foresee."""
    count, at, after_space = 0, start, True
    while at < end:
        stop = at
        while stop < end and labels[stop - start] == KEPT:
            stop += 8 if bytes_at(labels, stop - start, 8) == 0 else 1
        for place in range(at, min(stop, end)):
            byte = data[place]
            small = byte | 0x20
            is_alnum = ((small >= 0x61) & (small <= 0x7A)) | ((byte >= 0x30) & (byte <= 0x39))
            if byte >= 0x80 and after_space:
                is_alnum = _is_word_start(data, place, table)
            count += after_space & is_alnum
            after_space = (byte == 0x20) | ((byte >= 0x09) & (byte <= 0x0D)) | (byte == 0)
        at = stop
        while at < end and labels[at - start] != KEPT:
            at += 1
    return count


@inner
def _has_word(data, start, end, table):
    inside = False
    for at in range(start, end):
        if _parts_words(data[at]):
            inside = False
        else:
            if not inside and _is_word_start(data, at, table):
                return True
            inside = True
    return False


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
