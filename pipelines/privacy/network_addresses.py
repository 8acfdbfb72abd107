"""E-mail addresses and public IP addresses, as kernels.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pipelines.privacy.text import DECIMAL, DIGIT, SPACE, WORD, byte, byte_set, character_at, character_before, is_kind

HEX = byte_set("0123456789abcdefABCDEF")
_LOCAL = byte_set(".%+-")
_GLUE = byte_set(":=\"'`")
_COMPARES = byte_set("=<>~!")
_NUMBERED_CHARACTERS = 16
# 1.2.3.44 behind one of these is a version or the number of a section, not an address
_NUMBERED = tuple(
    np.frombuffer(word.encode(), np.uint8)
    for word in ("version", "release", "ver", "v", "section", "sec", "chapter", "table", "figure")
)

# IANA's special-purpose registries (RFC 6890 and its updates): private, loopback, link-local, documentation,
# multicast and reserved blocks name nobody. Each as (first, last) address.
NOT_PUBLIC_IPV4 = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip


def _range(network: str) -> tuple[int, int]:
    address, bits = network.split("/")
    first = 0
    for part in address.split("."):
        first = first << 8 | int(part)
    return first, first + (1 << (32 - int(bits))) - 1


_RANGES = np.array([_range(n) for n in NOT_PUBLIC_IPV4], np.int64)


@njit(cache=True, nogil=True)
def email_at(data, at, lo, hi, flags):  # noqa: ANN001, ANN201
    """Start and end of the address whose @ stands at ``at``, or (-1, -1).

    The local part is the whole run of word characters and . % + - before the @ (RFC 5322's usual atoms), the domain
    labels of word characters and hyphens with a last one of two letters or more (RFC 1034; internationalised ones
    too). Both walks end at the next @, so that a text of nothing but @ and letters costs linear time.
    """
    start = at
    while True:
        code, size = character_before(data, start, lo)
        if not (is_kind(code, WORD, flags) or (0 <= code < 128 and _LOCAL[code])):
            break
        start -= size
    if start == at:
        return -1, -1
    end, i, label = -1, at + 1, at + 1
    only_letters, letters, labels = True, 0, 0
    while True:
        code, size = character_at(data, i, hi)
        if is_kind(code, WORD, flags) or code == ord("-"):
            only_letters &= is_kind(code, WORD, flags) and not is_kind(code, DECIMAL, flags) and code != ord("_")
            letters += only_letters
            i += size
            if labels > 0 and letters >= 2 and only_letters:
                end = i
            continue
        if code != ord(".") or i == label:
            break
        i += 1
        label, labels, only_letters, letters = i, labels + 1, True, 0
    return (start, end) if end >= 0 else (-1, -1)


@njit(cache=True, nogil=True)
def ip_end(data, i, lo, hi, flags):  # noqa: ANN001, ANN201
    """Where the public IP address that begins at i ends, or -1.

    Not one: addresses in private, reserved and documentation blocks; four numbers of one digit each (sections and
    versions: in 8.6 MB of package documentation five of six candidates, and one address in 400,000 at most); four
    numbers behind "version", "section", == or the like; IPv6 addresses of which fewer than three groups are written
    out (``2000::5`` is a slice). A version number that nothing marks as one is masked: losing it costs less than
    keeping somebody's address.
    """
    before = character_before(data, i, lo)[0]
    if is_kind(before, WORD, flags) or before == ord("."):
        return -1
    end = _ipv4_end(data, i, lo, hi)
    if end >= 0 and byte(data, end, lo, hi) == ord(".") and DIGIT[byte(data, end + 1, lo, hi)]:
        return -1
    if end < 0 and before != ord(":"):
        end = _ipv6_end(data, i, hi)
    if end < 0 or is_kind(character_at(data, end, hi)[0], WORD, flags) or _is_numbered(data, i, lo, flags):
        return -1
    return end


@njit(cache=True, nogil=True)
def _ipv4_end(data, i, lo, hi):  # noqa: ANN001, ANN202
    start, address = i, np.int64(0)
    for part in range(4):
        first, value = i, 0
        while i < hi and DIGIT[data[i]] and i - first < 4:
            value = value * 10 + data[i] - 48
            i += 1
        if i == first or i - first > 3 or value > 255 or (data[first] == 48 and i - first > 1):
            return -1
        address = address << 8 | value
        if part < 3:
            if byte(data, i, lo, hi) != ord("."):
                return -1
            i += 1
    if i - start == 7:
        return -1
    for k in range(_RANGES.shape[0]):
        if _RANGES[k, 0] <= address <= _RANGES[k, 1]:
            return -1
    return i


@njit(cache=True, nogil=True)
def _ipv6_end(data, i, hi):  # noqa: ANN001, ANN202
    """The whole run of hexadecimal digits and colons, if it is an address of 2000::/3 that is in use (RFC 4291)."""
    groups, colons, elided, value, size = 0, 0, 0, np.int64(0), 0
    first, second = np.int64(0), np.int64(0)
    last = ord(":")
    while i < hi and (HEX[data[i]] or data[i] == ord(":")):
        if data[i] == ord(":"):
            colons += 1
            elided += last == ord(":")
            value, size = np.int64(0), 0
        else:
            groups += size == 0
            size += 1
            value = value * 16 + (data[i] - 48 if data[i] < 58 else (data[i] | 0x20) - 87)
            if colons == 0:
                first = value
            elif colons == 1:
                second = value
        if size > 4 or colons > 7:
            return -1
        last = data[i]
        i += 1
    if colons < 2 or elided > 1 or (elided == 0 and groups != 8) or (elided == 1 and groups > 7) or groups < 3:
        return -1
    if last == ord(":") and data[i - 2] != ord(":"):
        return -1
    if not 0x2000 <= first <= 0x3FFF or first == 0x2002:  # 6to4 (RFC 3056)
        return -1
    if first == 0x2001 and (second < 0x200 or second == 0xDB8):  # 2001::/23 and documentation (RFC 3849)
        return -1
    return -1 if first == 0x3FFF and second < 0x1000 else i  # 3fff::/20, documentation (RFC 9637)


@njit(cache=True, nogil=True)
def _is_numbered(data, i, lo, flags):  # noqa: ANN001, ANN202
    limit = i  # 16 characters back
    for _ in range(_NUMBERED_CHARACTERS):
        if limit > lo:
            limit -= character_before(data, limit, lo)[1]
    end = i
    while True:
        if _marks_a_number(data, end, limit, lo, flags):
            return True
        code, size = character_before(data, end, limit)
        if not (is_kind(code, SPACE, flags) or (0 <= code < 128 and _GLUE[code])):
            return False
        end -= size


@njit(cache=True, nogil=True)
def _marks_a_number(data, end, limit, lo, flags):  # noqa: ANN001, ANN202
    """Whether "version", "sec.", "§", "==" or the like stands right before ``end``."""
    if end - 2 >= limit and data[end - 1] == ord("=") and _COMPARES[data[end - 2]]:
        return True
    if character_before(data, end, limit)[0] == 0xA7:  # §
        return True
    for dot in range(2):
        stop = end - dot
        if stop <= limit or (dot and data[stop] != ord(".")):
            continue
        if not dot and is_kind(character_at(data, end, data.size)[0], WORD, flags):
            continue
        for word in _NUMBERED:
            start = stop - word.size
            if start < limit or is_kind(character_before(data, start, lo)[0], WORD, flags):
                continue
            same = True
            for k in range(word.size):
                same &= (data[start + k] | 0x20) == word[k]
            if same:
                return True
    return False
