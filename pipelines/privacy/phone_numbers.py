"""Phone numbers, international and national, as a kernel.

International: ITU-T E.164, a country code that is in use and as many digits as its plan has. National: North America's
3-3-4 (NANP: area and exchange begin with 2 to 9), and numbers with the trunk prefix 0 in a grouping that a country's
administration or its directories use. Every other grouping, and a bare number, counts only behind a word like "phone".

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.number_groups import number, shape
from pipelines.privacy.text import DIGIT, NAME, among, begins, byte, byte_set, ends, has_context, word_table

MAX_GROUPS, MAX_DIGITS = 7, 20
_SEPARATORS = byte_set(" -./")

# ITU-T E.164 country codes (Operational Bulletin 1114): +1 and +7, and the two-digit ones; every other has three
# digits and begins like one of _THREE. Fewest and most digits of the national number of the large plans.
_TWO = {
    20: (8, 10), 27: (9, 9), 30: (10, 10), 31: (9, 9), 32: (8, 9), 33: (9, 9), 34: (9, 9), 36: (8, 9), 39: (6, 11),
    40: (9, 9), 41: (9, 9), 43: (6, 13), 44: (9, 10), 45: (8, 8), 46: (7, 10), 47: (8, 8), 48: (9, 9), 49: (6, 11),
    51: (8, 9), 52: (10, 11), 53: (6, 8), 54: (10, 11), 55: (10, 11), 56: (9, 9), 57: (8, 10), 58: (10, 10),
    60: (8, 10), 61: (9, 9), 62: (8, 12), 63: (8, 10), 64: (8, 10), 65: (8, 8), 66: (8, 9), 81: (9, 10), 82: (8, 11),
    84: (9, 10), 86: (10, 11), 90: (10, 10), 91: (10, 10), 92: (9, 10), 93: (9, 9), 94: (9, 9), 95: (7, 10), 98: (10, 10),
}  # fmt: skip
_THREE = (21, 22, 23, 24, 25, 26, 29, 35, 37, 38, 42, 50, 59, 67, 68, 85, 88, 96, 97, 99)
_PLAN = np.zeros((100, 3), np.int64)  # by the first two digits: size of the country code, fewest and most digits after
for _code, (_low, _high) in _TWO.items():
    _PLAN[_code] = 2, _low, _high
for _code in _THREE:
    _PLAN[_code] = 3, 7, 10
for _code in range(10, 20):
    _PLAN[_code] = 1, 10, 10
for _code in range(70, 80):
    _PLAN[_code] = 1, 10, 10

# Groupings behind the trunk prefix 0, its group included.
_TRUNK = np.array([
    shape(2, 2, 2, 2, 2),  # France (Arcep): 01 23 45 67 89
    shape(5, 3, 3), shape(5, 6), shape(4, 3, 4), shape(3, 4, 4), shape(4, 3, 3),  # United Kingdom (Ofcom); Australia's mobiles
    shape(2, 4, 4), shape(3, 3, 2, 2), shape(3, 3, 4),  # Australia, Japan; Switzerland (BAKOM); New Zealand, South Africa
    shape(4, 2, 2, 2), shape(4, 3, 2, 2), shape(3, 2, 2, 2),  # Belgium, Sweden, Germany (DIN 5008); Turkey
    shape(3, 3, 3), shape(3, 7), shape(3, 8), shape(4, 7),  # Belgium; Italy, Germany
])  # fmt: skip
_NATIONAL = shape(3, 3, 4)
_NATIONAL_1 = shape(1, 3, 3, 4)
_DATES, _YEARS = (shape(4, 2, 2), shape(2, 2, 4)), shape(4, 4)

WORDS = word_table(
    "phone* tel telephon* telefon* mobile mobil movil cell cellphone cellular fax telefax call calls called calling dial "
    "contact sms whatsapp hotline helpline voicemail pager landline handy fono fone portable ring desk"
)
_OTHER_NUMBERS = word_table("isbn issn cve doi arxiv rfc pmid oclc lccn ean upc")


@njit(cache=True, nogil=True)
def phone_end(data, i, lo, hi, digits, groups):  # noqa: ANN001, ANN201, C901
    """Where the phone number that begins at i ends, or -1; with an extension (x123, ext. 123) behind it."""
    international = data[i] == ord("+")
    if international or data[i] == ord("("):
        if NAME[byte(data, i - 1, lo, hi)]:
            return -1
    elif not begins(data, i, lo):
        return -1
    count = _read(data, i + international, lo, hi, digits, groups)
    named = -1  # not looked up yet
    for k in range(count - 1, -1, -1):
        end = groups[k, 0]
        if data[end - 1] == ord(")"):
            continue
        stop = _extension_end(data, end, hi)
        if not ends(data, stop, lo, hi):
            stop = end
            if not ends(data, stop, lo, hi):
                continue
        if not (
            _is_international(digits, groups, k)
            if international
            else _is_national(digits, groups, k, data[i] == ord("("))
        ):
            if international or not _may_be_local(digits, groups, k):
                continue
            if named < 0:
                named = has_context(data, i, lo, WORDS)
            if named == 0:
                continue
        return -1 if has_context(data, i, lo, _OTHER_NUMBERS) else stop
    return -1


# groups[k]: end of group k (its parenthesis included), digits up to it, shape up to it, the one separator up to it
# (0 for none but parentheses, 1 for several)


@njit(cache=True, nogil=True)
def _read(data, i, lo, hi, digits, groups):  # noqa: ANN001, ANN202, C901
    """Read groups of digits: single separators between them, a group in parentheses at will; (0) is left out."""
    count, total, form, separator = 0, 0, np.int64(0), 0
    while count < MAX_GROUPS:
        parenthesis = byte(data, i, lo, hi) == ord("(")
        i += parenthesis
        first = i
        while i < hi and DIGIT[data[i]]:
            if total == MAX_DIGITS:
                return count
            digits[total] = data[i] - 48
            total += 1
            i += 1
        if i == first:
            return count
        if parenthesis:
            if byte(data, i, lo, hi) != ord(")"):
                return count
            i += 1
        if parenthesis and count > 0 and i - first == 2 and data[first] == 48:
            total -= 1
        else:
            form = form << 5 | (i - parenthesis - first)
            groups[count, 0], groups[count, 1], groups[count, 2], groups[count, 3] = i, total, form, separator
            count += 1
        after = byte(data, i, lo, hi)
        if _SEPARATORS[after]:
            if not parenthesis:
                separator = after if separator == 0 or separator == after else 1  # noqa: PLR1714
            i += 1
        elif not (parenthesis or after == ord("(")):
            return count
    return count


@njit(cache=True, nogil=True)
def _extension_end(data, i, hi):  # noqa: ANN001, ANN202
    """The end of "x123", " x123", " ext 123" or " ext. 123" at i; i if there is none."""
    at = i + (i < hi and data[i] == ord(" "))
    if at + 3 < hi and data[at] == ord("e") and data[at + 1] == ord("x") and data[at + 2] == ord("t"):
        at += 3
        at += at < hi and data[at] == ord(".")
        at += at < hi and data[at] == ord(" ")
    elif at < hi and data[at] == ord("x"):
        at += 1
    else:
        return i
    first = at
    while at < hi and at - first < 7 and DIGIT[data[at]]:
        at += 1
    return at if 1 <= at - first <= 6 else i


@njit(cache=True, nogil=True)
def _is_plan(digits, first, last):  # noqa: ANN001, ANN202
    """Whether these digits are a country code and as many digits as its plan has (North America's: valid ones)."""
    if last - first < 7 or digits[first] == 0:
        return False
    size, low, high = _PLAN[digits[first] * 10 + digits[first + 1]]
    if size == 0 or not low <= last - first - size <= high:
        return False
    return digits[first] != 1 or _is_north_american(digits, first + 1)


@njit(cache=True, nogil=True)
def _is_north_american(digits, first):  # noqa: ANN001, ANN202
    """NPA-NXX-XXXX: area 2-9, 0-8, any; exchange 2-9, any, any, but not N11 (NANPA's assignment guidelines)."""
    if digits[first] < 2 or digits[first + 1] > 8 or digits[first + 3] < 2:
        return False
    return digits[first + 4] != 1 or digits[first + 5] != 1


@njit(cache=True, nogil=True)
def _is_international(digits, groups, k):  # noqa: ANN001, ANN202
    """Whether groups 0 to k, behind a plus, are a number of a plan, or written as North America writes them."""
    return _is_plan(digits, 0, groups[k, 1]) or (digits[0] == 1 and groups[k, 2] == _NATIONAL_1)


@njit(cache=True, nogil=True)
def _is_national(digits, groups, k, in_parenthesis):  # noqa: ANN001, ANN202
    """Whether groups 0 to k are a number by themselves: 00 and a country, North America's, or a trunk prefix."""
    total, form, separator = groups[k, 1], groups[k, 2], groups[k, 3]
    if k > 0 and digits[0] == 0 and digits[1] == 0:
        return separator != 1 and 2 <= groups[0, 1] <= 5 and _is_plan(digits, 2, total)
    if digits[0] == 0 and digits[1] != 0:
        return separator != 1 and among(_TRUNK, form) and not _counts_up(digits, total)
    if separator == 1 or (separator == ord(" ") and not in_parenthesis) or separator == ord("/"):
        return False
    if form == _NATIONAL_1:
        return digits[0] == 1 and _is_north_american(digits, 1)
    return form == _NATIONAL and _is_north_american(digits, 0)


@njit(cache=True, nogil=True)
def _counts_up(digits, total):  # noqa: ANN001, ANN202
    """01 02 03 04 05: a row of numbers, not a number of anybody."""
    if total != 10:
        return False
    for k in range(3, 10, 2):  # noqa: SIM110
        if digits[k - 1] * 10 + digits[k] != digits[k - 3] * 10 + digits[k - 2] + 1:
            return False
    return True


@njit(cache=True, nogil=True)
def _may_be_local(digits, groups, k):  # noqa: ANN001, ANN202
    """Whether groups 0 to k may be a number behind a word like "phone": 7 to 13 digits that are no date."""
    total, form = groups[k, 1], groups[k, 2]
    if not 7 <= total <= 13 or (k == 0 and not 9 <= total <= 12) or groups[0, 1] < 2:
        return False
    if k == 1 and groups[k, 3] == ord("."):
        return False  # a decimal number
    date = k >= 2 and (groups[2, 2] == _DATES[0] or groups[2, 2] == _DATES[1])
    if date or form == _YEARS:
        for first in (0, 4):
            century = digits[first] * 10 + digits[first + 1]
            if century == 19 or century == 20:  # noqa: PLR1714
                return False
    return k == 0 or number(digits, groups[0, 1], total) > 0  # not 10 000 000
