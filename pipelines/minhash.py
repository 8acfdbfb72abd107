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
    keys = _keys(grams, offsets)
    keys.sort()  # one sort of (document, hash) for the whole piece, instead of a call for each document
    return _without_repeats(keys, len(offsets) - 1)


def signatures(hashes: U32, offsets: I64, a: U32, b: U32) -> U32:
    """uint32 [documents, permutations]: the minimum of each permutation; all ones for an empty set, as datasketch."""
    return _signatures(hashes, offsets, a, b)


@njit(cache=True, nogil=True)
def _keys(grams, offsets):  # noqa: ANN001, ANN202
    """Document and upper half of the hash, as one number."""
    keys = np.empty(grams.size, np.uint64)
    for doc in range(offsets.size - 1):
        upper = np.uint64(doc) << np.uint64(32)
        for index in range(offsets[doc], offsets[doc + 1]):
            keys[index] = upper | (grams[index] >> np.uint64(32))
    return keys


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
    """Eight shingles at a time: the minima, multipliers and offsets are read and written once for all of them."""
    # numba widens uint32 · uint32 to uint64: without the casts not one of 112 values equals datasketch's
    num_docs, num_perm = offsets.size - 1, a.size
    out = np.empty((num_docs, num_perm), np.uint32)
    for doc in range(num_docs):
        row = out[doc]
        row[:] = _EMPTY
        at, end = offsets[doc], offsets[doc + 1]
        while at < end:
            # past the end the last shingle is taken again, which changes no minimum
            h0, h1 = _fmix(hashes[at]), _fmix(hashes[min(at + 1, end - 1)])
            h2, h3 = _fmix(hashes[min(at + 2, end - 1)]), _fmix(hashes[min(at + 3, end - 1)])
            h4, h5 = _fmix(hashes[min(at + 4, end - 1)]), _fmix(hashes[min(at + 5, end - 1)])
            h6, h7 = _fmix(hashes[min(at + 6, end - 1)]), _fmix(hashes[min(at + 7, end - 1)])
            for k in range(num_perm):
                a_k, b_k = a[k], b[k]
                v0, v1 = np.uint32(np.uint32(a_k * h0) + b_k), np.uint32(np.uint32(a_k * h1) + b_k)
                v2, v3 = np.uint32(np.uint32(a_k * h2) + b_k), np.uint32(np.uint32(a_k * h3) + b_k)
                v4, v5 = np.uint32(np.uint32(a_k * h4) + b_k), np.uint32(np.uint32(a_k * h5) + b_k)
                v6, v7 = np.uint32(np.uint32(a_k * h6) + b_k), np.uint32(np.uint32(a_k * h7) + b_k)
                row[k] = min(row[k], v0, v1, v2, v3, v4, v5, v6, v7)
            at += 8
    return out


@njit(cache=True, nogil=True)
def _fmix(number):  # noqa: ANN001, ANN202
    h = np.uint32(number)
    h = np.uint32(h ^ np.uint32(h >> _S16))
    h = np.uint32(h * _MURMUR1)
    h = np.uint32(h ^ np.uint32(h >> _S13))
    h = np.uint32(h * _MURMUR2)
    return np.uint32(h ^ np.uint32(h >> _S16))
