"""What a privacy rule may look at: the bytes of a text, its characters, where a token begins and ends, words before it.

Rules read a working copy of the text in which every place that an earlier rule took is filled with :data:`BARRIER`, a
byte that UTF-8 never uses. So a rule sees a masked place as it would see its placeholder: not a letter, not a digit,
not white space. That is why masking twice changes nothing (a test holds it on arbitrary text).

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import functools
import string

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.words import TABLE_SIZE

BARRIER = 0xFF
WORD, DECIMAL, SPACE = 1, 2, 4  # what Python's re calls \w, \d and \s
CONTEXT_BYTES = 48  # about eight words: "Please call me, or my assistant, on …"
PLACEHOLDER_BYTES = 16  # the longest placeholder is <national_id>


def byte_set(*characters: str) -> NDArray[np.bool_]:
    """By byte: whether it is one of these ASCII characters."""
    table = np.zeros(256, np.bool_)
    table[[ord(c) for c in "".join(characters)]] = True
    return table


DIGIT = byte_set(string.digits)
LETTER = byte_set(string.ascii_letters)
ALNUM = byte_set(string.ascii_letters, string.digits)
NAME = byte_set(string.ascii_letters, string.digits, "_")


@functools.cache
def character_flags() -> NDArray[np.uint8]:
    """By code point: :data:`WORD`, :data:`DECIMAL` and :data:`SPACE`, added up."""
    table = np.zeros(TABLE_SIZE, np.uint8)
    for code in range(TABLE_SIZE):
        c = chr(code)
        table[code] = WORD * (c == "_" or c.isalnum()) + DECIMAL * c.isdecimal() + SPACE * c.isspace()
    table.flags.writeable = False
    return table


def word_table(words: str) -> NDArray[np.uint64]:
    """Context words for :func:`has_context`: uint64 [words, 2], a value and the bits that must agree with it.

    ``phone*`` stands for every word that begins so. Only the first eight letters of a word count.
    """
    rows = []
    for word in words.split():
        letters = word.rstrip("*")[:8].encode()
        value = int.from_bytes(letters.ljust(8, b"\0"), "big")
        mask = (1 << 64) - (1 << (64 - 8 * len(letters))) if word.endswith("*") else (1 << 64) - 1
        rows.append((value, mask))
    return np.array(rows, np.uint64)


@njit(cache=True, nogil=True, inline="always")
def byte(data, i, lo, hi):  # noqa: ANN001, ANN201
    """The byte at i, or a barrier outside the document [lo, hi)."""
    return data[i] if lo <= i < hi else np.uint8(BARRIER)


@njit(cache=True, nogil=True)
def character_at(data, i, hi):  # noqa: ANN001, ANN201
    """Code point and size of the character that begins at i; -1 for the end and for a barrier."""
    if i >= hi or data[i] == BARRIER:
        return -1, 1
    code = np.int64(data[i])
    if code < 0x80:
        return code, 1
    size = 2 if code < 0xE0 else 3 if code < 0xF0 else 4
    code &= 0x7F >> size
    for k in range(1, size):
        if i + k < hi:
            code = (code << 6) | (np.int64(data[i + k]) & 0x3F)
    return code, size


@njit(cache=True, nogil=True)
def character_before(data, i, lo):  # noqa: ANN001, ANN201
    """Code point and size of the character that ends at i; -1 for the beginning and for a barrier."""
    if i <= lo or data[i - 1] == BARRIER:
        return -1, 1
    at = i - 1
    while at > lo and at > i - 4 and 0x80 <= data[at] < 0xC0:
        at -= 1
    return character_at(data, at, i)[0], i - at


@njit(cache=True, nogil=True, inline="always")
def is_kind(code, kind, flags):  # noqa: ANN001, ANN201
    return 0 <= code < flags.size and (flags[code] & kind) != 0


@njit(cache=True, nogil=True)
def begins(data, i, lo):  # noqa: ANN001, ANN201
    """Whether a number or code may begin at i: no word, longer number or fraction reaches across."""
    last = byte(data, i - 1, lo, i)
    if NAME[last]:
        return False
    before = byte(data, i - 2, lo, i)
    if (last == ord("-") or last == ord(".")) and DIGIT[before]:
        return False
    if last == ord(".") and not LETTER[before]:  # .5105 is a fraction, Tel.5105 is not
        return False
    return not (last == ord(":") and before == ord(":"))  # the tail of an IPv6 address


@njit(cache=True, nogil=True)
def ends(data, i, lo, hi):  # noqa: ANN001, ANN201
    """Whether a number or code may end before i."""
    after = byte(data, i, lo, hi)
    if NAME[after]:
        return False
    return not ((after == ord("-") or after == ord(".")) and DIGIT[byte(data, i + 1, lo, hi)])


@njit(cache=True, nogil=True)
def has_context(data, i, lo, words):  # noqa: ANN001, ANN201
    """Whether one of the words (:func:`word_table`) stands in the 48 bytes before i, behind any masked place."""
    at = i
    while at > lo and at > i - CONTEXT_BYTES:
        if data[at - 1] == BARRIER or (data[at - 1] == ord(">") and _ends_placeholder(data, at, lo)):
            break
        at -= 1
    while at < i and at > lo and LETTER[data[at - 1]] and LETTER[data[at]]:  # a word that the window cuts
        at += 1
    word, length = np.uint64(0), 0
    while at <= i:
        if at < i and LETTER[data[at]]:
            if length < 8:
                word |= np.uint64(data[at] | 0x20) << np.uint64(56 - 8 * length)
                length += 1
        elif length > 0:
            for k in range(words.shape[0]):
                if word & words[k, 1] == words[k, 0]:
                    return True
            word, length = np.uint64(0), 0
        at += 1
    return False


@njit(cache=True, nogil=True)
def _ends_placeholder(data, at, lo):  # noqa: ANN001, ANN202
    start = at - 2
    while start >= lo and start > at - PLACEHOLDER_BYTES and (0x61 <= data[start] <= 0x7A or data[start] == 0x5F):
        start -= 1
    return start >= lo and data[start] == ord("<") and start < at - 2


@njit(cache=True, nogil=True)
def starts_with(data, i, hi, word):  # noqa: ANN001, ANN201
    """Whether these bytes stand at i."""
    if i + word.size > hi:
        return False
    for k in range(word.size):  # noqa: SIM110
        if data[i + k] != word[k]:
            return False
    return True


@njit(cache=True, nogil=True)
def among(values, value):  # noqa: ANN001, ANN201
    """Whether an array has that value; np.any would make an array for it."""
    for k in range(values.size):  # noqa: SIM110 (compiled)
        if values[k] == value:
            return True
    return False


@njit(cache=True, nogil=True)
def run_end(data, i, hi, allowed):  # noqa: ANN001, ANN201
    """Where the bytes of a set end, from i on."""
    while i < hi and allowed[data[i]]:
        i += 1
    return i
