"""One pass over the bytes of a column finds where personal data may stand; the rules judge those places, in order.

Most of a text is words, which no rule looks at: an anchor is an @, a token with enough digits around it, a token that
mixes letters and digits, an issuer's prefix, or something long behind : and =. Every check looks at a bounded stretch,
or at one that no other check looks at again, so that the cost is linear in the text whatever it is made of.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import string

import numpy as np
from numba import njit

from pipelines.privacy.credentials import VALUE, assigned_secret, private_key_end, token_end
from pipelines.privacy.crypto_addresses import crypto_end
from pipelines.privacy.national_ids import id_end
from pipelines.privacy.network_addresses import email_at, ip_end
from pipelines.privacy.payment_numbers import card_end, iban_end
from pipelines.privacy.phone_numbers import phone_end
from pipelines.privacy.text import BARRIER, DIGIT, NAME, byte, byte_set

RULES = ("email", "secret", "crypto", "iban", "credit_card", "national_id", "ip", "phone")
_EMAIL, _SECRET, _CRYPTO, _IBAN, _CARD, _ID, _IP, _PHONE = range(8)

# what an anchor may be, and which of them each rule looks at
_NUMBER, _TOKEN, _MIXED, _ADDRESS, _SIGN, _ASSIGNED, _PEM, _LONG = 1, 2, 4, 8, 16, 32, 64, 128
_LOOKS_AT = np.array(
    [0, _TOKEN | _ASSIGNED | _PEM, _LONG, _MIXED, _NUMBER, _NUMBER | _MIXED, _ADDRESS, _NUMBER | _SIGN]
)
_MIXED_LETTERS = 8  # the shortest id of letters and digits has nine characters
_DIGITS = 7  # the shortest number of anybody

_ANCHOR = byte_set(string.ascii_letters, string.digits, "_+(-:=")
_AMONG_DIGITS = byte_set(" -./()")
_RUN = byte_set(string.ascii_letters, string.digits, "_-.")


@njit(cache=True, nogil=True)
def found(data, offsets, ats, is_on, flags):
    """Places of personal data: int64 [places, 4] of row, rule, start and end byte; without overlaps, those of a row by rule.

    ``data`` is a copy of the column's bytes: places that a rule takes are filled with barriers in it.
    ``ats``: where its @ stand. Rules take
    their turns in the order of :data:`RULES`; what one has taken no later one sees.
    """
    places, count, next_at = np.empty((64, 4), np.int64), 0, 0
    anchors, kinds = np.empty(256, np.int64), np.empty(256, np.uint8)
    digits, groups = np.zeros(32, np.uint8), np.zeros((12, 4), np.int64)
    for row in range(offsets.size - 1):
        lo, hi = offsets[row], offsets[row + 1]
        if is_on[_EMAIL]:
            while next_at < ats.size and ats[next_at] < hi:
                start, end = email_at(data, ats[next_at], lo, hi, flags)
                next_at += 1
                if end >= 0:
                    places, count = _taken(data, places, count, row, _EMAIL, start, end)
        num_anchors, anchors, kinds = _anchors(data, lo, hi, anchors, kinds)
        for rule in range(1, len(_LOOKS_AT)):
            if not is_on[rule]:
                continue
            for a in range(num_anchors):
                if kinds[a] & _LOOKS_AT[rule] and data[anchors[a]] != BARRIER:
                    start, end = _place(data, anchors[a], kinds[a], rule, lo, hi, digits, groups, flags)
                    if end >= 0:
                        places, count = _taken(data, places, count, row, rule, start, end)
    return places[:count]


@njit(cache=True, nogil=True)
def _taken(data, places, count, row, rule, start, end):
    if count == places.shape[0]:
        larger = np.empty((2 * count, 4), np.int64)
        larger[:count] = places
        places = larger
    places[count, 0], places[count, 1], places[count, 2], places[count, 3] = row, rule, start, end
    data[start:end] = BARRIER
    return places, count + 1


@njit(cache=True, nogil=True)
def _place(data, i, kind, rule, lo, hi, digits, groups, flags):
    """Start and end of what a rule takes at an anchor, or -1 as the end."""
    if rule == _SECRET:
        if kind & _ASSIGNED:
            return assigned_secret(data, i, lo, hi)
        return i, private_key_end(data, i, hi) if kind & _PEM else token_end(data, i, lo, hi)
    if rule == _CRYPTO:
        return i, crypto_end(data, i, lo, hi)
    if rule == _IBAN:
        return i, iban_end(data, i, lo, hi)
    if rule == _CARD:
        return i, card_end(data, i, lo, hi, digits, groups)
    if rule == _ID:
        return i, id_end(data, i, lo, hi, digits, groups)
    if rule == _IP:
        return i, ip_end(data, i, lo, hi, flags)
    return i, phone_end(data, i, lo, hi, digits, groups)


@njit(cache=True, nogil=True)
def _anchors(data, lo, hi, anchors, kinds):
    """Where a rule may look, and what it may see there."""
    count, i = 0, lo
    while i < hi:
        letter = data[i]
        if not _ANCHOR[letter]:
            i += 1
            continue
        start = i
        if NAME[letter]:
            any_digit = False
            while i < hi and NAME[data[i]]:
                any_digit |= DIGIT[data[i]]
                i += 1
            after = byte(data, i, lo, hi)
            if not any_digit and (i - start != 2 or after != ord(" ")):  # a word, or a prefix like sk-  # noqa: SIM102
                if (after != ord("-") and after != ord(".")) or i + 1 >= hi or not _RUN[data[i + 1]]:
                    continue
            kind = _token_kind(data, start, i, hi, any_digit, after)
        else:
            i += 1
            kind = _sign_kind(data, start, lo, hi)
        if kind:
            if count == anchors.size:
                more, more_kinds = np.empty(2 * count, np.int64), np.empty(2 * count, np.uint8)
                more[:count], more_kinds[:count] = anchors, kinds
                anchors, kinds = more, more_kinds
            anchors[count], kinds[count] = start, kind
            count += 1
    return count, anchors, kinds


@njit(cache=True, nogil=True)
def _token_kind(data, start, end, hi, any_digit, after):
    """What a run of letters, digits and _ may be. ``after``: the byte behind it."""
    size, kind = end - start, 0
    if (after == ord("-") or after == ord(".")) and _has_run(data, end + 1, hi):
        kind = _TOKEN
    if DIGIT[data[start]]:
        # a single digit begins 1-212-555-0123 or 1 84 12 76 451 089 46
        is_alone = size == 1 and not (DIGIT[byte(data, end + 1, start, hi)] and DIGIT[byte(data, end + 2, start, hi)])
        if size >= 10 or (not is_alone and _num_digits(data, start, hi) >= _DIGITS):
            kind |= _NUMBER
        if (size <= 3 and after == ord(".")) or (size == 4 and after == ord(":")):
            kind |= _ADDRESS
    elif any_digit:
        if size >= _MIXED_LETTERS or (size == 4 and after == ord(" ")):
            kind |= _MIXED
    elif size == 2 and after == ord(" ") and end + 1 < hi and DIGIT[data[end + 1]]:
        kind |= _MIXED
    return kind | _TOKEN | _LONG if any_digit and size >= 16 else kind


@njit(cache=True, nogil=True)
def _sign_kind(data, at, lo, hi):
    """What a + ( - : or = may begin."""
    letter, after = data[at], byte(data, at + 1, lo, hi)
    if letter == ord("-"):
        return _PEM if after == ord("-") and byte(data, at + 5, lo, hi) == ord("B") else 0
    if letter == ord("+") or letter == ord("("):
        if not DIGIT[after] and not (after == ord("(") and letter == ord("+")):
            return 0
        return _SIGN if _num_digits(data, at + 1, hi) >= _DIGITS else 0
    if after == ord("=") and byte(data, at + 2, lo, hi) == ord("="):
        return 0
    for k in range(at + 11, at + 17):  # any value of 16 characters covers these, whatever quotes or scheme precede it
        if not VALUE[byte(data, k, lo, hi)]:
            return 0
    return _ASSIGNED


@njit(cache=True, nogil=True)
def _num_digits(data, i, hi):
    """Digits from i on, through separators and parentheses; counted up to seven."""
    count = 0
    while i < hi and count < _DIGITS:
        if DIGIT[data[i]]:
            count += 1
        elif not _AMONG_DIGITS[data[i]]:
            break
        i += 1
    return count


@njit(cache=True, nogil=True)
def _has_run(data, i, hi):
    """Whether ten bytes of a token stand at i."""
    if i + 10 > hi:
        return False
    for k in range(10):
        if not _RUN[data[i + k]]:
            return False
    return True


@njit(cache=True, nogil=True)
def replaced(data, offsets, places, marks, mark_sizes):
    """The column with placeholders: bytes, offsets, and int64 [places, 2] of start and length in characters."""
    num_rows, num_places = offsets.size - 1, places.shape[0]
    size = data.size
    for p in range(num_places):
        size += mark_sizes[places[p, 1]] - (places[p, 3] - places[p, 2])
    out, rows, characters = (
        np.empty(size, np.uint8),
        np.empty(num_rows + 1, np.int64),
        np.empty((num_places, 2), np.int64),
    )
    to, at, p = 0, 0, 0
    for row in range(num_rows):
        rows[row] = to
        begun = 0  # characters of the row before ``at``
        while p < num_places and places[p, 0] == row:
            rule, start, end = places[p, 1], places[p, 2], places[p, 3]
            out[to : to + start - at] = data[at:start]
            to += start - at
            out[to : to + mark_sizes[rule]] = marks[rule, : mark_sizes[rule]]
            to += mark_sizes[rule]
            begun += _num_characters(data, at, start)
            characters[p, 0], characters[p, 1] = begun, _num_characters(data, start, end)
            begun += characters[p, 1]
            at = end
            p += 1
        end = offsets[row + 1]
        out[to : to + end - at] = data[at:end]
        to, at = to + end - at, end
    rows[num_rows] = to
    return out, rows, characters


@njit(cache=True, nogil=True)
def _num_characters(data, start, end):
    count = 0
    for i in range(start, end):
        count += (data[i] & 0xC0) != 0x80
    return count
