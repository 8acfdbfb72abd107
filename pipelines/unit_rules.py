"""How a ``tokenizer.json`` cuts a text into units, where that is known: what the table of ``tokenizing.py`` stands on.

A text is cut at added tokens, then perhaps between digits, then by one of the expressions below; what else the file
does, it does to each unit by itself. Where that cannot be said of a file, :func:`why_whole` says why.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (  # with numbers of up to three digits; Qwen takes them one by one
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = GPT4.replace("{1,3}", "")
CL100K = GPT4.replace(r"|\s*[\r\n]+", r"|\s+\z|\s*[\r\n]+")  # as tiktoken has it: white space that ends a text is one
_MORE = "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
O200K = (  # GPT-4o, Llama 4: a word is small letters after large ones
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]*[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]+{_MORE}"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]+[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}]*{_MORE}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# as the kernel numbers them; of 1 and 3 the number is that of digits which stand together
RULES = {GPT2: 0, QWEN: 1, GPT4: 3, CL100K: 4, O200K: 5}
SPACES = 6  # sentencepiece's: spaces with what follows them
SPACE = "\u2581"  # as which sentencepiece writes a space
TABLE_SIZE = 0x32400  # no letter, number or white space lies above CJK extension H (U+31350 to U+323AF)

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]


class Cuts(NamedTuple):
    """Where a text is cut: at added tokens that are found in it as it is, at those of the normalized text, into units."""

    rule: int
    digits: int  # that stand apart: 0 none, 1 runs of them, 2 each
    classes: NDArray[np.uint8]  # of characters, as the rule tells them apart
    is_digit: Bools
    raw_tree: I32  # added tokens as a tree of their bytes: next node [nodes, 256], 0: none
    raw_tokens: I32  # that end at a node [nodes]
    tree: I32
    tokens: I32


class Steps(NamedTuple):
    """What a tokenizer.json does to a text."""

    rule: int
    digits: int
    within: list[dict[str, Any]]  # pre-tokenizers of each unit after that
    is_nfc: bool = False
    writes_spaces: bool = False  # as U+2581
    has_prefix: bool = False  # a space before every text
    unprefixed: tuple[str, ...] = ()  # texts that get none


def why_whole(body: dict[str, Any]) -> str:
    """Why the texts of this ``tokenizer.json`` cannot be encoded unit by unit; empty if they can."""
    found = steps(body)
    writes_spaces = found is not None and found.writes_spaces
    reasons = {
        "a pre-tokenizer of other units": found is None and _known_normalizer(body),
        "a normalizer other than NFC": not _known_normalizer(body),
        "a post-processor that adds tokens": (body["post_processor"] or {"type": "ByteLevel"})["type"] != "ByteLevel",
        "dropout": bool(body["model"].get("dropout")),
        "an added token that does more than match": not all(
            _only_matches(t, writes_spaces) for t in body["added_tokens"]
        ),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def steps(body: dict[str, Any]) -> Steps | None:
    """None if they do not begin by cutting a text into units that are known here."""
    normalizers = _flat(body["normalizer"], "normalizers")
    if _writes_spaces(normalizers):
        return _of_spaces(body, normalizers)
    kinds = [step["type"] for step in normalizers]
    if kinds not in ([], ["NFC"]):
        return None
    cuts = _flat(body["pre_tokenizer"], "pretokenizers")
    digits = 0
    if cuts and cuts[0]["type"] == "Digits":
        digits, cuts = 1 + bool(cuts[0]["individual_digits"]), cuts[1:]
    if not cuts or not all(map(_is_local, cuts)):
        return None
    if cuts[0]["type"] == "ByteLevel" and cuts[0].get("use_regex", True):
        return Steps(RULES[GPT2], digits, [{**cuts[0], "use_regex": False}, *cuts[1:]], kinds == ["NFC"])
    is_known = cuts[0]["type"] == "Split" and cuts[0]["pattern"].get("Regex") in RULES
    if not is_known or (cuts[0]["behavior"], cuts[0]["invert"]) != ("Isolated", False):
        return None
    return Steps(RULES[cuts[0]["pattern"]["Regex"]], digits, cuts[1:], kinds == ["NFC"])


def _flat(step: dict[str, Any] | None, inside: str) -> list[dict[str, Any]]:
    """The steps of a sequence, of those in it too."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    return [one for inner in step[inside] for one in _flat(inner, inside)]


def _is_local(step: dict[str, Any]) -> bool:
    """Whether a pre-tokenizer looks at nothing but the unit that it cuts."""
    if step["type"] == "ByteLevel":
        return not step["add_prefix_space"]
    return step["type"] in ("Split", "Digits", "Punctuation")


# -- sentencepiece's BPE: nothing in its vocabulary has a space behind something else -----------------------------


def _known_normalizer(body: dict[str, Any]) -> bool:
    found = _flat(body["normalizer"], "normalizers")
    return _writes_spaces(found) or [step["type"] for step in found] in ([], ["NFC"])


def _writes_spaces(normalizers: Sequence[dict[str, Any]]) -> bool:
    """A space before every text, perhaps, and U+2581 for every space."""
    last = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return (
        bool(normalizers)
        and normalizers[-1] == last
        and all(map(_is_prefix, normalizers[:-1]))
        and len(normalizers) < 3
    )


def _is_prefix(step: dict[str, Any]) -> bool:
    if step["type"] == "Prepend":
        return step["prepend"] == SPACE
    prefixes = step["type"] == "Replace" and step["content"] == SPACE
    return prefixes and step["pattern"].get("Regex", "").startswith(NOT_ALONE)


NOT_ALONE = r"\A(?!\z|"  # how the expression begins that stands for Prepend where some texts get no space before them


