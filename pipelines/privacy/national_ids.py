"""National identity, tax and social security numbers, each with its country's check digits, as a kernel.

A number counts by itself if its shape is unusual and its check lets fewer than one in twenty others pass. A weaker
check, a bare run of digits, or none at all (USA, United Kingdom, India's PAN, Denmark) counts only behind a word that
names it. The rules of each country stand at its function; where a country's number begins with letters, in
:mod:`pipelines.privacy.national_id_letters`.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.national_id_letters import lettered_end
from pipelines.privacy.number_groups import (
    DIGITS,
    END,
    MIXED,
    NO_SEPARATOR,
    SEPARATOR,
    SHAPE,
    is_day,
    luhn,
    number,
    read_groups,
    shape,
    weighted,
)
from pipelines.privacy.text import DIGIT, among, begins, ends, has_context, word_table

_WORDS = {
    "us": "ssn social itin tin taxpayer",
    "ca": "sin nas social insurance",
    "au": "tfn tax",
    "nl": "bsn burgerservice* sofi*",
    "pt": "nif contribuinte",
    "il": "teudat zehut identity",
    "pl": "pesel",
    "br": "cpf",
    "be": "rijksregister* registre national nationaal insz niss",
    "de": "steuer* idnr identifikation* tin",
    "tr": "kimlik tckn tc",
    "in": "aadhaar aadhar uidai uid",
    "kr": "resident rrn jumin",
    "za": "identity id rsa",
    "dk": "cpr personnummer",
}
_CONTEXTS = np.concatenate([word_table(words) for words in _WORDS.values()])
_FROM = np.cumsum([0, *(len(words.split()) for words in _WORDS.values())])  # country -> its first word
US, CA, AU, NL, PT, IL, PL, BR, BE, DE, TR, IN, KR, ZA, DK = range(len(_WORDS))
NEVER, ALWAYS = 0, 1  # otherwise a set of contexts: bit 1 + number
_S6, _S8, _S9, _S11, _S13, _S17 = shape(6), shape(8), shape(9), shape(11), shape(13), shape(17)
_S324, _S333, _S444 = shape(3, 2, 4), shape(3, 3, 3), shape(4, 4, 4)
_S64, _S84, _S65, _S67 = shape(6, 4), shape(8, 4), shape(6, 5), shape(6, 7)
_CPF, _RIJK, _AHV = shape(3, 3, 3, 2), shape(2, 2, 2, 3, 2), shape(3, 4, 4, 2)
_NIR, _IDNR = shape(1, 2, 2, 2, 3, 3, 2), shape(2, 3, 3, 3)
_HYPHEN, _BLANK, _DOT = ord("-"), ord(" "), ord(".")
_DNI = np.frombuffer(b"TRWAGMYFPDXBNJZSQVHLCKE", np.uint8)
_HETU = np.frombuffer(b"0123456789ABCDEFHJKLMNPRSTUVWXY", np.uint8)
_HETU_CENTURY = np.frombuffer(b"+-YXWVUABCDEF", np.uint8)
_ADVERTISED = (78051120, 219099999)  # printed on sample cards, void since
# Verhoeff's dihedral group and its permutation (Error Detecting Decimal Codes, 1969)
_PERMUTATION = np.array([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]])


@njit(cache=True, nogil=True)
def id_end(data, i, lo, hi, digits, groups):  # noqa: ANN001, ANN201
    """Where the national id that begins at i ends, or -1."""
    if not begins(data, i, lo):
        return -1
    if not DIGIT[data[i]]:
        return lettered_end(data, i, lo, hi)
    count = read_groups(data, i, lo, hi, digits, groups)
    if count > 0:
        end = _with_letter_end(data, groups[0, END], hi, digits, groups[0, SHAPE])
        if end >= 0 and ends(data, end, lo, hi):
            return end
    for k in range(count - 1, -1, -1):
        end = groups[k, END]
        if not ends(data, end, lo, hi):
            continue
        needs = _judged(digits, groups[k, DIGITS], groups[k, SHAPE], groups[k, SEPARATOR])
        if needs == ALWAYS:
            return end
        if needs != NEVER and _is_named(data, i, lo, needs):
            return end
    return -1


@njit(cache=True, nogil=True)
def _is_named(data, i, lo, needs):  # noqa: ANN001, ANN202
    for country in range(_FROM.size - 1):
        if needs & (2 << country) and has_context(data, i, lo, _CONTEXTS[_FROM[country] : _FROM[country + 1]]):
            return True
    return False


@njit(cache=True, nogil=True)
def _with_letter_end(data, at, hi, digits, form):  # noqa: ANN001, ANN202
    """Numbers that end with a letter: Spain's DNI, Finland's HETU, China's with an X."""
    if form == _S8 and at < hi:
        letter = at + (data[at] == _HYPHEN)
        if letter < hi and data[letter] == _DNI[number(digits, 0, 8) % 23]:  # Real Decreto 1553/2005
            return letter + 1
    if form == _S17 and at < hi and data[at] | 0x20 == ord("x") and _china_rest(digits) == 2:
        return at + 1 if _is_china_day(digits) else -1
    if form == _S6 and at + 5 <= hi and among(_HETU_CENTURY, data[at]):
        serial = 0
        for k in range(1, 4):
            if not DIGIT[data[at + k]]:
                return -1
            serial = serial * 10 + data[at + k] - 48
        day, month, year = number(digits, 0, 2), number(digits, 2, 4), number(digits, 4, 6)
        rest = (number(digits, 0, 6) * 1000 + serial) % 31  # Väestötietolaki 661/2009
        if serial >= 2 and is_day(year, month, day) and data[at + 4] == _HETU[rest]:
            return at + 5
    return -1


