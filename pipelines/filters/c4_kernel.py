"""The C4 line rules as one walk over the bytes of each document.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import functools

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.characters import BREAK, DECIMAL, SPACE, char_size, code_at, flags_at, inner
from pipelines.filters.edit_kernel import (
    BREAK_REST,
    BREAK_START,
    KEPT,
    WHITE_SPACE,
    copy,
    emit,
    num_runs,
    room_for,
    strip,
)

LONG_WORD, UNTERMINATED, FEW_WORDS, JAVASCRIPT, POLICY, CITATION = range(4, 10)

_SPACE, _BREAK, _ANCHOR, _WIDE = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(8)
_HAS_LOREM, _HAS_JAVASCRIPT, _HAS_POLICY, _HAS_CURLY, _HAS_BRACKET = 1, 2, 4, 8, 16
# each phrase is looked for at its rarest letter: that one, what stands before it, what stands behind it
_ANCHORS = b"jJvVfFpPkK{["


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


_AVASCRIPT, _PRI, _ACY_POLICY = _bytes("avascript"), _bytes("pri"), _bytes("acy policy")
_TERMS_O, _USE, _LOREM_I, _SUM = _bytes("terms o"), _bytes(" use"), _bytes("lorem i"), _bytes("sum")
_IE_POLICY, _COO, _IES = _bytes("ie policy"), _bytes("coo"), _bytes("ies")
_USE_COO, _USES_COO, _USE_OF_COO = _bytes("use coo"), _bytes("uses coo"), _bytes("use of coo")
_EDIT, _NEEDED = _bytes("edit]"), _bytes("citation needed]")


@functools.cache
def classes() -> NDArray[np.uint8]:
    """By byte: what the walk has to look at."""
    table = np.zeros(256, np.uint8)
    table[[0x09, 0x1F, 0x20]] = _SPACE
    table[[0x0A, 0x0B, 0x0C, 0x0D, 0x1C, 0x1D, 0x1E]] = _SPACE | _BREAK
    table[list(_ANCHORS)] = _ANCHOR
    table[0x80:] = _WIDE
    table.flags.writeable = False
    return table


@njit(cache=True, nogil=True)
def edited(data, offsets, table, kinds, max_chars, min_words, citations, terminal, javascript, policy):
    """Edited bytes and where each text ends; cuts [n, 4]; kept lines, where each ends, the first of each document;
    counts [3, docs]: lines with lorem ipsum, with a curly bracket, and the latter before any of the former.
    """
    num_docs = offsets.size - 1
    total, breaks = offsets[num_docs] - offsets[0], num_docs
    for at in range(offsets[0], offsets[num_docs]):  # also counts the last bytes of U+0085, U+2028 and U+2029
        breaks += (data[at] < 0x20) | (data[at] == 0x85) | (data[at] == 0xA8) | (data[at] == 0xA9)
    out, lines = np.empty(total, np.uint8), np.empty(total, np.uint8)
    ends, first_line = np.empty(num_docs, np.int64), np.empty(num_docs + 1, np.int64)
    counted, line_ends = np.zeros((3, num_docs), np.int64), np.empty(breaks, np.int64)
    cuts, labels = np.empty((total // 64 + 16, 4), np.int64), np.zeros(1024, np.uint8)
    filled = num_cuts = num_lines = line_bytes = 0
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        first_line[doc] = num_lines
        if labels.size < end - start:
            labels = np.zeros(2 * (end - start), np.uint8)
        else:
            labels[: end - start] = KEPT
        num_lines, line_bytes = _walk(
            data, start, end, table, kinds, max_chars, min_words, citations, terminal, javascript, policy,
            labels, lines, line_bytes, line_ends, num_lines, counted, doc,
        )  # fmt: skip
        strip(data, start, end, labels, table)
        cuts = room_for(cuts, num_cuts, num_runs(labels, end - start))
        filled, num_cuts = emit(data, start, end, labels, doc, out, filled, cuts, num_cuts)
        ends[doc] = filled
    first_line[num_docs] = num_lines
    return out[:filled], ends, cuts[:num_cuts], lines[:line_bytes], line_ends[:num_lines], first_line, counted


@inner
def _walk(
    data, start, end, table, kinds, max_chars, min_words, citations, terminal, javascript, policy,
    labels, lines, line_bytes, line_ends, num_lines, counted, doc,
):  # fmt: skip
    """Judge every line of a document: label what goes, copy what stays to ``lines``; how many lines and bytes."""
    at = start
    while at < end:
        line = at
        at, visible, visible_end, next_line, words, is_long, found = _line(data, line, end, table, kinds, max_chars)
        kept_from = line_bytes
        if citations and found & _HAS_BRACKET and not is_long:
            line_bytes = _without_citations(data, start, visible, visible_end, table, labels, lines, line_bytes)
            if line_bytes - kept_from != visible_end - visible:
                found = _phrases(lines, kept_from, line_bytes)
        else:
            line_bytes = copy(data, visible, visible_end, lines, line_bytes)
        verdict = 0
        if is_long:
            verdict = LONG_WORD
        elif terminal and not _is_terminated(lines, kept_from, line_bytes):
            verdict = UNTERMINATED
        elif words < min_words:
            verdict = FEW_WORDS
        else:
            counted[0, doc] += found & _HAS_LOREM != 0
            if javascript and found & _HAS_JAVASCRIPT:
                verdict = JAVASCRIPT
            else:
                counted[1, doc] += found & _HAS_CURLY != 0
                counted[2, doc] += found & _HAS_CURLY != 0 and counted[0, doc] == 0
                if policy and found & _HAS_POLICY:
                    verdict = POLICY
        if verdict:
            line_bytes = kept_from
            _label(labels, line - start, next_line - start, WHITE_SPACE if visible == visible_end else verdict)
        else:
            _label(labels, line - start, visible - start, WHITE_SPACE)
            _label(labels, visible_end - start, at - start, WHITE_SPACE)
            if next_line - at > 1 or (next_line > at and data[at] != 0x0A):
                labels[at - start] = BREAK_START
                _label(labels, at + 1 - start, next_line - start, BREAK_REST)
            line_ends[num_lines] = line_bytes
            num_lines += 1
        at = next_line
    return num_lines, line_bytes


@inner
def _label(labels, start, end, rule):
    for at in range(start, end):
        labels[at] = rule


@inner
def _line(data, line, end, table, kinds, max_chars):
    """Where the line ends, its visible part, where the next one begins, words, whether one is too long, phrases."""
    at, visible, visible_end, word, words, found = line, line, line, line, 0, 0
    inside, is_long = False, False
    next_line = -1
    while at < end:
        kind = kinds[data[at]]
        size = 1
        if kind:
            if kind & _WIDE:
                size = char_size(data[at])
                full = flags_at(data, at, table)
                kind = (_SPACE if full & SPACE else np.uint8(0)) | (_BREAK if full & BREAK else np.uint8(0))
                if data[at] == 0xE2 and code_at(data, at) == 0x212A:  # the Kelvin sign, whose lower case is k
                    found |= _phrase(data, at, line, end, 3)
            if kind & _SPACE:
                if inside:
                    is_long |= at - word > max_chars and _chars(data, word, at) > max_chars
                    inside = False
                if kind & _BREAK:
                    next_line = at + size
                    if data[at] == 0x0D and at + 1 < end and data[at + 1] == 0x0A:
                        next_line += 1
                    break
                at += size
                continue
            if kind & _ANCHOR:
                found |= _phrase(data, at, line, end, 1)
        if not inside:
            inside, word = True, at
            if words == 0:
                visible = at
            words += 1
        at += size
        visible_end = at
    if inside:
        is_long |= at - word > max_chars and _chars(data, word, at) > max_chars
    return at, visible, visible_end, max(next_line, at), words, is_long, found


@inner
def _chars(data, start, end):
    chars = 0
    for at in range(start, end):
        chars += data[at] & 0xC0 != 0x80
    return chars


@inner
def _follows(data, at, end, phrase):
    """Whether the phrase begins at ``at``, whatever its case; phrases have letters, spaces and brackets only."""
    if at + phrase.size > end:
        return False
    for place in range(phrase.size):
        byte = data[at + place]
        if (byte | 0x20 if 0x41 <= byte <= 0x5A else byte) != phrase[place]:
            return False
    return True


@inner
def _precedes(data, at, start, phrase):
    return at - phrase.size >= start and _follows(data, at - phrase.size, at, phrase)


@inner
def _phrase(data, at, start, end, size):
    """What the letter at ``at`` is the anchor of, as flags."""
    byte = data[at]
    if byte == 0x7B:
        return _HAS_CURLY
    if byte == 0x5B:
        return _HAS_BRACKET
    lower, behind = byte | 0x20, at + size
    if lower == 0x6A:  # j
        return _HAS_JAVASCRIPT if _follows(data, behind, end, _AVASCRIPT) else 0
    if lower == 0x76:  # v
        return _HAS_POLICY if _precedes(data, at, start, _PRI) and _follows(data, behind, end, _ACY_POLICY) else 0
    if lower == 0x66:  # f
        return _HAS_POLICY if _follows(data, behind, end, _USE) and _precedes(data, at, start, _TERMS_O) else 0
    if lower == 0x70:  # p
        return _HAS_LOREM if _follows(data, behind, end, _SUM) and _precedes(data, at, start, _LOREM_I) else 0
    if (lower != 0x6B and size == 1) or not _precedes(data, at, start, _COO):
        return 0
    if _follows(data, behind, end, _IE_POLICY):
        return _HAS_POLICY
    if not _follows(data, behind, end, _IES):
        return 0
    is_used = _precedes(data, at, start, _USE_COO) or _precedes(data, at, start, _USES_COO)
    return _HAS_POLICY if is_used or _precedes(data, at, start, _USE_OF_COO) else 0


@inner
def _phrases(data, start, end):
    """The flags of a line whose citations are gone."""
    found = 0
    for at in range(start, end):
        if data[at] < 0x80:
            found |= _phrase(data, at, start, end, 1)
        elif data[at] == 0xE2 and code_at(data, at) == 0x212A:
            found |= _phrase(data, at, start, end, 3)
    return found


@inner
def _without_citations(data, doc_start, start, end, table, labels, lines, filled):
    r"""Copy a line but for what matches ``\[\d*]|\[edit]|\[citation needed]``."""
    at = start
    while at < end:
        stop = _citation_end(data, at, end, table) if data[at] == 0x5B else at
        if stop > at:
            labels[at - doc_start : stop - doc_start] = CITATION
            at = stop
        else:
            lines[filled] = data[at]
            filled += 1
            at += 1
    return filled


@inner
def _citation_end(data, at, end, table):
    """Behind the citation that begins at ``at``, or ``at`` if none does."""
    stop = at + 1
    while stop < end and flags_at(data, stop, table) & DECIMAL:
        stop += char_size(data[stop])
    if stop < end and data[stop] == 0x5D:
        return stop + 1
    for phrase in (_EDIT, _NEEDED):
        if at + 1 + phrase.size <= end and _equal(data, at + 1, phrase):
            return at + 1 + phrase.size
    return at


@inner
def _equal(data, at, phrase):
    for place in range(phrase.size):
        if data[at + place] != phrase[place]:
            return False
    return True


@inner
def _is_terminated(data, start, end):
    if start == end:
        return False
    last = data[end - 1]
    if last == 0x2E:
        return not (end - start >= 3 and data[end - 2] == 0x2E and data[end - 3] == 0x2E)
    return last == 0x3F or last == 0x21 or last == 0x22 or last == 0x27
