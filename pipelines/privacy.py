"""Privacy: e-mail addresses and public IP addresses give way to placeholders; where, is kept; what, is not."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from pydantic import Field

from pipelines.provenance.recipe import Recipe

EMAIL, IP = "<email>", "<ip>"
MASKED_EMAIL, MASKED_IP = "masked_email", "masked_ip"

# A local part is taken whole, however long: the look-behind and the possessive ++ make the search linear, where a
# plain + needs the square of the length of a base64 block.
_EMAIL = re.compile(r"(?<![\w.%+\-])[\w.%+\-]++@(?:[\w\-]++\.)+[^\W\d_]{2,}")
_IPV4 = re.compile(r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
# every text with a public address matches this (the public IPv6 addresses begin with 2 or 3 and three more digits)
IP_HINT = r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9a-fA-F]{3}:[0-9a-fA-F:]"
# 1.2.3.44 after one of these is a version or the number of a section, not an address
_NUMBERED = re.compile(
    r"(?:\b(?:version|release|ver|v|section|sec|chapter|table|figure)\b\.?|§|[=<>~!]=)[\s:=\"'`]*\Z", re.IGNORECASE
)

# IANA's special-purpose registries (RFC 6890 and its updates): private, loopback, link-local, documentation,
# multicast and reserved blocks name nobody. Written out, since Python's own list changes with its patch releases.
_NOT_PUBLIC = [ipaddress.ip_network(n) for n in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "224.0.0.0/4", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)]  # fmt: skip
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")  # the only block of global unicast addresses that is in use


class PrivacyRecipe(Recipe):
    """What is masked."""

    mask_email: bool = Field(default=True, description="replace e-mail addresses by <email>")
    mask_ip: bool = Field(default=True, description="replace public IP addresses by <ip>")


class Span(NamedTuple):
    """A place that was masked, in characters of the text before masking. Never holds the value."""

    rule: str
    start: int
    length: int


def masked(text: str, recipe: PrivacyRecipe) -> tuple[str, list[Span]]:
    """The text with placeholders, and the spans that they replace, in order."""
    found = personal_spans(text, recipe)
    pieces, end = [], 0
    for span in found:
        pieces += [text[end : span.start], EMAIL if span.rule == MASKED_EMAIL else IP]
        end = span.start + span.length
    return "".join([*pieces, text[end:]]), found


def personal_spans(text: str, recipe: PrivacyRecipe) -> list[Span]:
    """Where addresses stand, in order, without overlaps; an e-mail address wins over an IP address inside it.

    Not masked: addresses in private, reserved and documentation blocks; four numbers of one digit each (sections
    and versions: in 8.6 MB of package documentation five of six candidates, and one address in 400,000 at most); four numbers
    behind "version", "section", == or the like; IPv6 addresses of which fewer than three groups are written out (``2000::5`` is a slice).
    A version number that nothing marks as one is masked: losing it costs less than keeping somebody's address.
    """
    spans = []
    if recipe.mask_email and "@" in text:
        spans += [Span(MASKED_EMAIL, m.start(), m.end() - m.start()) for m in _EMAIL.finditer(text)]
    if recipe.mask_ip:
        for match in [*_IPV4.finditer(text), *_IPV6.finditer(text)]:
            start, end = match.span()
            if _is_public(match[0]) and not _NUMBERED.search(text, max(0, start - 16), start):
                spans.append(Span(MASKED_IP, start, end - start))
    return _without_overlaps(spans)


def _is_public(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    if address.version == 4 and len(candidate) == len("1.2.3.4"):
        return False
    if address.version == 6 and (address not in _PUBLIC_IPV6 or sum(map(bool, candidate.split(":"))) < 3):
        return False
    return not any(address in network for network in _NOT_PUBLIC if network.version == address.version)


def _without_overlaps(spans: list[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, s.rule)):
        if not kept or span.start >= kept[-1].start + kept[-1].length:
            kept.append(span)
    return kept
