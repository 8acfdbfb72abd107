"""The rules of privacy, written a second time: regular expressions and Python's own integers over a str."""

from __future__ import annotations

import ipaddress
import re

_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]++@(?:[\w\-]++\.)+[^\W\d_]{2,}")
_IPV4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_NUMBERED = re.compile(
    r"(?:\b(?:version|release|ver|v|section|sec|chapter|table|figure)\b\.?|§|[=<>~!]=)[\s:=\"'`]*\Z",
    re.IGNORECASE | re.ASCII,
)
_NOT_PUBLIC = [ipaddress.ip_network(n) for n in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)]  # fmt: skip


def emails(text: str) -> list[tuple[int, int]]:
    """Start and end of every address. After one ends inside a word, the next may begin there."""
    found, at = [], 0
    while match := _EMAIL.search(text[at:]):
        found.append((at + match.start(), at + match.end()))
        at += match.end()
    return found


def ips(text: str) -> list[tuple[int, int]]:
    found = [m for m in [*_IPV4.finditer(text), *_IPV6.finditer(text)] if is_public(m[0])]
    return sorted(m.span() for m in found if not _NUMBERED.search(text, max(0, m.start() - 16), m.start()))


def is_public(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    if address.version == 4 and len(candidate) == len("1.2.3.4"):
        return False
    if address.version == 6 and (
        address not in ipaddress.ip_network("2000::/3") or sum(map(bool, candidate.split(":"))) < 3
    ):
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def luhn(number: str) -> bool:
    doubled = [int(d) * (1 + k % 2) for k, d in enumerate(reversed(number))]
    return sum(d // 10 + d % 10 for d in doubled) % 10 == 0


def is_iban(text: str, lengths: dict[str, int]) -> bool:
    plain = text.replace(" ", "").upper()
    if len(plain) != lengths.get(plain[:2]):
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1
