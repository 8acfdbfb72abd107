"""Characters: what the rules need to know of a code point, as one table, and how kernels read UTF-8.

The classes are those of Python's ``str`` methods, so that kernels decide as the plain-Python filters do. This module
compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

TABLE_SIZE = 0x32400  # nothing above CJK extension H (U+31350 to U+323AF) has any of these properties

SPACE = np.uint16(1)  # str.isspace(), which is also \s
WORD = np.uint16(2)  # \w
LETTER = np.uint16(4)  # str.isalpha()
SYMBOL = np.uint16(8)  # punctuation to the Gopher rules: a word of these alone is none
TERMINAL = np.uint16(16)  # ends a sentence, in any script
UPPER = np.uint16(32)  # str.isupper()
DIGIT = np.uint16(64)  # str.isdigit(): superscripts too
DECIMAL = np.uint16(128)  # \d
BREAK = np.uint16(256)  # str.splitlines() ends a line here

# Unicode's Sentence_Terminal characters, as datatrove 0.10 lists them: first to last, in hexadecimal
_TERMINAL = """21 2E 3F 589 61D-61F 6D4 700-702 7F9 837 839 83D-83E 964-965 104A-104B 1362 1367-1368 166E 1735-1736
17D4-17D6 17D9-17DA 1803 1809 1944-1945 1AA8-1AAB 1B5A-1B5B 1B5E-1B5F 1B7D-1B7E 1C3B-1C3C 1C7E-1C7F 203C-203D
2047-2049 2E2E 2E3C 2E53-2E54 3002 A4FF A60E-A60F A6F3 A6F7 A876-A877 A8CE-A8CF A92F A9C8-A9C9 AA5D-AA5F AAF0-AAF1
ABEB FE52 FE56-FE57 FF01 FF0E FF1F FF61 10A56-10A57 10F55-10F59 10F86-10F89 11047-11048 110BE-110C1 11141-11143
111C5-111C6 111CD 111DE-111DF 11238-11239 1123B-1123C 112A9 1144B-1144C 115C2-115C3 115C9-115D7 11641-11642
1173C-1173E 11944 11946 11A42-11A43 11A9B-11A9C 11C41-11C42 11EF7-11EF8 11F43-11F44 16A6E-16A6F 16AF5 16B37-16B38
16B44 16E98 1BC9F 1DA88"""
# ASCII punctuation, control characters but tab and line feed, and what is common in Chinese and typeset text
_SYMBOLS = """0-8 B-1F 21-2F 3A-40 5B-60 7B-9F AB B4 BB 2013-2014 2019 201C-201E 2026 2236 2501 25BA 3001-3002
3008-300D 3010-3011 FF01 FF05 FF08-FF09 FF0C FF0E FF11 FF1A-FF1B FF1F FF5E"""
_BREAKS = "A-D 1C-1E 85 2028-2029"


@functools.cache
def flags() -> NDArray[np.uint16]:
    """By code point: the sum of the classes that it belongs to."""
    table = np.zeros(TABLE_SIZE, np.uint16)
    everything = "".join(map(chr, range(0xD800))) + " " * 0x800 + "".join(map(chr, range(0xE000, TABLE_SIZE)))
    for flag, pattern in ((SPACE, r"\s"), (WORD, r"\w"), (DECIMAL, r"\d")):
        table[[found.start() for found in re.finditer(pattern, everything)]] |= flag
    table[0xD800:0xE000] = 0  # surrogates: UTF-8 has none
    for flag, method in ((LETTER, str.isalpha), (UPPER, str.isupper), (DIGIT, str.isdigit)):
        table[np.fromiter(map(method, everything), bool, TABLE_SIZE)] |= flag
    for flag, ranges in ((TERMINAL, _TERMINAL), (SYMBOL, _TERMINAL), (SYMBOL, _SYMBOLS), (BREAK, _BREAKS)):
        for first, last in (part.split("-") * 2 if "-" not in part else part.split("-") for part in ranges.split()):
            table[int(first, 16) : int(last, 16) + 1] |= flag
    table.flags.writeable = False
    return table


def ratio(part: NDArray[np.int64], whole: Any) -> NDArray[np.float64]:
    """One division of two whole numbers, as Python's; 0.0 where there is nothing to divide by."""
    exact = part.astype(np.float64) / np.maximum(whole, 1).astype(np.float64)
    return np.where(np.asarray(whole) > 0, exact, 0.0)


# What is called for every word or line neither allocates nor counts references: two atomic operations a call cost more
# than the work itself (18 ns against 5 ns for the hash of a word).
_jit: Any = njit  # its type stubs know not _nrt
inner: Any = _jit(cache=True, nogil=True, _nrt=False)


def _load(typing_context, data, index):
    """Eight bytes as a little-endian number, in one instruction."""

    def build(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(address, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), build


_unaligned: Any = intrinsic(_load)


def _cttz(typing_context, word):
    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), build


trailing_zeros: Any = intrinsic(_cttz)


def _ctpop(typing_context, word):
    def build(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), build


num_ones: Any = intrinsic(_ctpop)


@inner
def bytes_at(data, at, size):
    """Up to eight bytes from ``at`` on as one number, zeros behind them; never reads past the buffer."""
    if at + 8 <= data.size:
        word = _unaligned(data, at)
        return word if size >= 8 else word & ((np.uint64(1) << np.uint64(8 * size)) - np.uint64(1))
    word = np.uint64(0)
    for place in range(min(size, 8)):
        word |= np.uint64(data[at + place]) << np.uint64(8 * place)
    return word


_ONES, _HIGH = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)


@inner
def first_of(marks):
    """The place of the first byte whose high bit is set; 8 if there is none."""
    return np.int64(trailing_zeros(marks) >> np.uint64(3))


@inner
def is_byte(word, byte):
    """The high bit of every byte of ``word`` that is this ASCII byte, exactly."""
    other = word ^ (_ONES * np.uint64(byte))
    return ~(((other & _LOW) + _LOW) | other) & _HIGH


@inner
def is_wide(word):
    """The high bit of every byte of ``word`` that is not ASCII."""
    return word & _HIGH


@inner
def num_word_chars(data, start, end):
    """As :func:`num_chars`, for the few bytes of a word."""
    chars, at = end - start, start
    while at < end:
        word = bytes_at(data, at, end - at)
        chars -= np.int64(num_ones(word & ~(word << np.uint64(1)) & _HIGH))
        at += 8
    return chars


@inner
def num_chars(data, start, end):
    """Characters of whole UTF-8 text: the bytes that continue none."""
    chars = 0
    for at in range(start, end):
        chars += data[at] & 0xC0 != 0x80
    return chars


@inner
def char_size(first):
    """Bytes of the character that begins with this byte."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


@inner
def code_at(data, at):
    """The code point of the character at ``at``; Arrow strings are valid UTF-8, so it is whole."""
    first = np.int64(data[at])
    if first < 0x80:
        return first
    if first < 0xE0:
        return ((first & 0x1F) << 6) | (np.int64(data[at + 1]) & 0x3F)
    if first < 0xF0:
        return ((first & 0x0F) << 12) | ((np.int64(data[at + 1]) & 0x3F) << 6) | (np.int64(data[at + 2]) & 0x3F)
    high = ((first & 0x07) << 18) | ((np.int64(data[at + 1]) & 0x3F) << 12)
    return high | ((np.int64(data[at + 2]) & 0x3F) << 6) | (np.int64(data[at + 3]) & 0x3F)


@inner
def flags_at(data, at, table):
    """The classes of the character at ``at``."""
    code = code_at(data, at)
    return table[code] if code < table.size else np.uint16(0)