@njit(cache=True, nogil=True)
def _judged(digits, total, form, separator):  # noqa: ANN001, ANN202, PLR0911
    """ALWAYS, NEVER, or the contexts of which the number needs one."""
    plain = separator == NO_SEPARATOR
    tidy = separator == _HYPHEN or separator == _BLANK  # noqa: PLR1714
    if total == 9 and (form == _S9 or (form == _S324 and tidy) or (form == _S333 and tidy)):
        return _nine(digits, form)
    if total == 10 and form == _S64 and separator == _HYPHEN:
        return _nordic(digits, 0)
    if total == 12 and form == _S84 and separator == _HYPHEN:
        return _nordic(digits, 2)
    if total == 11:
        return _eleven(digits, form, separator)
    if total == 12 and (plain or (form == _S444 and tidy)):
        return 2 << IN if digits[0] >= 2 and _verhoeff(digits, 12) else NEVER
    if total == 13:
        return _thirteen(digits, form, separator)
    if total == 15 and (plain or (form == _NIR and separator == _BLANK)):
        return ALWAYS if _is_nir(digits) else NEVER
    if total == 18 and plain:
        return ALWAYS if _is_china_day(digits) and _china_rest(digits) == (12 - digits[17]) % 11 else NEVER
    return NEVER


@njit(cache=True, nogil=True)
def _nine(digits, form):  # noqa: ANN001, ANN202
    """USA, Canada, Australia, the Netherlands, Portugal and Israel."""
    needs = NEVER
    if form != _S333 and _is_american(digits):
        needs |= 2 << US
    if form != _S324 and digits[0] not in (0, 8) and luhn(digits, 0, 9):  # Canada's SIN
        needs |= 2 << CA
    if form != _S324 and weighted(digits, (1, 4, 3, 7, 5, 8, 6, 9, 10)) % 11 == 0:  # Australia's TFN
        needs |= 2 << AU
    if form == _S9:
        descending = weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2))
        if (descending - np.int64(digits[8])) % 11 == 0:  # the Netherlands' BSN: elfproef
            needs |= 2 << NL
        if (11 - descending % 11) % 11 % 10 == digits[8]:  # Portugal's NIF
            needs |= 2 << PT
        if luhn(digits, 0, 9):  # Israel
            needs |= 2 << IL
    return needs


