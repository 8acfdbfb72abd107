"""MinHash signatures of sets of 32-bit shingle hashes, bit-identical to datasketch 2.0's ``affine32`` scheme.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

_MURMUR1, _MURMUR2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)  # MurmurHash3's 32-bit finaliser
_S13, _S16 = np.uint32(13), np.uint32(16)
_EMPTY = np.uint32(0xFFFFFFFF)


def permutations(num_perm: int, seed: int) -> tuple[U32, U32]:
    """Odd multipliers and offsets of datasketch's permutations h → a·h + b modulo 2³²."""
    from datasketch import MinHash

    both = np.asarray(MinHash(num_perm=num_perm, seed=seed, scheme="affine32").permutations)
    return np.ascontiguousarray(both[0], np.uint32), np.ascontiguousarray(both[1], np.uint32)


def distinct(grams: NDArray[np.uint64], offsets: I64) -> tuple[U32, I64]:
    """The upper 32 bits of each gram hash, sorted and without repeats inside each document."""
    counts = np.diff(offsets)
    documents = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    keys = (documents << np.uint64(32)) | (grams >> np.uint64(32))
    keys.sort()  # one sort of (document, hash) for the whole piece, instead of a call for each document
    return _without_repeats(keys, len(counts))


def signatures(hashes: U32, offsets: I64, a: U32, b: U32) -> U32:
    """uint32 [documents, permutations]: the minimum of each permutation; all ones for an empty set, as datasketch."""
    return _signatures(hashes, offsets, a, b)


@njit(cache=True, nogil=True)
def _without_repeats(keys, num_docs):  # noqa: ANN001, ANN202
    hashes = np.empty(keys.size, np.uint32)
    offsets = np.zeros(num_docs + 1, np.int64)
    count = 0
    for index in range(keys.size):
        if index == 0 or keys[index] != keys[index - 1]:
            hashes[count] = np.uint32(keys[index] & np.uint64(0xFFFFFFFF))
            count += 1
            offsets[np.int64(keys[index] >> np.uint64(32)) + 1] += 1
    for doc in range(num_docs):
        offsets[doc + 1] += offsets[doc]
    return hashes[:count].copy(), offsets


@njit(cache=True, nogil=True)
def _signatures(hashes, offsets, a, b):  # noqa: ANN001, ANN202
    # numba widens uint32 · uint32 to uint64: without the casts not one of 112 values equals datasketch's
    num_docs, num_perm = offsets.size - 1, a.size
    out = np.empty((num_docs, num_perm), np.uint32)
    for doc in range(num_docs):
        row = out[doc]
        row[:] = _EMPTY
        for index in range(offsets[doc], offsets[doc + 1]):
            h = np.uint32(hashes[index])
            h = np.uint32(h ^ np.uint32(h >> _S16))
            h = np.uint32(h * _MURMUR1)
            h = np.uint32(h ^ np.uint32(h >> _S13))
            h = np.uint32(h * _MURMUR2)
            h = np.uint32(h ^ np.uint32(h >> _S16))
            for k in range(num_perm):
                value = np.uint32(np.uint32(a[k] * h) + b[k])
                row[k] = min(row[k], value)
    return out
