"""Credit card numbers and IBANs, as kernels.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.number_groups import DIGITS, END, SEPARATOR, SHAPE, luhn, number, read_groups, shape
from pipelines.privacy.text import ALNUM, DIGIT, LETTER, among, begins, byte, ends, has_context, word_table

# Issuer identification numbers (ISO/IEC 7812-1; ranges as the networks publish them): first and last six digits of
# the range, fewest and most digits, and whether a bare number needs a word like "card" before it. It does where the
# range is wide or the number short, since one in ten numbers passes the check digit.
_ISSUERS = np.array([
    (400000, 499999, 13, 13, 1), (400000, 499999, 16, 16, 0), (400000, 499999, 19, 19, 1),  # Visa
    (510000, 559999, 16, 16, 0), (222100, 272099, 16, 16, 0),  # Mastercard
    (340000, 349999, 15, 15, 0), (370000, 379999, 15, 15, 0),  # American Express
    (300000, 305999, 14, 14, 0), (309500, 309599, 14, 14, 0), (360000, 369999, 14, 14, 0), (380000, 399999, 14, 14, 0),
    (300000, 305999, 16, 19, 1), (360000, 369999, 16, 19, 1), (380000, 399999, 16, 19, 1),  # Diners Club
    (601100, 601199, 16, 16, 0), (644000, 659999, 16, 16, 0), (601100, 601199, 17, 19, 1), (644000, 659999, 17, 19, 1),
    (352800, 358999, 16, 16, 0), (352800, 358999, 17, 19, 1), (213100, 213199, 15, 15, 0), (180000, 180099, 15, 15, 0),
    (620000, 629999, 16, 16, 0), (620000, 629999, 17, 19, 1), (810000, 817199, 16, 19, 1),  # UnionPay
    (220000, 220499, 16, 16, 0), (220000, 220499, 17, 19, 1),  # Mir
    (500000, 509999, 12, 19, 1), (560000, 699999, 12, 19, 1),  # Maestro and others of debit
], np.int64)  # fmt: skip
_CARD_SHAPES = np.array(
    [
        shape(4, 4, 4, 4),
        shape(4, 6, 5),
        shape(4, 6, 4),
        shape(4, 4, 4, 4, 3),
        shape(6, 13),
        shape(4, 4, 5),
        shape(4, 4, 4),
    ]
)
_CARD_WORDS = word_table(
    "card* visa mastercard* amex cc ccn credit debit maestro discover diners unionpay jcb payment* "
    "carte tarjeta* karte* kreditka* cartao carta kaart kort pan"
)

# SWIFT IBAN Registry (ISO 13616), release 99: country and length.
IBAN_LENGTHS = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
    "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 "
    "LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 "
    "PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 "
    "YE30"
)
_LENGTH_OF = np.zeros(26 * 26, np.int64)
for _entry in IBAN_LENGTHS.split():
    _LENGTH_OF[(ord(_entry[0]) - 65) * 26 + ord(_entry[1]) - 65] = int(_entry[2:])


@njit(cache=True, nogil=True)
def card_end(data, i, lo, hi, digits, groups):  # noqa: ANN001, ANN201
    """Where the card number that begins at i ends, or -1: an issuer's range and length, and the Luhn digit."""
    if not begins(data, i, lo):
        return -1
    for k in range(read_groups(data, i, lo, hi, digits, groups) - 1, -1, -1):
        end, total, separator = groups[k, END], groups[k, DIGITS], groups[k, SEPARATOR]
        if not 12 <= total <= 19 or (k > 0 and not among(_CARD_SHAPES, groups[k, SHAPE])):
            continue
        if k > 0 and separator != ord(" ") and separator != ord("-"):
            continue
        if not ends(data, end, lo, hi) or not luhn(digits, 0, total):
            continue
        prefix, needs = number(digits, 0, 6), 2
        for row in range(_ISSUERS.shape[0]):
            if _ISSUERS[row, 0] <= prefix <= _ISSUERS[row, 1] and _ISSUERS[row, 2] <= total <= _ISSUERS[row, 3]:
                needs = min(needs, _ISSUERS[row, 4])
        if needs == 0 or (needs == 1 and has_context(data, i, lo, _CARD_WORDS)):
            return end
    return -1


@njit(cache=True, nogil=True)
def iban_end(data, i, lo, hi):  # noqa: ANN001, ANN201
    """Where the IBAN that begins at i ends, or -1: its country's length, and 1 modulo 97 (ISO 7064).

    Written in one piece or in groups of four behind single spaces, in capitals or small letters.
    """
    if i + 15 > hi or not (LETTER[data[i]] and LETTER[data[i + 1]] and DIGIT[data[i + 2]] and DIGIT[data[i + 3]]):
        return -1
    length = _LENGTH_OF[((data[i] | 0x20) - 97) * 26 + (data[i + 1] | 0x20) - 97]
    if length == 0 or not begins(data, i, lo):
        return -1
    at, spaced, rest = i + 4, byte(data, i + 4, lo, hi) == ord(" "), np.int64(0)
    for k in range(4, length):
        if spaced and k % 4 == 0:
            if byte(data, at, lo, hi) != ord(" "):
                return -1
            at += 1
        if not ALNUM[byte(data, at, lo, hi)]:
            return -1
        rest = _appended(rest, data[at])
        at += 1
    for k in range(4):
        rest = _appended(rest, data[i + k])
    return at if rest == 1 and ends(data, at, lo, hi) else -1


@njit(cache=True, nogil=True, inline="always")
def _appended(rest, letter):  # noqa: ANN001, ANN202
    """The number so far modulo 97 with a digit, or with A = 10 to Z = 35, appended."""
    if letter < 58:
        return (rest * 10 + letter - 48) % 97
    return (rest * 100 + (letter | 0x20) - 87) % 97