def _of_spaces(body: dict[str, Any], normalizers: Sequence[dict[str, Any]]) -> Steps | None:
    model = body["model"]
    crosses = re.compile(f"[^{SPACE}]{SPACE}")
    is_whole = model.get("ignore_merges") or model.get("end_of_word_suffix") or model.get("continuing_subword_prefix")
    if model["type"] != "BPE" or is_whole or body["pre_tokenizer"] is not None or SPACE not in model["vocab"]:
        return None
    specials = {token["content"] for token in body["added_tokens"] if token["special"]}
    if any(crosses.search(token) for token in model["vocab"] if token not in specials):
        return None
    regex = len(normalizers) == 2 and normalizers[0]["type"] == "Replace"
    alone = tuple(token["content"] for token in body["added_tokens"] if token["normalized"]) if regex else ()
    return Steps(SPACES, 0, [], writes_spaces=True, has_prefix=len(normalizers) == 2, unprefixed=alone)


# -- added tokens --------------------------------------------------------------------------------------------------


def _only_matches(token: dict[str, Any], writes_spaces: bool) -> bool:
    """Special tokens are read as text; others are cut out wherever they stand, before or after the text is normalized."""
    if token["special"] and not token["normalized"]:
        return True
    if token["single_word"] or token["lstrip"] or token["rstrip"] or token["content"] == "":
        return False
    if not token["normalized"]:  # of these a prefix would make texts of their own
        return not writes_spaces
    return token["content"].isascii() and not (writes_spaces and " " in token["content"])


def cuts(body: dict[str, Any], found: Steps) -> Cuts:
    """Tables for the kernel."""
    added = body["added_tokens"]
    raw = [token for token in added if not token["normalized"]]
    if all(token["special"] for token in raw):  # nothing is found of which one could be a part
        raw = []
    classes = case_classes() if found.rule == RULES[O200K] else character_classes()
    is_digit = numeric_characters() if found.digits else np.zeros(0, np.bool_)
    trees = (*_tree(raw), *_tree([token for token in added if token["normalized"]]))
    return Cuts(found.rule, found.digits, classes, is_digit, *trees)


def _tree(tokens: Iterable[dict[str, Any]]) -> tuple[I32, I32]:
    """Added tokens as a tree of their bytes: next node [nodes, 256] (0: none), token that ends at a node [nodes]."""
    from pipelines.tokenizing_kernel import SKIPPED, UNKNOWN

    nodes, ends = [np.zeros(256, np.int32)], [UNKNOWN]
    for token in tokens:
        node = 0
        for byte in token["content"].encode():
            if nodes[node][byte] == 0:
                nodes[node][byte] = len(nodes)
                nodes.append(np.zeros(256, np.int32))
                ends.append(UNKNOWN)
            node = int(nodes[node][byte])
        ends[node] = SKIPPED if token["special"] else token["id"]
    return np.array(nodes), np.array(ends, np.int32)


def unit_tokenizer(body: dict[str, Any], found: Steps) -> Tokenizer:
    """The same model for one unit at a time."""
    from tokenizers import Tokenizer

    bare = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    within = {"type": "Sequence", "pretokenizers": found.within} if found.within else None
    spaces = _flat(body["normalizer"], "normalizers")[-1] if found.writes_spaces else None
    return Tokenizer.from_str(json.dumps({**body, **bare, "normalizer": spaces, "pre_tokenizer": within}))


# -- characters ----------------------------------------------------------------------------------------------------


@functools.cache
def character_classes() -> NDArray[np.uint8]:
    r"""By code point: what the library's own regular expressions take for ``\p{L}``, ``\p{N}`` and ``\s``."""
    from pipelines.units_kernel import LETTER, NUMBER, WHITE

    return _classes({LETTER: r"\p{L}", NUMBER: r"\p{N}", WHITE: r"\s"})


@functools.cache
def case_classes() -> NDArray[np.uint8]:
    """The same for a rule that tells large letters from small ones, and marks from other characters."""
    from pipelines.units_kernel import EITHER, MARK, NUMBER, SMALL, UPPER, WHITE

    kinds = {SMALL: r"\p{Ll}", UPPER: r"[\p{Lu}\p{Lt}]", EITHER: r"[\p{Lm}\p{Lo}]", MARK: r"\p{M}"}
    return _classes({**kinds, NUMBER: r"\p{N}", WHITE: r"\s"})


def _classes(patterns: dict[int, str]) -> NDArray[np.uint8]:
    from tokenizers import Regex, normalizers

    classes = np.zeros(TABLE_SIZE, np.uint8)
    for kind, pattern in patterns.items():
        marked = normalizers.Replace(Regex(pattern), "\0")
        for some in np.array_split(_codes(), TABLE_SIZE >> 12):
            text = marked.normalize_str("".join(map(chr, some)))
            classes[some[[character == "\0" for character in text]]] = kind
    classes.flags.writeable = False
    return classes


@functools.cache
def numeric_characters() -> Bools:
    """By code point: what the library's pre-tokenizer of digits takes for one."""
    from tokenizers import pre_tokenizers

    cut, is_digit = pre_tokenizers.Digits(individual_digits=True), np.zeros(TABLE_SIZE, np.bool_)
    for some in np.array_split(_codes(), TABLE_SIZE >> 12):
        text = "".join(f"a{chr(code)}a" for code in some)
        found = [start for piece, (start, _) in cut.pre_tokenize_str(text) if piece != "a" and len(piece) == 1]
        is_digit[some[[start // 3 for start in found if start % 3 == 1]]] = True
    is_digit.flags.writeable = False
    return is_digit


def _codes() -> NDArray[np.int64]:
    """Code points but 0 and surrogates."""
    return np.array([code for code in range(1, TABLE_SIZE) if not 0xD800 <= code < 0xE000])
