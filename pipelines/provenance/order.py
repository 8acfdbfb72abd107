"""The order: a keyed, invertible permutation in closed form, so that nothing about the order need be stored.

A mixed-radix Feistel network over [0, a*b) with a*b >= n, walked until it falls inside [0, n) (cycle walking;
Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). The round function is the splitmix64 finaliser
(Steele, Lea & Flood 2014). It is no cryptography: it must only be a bijection that mixes well and that every
machine computes alike; hence unsigned 64-bit integers throughout and no random generator of any library.
Golden vectors in tests/pipelines/provenance freeze it as ``stemma-order/1``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

ALGORITHM = "stemma-order/1"
ROUNDS = 8
U64 = NDArray[np.uint64]


def order_key(*words: int | str) -> int:
    """64 bits from whatever names a permutation: seed, phase, source, epoch."""
    if wrong := [word for word in words if type(word) not in (int, str)]:
        raise TypeError(f"{wrong[0]!r} is no plain int or str; a numpy integer would give another key.")
    text = "\x1f".join(f"{type(word).__name__}:{word}" for word in words)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def permute(positions: np.ndarray, size: int, key: int) -> U64:
    """Where the permutation of [0, size) puts each position.

    Raises:
        ValueError: if a position lies outside [0, size).
    """
    return _walk(positions, size, key, _forward)


def invert(images: np.ndarray, size: int, key: int) -> U64:
    """The positions that :func:`permute` puts at these images."""
    return _walk(images, size, key, _backward)


def _walk(values: np.ndarray, size: int, key: int, through: Callable[..., U64]) -> U64:
    given = np.asarray(values).reshape(-1)
    if given.size and (given.dtype.kind not in "iu" or given.min() < 0 or int(given.max()) >= size):
        raise ValueError(f"positions must be whole numbers in [0, {size}).")
    x = given.astype(np.uint64)
    if size <= 1:
        return x
    a = math.isqrt(size - 1) + 1
    b = -(-size // a)
    keys = [_mix(np.array([(key + r) % 2**64], np.uint64))[0] for r in range(ROUNDS)]
    x = through(x, np.uint64(a), np.uint64(b), keys)
    while (outside := np.flatnonzero(x >= size)).size:
        x[outside] = through(x[outside], np.uint64(a), np.uint64(b), keys)
    return x


def _forward(x: U64, a: np.uint64, b: np.uint64, keys: list[np.uint64]) -> U64:
    left, right = x // b, x % b  # left in [0, a), right in [0, b)
    for index, key in enumerate(keys):
        if index % 2 == 0:
            left = (left + _mix(right ^ key) % a) % a
        else:
            right = (right + _mix(left ^ key) % b) % b
    return left * b + right


def _backward(x: U64, a: np.uint64, b: np.uint64, keys: list[np.uint64]) -> U64:
    left, right = x // b, x % b
    for index, key in reversed(list(enumerate(keys))):
        if index % 2 == 0:
            left = (left + a - _mix(right ^ key) % a) % a
        else:
            right = (right + b - _mix(left ^ key) % b) % b
    return left * b + right


def _mix(x: U64) -> U64:
    """splitmix64 finaliser."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
