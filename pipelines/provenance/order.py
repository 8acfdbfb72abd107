"""The order: a keyed, invertible permutation in closed form, so that nothing about the order need be stored.

A mixed-radix Feistel network over [0, a*b) with a*b >= n, walked until it falls inside [0, n) (cycle walking;
Black & Rogaway 2002, "Ciphers with arbitrary finite domains"). The round function is the splitmix64 finaliser
(Steele, Lea & Flood 2014). It is no cryptography: it must only be a bijection that mixes well and that every
machine computes alike; hence unsigned 64-bit integers throughout and no random generator of any library.
Golden vectors in tests/pipelines/provenance freeze it as ``stemma-order/1``.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ALGORITHM = "stemma-order/1"
ROUNDS = 8
FEW = 12  # so many numbers are walked one by one
_MASK = 2**64 - 1
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
    return _walk(positions, [(size, key)], None, _forward)


def invert(images: np.ndarray, size: int, key: int) -> U64:
    """The positions that :func:`permute` puts at these images."""
    return _walk(images, [(size, key)], None, _backward)


def permute_each(positions: np.ndarray, domains: Sequence[tuple[int, int]], which: np.ndarray) -> U64:
    """:func:`permute` of each position in a permutation of its own, (size, key) = ``domains[which]``, all at once."""
    return _walk(positions, domains, which, _forward)


def invert_each(images: np.ndarray, domains: Sequence[tuple[int, int]], which: np.ndarray) -> U64:
    """Inverse of :func:`permute_each`."""
    return _walk(images, domains, which, _backward)


class _Domain(NamedTuple):
    """What a network over [0, size) needs; by column for many of them, [n], and [ROUNDS, n] keys."""

    size: Any
    a: Any
    b: Any
    keys: Any


@functools.lru_cache(maxsize=1 << 14)  # of a plan: 64 blocks and so many epochs by phase and part
def _domain(size: int, key: int) -> _Domain:
    a = math.isqrt(max(size, 1) - 1) + 1
    return _Domain(size, a, -(-size // a), [_mixed((key + r) & _MASK) for r in range(ROUNDS)])


def _walk(
    values: np.ndarray, domains: Sequence[tuple[int, int]], which: np.ndarray | None, through: Callable[..., U64]
) -> U64:
    given = np.asarray(values).reshape(-1)
    known = [_domain(size, key) for size, key in domains]
    which = None if len(known) == 1 else which  # one division by one number for all
    sizes = known[0].size if which is None else np.array([d.size for d in known], np.uint64)[which]
    if given.size and (
        given.dtype.kind not in "iu" or given.min() < 0 or bool((given.astype(np.uint64) >= sizes).any())
    ):
        raise ValueError(f"positions must be whole numbers in [0, {known[0].size if which is None else 'size'}).")
    x = given.astype(np.uint64)
    if x.size <= FEW:
        chosen = known * x.size if which is None else [known[index] for index in which]
        return np.array([_alone(int(v), d, through is _forward) for v, d in zip(x, chosen, strict=True)], np.uint64)
    table = _columns(known)
    domain = _Domain(*(column[..., 0] for column in table)) if which is None else table
    at = which
    x = through(x, *_taken(domain, at))
    while (outside := np.flatnonzero(x >= sizes)).size:
        at = None if which is None else which[outside]
        x[outside] = through(x[outside], *_taken(domain, at))
    return x


def _columns(known: Sequence[_Domain]) -> _Domain:
    sizes, a, b = (np.array([d[field] for d in known], np.uint64) for field in range(3))
    return _Domain(sizes, a, b, np.array([d.keys for d in known], np.uint64).T)


def _taken(domain: _Domain, which: np.ndarray | None) -> tuple[Any, Any, Any]:
    if which is None:
        return domain.a, domain.b, domain.keys
    return domain.a[which], domain.b[which], domain.keys[:, which]


def _forward(x: U64, a: Any, b: Any, keys: Any) -> U64:
    left, right = _divided(x, b)  # left in [0, a), right in [0, b)
    for index in range(ROUNDS):
        if index % 2 == 0:
            left = _turned(left, _rest(_mix(right ^ keys[index]), a), a)
        else:
            right = _turned(right, _rest(_mix(left ^ keys[index]), b), b)
    return left * b + right


def _backward(x: U64, a: Any, b: Any, keys: Any) -> U64:
    left, right = _divided(x, b)
    for index in reversed(range(ROUNDS)):
        if index % 2 == 0:
            left = _turned(left, a - _rest(_mix(right ^ keys[index]), a), a)
        else:
            right = _turned(right, b - _rest(_mix(left ^ keys[index]), b), b)
    return left * b + right


def _divided(x: U64, by: Any) -> tuple[U64, U64]:
    quotient = x // by
    return quotient, x - quotient * by


def _rest(x: U64, by: Any) -> U64:
    """Remainder; numpy divides by one number with vector instructions, but not for the remainder."""
    return x - x // by * by


def _turned(x: U64, step: U64, by: Any) -> U64:
    """(x + step) % by for x < by and step <= by: below 0 wraps around to what is larger than any sum."""
    x = x + step
    return np.minimum(x, x - by)


def _mix(x: U64) -> U64:
    """splitmix64 finaliser."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _mixed(x: int) -> int:
    """:func:`_mix` of one number, without numpy's 15 us of overhead."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def _alone(x: int, domain: _Domain, forward: bool) -> int:
    """The walk of one number: 8 us, where a call of numpy for it costs 300."""
    size, a, b, keys = domain
    while True:
        left, right = divmod(x, b)
        for index in range(ROUNDS) if forward else reversed(range(ROUNDS)):
            if index % 2 == 0:
                step = _mixed(right ^ keys[index]) % a
                left = (left + (step if forward else a - step)) % a
            else:
                step = _mixed(left ^ keys[index]) % b
                right = (right + (step if forward else b - step)) % b
        x = left * b + right
        if x < size:
            return x
