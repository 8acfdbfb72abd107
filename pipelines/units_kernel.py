r"""Where units end, over UTF-8 bytes: one match after another of the expression that a tokenizer splits by.

That of GPT-2 (Radford et al. 2019), that of GPT-4, which Llama 3 and, with numbers of one digit, Qwen have taken over,
or that of GPT-4o and Llama 4; ``pipelines/unit_rules.py`` has them. Or words with the spaces before them.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np

from pipelines.filters.characters import char_size, code_at, inner

OTHER, LETTER, NUMBER, WHITE = 0, 1, 2, 3  # classes of characters
SMALL, UPPER, EITHER, MARK = 1, 4, 5, 6  # where case matters: letters, those without case, marks
GPT2, CL100K, O200K, SPACES = 0, 4, 5, 6  # rules; GPT-4's is the number of digits that it takes together

_APOSTROPHE, _SPACE, _RETURN, _FEED, _SLASH = ord("'"), ord(" "), ord("\r"), ord("\n"), ord("/")
_D, _E, _L, _M, _R, _S, _T, _V = (ord(letter) for letter in "delmrstv")


@inner
def class_at(data, at, classes):
    """The class of the character at ``at``."""
    byte = data[at]
    if byte < 0x80:
        return np.int64(classes[byte])
    code = code_at(data, at)
    return np.int64(classes[code]) if code < classes.size else np.int64(OTHER)


@inner
def run_end(data, at, end, classes, kind):
    """Where the characters of this class, beginning at ``at``, end."""
    while at < end and class_at(data, at, classes) == kind:
        at += char_size(data[at])
    return at


@inner
def contraction(data, at, end):
    """Bytes of ``'s``, ``'re`` and the like that begin with the apostrophe at ``at``; 0 if there is none."""
    if at + 1 >= end:
        return 0
    first = data[at + 1]
    if first in (_S, _T, _M, _D):
        return 2
    if at + 2 < end:
        second = data[at + 2]
        if second == _E and first in (_R, _V):
            return 3
        if second == _L and first == _L:
            return 3
    return 0


@inner
def unit_end(data, start, end, classes):
    """Where the unit that begins at ``start`` ends, in a text that ends at ``end``, by the rule of GPT-2."""
    at = start
    if data[at] == _APOSTROPHE:
        size = contraction(data, at, end)
        if size > 0:
            return at + size
    elif data[at] == _SPACE and at + 1 < end:
        at += 1
    kind = class_at(data, at, classes)
    if kind != WHITE:
        return run_end(data, at, end, classes, kind)
    return white_end(data, start, run_end(data, start, end, classes, WHITE), end)


@inner
def white_end(data, start, stop, end):
    """Where a unit of white space ends that stands in a run from ``start`` to ``stop``."""
    if stop == end:
        return stop
    last = stop - 1  # the last character of white space is left to what follows, where it is not the only one
    while data[last] & 0xC0 == 0x80:
        last -= 1
    return last if last > start else stop


@inner
def any_contraction(data, at, end):
    """As :func:`contraction`, in either case; the long s (U+017F) is an s, as the library has it."""
    if at + 1 >= end:
        return 0
    if data[at + 1] == 0xC5:
        return 3 if data[at + 2] == 0xBF else 0
    first = data[at + 1] | 0x20
    if first in (_S, _T, _M, _D):
        return 2
    if at + 2 < end:
        second = data[at + 2] | 0x20
        if second == _E and first in (_R, _V):
            return 3
        if second == _L and first == _L:
            return 3
    return 0


@inner
def is_break(byte):
    return byte in (_RETURN, _FEED)


@inner
def breaks_end(data, at, end):
    """Where the line breaks that begin at ``at`` end."""
    while at < end and is_break(data[at]):
        at += 1
    return at


@inner
def digits_end(data, at, end, classes, most):
    """Where a unit of at most so many digits ends."""
    count = 0
    while at < end and count < most and class_at(data, at, classes) == NUMBER:
        at += char_size(data[at])
        count += 1
    return at


@inner
def unit_end_gpt4(data, start, end, classes, digits, ends_whole):
    """As :func:`unit_end`, by the rule of GPT-4; white space at the end is one unit (``ends_whole``) as tiktoken has it."""
    if data[start] == _APOSTROPHE:
        size = any_contraction(data, start, end)
        if size > 0:
            return start + size
    kind, after = class_at(data, start, classes), start + char_size(data[start])
    if kind == NUMBER:
        return digits_end(data, start, end, classes, digits)
    if kind == LETTER:
        return run_end(data, start, end, classes, LETTER)
    following = class_at(data, after, classes) if after < end else np.int64(WHITE)
    if following == LETTER and not is_break(data[start]):
        return run_end(data, after, end, classes, LETTER)
    if kind == OTHER or (data[start] == _SPACE and following == OTHER):
        return breaks_end(data, run_end(data, after, end, classes, OTHER), end)
    stop = run_end(data, start, end, classes, WHITE)
    if ends_whole and stop == end:
        return end
    return breaking_end(data, start, stop, end)


@inner
def breaking_end(data, start, stop, end):
    """Where a unit of white space ends that stands in a run from ``start`` to ``stop``, and may break lines."""
    for last in range(stop - 1, start - 1, -1):
        if is_break(data[last]):  # what stands before the last line break goes with it
            return last + 1
    return white_end(data, start, stop, end)


@inner
def case_class_at(data, at, classes):
    """The class of a character where case matters; variation selectors lie beyond the table."""
    if data[at] < 0xF0:
        return class_at(data, at, classes)
    code = code_at(data, at)
    if 0xE0100 <= code <= 0xE01EF:
        return np.int64(MARK)
    return np.int64(classes[code]) if code < classes.size else np.int64(OTHER)


@inner
def word_end(data, start, end, classes):
    """Where a word ends: large letters, then small ones, of which there must be one; ``start`` if there is none.

    The expression takes as many large letters as it can, those without case and marks among them, then small ones. If
    none follow, it gives back the large ones behind the last character that may be a small one as well.
    """
    at, last = start, start
    while at < end:
        kind = case_class_at(data, at, classes)
        if kind not in (UPPER, EITHER, MARK):
            break
        at += char_size(data[at])
        if kind != UPPER:
            last = at
    if at == end or case_class_at(data, at, classes) != SMALL:
        return last
    while at < end and case_class_at(data, at, classes) in (SMALL, EITHER, MARK):
        at += char_size(data[at])
    return at


@inner
def upper_end(data, start, end, classes):
    """Where large letters end."""
    at = start
    while at < end and case_class_at(data, at, classes) in (UPPER, EITHER, MARK):
        at += char_size(data[at])
    return at


@inner
def unit_end_o200k(data, start, end, classes):
    """As :func:`unit_end`, by the rule of GPT-4o."""
    kind, after = case_class_at(data, start, classes), start + char_size(data[start])
    is_before = kind in (OTHER, MARK) or (kind == WHITE and not is_break(data[start]))  # may stand before a word
    for find_large in range(2):
        for word in (after, start):
            if word == after and not is_before:
                continue
            if word == start and kind in (OTHER, WHITE, NUMBER):
                continue
            stop = upper_end(data, word, end, classes) if find_large else word_end(data, word, end, classes)
            if stop > word:
                if stop < end and data[stop] == _APOSTROPHE:
                    stop += any_contraction(data, stop, end)
                return stop
    if kind == NUMBER:
        return digits_end(data, start, end, classes, 3)
    following = case_class_at(data, after, classes) if after < end else np.int64(WHITE)
    if kind in (OTHER, MARK) or (data[start] == _SPACE and following in (OTHER, MARK)):
        at = after
        while at < end and case_class_at(data, at, classes) in (OTHER, MARK):
            at += char_size(data[at])
        while at < end and (is_break(data[at]) or data[at] == _SLASH):
            at += 1
        return at
    return breaking_end(data, start, run_end(data, start, end, classes, WHITE), end)


@inner
def is_space(data, at):
    """A space, or U+2581, as which sentencepiece writes it."""
    return data[at] == _SPACE or (data[at] == 0xE2 and data[at + 1] == 0x96 and data[at + 2] == 0x81)


@inner
def spaced_end(data, start, end):
    """Where some spaces and what follows them end."""
    at = start
    while at < end and is_space(data, at):
        at += char_size(data[at])
    while at < end and not is_space(data, at):
        at += char_size(data[at])
    return at


@inner
def end_by_rule(data, start, end, classes, rule):
    """Where the unit that begins at ``start`` ends."""
    if rule == GPT2:
        return unit_end(data, start, end, classes)
    if rule == CL100K:
        return unit_end_gpt4(data, start, end, classes, 3, True)
    if rule == O200K:
        return unit_end_o200k(data, start, end, classes)
    if rule == SPACES:
        return spaced_end(data, start, end)
    return unit_end_gpt4(data, start, end, classes, rule, False)


@inner
def is_digit_at(data, at, is_digit):
    code = code_at(data, at)
    return code < is_digit.size and is_digit[code]


@inner
def digits_bound(data, start, end, digits, is_digit):
    """Where the digits that begin at ``start`` end, or, if none do, where the next begin."""
    at = start
    if is_digit_at(data, at, is_digit):
        while at < end and is_digit_at(data, at, is_digit):
            at += char_size(data[at])
            if digits == 2:
                break
        return at
    while at < end and not is_digit_at(data, at, is_digit):
        at += char_size(data[at])
    return at
