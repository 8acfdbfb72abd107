"""The C4 line rules as one walk over the bytes of each document.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.bitmap_kernel import (
    ALL,
    BREAKS,
    ONE,
    SPACES,
    between,
    block_start,
    copy,
    count,
    last_clear,
    letter,
    next_clear,
    next_set,
    num_pieces,
)
from pipelines.filters.characters import DECIMAL, char_size, code_at, flags_at, inner
from pipelines.filters.edit_kernel import BREAK_START, WHITE_SPACE, add_span, emit, room_for, visible_bounds

LONG_WORD, UNTERMINATED, FEW_WORDS, JAVASCRIPT, POLICY, CITATION = (np.int64(number) for number in range(4, 10))
_ANCHORS = np.int64(0)  # the one column of their bitmap

_HAS_LOREM, _HAS_JAVASCRIPT, _HAS_POLICY, _HAS_CURLY, _HAS_BRACKET = 1, 2, 4, 8, 16


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), np.uint8)


_AVASCRIPT, _PRI, _ACY_POLICY = _bytes("avascript"), _bytes("pri"), _bytes("acy policy")
_TERMS_O, _USE, _LOREM_I, _SUM = _bytes("terms o"), _bytes(" use"), _bytes("lorem i"), _bytes("sum")
_IE_POLICY, _COO, _IES = _bytes("ie policy"), _bytes("coo"), _bytes("ies")
_USE_COO, _USES_COO, _USE_OF_COO = _bytes("use coo"), _bytes("uses coo"), _bytes("use of coo")
_EDIT, _NEEDED = _bytes("edit]"), _bytes("citation needed]")


@njit(cache=True, nogil=True)
def edited(data, offsets, bits, table, max_chars, min_words, citations, terminal, javascript, policy, out, line):
    """Edited bytes and where each text ends; cuts [n, 4]; where each kept line begins and ends there: [2, lines]; the
    first of each document; counts [3, docs]: lines with lorem ipsum, with a curly bracket, and the latter before any
    of the former. ``line`` is room for the longest line.
    """
    num_docs, total = offsets.size - 1, offsets[-1]
    anchors = np.empty((len(bits), 1), np.uint64)
    _fill_anchors(data, anchors)
    ends, first_line = np.empty(num_docs, np.int64), np.empty(num_docs + 1, np.int64)
    counted, lines = (
        np.zeros((3, num_docs), np.int64),
        np.empty((2, count(bits, BREAKS, 0, total) + num_docs), np.int64),
    )
    cuts, spans = np.empty((1024, 4), np.int64), np.empty((1024, 3), np.int64)
    filled = num_cuts = num_lines = np.int64(0)
    for doc in range(num_docs):
        start, end = offsets[doc], offsets[doc + 1]
        first_line[doc] = num_lines
        most = 4 * count(bits, BREAKS, start, end) + 4 + count(anchors, _ANCHORS, start, end)
        spans = room_for(spans, np.int64(0), most)
        num_lines, num_spans = _walk(
            data, start, end, bits, anchors, table, max_chars, min_words, citations, terminal, javascript, policy,
            spans, line, lines[1], num_lines, counted[:, doc],
        )  # fmt: skip
        cuts = room_for(cuts, num_cuts, num_spans + np.int64(2))
        first, last = visible_bounds(bits, start, end, spans[:num_spans])
        begin = filled
        filled, num_cuts = emit(
            data, bits, start, end, spans[:num_spans], first, last, doc, out, filled, cuts, num_cuts
        )
        ends[doc] = filled
        _place(lines, first_line[doc], num_lines, begin, filled)
    first_line[num_docs] = num_lines
    return out[:filled], ends, cuts[:num_cuts], lines[:, :num_lines], first_line, counted


@inner
def _place(lines, first, behind, begin, end):
    """From the lengths of a document's lines, where they stand in its text, whose edges are stripped of empty ones."""
    at = begin
    for line in range(first, behind):
        size = lines[1, line]
        lines[0, line], lines[1, line] = min(at, end), min(at + size, end)
        if size or at > begin:
            at += size + 1


@inner
def _fill_anchors(data, anchors):
    """By bit: each phrase is looked for at one rare letter, if its nearest neighbours are the right ones.

    A neighbour in another block is taken on trust.
    """
    last = ~(ALL >> ONE)
    for block in range(len(anchors)):
        at, shift = block_start(data, block)
        a, i, o = letter(data, at, 0x61), letter(data, at, 0x69), letter(data, at, 0x6F)
        e, s, u = letter(data, at, 0x65), letter(data, at, 0x73), letter(data, at, 0x75)
        spaces = between(data, at, 0x20, 1)
        before_a, before_i, before_s = a >> ONE | last, i >> ONE | last, s >> ONE | last
        before_u, before_e = (u >> ONE | last) >> ONE | last, (e >> ONE | last) >> ONE | last
        behind_i, behind_o = i << ONE | ONE, o << ONE | ONE
        found = letter(data, at, 0x6A) & before_a  # javascript
        found |= letter(data, at, 0x76) & before_a & behind_i  # privacy
        found |= letter(data, at, 0x66) & behind_o & (spaces >> ONE | last) & before_u  # terms of use
        found |= letter(data, at, 0x70) & behind_i & before_s  # lorem ipsum
        found |= letter(data, at, 0x6B) & behind_o & before_i & before_e  # cookie
        found |= between(data, at, 0x5B, 1) | between(data, at, 0x7B, 1)
        kelvin = (between(data, at, 0x84, 1) >> ONE | last) & between(data, at, 0xE2, 1)
        anchors[block, 0] = (found | kelvin) >> shift


