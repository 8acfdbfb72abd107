"""Bitmaps: which bytes of a column of texts are white space, parts of words, line feeds and so on, one bit a byte.

A walk over bytes asks each of them what it is; with one bit a byte, 64 are asked at once. ASCII is compared as
vectors, which LLVM makes of plain comparisons on every processor; only longer characters are looked up one by one.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from pipelines.filters.characters import (
    BREAK,
    DIGIT,
    SPACE,
    TERMINAL,
    UPPER,
    WORD,
    char_size,
    flags,
    flags_at,
    inner,
    num_ones,
    trailing_zeros,
)
from pipelines.words import text_buffers

BLOCK = 64  # bytes whose bits are one number

# Columns of the bitmaps. White space and word characters have all their bytes marked, the others their first one.
# Rests are the bytes that begin no character. A plain int would make numba compile each function for each number.
SPACES, WORDS, RESTS, FEEDS, BREAKS, UPPERS, DIGITS, TERMINALS = (np.int64(number) for number in range(8))

ALL, ONE = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(1)


class Bitmaps(NamedTuple):
    """A column of texts with its bitmaps."""

    data: NDArray[np.uint8]  # from the first byte of the first text on, 64 bytes at least
    offsets: NDArray[np.int64]  # [docs + 1]: begins at 0
    bits: NDArray[np.uint64]  # [blocks, 8]: bit b of block k is byte 64 k + b of data
    base: int  # where data begins in the column's buffer


_OF_THREAD = threading.local()  # the last column and its bitmaps


def bitmaps(texts: pa.LargeStringArray) -> Bitmaps:
    """The bitmaps of a column: one byte for each byte of text.

    Families measure the same column one after the other, so those of the last one are kept.
    """
    last = getattr(_OF_THREAD, "last", None)
    if last is None or last[0]() is not texts:
        last = _OF_THREAD.last = weakref.ref(texts), _of_column(texts)
    return last[1]


def _of_column(texts: pa.LargeStringArray) -> Bitmaps:
    data, rows = text_buffers(texts)
    base = int(rows[0])
    data, offsets = data[base:], rows - base
    if data.size < BLOCK:
        data = np.concatenate([data, np.zeros(BLOCK, np.uint8)])
    bits = memory(int(offsets[-1] + BLOCK - 1) // BLOCK * 8, np.uint64).reshape(-1, 8)
    _fill(data, offsets[-1], flags(), bits)
    return Bitmaps(data, offsets, bits, base)


def memory(count: int, kind: type[np.generic]) -> NDArray[Any]:
    """An empty array in Arrow's memory pool, which keeps what was freed.

    malloc gives megabytes back to the system each time, and to get them again costs 1 ns a byte of text.
    """
    return np.frombuffer(pa.allocate_buffer((count + 1) * np.dtype(kind).itemsize), kind)[:count]


def _splat(builder, number):
    vector = ir.VectorType(ir.IntType(8), BLOCK)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), [0] * BLOCK)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)


def _among(context, builder, signature, arguments, first, count, fold):
    """Which of 64 bytes are, with ``fold`` added, one of ``count`` from ``first`` on."""
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    vector = ir.VectorType(ir.IntType(8), BLOCK)
    loaded = builder.load(builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer()))
    loaded.align = 1
    loaded = builder.or_(loaded, _splat(builder, ir.Constant(ir.IntType(8), fold)))
    found = builder.icmp_unsigned("<", builder.sub(loaded, _splat(builder, first)), _splat(builder, count))
    return builder.bitcast(found, ir.IntType(BLOCK))


def _between(typing_context, data, at, first, count):
    """Which of the 64 bytes from ``at`` on are one of ``count`` from ``first`` on."""

    def build(context, builder, signature, arguments):
        return _among(context, builder, signature, arguments, arguments[2], arguments[3], 0)

    return types.uint64(data, types.int64, types.uint8, types.uint8), build


between: Any = intrinsic(_between)


def _letters(typing_context, data, at, small, count):
    """Which of the 64 bytes from ``at`` on are one of ``count`` small letters, or their capitals."""

    def build(context, builder, signature, arguments):
        return _among(context, builder, signature, arguments, arguments[2], arguments[3], 0x20)

    return types.uint64(data, types.int64, types.uint8, types.uint8), build


letters: Any = intrinsic(_letters)


def _letter(typing_context, data, at, small):
    """Which of the 64 bytes from ``at`` on are this small letter, or its capital."""

    def build(context, builder, signature, arguments):
        one = ir.Constant(ir.IntType(8), 1)
        return _among(context, builder, signature, arguments, arguments[2], one, 0x20)

    return types.uint64(data, types.int64, types.uint8), build


letter: Any = intrinsic(_letter)


def _copy(typing_context, out, filled, data, start, size):
    def build(context, builder, signature, arguments):
        to, of = (context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 2))
        cgutils.raw_memcpy(builder, builder.gep(to, [arguments[1]]), builder.gep(of, [arguments[3]]), arguments[4], 1)
        return context.get_dummy_value()

    return types.none(out, types.int64, data, types.int64, types.int64), build


_copy_bytes: Any = intrinsic(_copy)


@inner
def copy(data, start, end, out, filled):
    """Append bytes to ``out``; how many there are then."""
    _copy_bytes(out, filled, data, start, end - start)
    return filled + end - start


def _store(typing_context, out, at, word):
    def build(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        builder.store(arguments[2], address, align=1)
        return context.get_dummy_value()

    return types.none(out, types.int64, types.uint64), build


put_bytes: Any = intrinsic(_store)  # eight bytes, little-endian


@inner
def block_start(data, block):
    """From where the 64 bytes of a block are read, and by how much their bits are shifted: within the buffer."""
    start = min(block * BLOCK, data.size - BLOCK)
    return start, np.uint64(block * BLOCK - start)


@njit(cache=True, nogil=True)
def _fill(data, size, table, bits):
    """The bitmaps of ``data[:size]``: uint64 [blocks, 8]."""
    blocks = len(bits)
    spaces_over = words_over = np.uint64(0)
    for block in range(blocks):
        at, shift = block_start(data, block)
        digits, capitals = between(data, at, 0x30, 10), between(data, at, 0x41, 26)
        row = bits[block]
        row[SPACES] = (between(data, at, 0x09, 5) | between(data, at, 0x1C, 5)) >> shift | spaces_over
        row[WORDS] = (letters(data, at, 0x61, 26) | digits | between(data, at, 0x5F, 1)) >> shift | words_over
        row[FEEDS] = between(data, at, 0x0A, 1) >> shift
        row[BREAKS] = (between(data, at, 0x0A, 4) | between(data, at, 0x1C, 3)) >> shift
        row[UPPERS], row[DIGITS] = capitals >> shift, digits >> shift
        row[TERMINALS] = (between(data, at, 0x2E, 1) | between(data, at, 0x3F, 1) | between(data, at, 0x21, 1)) >> shift
        row[RESTS] = between(data, at, 0x80, 0x40) >> shift
        spaces_over = words_over = np.uint64(0)
        first_bytes = between(data, at, 0xC0, 0x40) >> shift
        if block == blocks - 1:
            first_bytes &= ALL >> np.uint64((-size) & 63)
        if first_bytes:
            spaces_over, words_over = _mark_wide(data, block * BLOCK, first_bytes, table, row)


@inner
def _mark_wide(data, start, first_bytes, table, row):
    """Mark the characters that are not ASCII; what white space and words reach into the next block."""
    spaces_over = words_over = np.uint64(0)
    while first_bytes:
        place = trailing_zeros(first_bytes)
        first_bytes &= first_bytes - ONE
        at = start + np.int64(place)
        kind = flags_at(data, at, table)
        size = np.uint64(char_size(data[at]))
        whole = (ONE << size) - ONE
        over = whole >> (np.uint64(64) - place) if place > np.uint64(60) else np.uint64(0)
        if kind & WORD:
            row[WORDS] |= whole << place
            words_over = over
        if kind & (SPACE | BREAK):
            row[SPACES] |= whole << place
            spaces_over = over
        one = ONE << place
        row[BREAKS] |= one if kind & BREAK else np.uint64(0)
        row[UPPERS] |= one if kind & UPPER else np.uint64(0)
        row[DIGITS] |= one if kind & DIGIT else np.uint64(0)
        row[TERMINALS] |= one if kind & TERMINAL else np.uint64(0)
    return spaces_over, words_over


@inner
def part(bits, kind, block, start, end):
    """The bits of a block that are of bytes from ``start`` to ``end``."""
    found = bits[block, kind]
    if block == start >> 6:
        found &= ALL << np.uint64(start & 63)
    if block == (end - 1) >> 6:
        found &= ALL >> np.uint64(63 - ((end - 1) & 63))
    return found


@inner
def next_set(bits, kind, at, end):
    """The first byte of this kind from ``at`` on, or ``end``."""
    if at >= end:
        return end
    block = at >> 6
    found = bits[block, kind] & (ALL << np.uint64(at & 63))
    while not found:
        block += 1
        if block << 6 >= end:
            return end
        found = bits[block, kind]
    return min((block << 6) + np.int64(trailing_zeros(found)), end)


@inner
def next_clear(bits, kind, at, end):
    """The first byte of another kind from ``at`` on, or ``end``."""
    if at >= end:
        return end
    block = at >> 6
    found = ~bits[block, kind] & (ALL << np.uint64(at & 63))
    while not found:
        block += 1
        if block << 6 >= end:
            return end
        found = ~bits[block, kind]
    return min((block << 6) + np.int64(trailing_zeros(found)), end)


@inner
def last_clear(bits, kind, start, end):
    """Behind the last byte of another kind before ``end``, or ``start``."""
    at = end
    while at > start and bits[(at - 1) >> 6, kind] >> np.uint64((at - 1) & 63) & ONE:
        at -= 1
    return at


@inner
def count(bits, kind, start, end):
    """How many bytes from ``start`` to ``end`` are of this kind."""
    total = np.uint64(0)
    if start < end:
        for block in range(start >> 6, ((end - 1) >> 6) + 1):
            total += num_ones(part(bits, kind, block, start, end))
    return np.int64(total)


@inner
def num_pieces(bits, start, end):
    """How many runs of visible characters stand between ``start`` and ``end``: ``len(text.split())``."""
    total, before = np.uint64(0), np.uint64(0)
    if start < end:
        for block in range(start >> 6, ((end - 1) >> 6) + 1):
            visible = part(bits, SPACES, block, start, end) ^ part_mask(block, start, end)
            total += num_ones(visible & ~(visible << ONE | before))
            before = visible >> np.uint64(63)
    return np.int64(total)


@inner
def part_mask(block, start, end):
    """The bits of the bytes of a block from ``start`` to ``end``."""
    low = ALL << np.uint64(start & 63) if block == start >> 6 else ALL
    return low & (ALL >> np.uint64(63 - ((end - 1) & 63))) if block == (end - 1) >> 6 else low


@inner
def num_characters(bits, start, end):
    """Characters of whole UTF-8 text."""
    return end - start - count(bits, RESTS, start, end)
