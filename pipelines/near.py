"""Near-duplicates: candidates from the bands of the signatures, each verified on the shingles of both documents.

Memory: band hashes wait on disk and are sorted one band at a time (24 bytes a document); then 12 bytes a membership
in a bucket that two documents share, and 4 bytes a shingle of those documents alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.containment import Held
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.tables import read_batches
from pipelines.signatures import SHINGLES, SIGNATURES
from pipelines.survival import Corpus

I64, F64 = NDArray[np.int64], NDArray[np.float64]


class Found(NamedTuple):
    """By document, for whom it goes."""

    survivor: I64  # -1 where it stays
    jaccard: F64
    coverage: F64  # 0 unless it goes because the survivor holds it


def near(
    corpus: Corpus, signatures: list[Artifact], threshold: float, bands: int, rows: int, scratch: Path, held: Held
) -> Found:
    """For each document the survivor whose near-duplicate it is, or else that holds it."""
    from pipelines import stars

    size = len(corpus.ids)
    into = Found(np.full(size, -1, np.int64), np.zeros(size), np.zeros(size))
    with tempfile.TemporaryFile(prefix="bands-", dir=scratch) as file:
        numbers = _spilled(corpus, signatures, bands, rows, file)
        columns = (_column(file, [len(some) for some in numbers], band, bands) for band in range(bands))
        found = stars.buckets(columns, np.concatenate([np.zeros(0, np.int64), *numbers]))
    found = stars.with_docs(found, np.concatenate([held.docs, held.hosts]))
    shingles, offsets = _shingles(corpus, signatures, found.docs)
    settled = stars.stars(found, shingles, offsets, threshold, held)
    goes = settled.survivor >= 0
    into.survivor[found.docs[goes]] = found.docs[settled.survivor[goes]]
    into.jaccard[found.docs[goes]] = settled.jaccard[goes]
    into.coverage[found.docs[goes]] = settled.coverage[goes]
    return into


def _spilled(corpus: Corpus, signatures: list[Artifact], bands: int, rows: int, file: IO[bytes]) -> list[I64]:
    """Write the hashes of all bands, band by band within each batch; returns the numbers of its documents.

    A document with the words of an earlier one follows it, and one without words is nobody's near-duplicate: of both
    there are no hashes.
    """
    from pipelines import stars

    numbers = []
    for (row_of, number), signature in zip(corpus.sources, signatures, strict=True):
        number_of = np.empty_like(number)
        number_of[row_of] = number
        start = 0
        for batch in read_batches(signature.local(SIGNATURES), ["signature", "num_words"]):
            here = number_of[start : start + batch.num_rows]
            start += batch.num_rows
            wanted = (corpus.alike[here] == here) & (np.asarray(batch["num_words"]) > 0)
            values = batch["signature"].chunk(0).flatten().to_numpy().reshape(batch.num_rows, -1)
            file.write(stars.band_hashes(values[wanted], bands, rows).T.tobytes())
            numbers.append(here[wanted])
    return numbers


def _column(file: IO[bytes], sizes: list[int], band: int, bands: int) -> NDArray[np.uint64]:
    """The hashes of one band, batch after batch."""
    column, begin, at = np.empty(sum(sizes), np.uint64), 0, 0
    for size in sizes:
        file.seek(8 * (begin + band * size))
        column[at : at + size] = np.frombuffer(file.read(8 * size), np.uint64)
        begin, at = begin + bands * size, at + size
    return column


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
            yield lists.offsets.to_numpy(), lists.values.to_numpy(), rows, places[rows]
