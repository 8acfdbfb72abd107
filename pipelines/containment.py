"""Containment: documents that stand whole in another one, which no measure of likeness finds.

A quotation of one page in a book of four hundred has a Jaccard similarity near nought. Here a document is cut into
blocks of 50 words, and an earlier survivor holds it if its blocks stand there, wherever they stand: what goes is kept
word for word. 50 is the length from which on Lee et al. 2022 ("Deduplicating Training Data Makes Language Models
Better", section 4.1) call a repeated string of tokens no accident; theirs are tokens, these are words of ``words.py``
(characters in scripts without spaces). Shorter documents are never held.

Memory: 12 bytes a block of the corpus, as much again for those that another document holds, and the words of
documents that may be held; texts are read four times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines.documents import TEXTS
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batches
from pipelines.survival import Corpus

I64, U64, F64 = NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]


class ContainmentRecipe(Recipe):
    """Which documents go because another one quotes them."""

    containment: bool = Field(
        default=False, description="a document that an earlier one in the order of survival holds whole goes for it; "
        "then the longest document of a group is kept unless keep says otherwise",
    )  # fmt: skip
    span_words: int = Field(
        default=50, ge=5, le=10_000, description="words of a block (Lee et al. 2022: 50 tokens); shorter documents stay"
    )
    coverage: float = Field(
        default=1.0, gt=0, le=1, description="share of a document's words in blocks that the other one holds"
    )


class Held(NamedTuple):
    """Documents and the earlier ones that hold them, sorted by document, then by the one that holds it."""

    docs: I64  # numbers in the corpus
    hosts: I64
    coverage: F64


NOTHING = Held(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def held(corpus: Corpus, cleans: Sequence[Artifact], recipe: ContainmentRecipe) -> Held:
    """Every document that an earlier one holds; of those with the same words the first one stands for all."""
    n = recipe.span_words
    docs, sizes, begins, hashes = _blocks(corpus, cleans, n)
    hashes, keys = np.unique(hashes, return_inverse=True)
    list_begins, lists = _holders(corpus, cleans, n, hashes, _last(keys, docs, begins, len(hashes)))
    from pipelines import containment_kernel as kernel

    pairs = kernel.candidates(docs, sizes, begins, keys, list_begins, lists, n, recipe.coverage)
    pairs[:, 0] = docs[pairs[:, 0]]
    return _verified(corpus, cleans, pairs, recipe)


def _words(
    corpus: Corpus, cleans: Sequence[Artifact], wanted: NDArray[np.bool_] | None = None
) -> Iterator[tuple[I64, U64, I64]]:
    """Numbers, word hashes and their offsets of documents that stand for all of their words, some at a time.

    ``wanted`` says by number which of them; all if left out.
    """
    from pipelines import words

    for (row_of, number), clean in zip(corpus.sources, cleans, strict=True):
        number_of = np.empty_like(number)
        number_of[row_of] = number
        start = 0
        for batch in read_batches(clean.local(TEXTS), ["text"]):
            for texts in words.pieces(batch["text"]):
                here = number_of[start : start + len(texts)]
                start += len(texts)
                takes = corpus.alike[here] == here
                takes &= True if wanted is None else wanted[here]
                if takes.any():
                    some = texts if takes.all() else texts.filter(pa.array(takes))
                    yield here[takes], *words.word_hashes(some, unspaced=True)


def _blocks(corpus: Corpus, cleans: Sequence[Artifact], n: int) -> tuple[I64, I64, I64, U64]:
    """Documents of n words at least: number, words, where their blocks begin, and the hashes of these."""
    from pipelines import containment_kernel as kernel

    none = np.zeros(0, np.int64)
    docs, sizes, counts, hashes = [none], [none], [none], [np.zeros(0, np.uint64)]
    for numbers, words, offsets in _words(corpus, cleans):
        found, begins = kernel.blocks(words, offsets, n)
        long = np.flatnonzero(np.diff(begins))
        docs.append(numbers[long])
        sizes.append(np.diff(offsets)[long])
        counts.append(np.diff(begins)[long])
        hashes.append(found)
    begins = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return np.concatenate(docs), np.concatenate(sizes), begins, np.concatenate(hashes)


def _last(keys: I64, docs: I64, begins: I64, num_hashes: int) -> I64:
    """For each hash the last document that has it as a block: none behind it can hold one."""
    last = np.full(num_hashes, -1, np.int64)
    np.maximum.at(last, keys, np.repeat(docs, np.diff(begins)))
    return last


def _holders(corpus: Corpus, cleans: Sequence[Artifact], n: int, hashes: U64, last: I64) -> tuple[I64, I64]:
    """Documents in which the words of each hash stand anywhere, as lists: begins and numbers, ascending."""
    from pipelines import overlap_kernel

    bits = 1 << max(10, int(8 * len(hashes)).bit_length())
    table = overlap_kernel.hash_table(hashes, 1 << max(4, int(2 * len(hashes)).bit_length()), bits)
    found = [np.zeros((0, 2), np.int64)]
    for numbers, words, offsets in _words(corpus, cleans):
        at, key = overlap_kernel.scanned(words, offsets, n, *table)
        doc = numbers[np.searchsorted(offsets, at, side="right") - 1]
        useful = doc < last[key]
        found.append(np.unique(np.column_stack([key[useful], doc[useful]]), axis=0))
    pairs = np.concatenate(found)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return np.searchsorted(pairs[:, 0], np.arange(len(hashes) + 1)), np.ascontiguousarray(pairs[:, 1])


def _verified(corpus: Corpus, cleans: Sequence[Artifact], pairs: I64, recipe: ContainmentRecipe) -> Held:
    """Those pairs of which the one holds enough of the other, word for word."""
    from pipelines import containment_kernel as kernel
    from pipelines.words import gram_hashes

    if not len(pairs):
        return NOTHING
    wanted = np.zeros(len(corpus.ids), bool)
    wanted[pairs[:, 0]] = True
    parts = list(_words(corpus, cleans, wanted))
    place_of = np.full(len(corpus.ids), -1, np.int64)
    place_of[np.concatenate([numbers for numbers, _, _ in parts])] = np.arange(wanted.sum())
    words = np.concatenate([words for _, words, _ in parts])
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.diff(o) for _, _, o in parts]))]).astype(np.int64)
    by_host = pairs[np.argsort(pairs[:, 1], kind="stable")]
    share = np.zeros(len(by_host))
    wanted[:] = False
    wanted[by_host[:, 1]] = True
    for numbers, host_words, host_offsets in _words(corpus, cleans, wanted):
        grams, begins = gram_hashes(host_words, host_offsets, recipe.span_words)
        for index, number in enumerate(numbers.tolist()):
            first, last = np.searchsorted(by_host[:, 1], [number, number + 1])
            host = host_words[host_offsets[index] : host_offsets[index + 1]]
            here = grams[begins[index] : begins[index + 1]]
            docs = place_of[by_host[first:last, 0]]
            share[first:last] = kernel.coverages(host, here, words, offsets, docs, recipe.span_words)
    enough = share >= recipe.coverage
    found, share = by_host[enough], share[enough]
    order = np.lexsort((found[:, 1], found[:, 0]))
    return Held(np.ascontiguousarray(found[order, 0]), np.ascontiguousarray(found[order, 1]), share[order])
