r"""The one word rule of shingles and n-grams, as kernels over Arrow's bytes and offsets.

A word is a longest run of ``\w`` characters in Unicode's sense (Python's ``re``: ``str.isalnum()`` or ``_``), each
character lower-cased by its simple, context-free mapping: capital sigma becomes the medial small sigma also at the
end of a word, and İ (U+0130), the one letter whose ``str.lower()`` is longer than one character, becomes i.

Hashes are unsigned 64-bit and made of multiplications, shifts and exclusive ors only, so that every machine computes
alike. Golden vectors freeze them as ``stemma-words/1``. Which characters are letters comes from Python's own Unicode
tables (:data:`UNICODE`, 14.0 in Python 3.11, 16.0 in 3.14): later versions add rare scripts and CJK extensions, and
change no character that an earlier version had assigned.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

RULE = "stemma-words/1"
UNICODE = unicodedata.unidata_version
TABLE_SIZE = 0x32400  # no letter lies above CJK extension H (U+31350 to U+323AF); a test looks at all of them
PIECE_BYTES = 8 << 20  # text that is hashed at once: bounds memory whatever the size of a record batch

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_SEED = np.uint64(0x9E3779B97F4A7C15)
_CHARACTER = np.uint64(0xD6E8FEB86659FD93)  # odd, so that each step is a bijection of the state
WORD_BASE = np.uint64(
    0xF1357AEA2E62A9C3
)  # 3 modulo 8: B - 1 and B² - 1 keep all but 1 and 3 bits of what they multiply
LENGTH_SALT = np.uint64(0xA0761D6478BD642F)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _S32 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(32)


# scripts that are written without spaces: Thai, Lao, Burmese, Khmer, kana (also half width) and Han
UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3005, 0x3007), (0x3041, 0x309F), (0x30A1, 0x30FF),
    (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x20000, 0x323AF),
)  # fmt: skip
ALONE = np.uint32(1 << 31)  # flag in a table of characters: it is a word by itself


# called for every character: neither allocates nor counts references, two atomic operations that cost more than the work
_jit: Any = njit  # its type stubs know not _nrt
_inner: Any = _jit(cache=True, nogil=True, _nrt=False)


@functools.cache
def character_table() -> NDArray[np.uint32]:
    """By code point: the lower-case code point of a word character, 0 for every other character."""
    table = np.zeros(TABLE_SIZE, np.uint32)
    for code in range(TABLE_SIZE):
        character = chr(code)
        if character == "_" or character.isalnum():
            lower = character.lower()
            table[code] = ord(lower[0])  # one character everywhere but in İ, whose first one is the simple mapping
    table.flags.writeable = False
    return table


@functools.cache
def unspaced_table() -> NDArray[np.uint32]:
    """As :func:`character_table`; a character of a script that is written without spaces is a word by itself."""
    table = character_table().copy()
    for first, last in UNSPACED:
        span = table[first : last + 1]
        span[span != 0] |= ALONE
    table.flags.writeable = False
    return table


def text_buffers(texts: pa.Array) -> tuple[NDArray[np.uint8], I64]:
    """Bytes of an Arrow text column and the offsets of its rows, without a copy where the offsets are 64-bit.

    Raises:
        ValueError: if a text is null.
    """
    if texts.null_count:
        raise ValueError(f"{texts.null_count} of {len(texts)} texts are null; a text may be empty, not missing.")
    if not pa.types.is_large_string(texts.type):
        texts = texts.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    if len(texts) == 0 or offsets is None:
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    rows = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8), rows


def pieces(texts: pa.ChunkedArray | pa.Array, max_bytes: int = PIECE_BYTES) -> Iterator[pa.Array]:
    """The column cut into arrays of at most ``max_bytes`` of text (or a single longer text)."""
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        rows = text_buffers(chunk)[1]
        start = 0
        while start < len(chunk):
            stop = int(np.searchsorted(rows, rows[start] + max_bytes, side="right")) - 1
            stop = max(start + 1, min(stop, len(chunk)))
            yield chunk.slice(start, stop - start)
            start = stop


def word_hashes(texts: pa.Array, *, unspaced: bool = False) -> tuple[U64, I64]:
    """One 64-bit hash for each word, and for each document where its words begin: int64 [documents + 1].

    With ``unspaced`` each character of a script that is written without spaces is a word (:data:`UNSPACED`).
    """
    data, offsets = text_buffers(texts)
    if unspaced:
        return _unspaced_word_hashes(data, offsets, unspaced_table())
    return _word_hashes(data, offsets, character_table())


def word_places(text: str, *, unspaced: bool = False) -> list[tuple[int, int]]:
    """(start, end) in characters of the words that :func:`word_hashes` sees, for the few texts that need them."""
    return [match.span() for match in _pattern(unspaced).finditer(text)]


def num_unspaced(texts: pa.Array) -> I64:
    """By text: its characters that are words by themselves; for few and short texts."""
    alone = unspaced_table() & ALONE
    counts = [np.count_nonzero([alone[ord(c)] for c in text.as_py() if ord(c) < TABLE_SIZE]) for text in texts]
    return np.array(counts, np.int64)


@functools.cache
def _pattern(unspaced: bool) -> re.Pattern[str]:
    alone = "".join(f"{chr(first)}-{chr(last)}" for first, last in UNSPACED)
    return re.compile(rf"(?=\w)[{alone}]|(?:(?![{alone}])\w)+" if unspaced else r"\w+")


def character_hashes(texts: pa.Array) -> tuple[U64, I64]:
    """One 64-bit hash for each character that counts, and for each document where its characters begin.

    Those of the words, lower-cased as there, and one space for whatever stands between two words.
    """
    data, offsets = text_buffers(texts)
    return _character_hashes(data, offsets, character_table())


def shingle_hashes(words: U64, offsets: I64, n: int) -> tuple[U64, I64]:
    """Hashes of the word n-grams of each document; a shorter document is one shingle of all its words."""
    return _gram_hashes(words, offsets, n, True)


def gram_hashes(words: U64, offsets: I64, n: int) -> tuple[U64, I64]:
    """Hashes of the word n-grams of each document; none of a shorter document."""
    return _gram_hashes(words, offsets, n, False)


def fingerprints(words: U64, offsets: I64) -> pa.FixedSizeBinaryArray:
    """128 bits over the word sequence of each document: equal texts but for case, punctuation and white space."""
    both = _fingerprints(words, offsets).astype("<u8")
    buffers: list[Any] = [None, pa.py_buffer(both.tobytes())]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(offsets) - 1, buffers)


@njit(cache=True, nogil=True, inline="always")
def mixed(x):  # noqa: ANN001, ANN201 (compiled for uint64)
    """splitmix64 finaliser (Steele, Lea & Flood 2014): a bijection whose every output bit depends on every input bit."""
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@njit(cache=True, nogil=True)
def gram_hash(words, start, n):  # noqa: ANN001, ANN201
    """The hash of the n words from ``start`` on, as :func:`gram_hashes` gives it."""
    state = np.uint64(0)
    for word in range(start, start + n):
        state = state * WORD_BASE + words[word]
    return mixed(state ^ (np.uint64(n) * LENGTH_SALT))


@njit(cache=True, nogil=True)
def _word_hashes(data, offsets, table):  # noqa: ANN001, ANN202
    """Two halves of the documents side by side: each character waits for the one before it, not for another half's."""
    num_docs = offsets.size - 1
    half = np.searchsorted(offsets, (offsets[0] + offsets[num_docs]) // 2)
    starts = np.zeros(num_docs + 1, np.int64)
    left = np.empty((offsets[half] - offsets[0]) // 2 + half + 1, np.uint64)
    right = np.empty((offsets[num_docs] - offsets[half]) // 2 + num_docs - half + 1, np.uint64)
    one, other, count, more = 0, half, 0, 0
    at, place, state, other_state, inside, is_inside = offsets[0], offsets[half], _SEED, _SEED, 0, 0
    while one < half and other < num_docs:
        end, stop = offsets[one + 1], offsets[other + 1]
        while at < end and place < stop:
            at, state, inside, count = _character(data, at, end, state, inside, count, left, table)
            place, other_state, is_inside, more = _character(
                data, place, stop, other_state, is_inside, more, right, table
            )
        if at == end:
            left[count], state, count, inside, one = state, _SEED, count + inside, 0, one + 1
            starts[one] = count
        if place == stop:
            right[more], other_state, more, is_inside, other = other_state, _SEED, more + is_inside, 0, other + 1
            starts[other] = more
    count = _rest(data, offsets, table, one, half, at, state, inside, count, left, starts)
    more = _rest(data, offsets, table, other, num_docs, place, other_state, is_inside, more, right, starts)
    starts[half] = 0
    starts[half:] += count
    hashes = np.empty(count + more, np.uint64)
    for word in range(count):
        hashes[word] = mixed(left[word])
    for word in range(more):
        hashes[count + word] = mixed(right[word])
    return hashes, starts


@njit(cache=True, nogil=True)
def _rest(data, offsets, table, doc, last, at, state, inside, count, states, starts):  # noqa: ANN001, ANN202
    """The documents of a half from a place in one of them on."""
    while doc < last:
        end = offsets[doc + 1]
        while at < end:
            at, state, inside, count = _character(data, at, end, state, inside, count, states, table)
        states[count], state, count, inside, doc = state, _SEED, count + inside, 0, doc + 1
        starts[doc] = count
    return count


@_inner
def _character(data, at, end, state, inside, count, states, table):  # noqa: ANN001, ANN202
    """Read one character; without a branch at the end of a word, which no processor foresees (1.4 times as fast).

    Indices are unsigned: a signed one is looked at for being negative, which Python counts from the end.
    """
    code = np.int64(data[np.uint64(at)])
    at += 1
    if code >= 0x80:
        size = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
        code &= 0x3F >> size
        for _ in range(size):
            if at < end:  # a text cut inside a character must not read its neighbour
                code = (code << 6) | (np.int64(data[np.uint64(at)]) & 0x3F)
                at += 1
        if code >= table.size:
            code = 0  # NUL: as little a letter as whatever lies above the table
    lower = np.uint64(table[np.uint64(code)])
    is_letter = np.int64(lower != 0)
    states[np.uint64(count)] = state  # stays only where a word ends here
    count += inside & (1 - is_letter)
    following = (state ^ lower) * _CHARACTER
    following ^= following >> _S32
    return at, following if is_letter else _SEED, is_letter, count


@njit(cache=True, nogil=True)
def _unspaced_word_hashes(data, offsets, table):  # noqa: ANN001, ANN202, C901 (a call a character would cost more)
    num_docs = offsets.size - 1
    hashes = np.empty((offsets[num_docs] - offsets[0]) // 2 + num_docs + 1, np.uint64)
    starts = np.empty(num_docs + 1, np.int64)
    count = 0
    for doc in range(num_docs):
        starts[doc] = count
        at, end = offsets[doc], offsets[doc + 1]
        state, inside = _SEED, False
        while at < end:
            code = np.int64(data[at])
            at += 1
            if code >= 0x80:
                size = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
                code &= 0x3F >> size
                for _ in range(size):
                    if at < end:  # a text cut inside a character must not read its neighbour
                        code = (code << 6) | (np.int64(data[at]) & 0x3F)
                        at += 1
            lower = table[code] if code < table.size else np.uint32(0)
            if lower & ALONE:
                if inside:
                    hashes[count] = mixed(state)
                    count += 1
                state = (_SEED ^ np.uint64(lower ^ ALONE)) * _CHARACTER
                hashes[count] = mixed(state ^ (state >> _S32))
                count += 1
                state, inside = _SEED, False
            elif lower != 0:
                state = (state ^ np.uint64(lower)) * _CHARACTER
                state ^= state >> _S32
                inside = True
            elif inside:
                hashes[count] = mixed(state)
                count += 1
                state, inside = _SEED, False
        if inside:
            hashes[count] = mixed(state)
            count += 1
    starts[num_docs] = count
    return hashes[:count].copy(), starts


@njit(cache=True, nogil=True)
def _character_hashes(data, offsets, table):  # noqa: ANN001, ANN202
    num_docs = offsets.size - 1
    hashes = np.empty(offsets[num_docs] - offsets[0], np.uint64)
    starts = np.empty(num_docs + 1, np.int64)
    space = mixed((_SEED ^ np.uint64(32)) * _CHARACTER)
    count = 0
    for doc in range(num_docs):
        starts[doc] = count
        at, end = offsets[doc], offsets[doc + 1]
        between = False
        while at < end:
            code = np.int64(data[at])
            at += 1
            if code >= 0x80:
                size = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
                code &= 0x3F >> size
                for _ in range(size):
                    if at < end:
                        code = (code << 6) | (np.int64(data[at]) & 0x3F)
                        at += 1
            lower = table[code] if code < table.size else np.uint32(0)
            if lower == 0:
                between = count > starts[doc]
                continue
            if between:
                hashes[count] = space
                count += 1
                between = False
            hashes[count] = mixed((_SEED ^ np.uint64(lower)) * _CHARACTER)
            count += 1
    starts[num_docs] = count
    return hashes[:count].copy(), starts


@njit(cache=True, nogil=True)
def _gram_hashes(words, offsets, n, whole_if_short):  # noqa: ANN001, ANN202
    """Polynomial over word hashes modulo 2⁶⁴, rolled, then mixed with the number of words."""
    num_docs = offsets.size - 1
    starts = np.empty(num_docs + 1, np.int64)
    count = 0
    for doc in range(num_docs):
        starts[doc] = count
        length = offsets[doc + 1] - offsets[doc]
        if length >= n:
            count += length - n + 1
        elif whole_if_short and length > 0:
            count += 1
    starts[num_docs] = count
    grams = np.empty(count, np.uint64)
    power = np.uint64(1)
    for _ in range(n):
        power = power * WORD_BASE
    for doc in range(num_docs):
        first, last = offsets[doc], offsets[doc + 1]
        if starts[doc + 1] == starts[doc]:
            continue
        size = min(n, last - first)
        salt = np.uint64(size) * LENGTH_SALT
        state = np.uint64(0)
        for word in range(first, first + size):
            state = state * WORD_BASE + words[word]
        to = starts[doc]
        grams[to] = mixed(state ^ salt)
        for word in range(first + size, last):
            to += 1
            state = state * WORD_BASE + words[word] - words[word - n] * power
            grams[to] = mixed(state ^ salt)
    return grams, starts


@njit(cache=True, nogil=True)
def _fingerprints(words, offsets):  # noqa: ANN001, ANN202
    """Two documents side by side, as in :func:`_word_hashes`."""
    num_docs = offsets.size - 1
    out = np.empty((num_docs, 2), np.uint64)
    half = np.searchsorted(offsets, (offsets[0] + offsets[num_docs]) // 2)
    left, right = 0, half
    at, place = offsets[0], offsets[min(half, num_docs)]
    one, two, three, four = _SEED, LENGTH_SALT, _SEED, LENGTH_SALT
    while left < half and right < num_docs:
        both = min(offsets[left + 1] - at, offsets[right + 1] - place)
        for step in range(both):
            one, two = _folded(one, two, words[at + step])
            three, four = _folded(three, four, words[place + step])
        at, place = at + both, place + both
        if at == offsets[left + 1]:
            out[left, 0], out[left, 1], one, two, left = one, two, _SEED, LENGTH_SALT, left + 1
        if place == offsets[right + 1]:
            out[right, 0], out[right, 1], three, four, right = three, four, _SEED, LENGTH_SALT, right + 1
    _fold_rest(words, offsets, left, half, at, one, two, out)
    _fold_rest(words, offsets, right, num_docs, place, three, four, out)
    return out


@njit(cache=True, nogil=True)
def _fold_rest(words, offsets, doc, last, at, one, two, out):  # noqa: ANN001, ANN202
    while doc < last:
        for word in range(at, offsets[doc + 1]):
            one, two = _folded(one, two, words[word])
        at = offsets[doc + 1]
        out[doc, 0], out[doc, 1], one, two, doc = one, two, _SEED, LENGTH_SALT, doc + 1


@_inner
def _folded(one, two, word):  # noqa: ANN001, ANN202
    return mixed(one * WORD_BASE + word), mixed((two + word) * _CHARACTER)
