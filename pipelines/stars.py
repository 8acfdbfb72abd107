"""Near-duplicate search by stars: who shares a band bucket with whom, and which of them must go.

Documents come in the order of preference. Each is compared, by the true Jaccard of its shingle sets, with the earlier
survivors that share a band bucket with it, and goes if one of them reaches the threshold. Buckets therefore hold
survivors only: k near-identical documents cost k comparisons, not k².

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.containment import NOTHING, Held
from pipelines.words import mixed

U32, U64 = NDArray[np.uint32], NDArray[np.uint64]
I64, F64 = NDArray[np.int64], NDArray[np.float64]

_PRIME = np.uint64(0xD6E8FEB86659FD93)


def band_hashes(signatures: U32, bands: int, rows: int) -> U64:
    """[documents, bands]: 64 bits of each band of ``rows`` signature values."""
    return _band_hashes(np.ascontiguousarray(signatures), bands, rows)


class Buckets(NamedTuple):
    """Which documents share the value of a band: 8 bytes a membership, nothing for a document that meets nobody."""

    docs: I64  # numbers of the documents that share a bucket with another one, ascending
    starts: I64  # [docs + 1]: where the buckets of each begin in ids
    ids: U32  # buckets of each document, in the order of the bands
    begins: I64  # [buckets + 1]: as many places for each bucket as it has documents


def buckets(columns: Iterable[tuple[U64, I64]], num_docs: int) -> Buckets:
    """The buckets of all bands, one band at a time.

    Args:
        columns: for each band its hash of every document that has one, and the numbers of these documents.
        num_docs: documents of the corpus: no number is as large.
    """
    sizes, members, names = [np.zeros(0, np.int64)], [], []
    memberships, count = np.zeros(num_docs, np.int64), 0
    for column, numbers in columns:
        order = np.argsort(column)
        ordered = column[order]
        again = np.zeros(len(order) + 1, bool)  # has the value of the one before it
        again[1:-1] = ordered[1:] == ordered[:-1]
        shared = again[:-1] | again[1:]
        run = np.cumsum(~again[:-1][shared]) - 1
        members.append(numbers[order[shared]].astype(np.uint32))
        names.append((run + count).astype(np.uint32))
        sizes.append(np.bincount(run))
        memberships += np.bincount(members[-1], minlength=num_docs)
        count += len(sizes[-1])
    docs = np.flatnonzero(memberships)
    starts = np.concatenate([[0], np.cumsum(memberships[docs])]).astype(np.int64)
    memberships[docs] = starts[:-1]
    ids = np.empty(starts[-1], np.uint32)
    while members:
        _scatter(members.pop(0), names.pop(0), memberships, ids)
    return Buckets(docs, starts, ids, np.cumsum(np.concatenate([[0], *sizes])).astype(np.int64))


def also_in(column: U64, values: U64) -> I64:
    """Places in the column whose value stands among the values, which are sorted."""
    bits = 1 << max(10, int(16 * len(values)).bit_length())  # one false guess in sixteen
    maybe = _maybe_in(column, values, np.zeros(bits // 64, np.uint64))
    place = np.minimum(np.searchsorted(values, column[maybe]), max(len(values) - 1, 0))
    return maybe[values[place] == column[maybe]] if len(values) else maybe[:0]


def with_docs(found: Buckets, more: I64) -> Buckets:
    """The buckets with other documents, which share none."""
    docs = np.union1d(found.docs, more)
    lengths = np.zeros(len(docs), np.int64)
    lengths[np.searchsorted(docs, found.docs)] = np.diff(found.starts)
    return found._replace(docs=docs, starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


class Stars(NamedTuple):
    """What becomes of each document of the buckets; documents are given by their place in ``Buckets.docs``."""

    survivor: I64  # the one that it goes for; -1: it stays
    jaccard: F64  # of the two
    coverage: F64  # of the document by the survivor that holds it; 0 where likeness decided


def stars(found: Buckets, shingles: U32, offsets: I64, threshold: float, held: Held = NOTHING, first: int = 0) -> Stars:
    """Who goes for whom, the documents taken in the order of preference.

    ``shingles[offsets[i] : offsets[i + 1]]`` are those of document i. Of several survivors that reach the threshold the
    one with the highest Jaccard is named, then the first; where none does, of those that hold the document the one
    that holds most of it, then the first. Documents whose number is below ``first`` are known to stay.
    """
    holders = np.searchsorted(found.docs, held.hosts)
    begins = np.searchsorted(held.docs, np.append(found.docs, np.iinfo(np.int64).max))
    lists = (begins, holders, held.coverage)
    known = int(np.searchsorted(found.docs, first))
    return Stars(*_stars(found.starts, found.ids, found.begins, shingles, offsets, threshold, known, *lists))


def gather(begins: I64, values: U32, rows: I64, at: I64, out: U32) -> None:
    """Copy the lists of some rows to their places in ``out``."""
    _gather(begins, values, rows, at, out)


def jaccard(one: U32, other: U32) -> float:
    """True Jaccard of two sorted sets without repeats; 0 for two empty ones."""
    return float(_jaccard(one, other, 0.0))


@njit(cache=True, nogil=True)
def _band_hashes(signatures, bands, rows):  # noqa: ANN001, ANN202
    out = np.empty((signatures.shape[0], bands), np.uint64)
    for doc in range(signatures.shape[0]):
        for band in range(bands):
            state = np.uint64(band)
            for row in range(band * rows, (band + 1) * rows):
                state = mixed((state ^ np.uint64(signatures[doc, row])) * _PRIME)
            out[doc, band] = state
    return out


@njit(cache=True, nogil=True)
def _gather(begins, values, rows, at, out):  # noqa: ANN001, ANN202
    for index in range(rows.size):
        row = rows[index]
        for position in range(begins[row + 1] - begins[row]):
            out[at[index] + position] = values[begins[row] + position]


@njit(cache=True, nogil=True)
def _jaccard(one, other, threshold):  # noqa: ANN001, ANN202
    """Jaccard, or 0 as soon as it is certain that the threshold is out of reach."""
    total = one.size + other.size
    needed = threshold * total / (1.0 + threshold) - 1e-6  # common elements at exactly the threshold
    i, j, common = 0, 0, 0
    while i < one.size and j < other.size:
        if common + min(one.size - i, other.size - j) < needed:
            return 0.0
        a, b = one[i], other[j]
        common += a == b
        i += a <= b
        j += b <= a
    return common / (total - common) if total > common else 0.0


@njit(cache=True, nogil=True)
def _scatter(members, names, at, out):  # noqa: ANN001, ANN202
    for index in range(members.size):
        out[at[members[index]]] = names[index]
        at[members[index]] += 1


@njit(cache=True, nogil=True)
def _maybe_in(column, values, bitmap):  # noqa: ANN001, ANN202
    """Places whose value has the bits of one of the values."""
    last = np.uint64(bitmap.size * 64 - 1)
    for value in values:
        bit = value & last
        bitmap[bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))
    out = np.empty(column.size, np.int64)
    count = 0
    for at in range(column.size):
        bit = column[at] & last
        out[count] = at
        count += np.int64((bitmap[bit >> np.uint64(6)] >> (bit & np.uint64(63))) & np.uint64(1))
    return out[:count].copy()


@njit(cache=True, nogil=True)
def _stars(starts, ids, begins, shingles, offsets, threshold, known, held, holders, shares):  # noqa: ANN001, ANN202
    num_docs = starts.size - 1
    survivor = np.full(num_docs, -1, np.int64)
    best, coverage = np.zeros(num_docs, np.float64), np.zeros(num_docs, np.float64)
    staying = np.empty(begins[-1], np.uint32)  # survivors of each bucket, from its begin on
    ends = begins[:-1].copy()
    met = np.full(num_docs, -1, np.int64)
    for doc in range(num_docs):
        mine = shingles[offsets[doc] : offsets[doc + 1]]
        for place in range(starts[doc], starts[doc + 1] if doc >= known else starts[doc]):
            bucket = ids[place]
            for at in range(begins[bucket], ends[bucket]):
                other = np.int64(staying[at])
                if met[other] != doc:
                    met[other] = doc
                    found = _jaccard(mine, shingles[offsets[other] : offsets[other + 1]], threshold)
                    if found >= threshold and (found > best[doc] or (found == best[doc] and other < survivor[doc])):
                        survivor[doc], best[doc] = other, found
        if survivor[doc] < 0:
            survivor[doc], coverage[doc] = _holder(survivor, holders[held[doc] : held[doc + 1]], shares[held[doc] :])
            if survivor[doc] >= 0:
                other = survivor[doc]
                best[doc] = _jaccard(mine, shingles[offsets[other] : offsets[other + 1]], 0.0)
        if survivor[doc] < 0:
            for place in range(starts[doc], starts[doc + 1]):
                staying[ends[ids[place]]] = doc
                ends[ids[place]] += 1
    return survivor, best, coverage


@njit(cache=True, nogil=True)
def _holder(survivor, holders, shares):  # noqa: ANN001, ANN202
    """Of those that hold a document and stay the one that holds most of it, and how much; -1 if there is none."""
    chosen, most = np.int64(-1), 0.0
    for at in range(holders.size):
        if survivor[holders[at]] < 0 and shares[at] > most:
            chosen, most = holders[at], shares[at]
    return chosen, most
