"""Runs of digits in groups (4111-1111-1111-1111): what cards, national ids and phone numbers are read from.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.text import DIGIT, byte, byte_set

MAX_GROUPS, MAX_DIGITS = 7, 31  # France's NIR has seven groups, a card number five at most
SEPARATORS = byte_set(" -./")


def shape(*lengths: int) -> int:
    """The lengths of groups as one number, five bits each: what :func:`read_groups` gives for them."""
    value = 0
    for length in lengths:
        value = value << 5 | length
    return value


def buffers() -> tuple[np.ndarray, np.ndarray]:
    """Digits (uint8) and, for each group, its end, digits up to it, shape up to it, separator up to it (int64)."""
    return np.zeros(MAX_DIGITS + 1, np.uint8), np.zeros((MAX_GROUPS, 4), np.int64)


END, DIGITS, SHAPE, SEPARATOR = 0, 1, 2, 3
NO_SEPARATOR, MIXED = 0, 1


@njit(cache=True, nogil=True)
def read_groups(data, i, lo, hi, digits, groups):  # noqa: ANN001, ANN201
    """Read groups of digits that single separators join; the number of groups.

    ``groups[k]`` says where group k ends, how many digits and which shape there are up to it, and the one separator
    between them: 0 for none, 1 for several different ones. A run of more than 31 digits has no groups at all.
    """
    count, total, form, separator = 0, 0, np.int64(0), NO_SEPARATOR
    while count < MAX_GROUPS:
        first = i
        while i < hi and DIGIT[data[i]]:
            if total == MAX_DIGITS:
                return count
            digits[total] = data[i] - 48
            total += 1
            i += 1
        if i == first:
            return count
        form = form << 5 | (i - first)
        groups[count, END], groups[count, DIGITS] = i, total
        groups[count, SHAPE], groups[count, SEPARATOR] = form, separator
        count += 1
        after = byte(data, i, lo, hi)
        if not SEPARATORS[after] or not DIGIT[byte(data, i + 1, lo, hi)]:
            return count
        separator = after if separator == NO_SEPARATOR or separator == after else MIXED  # noqa: PLR1714, SIM109
        i += 1
    return count


@njit(cache=True, nogil=True)
def luhn(digits, first, last):  # noqa: ANN001, ANN201
    """ISO/IEC 7812-1, annex B: the last digit makes the sum with every second digit doubled a multiple of ten."""
    total = 0
    for k in range(first, last):
        value = np.int64(digits[k])
        if (last - k) % 2 == 0:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


@njit(cache=True, nogil=True)
def number(digits, first, last):  # noqa: ANN001, ANN201
    value = np.int64(0)
    for k in range(first, last):
        value = value * 10 + digits[k]
    return value


@njit(cache=True, nogil=True)
def weighted(digits, weights):  # noqa: ANN001, ANN201
    """The sum of digit times weight over the first digits."""
    total = 0
    for k in range(len(weights)):
        total += np.int64(digits[k]) * weights[k]
    return total


@njit(cache=True, nogil=True)
def is_day(year, month, day):  # noqa: ANN001, ANN201
    """Whether a month has that day; of a year only whether it is a leap year."""
    if not 1 <= month <= 12 or day < 1:
        return False
    longest = 30 if month in (4, 6, 9, 11) else 31
    if month == 2:
        longest = 29 if year % 4 == 0 else 28
    return day <= longest
