"""Addresses of crypto-currencies, each by its own checksum, as kernels.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.text import (
    DIGIT,
    among,
    begins,
    byte,
    byte_set,
    ends,
    has_context,
    run_end,
    starts_with,
    word_table,
)

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # Bitcoin's alphabet: without 0, O, I and l
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"  # BIP 173
_VERSIONS = np.array([0x00, 0x05, 0x30, 0x32, 0x1E])  # Bitcoin P2PKH and P2SH, Litecoin's two, Dogecoin
_HUMAN_PARTS = (np.frombuffer(b"bc1", np.uint8), np.frombuffer(b"ltc1", np.uint8))
_CHECKSUMS = (1, 0x2BC830A3)  # bech32 (BIP 173) and bech32m (BIP 350)
_GENERATOR = np.array([0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3], np.int64)
_HEX = byte_set("0123456789abcdefABCDEF")
_BASE58_BYTES, _BECH32_BYTES = byte_set(_BASE58), byte_set(_BECH32)
_VALUE58, _VALUE32 = np.zeros(256, np.int64), np.zeros(256, np.int64)
_VALUE58[np.frombuffer(_BASE58.encode(), np.uint8)] = np.arange(58)
_VALUE32[np.frombuffer(_BECH32.encode(), np.uint8)] = np.arange(32)
_WORDS = word_table("eth* ether* wallet* address* erc token* contract* account* crypto* donat* coin*")


def _roots(root: float, count: int) -> np.ndarray:
    """32 bits of the fractions of the first primes' roots (FIPS 180-4, 4.2.2 and 5.3.3)."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, int(n**0.5) + 1))][:count]
    scale = 1 << (32 * round(1 / root))
    return np.array([_integer_root(p * scale, round(1 / root)) & 0xFFFFFFFF for p in primes], np.uint32)


def _integer_root(value: int, degree: int) -> int:
    low, high = 0, 1 << 48
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle)
    return low


_K, _H = _roots(1 / 3, 64), _roots(1 / 2, 8)


