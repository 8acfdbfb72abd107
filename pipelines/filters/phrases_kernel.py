r"""The three phrases that RefinedWeb cuts out of short lines, as DCLM's patterns find them, whatever their case:
``\s?items in cart`` anywhere, ``\s?Read more...$`` (its dots are any characters) and ``^Sign-in\s?``.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np

from pipelines.filters.characters import SPACE, char_size, code_at, flags_at, inner
from pipelines.filters.edit_kernel import KEPT

ITEMS, READ_MORE, LAST = 0, 1, 2  # the last one is Sign-in
_ITEMS = np.frombuffer(b"items in cart", np.uint8)
_READ = np.frombuffer(b"read more", np.uint8)
_SIGN = np.frombuffer(b"sign-in", np.uint8)


@inner
def _folded(data, at):
    """The ASCII small letter that re.IGNORECASE takes the character for, or what it begins with."""
    byte = data[at]
    if byte < 0x80:
        return byte | 0x20 if 0x41 <= byte <= 0x5A else byte
    code = code_at(data, at) if byte in (0xC4, 0xC5) else 0
    return np.uint8(0x69) if code in (0x130, 0x131) else np.uint8(0x73) if code == 0x17F else byte


@inner
def _match(data, at, end, phrase):
    """Behind the phrase that begins at ``at``, or -1."""
    for letter in phrase:
        if at >= end or _folded(data, at) != letter:
            return -1
        at += char_size(data[at])
    return at


@inner
def _before(data, at):
    """Where the character that ends at ``at`` begins."""
    at -= 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@inner
def _read_more(data, start, end):
    """Where a final "read more" and three characters begin, or -1."""
    at = end
    for _ in range(3):
        if at <= start:
            return -1
        at = _before(data, at)
    at -= _READ.size
    return at if at >= start and _match(data, at, end, _READ) >= 0 else -1


@inner
def has_phrase(data, start, end):
    """Whether the line has one of the phrases in its place."""
    if _match(data, start, end, _SIGN) >= 0 or _read_more(data, start, end) >= 0:
        return True
    for at in range(start, end - _ITEMS.size + 1):
        if _folded(data, at) == 0x69 and _match(data, at, end, _ITEMS) >= 0:
            return True
    return False


@inner
def cut(data, start, end, doc_start, labels, table, phrase, rule, text, origin):
    """Label one of the phrases in what is kept of a line; the words and characters that are left.

    ``text`` and ``origin`` are scratch space as long as the line.
    """
    size = 0
    for at in range(start, end):
        if labels[at - doc_start] == KEPT:
            text[size], origin[size] = data[at], at - doc_start
            size += 1
    at = 0
    while at < size:
        first, behind = _found(text, at, size, table, phrase)
        if first < 0:
            break
        for place in range(first, behind):
            labels[origin[place]] = rule
        at = behind if phrase == ITEMS else size
    words, chars, inside, at = 0, 0, False, 0
    while at < size:
        if labels[origin[at]] == KEPT:
            visible = flags_at(text, at, table) & SPACE == 0
            words += visible and not inside
            inside = visible
            chars += 1
        at += char_size(text[at])
    return words, chars


@inner
def _found(text, at, size, table, phrase):
    """The first match from ``at`` on with the one white space that belongs to it, or -1."""
    if phrase == LAST:
        behind = _match(text, at, size, _SIGN)
        if behind >= 0 and behind < size and flags_at(text, behind, table) & SPACE:
            behind += char_size(text[behind])
        return (at if behind >= 0 else -1), behind
    first, behind = -1, size
    if phrase == READ_MORE:
        first = _read_more(text, at, size)
    else:
        for place in range(at, size):
            if _folded(text, place) == 0x69 and _match(text, place, size, _ITEMS) >= 0:
                first, behind = place, _match(text, place, size, _ITEMS)
                break
    if first > at and flags_at(text, _before(text, first), table) & SPACE:
        first = _before(text, first)
    return first, behind
