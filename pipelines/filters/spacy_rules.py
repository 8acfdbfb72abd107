"""What spaCy's English tokenizer splits on, read from the installed spaCy as tables that a kernel can look at.

The tokenizer cuts each piece between white space by a regular expression of prefixes, one of suffixes and one of
infixes, by 1,300 special cases (contractions, abbreviations, emoticons) and by a pattern of URLs. The special cases
and the classes of characters are read from the installation. How the expressions combine the classes is written down
in :mod:`pipelines.filters.spacy_kernel`: ``PATTERNS`` is the digest of the expressions it was written for. With
others the kernel splits nothing itself, and every piece goes through the expressions: slower, as exact.
"""

from __future__ import annotations

import functools
import hashlib
import re
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.filters.spacy_kernel import (
    ALPHA,
    DIGIT,
    DOT_LEFT,
    HOST,
    ICON,
    INFIX,
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
    filter_slot,
)
from pipelines.filters.special_cases import CaseWords, next_hash

if TYPE_CHECKING:
    from spacy.tokenizer import Tokenizer

PATTERNS = "a3e122ab640fb8a0d648588960de1fffc2875a90cbd233e42a7df2333ca3ef92"  # spaCy 3.8


class SpacyRules(NamedTuple):
    """The tokenizer itself, what it splits special cases into, and both as tables."""

    tokenizer: Tokenizer
    cases: dict[str, list[str]]
    tables: Tables
    case_words: CaseWords


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
    tokenizer: Any = spacy.blank("en").tokenizer
    assert tokenizer.token_match is None, "the English tokenizer keeps no pieces whole but URLs"
    cases = {
        text: [str(token[ORTH]) for token in tokens] for text, tokens in tokenizer.rules.items() if not text.isspace()
    }
    return SpacyRules(tokenizer, cases, _tables(tokenizer, cases), _case_words(tokenizer, cases))


def piece_words(piece: str, tokenizer: Tokenizer, cases: dict[str, list[str]]) -> list[str]:
    """The words of a piece by spaCy's own expressions and special cases, before the last step of spaCy.

    What :func:`pipelines.filters.spacy_kernel.split` does for all pieces that it is sure of.
    """
    left, right, size = [], [], 0
    while piece and piece not in cases and len(piece) != size:
        size = len(piece)
        before = tokenizer.find_prefix(piece)
        if before and piece[before:] in cases:
            left.append(piece[:before])
            piece = piece[before:]
            break
        after = tokenizer.find_suffix(piece[before:])
        if after and piece[:-after] in cases:
            before = 0
        if before:
            left.append(piece[:before])
        if after:
            right.append(piece[-after:])
        piece = piece[before : len(piece) - after]
    return [*left, *_inner_words(piece, tokenizer, cases), *reversed(right)]


def _inner_words(piece: str, tokenizer: Tokenizer, cases: dict[str, list[str]]) -> list[str]:
    """Of what is left between the affixes."""
    if piece in cases:
        return cases[piece]
    if not piece or (tokenizer.url_match and tokenizer.url_match(piece)):
        return [piece] if piece else []
    words, start = [], 0
    for infix in tokenizer.find_infix(piece):
        if infix.start() > 0:  # an infix at the very start stays with what follows
            words += [piece[start : infix.start()], infix.group()]
            start = infix.end()
    return [word for word in [*words, piece[start:]] if word]


def _case_words(tokenizer: Tokenizer, cases: dict[str, list[str]]) -> CaseWords:
    """Special cases that spaCy looks for once more in its finished words: those with affixes of their own.

    A case that is one word is that word already.
    """
    has_affix = (tokenizer.find_prefix, tokenizer.find_infix, tokenizer.find_suffix)
    found = [piece_words(text, tokenizer, {}) for text in cases if " " in text or any(find(text) for find in has_affix)]
    found = [words for words in found if len(words) > 1]
    first_bytes = np.zeros((256, 256), np.bool_)
    for words in found:
        first_bytes[words[0].encode()[0], words[1].encode()[0]] = True
    return CaseWords(
        openings=np.unique(np.array([_sequence(words[:2]) for words in found], np.uint64)),
        sequences=np.unique(np.array([_sequence(words) for words in found], np.uint64)),
        first_bytes=first_bytes,
        longest=max(map(len, found)),
    )


def _sequence(words: list[str]) -> int:
    state = np.uint64(0)
    for word in words:
        state = np.uint64(next_hash(state, np.frombuffer(word.encode(), np.uint8), 0, len(word.encode())))
    return int(state)


def patterns_digest(tokenizer: Tokenizer) -> str:
    """Of the expressions that combine the classes of characters; special cases and classes are read anew anyway."""
    parts = [
        *(search.__self__.pattern for search in (tokenizer.prefix_search, tokenizer.suffix_search)),
        tokenizer.infix_finditer.__self__.pattern,
        tokenizer.url_match.__self__.pattern,
        repr(tokenizer.token_match),
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _tables(tokenizer: Tokenizer, cases: dict[str, list[str]]) -> Tables:
    keys = [text.encode() for text in cases]
    words = [[len(word.encode()) for word in cases[text]] for text in cases]
    case_filter = np.zeros(1 << 16, np.bool_)
    for key in keys:
        case_filter[filter_slot(key[0], key[-1], len(key))] = True
    slots, data, offsets = _hashed(keys)
    return Tables(
        classes=character_classes(),
        units=_units(),
        case_filter=case_filter,
        case_slots=slots,
        case_bytes=data,
        case_offsets=offsets,
        case_words=np.array([n for row in words for n in row], np.int64),
        case_word_offsets=np.cumsum([0, *map(len, words)], dtype=np.int64),
        is_known=patterns_digest(tokenizer) == PATTERNS,
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

    both = single([*c.LIST_PUNCT, *c.LIST_QUOTES, "…", "\u2014", "\u2013"])  # dashes
    mark(PREFIX, both + single(c.LIST_CURRENCY) + "§%=")
    mark(SUFFIX, both)
    mark_class(PREFIX | SUFFIX | ICON | INFIX, c.CONCAT_ICONS)
    mark(ICON, "…")
    mark(INFIX, "….,+-*^:<>=/~\u2013\u2014")
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
