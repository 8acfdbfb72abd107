"""N-gram overlap of documents with a set of items (benchmark questions, held-out documents), by word.

Decontamination and evaluation share it. An item of 13 words or more is looked for by its 13-grams of words (GPT-3,
Brown et al. 2020, appendix C), a shorter one by one n-gram of all its words, down to a floor of 8; below the floor
the whole item must occur word by word, which counts as evidence from 5 words on. Shorter items are not checkable, and
are reported as such: 31 % of the ARC questions have fewer than 13 words, and a plain 13-gram rule never sees them.

Case, punctuation and line breaks do not matter, since n-grams are of words. Languages written without spaces have few
words under this rule: their items are mostly short and often not checkable.

Matches are of 64-bit hashes and are not compared again: a document with w words and an index of g n-grams meet by
chance with probability w·g / 2⁶⁴, that is 5·10⁻⁵ for a thousand million words against a million n-grams; one such
n-gram would lift the coverage of one item by a few per cent, not over a threshold.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines import words
from pipelines.words import LENGTH_SALT, WORD_BASE, gram_hash, mixed

U64, I64 = NDArray[np.uint64], NDArray[np.int64]

NGRAM, FLOOR, PHRASE_FLOOR = 13, 8, 5
_FILTER_BITS = 32  # bits a gram in the filter that stands before the table: 3 % false alarms, and it fits the cache


class Check(StrEnum):
    """How an item can be looked for."""

    NGRAM = "ngram"  # by n-grams of min(13, its words) words
    PHRASE = "phrase"  # below the floor: the whole item, word by word
    NO = "no"  # too short to say anything


@dataclass(frozen=True)
class Matches:
    """Pairs of a document and an item that share an n-gram, by document and then by item."""

    documents: I64  # row of the document in the texts that were looked at
    items: I64
    coverage: NDArray[np.float64]  # share of the item's words that lie in a shared n-gram
    longest: I64  # words of the longest run of the item that the document holds


class _Table(NamedTuple):
    """Open addressing from a hash to a number (-1: empty), and the filter before it."""

    keys: U64
    values: I64
    bitmap: U64

    @classmethod
    def of(cls, grams: U64) -> _Table:
        size = 1 << max(4, int(2 * len(grams)).bit_length())
        bits = 1 << max(10, int(_FILTER_BITS * len(grams)).bit_length())
        return cls(*_hash_table(grams, size, bits))


class OverlapIndex:
    """The n-grams of a set of items.

    Args:
        texts: of the items.
        ngram: words of an n-gram.
        floor: fewest words for which a shorter n-gram is used.
        phrase_floor: fewest words of a whole item that counts as a match.
    """

    def __init__(
        self, texts: pa.Array, ngram: int = NGRAM, floor: int = FLOOR, phrase_floor: int = PHRASE_FLOOR
    ) -> None:
        if not 1 <= phrase_floor <= floor <= ngram:
            raise ValueError(f"expected 1 <= phrase_floor <= floor <= ngram, got {phrase_floor}, {floor}, {ngram}.")
        self.ngram, self.floor, self.phrase_floor = ngram, floor, phrase_floor
        self._hashes, self._offsets = words.word_hashes(texts)
        self.num_words: I64 = np.diff(self._offsets)
        self.lengths: I64 = np.where(self.num_words >= phrase_floor, np.minimum(self.num_words, ngram), 0)
        grams, self._items, self._places = _item_grams(self._hashes, self._offsets, self.lengths)
        self.grams, self._gram_of = np.unique(grams, return_inverse=True)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def checks(self) -> list[Check]:
        """How each item is looked for."""
        return [Check.NO if n == 0 else Check.PHRASE if n < self.floor else Check.NGRAM for n in self.lengths.tolist()]

    @cached_property
    def _postings(self) -> tuple[I64, I64, I64]:
        """By gram: offsets into (item, place of the gram in it)."""
        order = np.argsort(self._gram_of, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(self._gram_of, minlength=len(self.grams)))])
        return offsets.astype(np.int64), self._items[order], self._places[order]

    @cached_property
    def _long(self) -> _Table:
        """The n-grams of items with at least ``ngram`` words, by their hash."""
        return _Table.of(self.grams)

    @cached_property
    def _short(self) -> tuple[_Table, I64, I64]:
        """Shorter items are one gram each: by the hash of their first words, the items that begin so.

        One pass over a document then finds the short items of every length.
        """
        short = np.flatnonzero((self.lengths > 0) & (self.lengths < self.ngram))
        prefixes = np.array([self._prefix(int(item)) for item in short], np.uint64)
        known, prefix_of = np.unique(prefixes, return_inverse=True)
        order = np.argsort(prefix_of, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(prefix_of, minlength=len(known)))]).astype(np.int64)
        return _Table.of(known), offsets, short[order]

    @cached_property
    def _whole(self) -> U64:
        """By item: the hash of its first gram, which is all of a short item; 0 for an item that cannot be checked."""
        whole = np.zeros(len(self), np.uint64)
        whole[self._items[self._places == 0]] = self.grams[self._gram_of[self._places == 0]]
        return whole

    def _prefix(self, item: int) -> np.uint64:
        return words.gram_hash(self._hashes, self._offsets[item], self.phrase_floor)

    def hits(self, texts: pa.Array) -> tuple[I64, I64]:
        """(document, gram) for every n-gram of a document that occurs in an item; repeated ones repeat."""
        hashes, offsets = words.word_hashes(texts)
        at, grams = _scanned(hashes, offsets, self.ngram, *self._long)
        table, candidates, items = self._short
        begins, prefixes = _scanned(hashes, offsets, self.phrase_floor, *table)
        ends = offsets[np.searchsorted(offsets, begins, side="right")]  # of the documents in which they lie
        also, short = _whole_items(hashes, begins, prefixes, ends, candidates, items, self.lengths, self._whole)
        found = np.concatenate([at, also])
        every = np.concatenate([grams, np.searchsorted(self.grams, self._whole[short])])
        return np.searchsorted(offsets, found, side="right") - 1, every

    def matches(self, texts: pa.Array) -> Matches:
        """The items that each of these documents overlaps with."""
        documents, grams = self.hits(texts)
        pairs = np.unique(documents * max(1, len(self.grams)) + grams)
        documents, grams = np.divmod(pairs, max(1, len(self.grams)))
        offsets, items, places = self._postings
        counts = offsets[grams + 1] - offsets[grams]
        rows = np.repeat(offsets[grams] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        documents, items, places = np.repeat(documents, counts), items[rows], places[rows]
        order = np.lexsort((places, items, documents))
        return self._scored(documents[order], items[order], places[order])

    def _scored(self, documents: I64, items: I64, places: I64) -> Matches:
        """Coverage and longest run of each (document, item), from the sorted places of the grams that they share."""
        fresh = np.ones(len(items), bool)
        fresh[1:] = (documents[1:] != documents[:-1]) | (items[1:] != items[:-1])
        begins = np.flatnonzero(fresh)
        sizes = self.lengths[items]
        covered = sizes.copy()  # words that this gram adds: up to the next gram's place, or all of it
        covered[:-1] = np.where(fresh[1:], sizes[:-1], np.minimum(sizes[:-1], np.diff(places)))
        run = np.cumsum(fresh | np.concatenate([[False], np.diff(places) != 1])) if len(items) else begins
        within = np.arange(len(items)) - np.searchsorted(run, run) + sizes
        if len(begins) == 0:
            return Matches(begins, begins, np.zeros(0), begins)
        total = np.add.reduceat(covered, begins)
        longest = np.maximum.reduceat(within, begins)
        of = items[begins]
        return Matches(documents[begins], of, total / self.num_words[of], longest)

    def seen(self, texts: pa.Array) -> NDArray[np.bool_]:
        """Which grams occur in any of these documents."""
        found = np.zeros(len(self.grams), bool)
        found[self.hits(texts)[1]] = True
        return found

    def shares(self, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """By item: share of its n-grams that were seen; 0 for an item without n-grams."""
        hit = np.bincount(self._items, weights=seen[self._gram_of].astype(np.float64), minlength=len(self))
        total = np.bincount(self._items, minlength=len(self))
        return hit / np.maximum(total, 1)  # sums of ones: exact whatever their order


def matches_of(index: OverlapIndex, texts: pa.ChunkedArray) -> Iterator[Matches]:
    """Matches of a whole column, a bounded number of bytes at a time; rows are those of the column."""
    start = 0
    for piece in words.pieces(texts):
        found = index.matches(piece)
        yield Matches(found.documents + start, found.items, found.coverage, found.longest)
        start += len(piece)


def _item_grams(hashes: U64, offsets: I64, lengths: I64) -> tuple[U64, I64, I64]:
    """(gram, item, place in it) of every n-gram of every item, at the item's own length."""
    grams, items, places = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for n in np.unique(lengths[lengths > 0]):
        found, starts = words.gram_hashes(hashes, offsets, int(n))
        item = np.repeat(np.arange(len(lengths)), np.diff(starts))
        mine = lengths[item] == n
        grams.append(found[mine])
        items.append(item[mine])
        places.append((np.arange(len(found)) - starts[item])[mine])
    return np.concatenate(grams), np.concatenate(items), np.concatenate(places)