@njit(cache=True, nogil=True)
def _is_american(digits):  # noqa: ANN001, ANN202
    """SSA: no area 000, 666 or 900 up, no group 00, no serial 0000. IRS: an ITIN begins with 9, group 50 to 99."""
    area, group, serial = number(digits, 0, 3), number(digits, 3, 5), number(digits, 5, 9)
    if area >= 900:
        return 50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or group >= 94
    value = number(digits, 0, 9)
    return area not in (0, 666) and group > 0 and serial > 0 and value not in _ADVERTISED


@njit(cache=True, nogil=True)
def _nordic(digits, first):  # noqa: ANN001, ANN202
    """Sweden's YYMMDD-NNNN with its Luhn digit (SFS 1991:481); Denmark's DDMMYY-NNNN, which has none since 2007."""
    one, two, three = (
        number(digits, first, first + 2),
        number(digits, first + 2, first + 4),
        number(digits, first + 4, first + 6),
    )
    if luhn(digits, first, first + 10) and is_day(one, two, three - 60 if three > 60 else three):
        return ALWAYS
    return 2 << DK if first == 0 and is_day(three, two, one) else NEVER


@njit(cache=True, nogil=True)
def _eleven(digits, form, separator):  # noqa: ANN001, ANN202, PLR0911
    """Brazil, Belgium, Norway, Poland, Germany and Turkey."""
    if form == _CPF:
        return ALWAYS if separator == MIXED and _is_cpf(digits) else NEVER
    if form == _RIJK:
        return ALWAYS if _is_belgian(digits) and (separator == MIXED or separator == _DOT) else NEVER  # noqa: PLR1714, SIM109
    if form == _IDNR:
        return 2 << DE if separator == _BLANK and _is_german(digits) else NEVER
    if form != _S11 and not (form == _S65 and separator == _BLANK):
        return NEVER
    day, month, year = number(digits, 0, 2), number(digits, 2, 4), number(digits, 4, 6)
    if is_day(year, month, day - 40 if day > 40 else day) and _is_norwegian(digits):
        return ALWAYS
    if form != _S11:
        return NEVER
    needs = (2 << BR if _is_cpf(digits) else 0) | (2 << BE if _is_belgian(digits) else 0)
    if weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1)) % 10 == 0 and is_day(day, month % 20, year):
        needs |= 2 << PL  # PESEL: YYMMDD, the century in the month
    if _is_german(digits):
        needs |= 2 << DE
    return needs | (2 << TR if _is_turkish(digits) else 0)


@njit(cache=True, nogil=True)
def _is_cpf(digits):  # noqa: ANN001, ANN202
    """Brazil (Receita Federal): two digits modulo 11; eleven equal digits are void."""
    one = weighted(digits, (10, 9, 8, 7, 6, 5, 4, 3, 2)) * 10 % 11 % 10
    two = weighted(digits, (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)) * 10 % 11 % 10
    return one == digits[9] and two == digits[10] and number(digits, 0, 11) != digits[0] * 11_111_111_111


@njit(cache=True, nogil=True)
def _is_belgian(digits):  # noqa: ANN001, ANN202
    """Belgium (KB 3 april 1984): 97 less the first nine modulo 97, with a 2 before them from 2000 on."""
    first, check = number(digits, 0, 9), number(digits, 9, 11)
    month, day = number(digits, 2, 4) % 20, number(digits, 4, 6)
    return (97 - first % 97 == check or 97 - (first + 2_000_000_000) % 97 == check) and month <= 12 and day <= 31


@njit(cache=True, nogil=True)
def _is_norwegian(digits):  # noqa: ANN001, ANN202
    """Norway (Skatteetaten): two digits modulo 11."""
    one = weighted(digits, (3, 7, 6, 1, 8, 9, 4, 5, 2, 1))
    return one % 11 == 0 and weighted(digits, (5, 4, 3, 2, 7, 6, 5, 4, 3, 2, 1)) % 11 == 0


