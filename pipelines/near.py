"""Near-duplicates: candidates from the bands of the signatures, each verified on the shingles of both documents.

Memory: band hashes wait on disk (``band_index.py``) and are sorted one band at a time (24 bytes a document); then 12
bytes a membership in a bucket that two documents share, and 4 bytes a shingle of those documents alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.band_index import BandHashes, SettledIndex
from pipelines.containment import Held
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.tables import read_batches
from pipelines.signatures import SHINGLES
from pipelines.survival import Corpus

I64, U64, F64 = NDArray[np.int64], NDArray[np.uint64], NDArray[np.float64]


class Found(NamedTuple):
    """By document, for whom it goes."""

    survivor: I64  # -1 where it stays
    jaccard: F64
    coverage: F64  # 0 unless it goes because the survivor holds it


def near(
    corpus: Corpus,
    signatures: list[Artifact],
    hashes: BandHashes,
    earlier: Sequence[Artifact],
    threshold: float,
    held: Held,
) -> Found:
    """For each document the survivor whose near-duplicate it is, or else that holds it.

    Args:
        corpus: all documents.
        signatures: of all sources, by rank.
        hashes: of the documents that are looked at; of those before them is said that they stay.
        earlier: parts of the first sources, whose documents are settled; their index tells who meets a new document.
        threshold: Jaccard from which on a document goes.
        held: who holds whom.
    """
    from pipelines import stars

    size = len(corpus.ids)
    into = Found(np.full(size, -1, np.int64), np.zeros(size), np.zeros(size))
    found = stars.buckets(_columns(corpus, hashes, earlier), size)
    found = stars.with_docs(found, np.concatenate([held.docs, held.hosts]))
    shingles, offsets = _shingles(corpus, signatures, found.docs)
    first = sum(len(number) for _, number in corpus.sources[: len(earlier)])
    settled = stars.stars(found, shingles, offsets, threshold, held, first)
    goes = settled.survivor >= 0
    into.survivor[found.docs[goes]] = found.docs[settled.survivor[goes]]
    into.jaccard[found.docs[goes]] = settled.jaccard[goes]
    into.coverage[found.docs[goes]] = settled.coverage[goes]
    return into


def _columns(corpus: Corpus, hashes: BandHashes, earlier: Sequence[Artifact]) -> Iterator[tuple[U64, I64]]:
    """By band: the hashes of the documents that are looked at and of the earlier survivors that share one of them."""
    ranks, index = range(len(earlier), len(corpus.sources)), SettledIndex(corpus, earlier)
    for band in range(hashes.bands):
        column, numbers = hashes.column(band, ranks)
        if earlier:
            known, theirs = index.met(band, np.sort(column))
            column, numbers = np.concatenate([column, known]), np.concatenate([numbers, theirs])
        yield column, numbers


def _shingles(corpus: Corpus, signatures: list[Artifact], wanted: I64) -> tuple[NDArray[np.uint32], I64]:
    """Shingle hashes of some documents, given by their ascending numbers, as one flat array with offsets."""
    from pipelines import stars

    place_of = np.full(len(corpus.ids), -1, np.int64)
    place_of[wanted] = np.arange(len(wanted))
    lengths = np.zeros(len(wanted), np.int64)
    for begins, _, rows, places in _lists(corpus, signatures, place_of):
        lengths[places] = begins[rows + 1] - begins[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.empty(offsets[-1], np.uint32)
    for begins, values, rows, places in _lists(corpus, signatures, place_of):
        stars.gather(begins, values, rows, offsets[places], flat)
    return flat, offsets


def _lists(
    corpus: Corpus, signatures: list[Artifact], place_of: I64
) -> Iterator[tuple[I64, NDArray[np.uint32], I64, I64]]:
    """By record batch: offsets and values of its shingles, the rows with a place, and their places."""
    for (row_of, number), signature in zip(corpus.sources, signatures, strict=True):
        place = np.empty_like(number)
        place[row_of] = place_of[number]
        start = 0
        for batch in read_batches(signature.local(SHINGLES), ["hashes"]):
            lists = batch["hashes"].chunk(0)
            places = place[start : start + batch.num_rows]
            start += batch.num_rows
            rows = np.flatnonzero(places >= 0)
            if not len(rows):
                continue
            yield lists.offsets.to_numpy(), lists.values.to_numpy(), rows, places[rows]