@njit(cache=True, nogil=True)
def _hash_table(grams, size, bits):  # noqa: ANN001, ANN202
    keys, values = np.zeros(size, np.uint64), np.full(size, -1, np.int64)
    bitmap = np.zeros(bits // 64, np.uint64)
    for gram in range(grams.size):
        key = grams[gram]
        bit = np.int64(key >> np.uint64(20)) & (bits - 1)
        bitmap[bit >> 6] |= np.uint64(1) << np.uint64(bit & 63)
        slot = np.int64(key & np.uint64(size - 1))
        while values[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        keys[slot], values[slot] = key, gram
    return keys, values, bitmap


@njit(cache=True, nogil=True)
def _scanned(hashes, offsets, n, keys, values, bitmap):  # noqa: ANN001, ANN202
    """(word at which it begins, value) of every n-gram inside a document that the table holds."""
    size, bits = keys.size, bitmap.size * 64
    at, found = np.empty(256, np.int64), np.empty(256, np.int64)
    count = 0
    power, salt = np.uint64(1), np.uint64(n) * LENGTH_SALT
    for _ in range(n):
        power = power * WORD_BASE
    for doc in range(offsets.size - 1):
        state = np.uint64(0)
        for word in range(offsets[doc], offsets[doc + 1]):
            state = state * WORD_BASE + hashes[word]
            begin = word - n + 1
            if begin < offsets[doc]:
                continue
            if begin > offsets[doc]:
                state -= hashes[begin - 1] * power
            key = mixed(state ^ salt)
            bit = np.int64(key >> np.uint64(20)) & (bits - 1)
            if (bitmap[bit >> 6] >> np.uint64(bit & 63)) & np.uint64(1) == 0:
                continue
            slot = np.int64(key & np.uint64(size - 1))
            while values[slot] >= 0 and keys[slot] != key:
                slot = (slot + 1) & (size - 1)
            if values[slot] >= 0:
                if count == at.size:
                    at = np.concatenate((at, np.empty(count, np.int64)))
                    found = np.concatenate((found, np.empty(count, np.int64)))
                at[count], found[count] = begin, values[slot]
                count += 1
    return at[:count].copy(), found[:count].copy()


@njit(cache=True, nogil=True)
def _whole_items(hashes, begins, prefixes, ends, candidates, items, lengths, gram_hashes):  # noqa: ANN001, ANN202
    """(word at which it begins, item) of every short item that stands whole where its first words were found."""
    at, found = np.empty(256, np.int64), np.empty(256, np.int64)
    count = 0
    for index in range(begins.size):
        for candidate in range(candidates[prefixes[index]], candidates[prefixes[index] + 1]):
            item = items[candidate]
            begin, n = begins[index], lengths[item]
            if begin + n > ends[index] or gram_hash(hashes, begin, n) != gram_hashes[item]:
                continue
            if count == at.size:
                at = np.concatenate((at, np.empty(count, np.int64)))
                found = np.concatenate((found, np.empty(count, np.int64)))
            at[count], found[count] = begin, item
            count += 1
    return at[:count].copy(), found[:count].copy()