@njit(cache=True, nogil=True)
def _is_german(digits):  # noqa: ANN001, ANN202
    """Germany (§ 139b AO): ISO 7064 modulo 11, 10; no 0 in front; one digit of the first ten twice or three times."""
    product = 10
    counts = np.zeros(10, np.int64)
    for k in range(10):
        counts[digits[k]] += 1
        value = (product + digits[k]) % 10
        product = (value if value else 10) * 2 % 11  # noqa: FURB110
    return digits[0] > 0 and (11 - product) % 10 == digits[10] and np.sum(counts > 1) == 1 and counts.max() <= 3


@njit(cache=True, nogil=True)
def _is_turkish(digits):  # noqa: ANN001, ANN202
    """Turkey (NVI): the tenth digit from the odd and even places, the eleventh from the sum."""
    odd = np.int64(digits[0]) + digits[2] + digits[4] + digits[6] + digits[8]
    even = np.int64(digits[1]) + digits[3] + digits[5] + digits[7]
    total = odd + even + digits[9]
    return digits[0] > 0 and (odd * 7 - even) % 10 == digits[9] and total % 10 == digits[10]


@njit(cache=True, nogil=True)
def _verhoeff(digits, total):  # noqa: ANN001, ANN202
    """India's Aadhaar (UIDAI): Verhoeff's check over all digits gives 0."""
    state = 0
    for k in range(total):
        value = np.int64(digits[total - 1 - k])
        for _ in range(k % 8):
            value = _PERMUTATION[1, value]
        if state < 5:
            state = (state + value) % 5 if value < 5 else (state + value) % 5 + 5
        else:
            state = (state - value) % 5 + 5 if value < 5 else (state - value) % 5
    return state == 0


@njit(cache=True, nogil=True)
def _thirteen(digits, form, separator):  # noqa: ANN001, ANN202
    """Switzerland's AHV number (756., EAN-13), Korea's YYMMDD-NNNNNNN, South Africa's YYMMDD…"""
    year, month, day = number(digits, 0, 2), number(digits, 2, 4), number(digits, 4, 6)
    if form == _AHV:
        total = weighted(digits, (1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1, 3, 1))
        return ALWAYS if separator == _DOT and number(digits, 0, 3) == 756 and total % 10 == 0 else NEVER
    if not is_day(year, month, day):
        return NEVER
    if form == _S67 and separator == _HYPHEN and 1 <= digits[6] <= 8:  # the check digit ended in October 2020
        check = (11 - weighted(digits, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)) % 11) % 10
        return ALWAYS if check == digits[12] else 2 << KR
    return 2 << ZA if form == _S13 and digits[10] <= 1 and luhn(digits, 0, 13) else NEVER


@njit(cache=True, nogil=True)
def _is_nir(digits):  # noqa: ANN001, ANN202
    """France (INSEE): sex, month, and 97 less the first thirteen digits modulo 97. Corsica's 2A and 2B are not read."""
    month = number(digits, 3, 5)
    valid = 1 <= month <= 12 or 20 <= month <= 42 or month >= 50
    return digits[0] in (1, 2, 3, 4, 7, 8) and valid and 97 - number(digits, 0, 13) % 97 == number(digits, 13, 15)


@njit(cache=True, nogil=True)
def _is_china_day(digits):  # noqa: ANN001, ANN202
    """China (GB 11643-1999): region, YYYYMMDD, serial, and a check digit modulo 11, 2 (ISO 7064)."""
    year = number(digits, 6, 10)
    return digits[0] > 0 and 1900 <= year < 2100 and is_day(year, number(digits, 10, 12), number(digits, 12, 14))


@njit(cache=True, nogil=True)
def _china_rest(digits):  # noqa: ANN001, ANN202
    return weighted(digits, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)) % 11