@inner
def _walk(
    data, start, end, bits, anchors, table, max_chars, min_words, citations, terminal, javascript, policy,
    spans, edited_line, sizes, num_lines, counted,
):  # fmt: skip
    """Judge every line of a document: spans of what goes, and the size of each line that stays; how many of both."""
    num_spans, next_line = np.int64(0), start
    while next_line < end:
        line = next_line
        at = next_set(bits, BREAKS, line, end)
        next_line = _next_line(data, at, end)
        visible = next_clear(bits, SPACES, line, at)
        visible_end = last_clear(bits, SPACES, visible, at)
        is_long = visible_end - visible > max_chars and _has_long_word(data, bits, visible, visible_end, max_chars)
        found = _found(data, line, at, anchors)
        spans_before = num_spans
        last_end = spans[num_spans - 1, 1] if num_spans else 0
        num_spans = add_span(spans, num_spans, line, visible, WHITE_SPACE)
        size = visible_end - visible
        is_terminated = not terminal or _is_terminated(data, visible, visible_end)
        if citations and found & _HAS_BRACKET and not is_long:
            size, num_spans = _without_citations(
                data, visible, visible_end, anchors, table, spans, num_spans, edited_line
            )
            if size != visible_end - visible:
                found = _phrases(edited_line, np.int64(0), size)
                is_terminated = not terminal or _is_terminated(edited_line, np.int64(0), size)
        verdict = np.int64(0)
        if is_long:
            verdict = LONG_WORD
        elif not is_terminated:
            verdict = UNTERMINATED
        elif num_pieces(bits, visible, visible_end) < min_words:
            verdict = FEW_WORDS
        elif found:
            counted[0] += found & _HAS_LOREM != 0
            if javascript and found & _HAS_JAVASCRIPT:
                verdict = JAVASCRIPT
            else:
                counted[1] += found & _HAS_CURLY != 0
                counted[2] += found & _HAS_CURLY != 0 and counted[0] == 0
                if policy and found & _HAS_POLICY:
                    verdict = POLICY
        if verdict:
            num_spans = spans_before
            if num_spans:
                spans[num_spans - 1, 1] = last_end
            verdict = WHITE_SPACE if visible == visible_end else verdict
            num_spans = add_span(spans, num_spans, line, next_line, verdict)
        else:
            num_spans = add_span(spans, num_spans, visible_end, at, WHITE_SPACE)
            if next_line - at > 1 or (next_line > at and data[at] != 0x0A):
                num_spans = add_span(spans, num_spans, at, next_line, BREAK_START)
            sizes[num_lines] = size
            num_lines += 1
    return num_lines, num_spans


@inner
def _next_line(data, at, end):
    """Where the line behind the break at ``at`` begins; CR LF is one."""
    if at == end:
        return end
    is_pair = data[at] == 0x0D and at + 1 < end and data[at + 1] == 0x0A
    return at + 2 if is_pair else at + char_size(data[at])


@inner
def _has_long_word(data, bits, at, end, max_chars):
    while at < end:
        word = at
        at = next_set(bits, SPACES, at, end)
        if at - word > max_chars and _chars(data, word, at) > max_chars:
            return True
        at = next_clear(bits, SPACES, at, end)
    return False


@inner
def _found(data, line, end, anchors):
    """The phrases of a line, as flags."""
    found, at = np.int64(0), next_set(anchors, _ANCHORS, line, end)
    while at < end:
        found |= _phrase_at(data, at, line, end)
        at = next_set(anchors, _ANCHORS, at + 1, end)
    return found


@inner
def _phrase_at(data, at, start, end):
    if data[at] < 0x80 or (data[at] == 0xE2 and code_at(data, at) == 0x212A):  # the Kelvin sign, whose lower case is k
        return _phrase(data, at, start, end)
    return np.int64(0)


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
def _phrase(data, at, start, end):
    """What the letter at ``at`` is the anchor of, as flags."""
    byte = data[at]
    if byte == 0x7B:
        return _HAS_CURLY
    if byte == 0x5B:
        return _HAS_BRACKET
    size = char_size(byte)
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
        found |= _phrase_at(data, at, start, end)
    return found


@inner
def _without_citations(data, start, end, anchors, table, spans, num_spans, out):
    r"""Copy a line but for what matches ``\[\d*]|\[edit]|\[citation needed]``."""
    at = kept = start
    filled = np.int64(0)
    while at < end:
        at = next_set(anchors, _ANCHORS, at, end)
        stop = _citation_end(data, at, end, table) if at < end and data[at] == 0x5B else at
        if stop > at:
            filled = copy(data, kept, at, out, filled)
            num_spans = add_span(spans, num_spans, at, stop, CITATION)
            at = kept = stop
        else:
            at += 1
    return copy(data, kept, end, out, filled), num_spans


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
