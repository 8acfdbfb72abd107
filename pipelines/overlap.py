"""N-gram overlap of documents with a set of items (benchmark questions, held-out documents), by word.

Decontamination and evaluation share it. An item of 13 words or more is looked for by its 13-grams of words (GPT-3,
Brown et al. 2020, appendix C), a shorter one by one n-gram of all its words, down to a floor of 8; below the floor
the whole item must occur word by word, which counts as evidence from 5 words on. Shorter items are not checkable, and
are reported as such: 31 % of the ARC questions have fewer than 13 words, and a plain 13-gram rule never sees them.

A question below the n-gram's length may stand apart from its answer ("Answer:", or the choices, between them): it is
found where the whole question stands word by word and its answer within the next words. Five words in one piece are
asked for there as well; where neither of the two has them, nothing but a label of up to three words may stand between.

Case, punctuation and line breaks do not matter, since n-grams are of words. In scripts that are written without spaces
each character can count as a word; as evidence it counts half of one.

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
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import words
from pipelines.overlap_kernel import LABEL, REACH, begun, hash_table, scanned, whole_items

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
        return cls(*hash_table(grams, size, bits))


class OverlapIndex:
    """The n-grams of a set of items.

    Args:
        texts: of the items.
        ngram: words of an n-gram.
        floor: fewest words for which a shorter n-gram is used.
        phrase_floor: fewest words of a whole item that counts as a match.
        unspaced: each character of a script that is written without spaces is a word, and half of one for that floor.
        answers: by item the words at its end that are the answer, 0 where it has none; items are one piece if left out.
    """

    def __init__(
        self,
        texts: pa.Array,
        ngram: int = NGRAM,
        floor: int = FLOOR,
        phrase_floor: int = PHRASE_FLOOR,
        *,
        unspaced: bool = False,
        answers: I64 | None = None,
    ) -> None:
        self.unspaced = unspaced
        hashes, offsets = words.word_hashes(texts, unspaced=unspaced)
        evidence = np.diff(offsets) - (words.num_unspaced(texts) / 2 if unspaced else 0)
        self._index(hashes, offsets, evidence, (ngram, floor, phrase_floor), answers)

    @classmethod
    def of_hashes(cls, hashes: U64, offsets: I64, ngram: int, floor: int) -> OverlapIndex:
        """The n-grams of items whose units are hashed already; items of fewer units than ``floor`` cannot be checked."""
        index = cls.__new__(cls)
        index.unspaced = False
        index._index(hashes, offsets, np.diff(offsets), (ngram, floor, floor), None)  # noqa: SLF001 (of its own class)
        return index

    def _index(
        self, hashes: U64, offsets: I64, evidence: NDArray[Any], sizes: tuple[int, int, int], answers: I64 | None
    ) -> None:
        ngram, floor, phrase_floor = sizes
        if not 1 <= phrase_floor <= floor <= ngram:
            raise ValueError(f"expected 1 <= phrase_floor <= floor <= ngram, got {phrase_floor}, {floor}, {ngram}.")
        self.ngram, self.floor, self.phrase_floor = sizes
        self._hashes, self._offsets = hashes, offsets
        self.num_words: I64 = np.diff(offsets)
        self.lengths: I64 = np.where(evidence >= phrase_floor, np.minimum(self.num_words, ngram), 0)
        asked = self.num_words - (0 if answers is None else answers)
        answered = self.num_words - asked
        self._behind = (asked < phrase_floor) & (asked > 0) & (answered >= phrase_floor) & (answered < ngram)
        apart = (self.lengths > 0) & (answered > 0) & (asked >= phrase_floor) & (asked < ngram)
        short = (asked > 0) & (answered > 0) & (np.maximum(asked, answered) < phrase_floor)
        self._brief = short & (self.lengths > 0)  # neither question nor answer can be found by itself
        self._asked: I64 = np.where(apart | self._behind | self._brief, asked, 0)  # of a question that may stand apart
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

        One pass over a document then finds the short items of every length, and questions that stand apart. Of a
        question too short for that the answer is looked for; its item then counts from ``len(self)`` on.
        """
        behind = np.flatnonzero(self._behind)
        ahead = np.flatnonzero(((self.lengths > 0) & (self.lengths < self.ngram)) | (self._asked >= self.phrase_floor))
        return self._by_prefix(ahead, behind, self.phrase_floor)

    @property
    def _prefix(self) -> int:
        """Words that the longer one of a question and an answer has where both are short."""
        return -(-self.phrase_floor // 2)

    @cached_property
    def _shorter(self) -> tuple[NDArray[np.uint8], _Table, I64, I64]:
        """The same where neither question nor answer is that long, by the first words of the longer one.

        They are few, and first (1) and last (2) words are asked for before anything is hashed: 12 bits of each.
        """
        asks = 2 * self._asked >= self.num_words
        ahead, behind = np.flatnonzero(self._brief & asks), np.flatnonzero(self._brief & ~asks)
        begins = np.concatenate([self._offsets[ahead], self._offsets[behind] + self._asked[behind]])
        ends = np.zeros(1 << 12, np.uint8)
        ends[self._hashes[begins] >> np.uint64(52)] = 1
        ends[self._hashes[begins + self._prefix - 1] >> np.uint64(52)] |= 2
        return ends, *self._by_prefix(ahead, behind, self._prefix)

    def _by_prefix(self, ahead: I64, behind: I64, size: int) -> tuple[_Table, I64, I64]:
        """By the hash of so many words: items that begin so, and, from ``len(self)`` on, those whose answer does."""
        begins = np.concatenate([self._offsets[ahead], self._offsets[behind] + self._asked[behind]])
        prefixes = np.array([words.gram_hash(self._hashes, at, size) for at in begins], np.uint64)
        known, prefix_of = np.unique(prefixes, return_inverse=True)
        order = np.argsort(prefix_of, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(prefix_of, minlength=len(known)))]).astype(np.int64)
        return _Table.of(known), offsets, np.concatenate([ahead, behind + len(self)])[order]

    @cached_property
    def _grams_of(self) -> tuple[I64, I64]:
        """By item: offsets into its grams."""
        order = np.argsort(self._items, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(self._items, minlength=len(self)))])
        return offsets.astype(np.int64), self._gram_of[order]

    @cached_property
    def _whole(self) -> U64:
        """By item: the hash of its first gram, which is all of a short item; 0 for an item that cannot be checked."""
        whole = np.zeros(len(self), np.uint64)
        whole[self._items[self._places == 0]] = self.grams[self._gram_of[self._places == 0]]
        return whole

    @cached_property
    def _apart(self) -> tuple[I64, U64, I64, U64, I64]:
        """By item: words and hash of its question, those of its answer, and how many may stand between.

        0 words where it is looked for in one piece.
        """
        asked, answered = self._asked, np.where(self._asked > 0, self.num_words - self._asked, 0)
        hashes = np.zeros((2, len(self)), np.uint64)
        for item in np.flatnonzero(asked):
            begin, size = self._offsets[item], asked[item]
            hashes[0, item] = words.gram_hash(self._hashes, begin, size)
            hashes[1, item] = words.gram_hash(self._hashes, begin + size, answered[item])
        return asked, hashes[0], answered, hashes[1], np.where(self._brief, LABEL, REACH)

    def hits(self, texts: pa.Array) -> tuple[I64, I64]:
        """(document, gram) for every n-gram of a document that occurs in an item; repeated ones repeat."""
        return self._hits(*words.word_hashes(texts, unspaced=self.unspaced))

    def _hits(self, hashes: U64, offsets: I64) -> tuple[I64, I64]:
        found, grams = self._found(hashes, offsets)
        return np.searchsorted(offsets, found, side="right") - 1, grams

    def _found(self, hashes: U64, offsets: I64) -> tuple[I64, I64]:
        """(word at which it begins, gram)"""
        found = [scanned(hashes, offsets, self.ngram, *self._long)]
        table, *items = self._short
        found.append(self._shown_whole(hashes, offsets, scanned(hashes, offsets, self.phrase_floor, *table), *items))
        if self._brief.any():
            ends, table, *items = self._shorter
            here = begun(hashes, offsets, self._prefix, ends, table.keys, table.values)
            found.append(self._shown_whole(hashes, offsets, here, *items))
        return np.concatenate([at for at, _ in found]), np.concatenate([grams for _, grams in found])

    def _shown_whole(
        self, hashes: U64, offsets: I64, found: tuple[I64, I64], candidates: I64, items: I64
    ) -> tuple[I64, I64]:
        """As :meth:`_found`, of short items: where the first words of one were found, it may stand."""
        begins, prefixes = found
        homes = np.searchsorted(offsets, begins, side="right")
        inside = offsets[homes - 1], offsets[homes]  # where the documents begin and end in which they lie
        whole = np.where(self.num_words < self.ngram, self.lengths, 0), self._whole
        at, short = whole_items(hashes, begins, prefixes, inside, candidates, items, whole, self._apart)
        return at, np.searchsorted(self.grams, self._whole[short])

    def matches(self, texts: pa.Array) -> Matches:
        """The items that each of these documents overlaps with."""
        return self._matched(*self.hits(texts))

    def matches_of_hashes(self, hashes: U64, offsets: I64) -> Matches:
        """The same of documents whose units are hashed already."""
        return self._matched(*self._hits(hashes, offsets))

    def shown(self, hashes: U64, coverage: float) -> I64:
        """By word of one document: the item that it shows there, of those of which it shows this share; else -1.

        Where several do, the one with the highest coverage, then the first.
        """
        at, grams = self._found(hashes, np.array([0, len(hashes)]))
        found = self._matched(np.zeros(len(grams), np.int64), grams)
        item_of = np.full(len(hashes), -1, np.int64)
        offsets, grams_of = self._grams_of
        best = np.lexsort((found.items, -found.coverage))
        for item in found.items[best[found.coverage[best] >= coverage]][::-1].tolist():
            mine = at[np.isin(grams, grams_of[offsets[item] : offsets[item + 1]])]
            reached = (mine[:, None] + np.arange(int(self.lengths[item]))).ravel()
            item_of[reached[reached < len(hashes)]] = item  # an answer apart may stand nearer than the item is long
        return item_of

    def _matched(self, documents: I64, grams: I64) -> Matches:
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


class Matcher(Protocol):
    """Whatever tells matches of texts."""

    def matches(self, texts: pa.Array) -> Matches: ...


def matches_of(index: Matcher, texts: pa.ChunkedArray) -> Iterator[Matches]:
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
