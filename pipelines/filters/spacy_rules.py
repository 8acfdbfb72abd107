"""What spaCy's English tokenizer splits on, read from the installed spaCy as tables that a kernel can look at.

The tokenizer cuts each piece between white space by a regular expression of prefixes, one of suffixes and one of
infixes, by 1,300 special cases (contractions, abbreviations, emoticons) and by a pattern of URLs. The special cases
and the classes of characters are read from the installation. How the expressions combine the classes is written down
in :mod:`pipelines.filters.spacy_kernel`: ``PATTERNS`` is the digest of the expressions it was written for. With
others the kernel splits nothing itself, and spaCy is asked for every piece: slower, as exact.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.filters.spacy_kernel import (
    ALPHA,
    DIGIT,
    DOT_LEFT,
    HOST,
    ICON,
    LOWER,
    MAX_CODE,
    PERIOD_LEFT,
    PERIOD_RIGHT,
    PLAIN,
    PREFIX,
    PUNCT,
    SPACE,
    SUFFIX,
    TERMINATOR,
    UPPER,
    Tables,
    bytes_hash,
    pair_hash,
)

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokenizer import Tokenizer

PATTERNS = "a3e122ab640fb8a0d648588960de1fffc2875a90cbd233e42a7df2333ca3ef92"  # spaCy 3.8
SEPARATOR = "\n"  # a token of its own in no special case of several tokens: nothing is recognised across it


class SpacyRules(NamedTuple):
    """The tokenizer itself, its tables, and the words by which a special case inside a piece can be recognised."""

    language: Language
    tables: Tables
    triggers: frozenset[str]


@functools.cache
def spacy_rules() -> SpacyRules:
    """The blank English tokenizer of the installed spaCy and its tables; takes about a second, once a process.

    Raises:
        ModuleNotFoundError: without spaCy.
    """
    try:
        import spacy
        from spacy.symbols import ORTH
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{error}: words as spaCy splits them (spacy-en) need spaCy; pip install 'stemma[fineweb]', or choose the "
            "words regex-1, which need nothing."
        ) from error
    language = spacy.blank("en")
    cases = {text: [str(token[ORTH]) for token in tokens] for text, tokens in language.tokenizer.rules.items()}
    recognised = _recognised(language.tokenizer, cases)
    triggers = frozenset(cases[text][0] for text in recognised)
    return SpacyRules(language, _tables(language.tokenizer, cases, recognised), triggers)


def _recognised(tokenizer: Tokenizer, cases: dict[str, list[str]]) -> dict[str, list[str]]:
    """Special cases that spaCy looks for once more in its finished words, with the words that it looks for.

    They are those with affixes of their own. A single word that stands for itself (a quote) changes nothing.
    """
    from spacy.tokenizer import Tokenizer

    plain = Tokenizer(
        tokenizer.vocab, None, tokenizer.prefix_search, tokenizer.suffix_search, tokenizer.infix_finditer
    )
    plain.url_match = tokenizer.url_match
    found = {
        text: [word.text for word in plain(text)]
        for text in cases
        if not text.isspace()
        and (tokenizer.find_prefix(text) or tokenizer.find_infix(text) or tokenizer.find_suffix(text))
    }
    return {text: words for text, words in found.items() if words != cases[text] or len(words) > 1}


def patterns_digest(tokenizer: Tokenizer) -> str:
    """Of the expressions that combine the classes of characters; special cases and classes are read anew anyway."""
    parts = [
        *(search.__self__.pattern for search in (tokenizer.prefix_search, tokenizer.suffix_search)),
        tokenizer.infix_finditer.__self__.pattern,
        tokenizer.url_match.__self__.pattern,
        repr(tokenizer.token_match),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _tables(tokenizer: Tokenizer, cases: dict[str, list[str]], recognised: dict[str, list[str]]) -> Tables:
    cases = {text: words for text, words in cases.items() if not text.isspace()}
    is_known = patterns_digest(tokenizer) == PATTERNS and all(len(words) > 1 for words in recognised.values())
    keys = [text.encode() for text in cases]
    words = [[len(word.encode()) for word in cases[text]] for text in cases]
    lengths = np.zeros(256, np.uint64)
    for key in keys:
        lengths[key[0]] |= np.uint64(1 << len(key))
    slots, data, offsets = _hashed(keys)
    first, pair_bytes = [], np.zeros((256, 256), np.bool_)
    for pattern in (words for words in recognised.values() if len(words) > 1):
        first.append(_pair(pattern[0], pattern[1]))
        pair_bytes[pattern[0].encode()[0], pattern[1].encode()[0]] = True
    parts = {word.encode() for pattern in recognised.values() for word in pattern}
    return Tables(
        classes=character_classes(),
        units=_units(),
        case_slots=slots,
        case_bytes=data,
        case_offsets=offsets,
        case_tokens=np.array([n for row in words for n in row], np.int64),
        case_token_offsets=np.cumsum([0, *map(len, words)], dtype=np.int64),
        case_lengths=lengths,
        first_pairs=np.unique(np.array(first, np.uint64)),
        parts=np.unique(np.array([bytes_hash(np.frombuffer(p, np.uint8), 0, len(p)) for p in parts], np.uint64)),
        pair_bytes=pair_bytes,
        is_known=is_known,
    )


def _hashed(keys: list[bytes]) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int64]]:
    data = np.frombuffer(b"".join(keys), np.uint8)
    offsets = np.cumsum([0, *map(len, keys)], dtype=np.int64)
    slots = np.full(1 << (4 * len(keys) - 1).bit_length(), -1, np.int32)
    for case in range(len(keys)):
        slot = int(bytes_hash(data, offsets[case], offsets[case + 1])) & (slots.size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (slots.size - 1)
        slots[slot] = case
    return slots, data, offsets


def _pair(one: str, two: str) -> int:
    both, size = np.frombuffer((one + two).encode(), np.uint8), len(one.encode())
    return int(pair_hash(both, 0, size, size, both.size))


def _units() -> NDArray[np.int32]:
    from spacy.lang.char_classes import CURRENCY, UNITS

    units = [piece.replace("\\", "") for piece in f"{CURRENCY}|{UNITS}".split("|")]
    table = np.zeros((len(units), max(map(len, units))), np.int32)
    for row, unit in enumerate(units):
        table[row, : len(unit)] = [ord(character) for character in unit]
    return table


@functools.cache
def character_classes() -> NDArray[np.uint16]:
    """By code point below ``MAX_CODE``: the classes of the installed spaCy and of this Python's Unicode tables."""
    from spacy.lang import char_classes as c
    from spacy.pipeline import Sentencizer

    everything = "".join(chr(code) for code in range(MAX_CODE) if not 0xD800 <= code < 0xE000)
    table = np.zeros(MAX_CODE, np.uint16)

    def mark(flag: int, characters: str) -> None:
        table[[ord(character) for character in characters]] |= np.uint16(flag)

    def mark_class(flag: int, expression: str) -> None:
        mark(flag, "".join(re.findall(f"[{expression}]", everything)))

    def single(pieces: list[str]) -> str:
        return "".join(p.replace("\\", "") for p in pieces if len(p.replace("\\", "")) == 1)

    both = single([*c.LIST_PUNCT, *c.LIST_QUOTES, "…", "—", "–"])
    mark(PREFIX, both + single(c.LIST_CURRENCY) + "§%=")
    mark(SUFFIX, both)
    mark_class(PREFIX | SUFFIX | ICON, c.CONCAT_ICONS)
    mark(ICON, "…")
    mark_class(DOT_LEFT, rf"0-9{c.ALPHA_LOWER}%²\-\+{c.PUNCT}(?:{c.CONCAT_QUOTES})")
    mark_class(UPPER, c.ALPHA_UPPER)
    mark_class(PERIOD_LEFT, c.ALPHA_LOWER + c.CONCAT_QUOTES)
    mark_class(PERIOD_RIGHT, c.ALPHA_UPPER + c.CONCAT_QUOTES)
    mark_class(ALPHA, c.ALPHA)
    mark_class(LOWER, c.ALPHA_LOWER)
    mark_class(HOST, r"A-Za-z0-9\u00a1-\uffff")
    mark_class(PLAIN, "A-Za-z")
    mark_class(DIGIT, "0-9")
    mark(TERMINATOR, "".join(p for p in Sentencizer.default_punct_chars if ord(p) < MAX_CODE))
    mark(SPACE, "".join(p for p in everything if p.isspace()))
    mark(PUNCT, "".join(p for p in everything if unicodedata.category(p).startswith("P")))
    table.flags.writeable = False
    return table