def _keccak_constants() -> tuple[np.ndarray, np.ndarray]:
    """Round constants and rotations of Keccak-f[1600] (FIPS 202, 3.2.2 and 3.2.5)."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for j in range(7):
            constant |= (register & 1) << ((1 << j) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    rotations, x, y = np.zeros((5, 5), np.uint64), 1, 0
    for t in range(24):
        rotations[x, y] = (t + 1) * (t + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return np.array(constants, np.uint64), rotations


_ROUNDS, _ROTATIONS = _keccak_constants()


@njit(cache=True, nogil=True)
def crypto_end(data, i, lo, hi):  # noqa: ANN001, ANN201
    """Where the address that begins at i ends, or -1."""
    if not begins(data, i, lo):
        return -1
    if data[i] == ord("0"):
        return _ethereum_end(data, i, lo, hi)
    end = _base58_end(data, i, lo, hi)
    return end if end >= 0 else _bech32_end(data, i, lo, hi)


@njit(cache=True, nogil=True)
def _ethereum_end(data, i, lo, hi):  # noqa: ANN001, ANN202
    """0x and 40 hexadecimal digits: of both cases by ERC-55's checksum, of one case behind a word that says so."""
    end = i + 42
    if end > hi or data[i + 1] != ord("x") or run_end(data, i + 2, end, _HEX) != end or not ends(data, end, lo, hi):
        return -1
    lower, upper = False, False
    for k in range(i + 2, end):
        lower |= data[k] >= 0x61
        upper |= 0x41 <= data[k] <= 0x46
    if not (lower and upper):
        return end if has_context(data, i, lo, _WORDS) else -1
    digest = _keccak_256_of_lower(data, i + 2)
    for k in range(40):
        nibble = (digest[k // 16] >> np.uint64((k % 16 // 2) * 8 + (4 if k % 2 == 0 else 0))) & np.uint64(15)
        letter = data[i + 2 + k]
        if not DIGIT[letter] and (nibble >= 8) != (letter < 0x61):
            return -1
    return end


@njit(cache=True, nogil=True)
def _base58_end(data, i, lo, hi):  # noqa: ANN001, ANN202
    """Base58Check: 25 bytes, of which the last four begin SHA-256 of SHA-256 of the others."""
    end = run_end(data, i, min(hi, i + 36), _BASE58_BYTES)
    if not 26 <= end - i <= 35 or not ends(data, end, lo, hi):
        return -1
    raw = np.zeros(25, np.uint8)
    for k in range(i, end):
        carry = _VALUE58[data[k]]
        for j in range(24, -1, -1):
            carry += 58 * np.int64(raw[j])
            raw[j] = carry & 0xFF
            carry >>= 8
        if carry:
            return -1
    if not among(_VERSIONS, raw[0]) or (raw[0] == 0) != (data[i] == ord("1")):
        return -1
    block = np.zeros(32, np.uint8)
    _sha_256(raw, 21, block)
    _sha_256(block, 32, block)
    for k in range(4):
        if block[k] != raw[21 + k]:
            return -1
    return end


@njit(cache=True, nogil=True)
def _bech32_end(data, i, lo, hi):  # noqa: ANN001, ANN202
    """A segregated witness address: human part, 1, data and six symbols of checksum, all in one case."""
    cased = np.empty(92, np.uint8)
    size = min(92, hi - i)
    upper = byte(data, i, lo, hi) < 0x61
    for k in range(size):
        letter = data[i + k]
        is_upper, is_lower = 0x41 <= letter <= 0x5A, 0x61 <= letter <= 0x7A
        if (is_upper and not upper) or (is_lower and upper):
            size = k
            break
        cased[k] = letter | 0x20 if is_upper else letter
    for human in _HUMAN_PARTS:
        if not starts_with(cased, 0, size, human):
            continue
        end = run_end(cased, human.size, size, _BECH32_BYTES)
        if not 14 <= end <= 90 or not ends(data, i + end, lo, hi):
            return -1
        state = np.int64(1)
        for k in range(human.size - 1):
            state = _polymod(state, np.int64(cased[k]) >> 5)
        state = _polymod(state, 0)
        for k in range(human.size - 1):
            state = _polymod(state, np.int64(cased[k]) & 31)
        for k in range(human.size, end):
            state = _polymod(state, _VALUE32[cased[k]])
        return i + end if state == _CHECKSUMS[0] or state == _CHECKSUMS[1] else -1
    return -1


@njit(cache=True, nogil=True)
def _polymod(state, value):  # noqa: ANN001, ANN202
    top = state >> 25
    state = ((state & 0x1FFFFFF) << 5) ^ value
    for k in range(5):
        if (top >> k) & 1:
            state ^= _GENERATOR[k]
    return state


@njit(cache=True, nogil=True, inline="always")
def _turned(x, n):  # noqa: ANN001, ANN202
    return ((x >> np.uint32(n)) | (x << np.uint32(32 - n))) & np.uint32(0xFFFFFFFF)


@njit(cache=True, nogil=True)
def _sha_256(message, size, out):  # noqa: ANN001, ANN202
    """SHA-256 (FIPS 180-4) of a message of one block, at most 55 bytes."""
    w = np.zeros(64, np.uint32)
    for k in range(size):
        w[k // 4] |= np.uint32(message[k]) << np.uint32(24 - 8 * (k % 4))
    w[size // 4] |= np.uint32(0x80) << np.uint32(24 - 8 * (size % 4))
    w[15] = np.uint32(size * 8)
    for t in range(16, 64):
        s0 = _turned(w[t - 15], 7) ^ _turned(w[t - 15], 18) ^ (w[t - 15] >> np.uint32(3))
        s1 = _turned(w[t - 2], 17) ^ _turned(w[t - 2], 19) ^ (w[t - 2] >> np.uint32(10))
        w[t] = np.uint32(w[t - 16] + s0 + w[t - 7] + s1)
    v = _H.copy()
    for t in range(64):
        s1 = _turned(v[4], 6) ^ _turned(v[4], 11) ^ _turned(v[4], 25)
        one = np.uint32(v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + _K[t] + w[t])
        s0 = _turned(v[0], 2) ^ _turned(v[0], 13) ^ _turned(v[0], 22)
        two = np.uint32(s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2])))
        for k in range(7, 0, -1):
            v[k] = v[k - 1]
        v[4] = np.uint32(v[4] + one)
        v[0] = np.uint32(one + two)
    for k in range(8):
        word = np.uint32(v[k] + _H[k])
        for j in range(4):
            out[4 * k + j] = (word >> np.uint32(24 - 8 * j)) & np.uint32(0xFF)


@njit(cache=True, nogil=True)
def _keccak_256_of_lower(data, i):  # noqa: ANN001, ANN202, C901
    """Keccak-256 of 40 hexadecimal digits in small letters: 25 lanes, of which the first four are the digest."""
    a = np.zeros((5, 5), np.uint64)
    for k in range(40):
        letter = np.uint64(data[i + k] | 0x20)  # digits have that bit already
        a[k // 8 % 5, k // 40] ^= letter << np.uint64(8 * (k % 8))
    a[0, 1] ^= np.uint64(1)  # byte 40: Keccak's own padding, not SHA-3's
    a[1, 3] ^= np.uint64(0x80) << np.uint64(56)  # byte 135: the end of the rate of 1,088 bits
    b, c = np.zeros((5, 5), np.uint64), np.zeros(5, np.uint64)
    for constant in _ROUNDS:
        for x in range(5):
            c[x] = a[x, 0] ^ a[x, 1] ^ a[x, 2] ^ a[x, 3] ^ a[x, 4]
        for x in range(5):
            right = c[(x + 1) % 5]
            d = c[(x + 4) % 5] ^ ((right << np.uint64(1)) | (right >> np.uint64(63)))
            for y in range(5):
                a[x, y] ^= d
        for x in range(5):
            for y in range(5):
                n = _ROTATIONS[x, y]
                lane = a[x, y]
                if n:
                    lane = (lane << n) | (lane >> (np.uint64(64) - n))
                b[y, (2 * x + 3 * y) % 5] = lane
        for x in range(5):
            for y in range(5):
                a[x, y] = b[x, y] ^ (~b[(x + 1) % 5, y] & b[(x + 2) % 5, y])
        a[0, 0] ^= constant
    digest = np.empty(4, np.uint64)
    for x in range(4):
        digest[x] = a[x, 0]
    return digest
