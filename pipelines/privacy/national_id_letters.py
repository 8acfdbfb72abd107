"""National ids that begin with letters, as a kernel: see :mod:`pipelines.privacy.national_ids`.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.number_groups import is_day
from pipelines.privacy.text import DIGIT, among, byte, byte_set, ends, has_context, word_table

_NINO_WORDS = word_table("nino national insurance ni")
_PAN_WORDS = word_table("pan permanent income tax")
_DNI = np.frombuffer(b"TRWAGMYFPDXBNJZSQVHLCKE", np.uint8)
_NRIC, _FIN = np.frombuffer(b"JZIHGFEDCBA", np.uint8), np.frombuffer(b"XWUTRQPNMLK", np.uint8)
_NRIC_WEIGHTS = (2, 7, 6, 5, 4, 3, 2)
# Decreto ministeriale 12 marzo 1974: values of the characters in odd places, 0 to 9 as A to J, then K to Z
_ODD = np.array([1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23])
_OMOCODES = np.frombuffer(b"LMNPQRSTUV", np.uint8)  # stand for 0 to 9 where two people would share a code
_MONTHS = np.frombuffer(b"ABCDEHLMPRST", np.uint8)
_FISCALE, _CURP = "LLLLLLDDLDDLDDDL", "LLLLDDDDDDLLLLLLAD"

_NOT_NINO = np.array([ord(p[0]) << 8 | ord(p[1]) for p in ("BG", "GB", "KN", "NK", "NT", "TN", "ZZ")])
_NOT_IN_NINO = byte_set("DFIQUV")
_PAN_HOLDERS, _SEXES = byte_set("ABCFGHJLPT"), byte_set("HMX")


def _pattern(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_PATTERNS = (_pattern(_FISCALE), _pattern(_CURP), _pattern("LLLLLDDDDL"), _pattern("LDDDDDDDL"))


@njit(cache=True, nogil=True)
def lettered_end(data, i, lo, hi):  # noqa: ANN001, ANN201
    """Where the id that begins with the letter at i ends, or -1."""
    end = -1
    if _fits(data, i, hi, _PATTERNS[0], True) and _is_fiscale(data, i):
        end = i + 16
    elif _fits(data, i, hi, _PATTERNS[1], False) and _is_curp(data, i):
        end = i + 18
    elif _fits(data, i, hi, _PATTERNS[2], False) and _is_pan(data, i) and has_context(data, i, lo, _PAN_WORDS):
        end = i + 10
    elif _fits(data, i, hi, _PATTERNS[3], False) and (_is_nie(data, i) or _is_nric(data, i)):
        end = i + 9
    else:
        end = _nino_end(data, i, lo, hi)
        if end >= 0 and not has_context(data, i, lo, _NINO_WORDS):
            return -1
    return end if end >= 0 and ends(data, end, lo, hi) else -1


@njit(cache=True, nogil=True)
def _fits(data, i, hi, pattern, with_omocodes):  # noqa: ANN001, ANN202
    """L: a capital letter, D: a digit (or a letter that stands for one), A: either."""
    if i + pattern.size > hi:
        return False
    for k in range(pattern.size):
        letter = data[i + k]
        capital, digit = 0x41 <= letter <= 0x5A, DIGIT[letter]
        if pattern[k] == ord("L") and not capital:
            return False
        if pattern[k] == ord("D") and not digit and not (with_omocodes and among(_OMOCODES, letter)):
            return False
        if pattern[k] == ord("A") and not (capital or digit):
            return False
    return True


@njit(cache=True, nogil=True)
def _is_fiscale(data, i):  # noqa: ANN001, ANN202
    """Italy's codice fiscale: a month letter, and a check letter modulo 26."""
    if not among(_MONTHS, data[i + 8]):
        return False
    total = 0
    for k in range(15):
        value = np.int64(data[i + k]) - (48 if data[i + k] < 58 else 65)
        total += _ODD[value] if k % 2 == 0 else value
    return total % 26 == data[i + 15] - 65


@njit(cache=True, nogil=True)
def _is_curp(data, i):  # noqa: ANN001, ANN202
    """Mexico's CURP (RENAPO): YYMMDD, H, M or X, and a check digit modulo 10."""
    if not _SEXES[data[i + 10]]:
        return False
    if not is_day(_two(data, i + 4), _two(data, i + 6), _two(data, i + 8)):
        return False
    total = 0
    for k in range(17):
        letter = np.int64(data[i + k])
        value = letter - 48 if letter < 58 else letter - 55 + (letter > ord("N"))  # Ñ is 24
        total += value * (18 - k)
    return (10 - total % 10) % 10 == data[i + 17] - 48


@njit(cache=True, nogil=True)
def _two(data, i):  # noqa: ANN001, ANN202
    return (np.int64(data[i]) - 48) * 10 + data[i + 1] - 48


@njit(cache=True, nogil=True)
def _is_pan(data, i):  # noqa: ANN001, ANN202
    """India's PAN (Income Tax Department): the fourth letter is the kind of holder; its check letter is not public."""
    return _PAN_HOLDERS[data[i + 3]]


@njit(cache=True, nogil=True)
def _is_nie(data, i):  # noqa: ANN001, ANN202
    """Spain's NIE (Orden INT/2058/2008): X, Y and Z stand for 0, 1 and 2 before seven digits; a letter modulo 23."""
    if not ord("X") <= data[i] <= ord("Z"):
        return False
    value = np.int64(data[i]) - ord("X")
    for k in range(1, 8):
        value = value * 10 + data[i + k] - 48
    return data[i + 8] == _DNI[value % 23]


@njit(cache=True, nogil=True)
def _is_nric(data, i):  # noqa: ANN001, ANN202
    """Singapore's NRIC and FIN (ICA): S, T, F or G, and a letter modulo 11."""
    total = 4 if data[i] == ord("T") or data[i] == ord("G") else 0
    for k in range(7):
        total += (np.int64(data[i + 1 + k]) - 48) * _NRIC_WEIGHTS[k]
    if data[i] == ord("S") or data[i] == ord("T"):
        return data[i + 8] == _NRIC[total % 11]
    return (data[i] == ord("F") or data[i] == ord("G")) and data[i + 8] == _FIN[total % 11]


@njit(cache=True, nogil=True)
def _nino_end(data, i, lo, hi):  # noqa: ANN001, ANN202
    """The United Kingdom's National Insurance number (HMRC, NIM39110): AB123456C, also in pairs behind blanks."""
    one, two = byte(data, i, lo, hi), byte(data, i + 1, lo, hi)
    for letter in (one, two):
        if not ord("A") <= letter <= ord("Z") or _NOT_IN_NINO[letter]:
            return -1
    if two == ord("O") or among(_NOT_NINO, np.int64(one) << 8 | two):
        return -1
    at, spaced = i + 2, byte(data, i + 2, lo, hi) == ord(" ")
    for k in range(6):
        at += spaced and k % 2 == 0
        if spaced and k % 2 == 0 and byte(data, at - 1, lo, hi) != ord(" "):
            return -1
        if not DIGIT[byte(data, at, lo, hi)]:
            return -1
        at += 1
    if spaced:
        if byte(data, at, lo, hi) != ord(" "):
            return -1
        at += 1
    return at + 1 if ord("A") <= byte(data, at, lo, hi) <= ord("D") else -1
