"""Near-duplicate search by stars: who shares a band bucket with whom, and which of them must go.

Documents come in the order of preference. Each is compared, by the true Jaccard of its shingle sets, with the earlier
survivors that share a band bucket with it, and goes if one of them reaches the threshold. Buckets therefore hold
survivors only: k near-identical documents cost k comparisons, not k².

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipelines.words import mixed

U32, U64 = NDArray[np.uint32], NDArray[np.uint64]
I64, F64 = NDArray[np.int64], NDArray[np.float64]

_PRIME = np.uint64(0xD6E8FEB86659FD93)


def band_hashes(signatures: U32, bands: int, rows: int) -> U64:
    """[documents, bands]: 64 bits of each band of ``rows`` signature values."""
    return _band_hashes(np.ascontiguousarray(signatures), bands, rows)


def buckets(hashes: U64) -> tuple[I64, int]:
    """[documents, bands] the bucket of each band, -1 where no other document has the same; and their number."""
    out = np.full(hashes.shape, -1, np.int64)
    count = 0
    for band in range(hashes.shape[1]):
        column = hashes[:, band]
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        fresh = np.ones(len(order), bool)
        fresh[1:] = ordered[1:] != ordered[:-1]
        run = np.cumsum(fresh) - 1
        sizes = np.bincount(run, minlength=1)
        shared = np.where(sizes > 1, np.cumsum(sizes > 1) - 1 + count, -1)
        out[order, band] = shared[run]
        count += int((sizes > 1).sum())
    return out, count


def stars(bucket_ids: I64, num_buckets: int, shingles: U32, offsets: I64, threshold: float) -> tuple[I64, F64]:
    """For each document, in the order of preference, the survivor that it goes for (-1: it stays) and their Jaccard.

    Of several survivors that reach the threshold the one with the highest Jaccard is named, then the first.
    """
    return _stars(bucket_ids, num_buckets, shingles, offsets, threshold)


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
def _stars(bucket_ids, num_buckets, shingles, offsets, threshold):  # noqa: ANN001, ANN202
    num_docs, bands = bucket_ids.shape
    survivor = np.full(num_docs, -1, np.int64)
    best = np.zeros(num_docs, np.float64)
    head = np.full(num_buckets, -1, np.int64)  # newest survivor of a bucket, as document · bands + band
    before = np.full(num_docs * bands, -1, np.int64)  # the survivor that stood there earlier
    met = np.full(num_docs, -1, np.int64)
    for doc in range(num_docs):
        mine = shingles[offsets[doc] : offsets[doc + 1]]
        for band in range(bands):
            bucket = bucket_ids[doc, band]
            entry = head[bucket] if bucket >= 0 else np.int64(-1)
            while entry >= 0:
                other = entry // bands
                if met[other] != doc:
                    met[other] = doc
                    found = _jaccard(mine, shingles[offsets[other] : offsets[other + 1]], threshold)
                    if found >= threshold and (found > best[doc] or (found == best[doc] and other < survivor[doc])):
                        survivor[doc], best[doc] = other, found
                entry = before[entry]
        if survivor[doc] < 0:
            for band in range(bands):
                bucket = bucket_ids[doc, band]
                if bucket >= 0:
                    before[doc * bands + band] = head[bucket]
                    head[bucket] = doc * bands + band
    return survivor, best
