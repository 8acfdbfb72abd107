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
    prefix: str = ""  # how a text gets a space before it: PREPEND, ALONE or FIRST
    unprefixed: tuple[str, ...] = ()  # texts that get none


def why_whole(body: dict[str, Any]) -> str:
    """Why the texts of this ``tokenizer.json`` cannot be encoded unit by unit; empty if they can."""
    found = steps(body)
    reasons = {
        "a pre-tokenizer of other units": found is None and _known_normalizer(body),
        "a normalizer other than NFC": not _known_normalizer(body),
        "a post-processor that adds tokens": (body["post_processor"] or {"type": "ByteLevel"})["type"] != "ByteLevel",
        "dropout": bool(body["model"].get("dropout")),
        "an added token that does more than match": not all(_only_matches(t, found) for t in body["added_tokens"]),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


def steps(body: dict[str, Any]) -> Steps | None:
    """None if they do not begin by cutting a text into units that are known here."""
    normalizers = _flat(body["normalizer"], "normalizers")
    kinds = [step["type"] for step in normalizers]
    cuts = _flat(body["pre_tokenizer"], "pretokenizers")
    if _writes_spaces(normalizers) or (not kinds and [step["type"] for step in cuts] == ["Metaspace"]):
        return _of_spaces(body, normalizers, cuts)
    if kinds not in ([], ["NFC"]):
        return None
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
PREPEND, ALONE, FIRST = "prepend", "not alone", "first"  # FIRST: unless a text begins with a space
_JOINED = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def _of_spaces(
    body: dict[str, Any], normalizers: Sequence[dict[str, Any]], cuts: Sequence[dict[str, Any]]
) -> Steps | None:
    if not _parts_at_spaces(body):
        return None
    if not normalizers:
        return _of_metaspace(cuts[0])
    if cuts and list(cuts) != [_JOINED]:  # which finds no space any more
        return None
    prefix, alone = "", ()
    if len(normalizers) == 2:
        prefix = PREPEND if normalizers[0]["type"] == "Prepend" else ALONE
    if prefix == ALONE:
        alone = tuple(t["content"] for t in body["added_tokens"] if t["normalized"] and not t["special"])
    return Steps(SPACES, 0, [], writes_spaces=True, prefix=prefix, unprefixed=alone)


def _parts_at_spaces(body: dict[str, Any]) -> bool:
    """Whether no token reaches over a space that stands behind something else, so that a text can be cut there."""
    model = body["model"]
    is_whole = model.get("ignore_merges") or model.get("end_of_word_suffix") or model.get("continuing_subword_prefix")
    if model["type"] != "BPE" or is_whole or SPACE not in model["vocab"]:
        return False
    crosses, apart = re.compile(f"[^{SPACE}]{SPACE}"), {token["content"] for token in body["added_tokens"]}
    return not any(crosses.search(token) for token in model["vocab"] if token not in apart)


def _of_metaspace(step: dict[str, Any]) -> Steps | None:
    """Where no text is split, spaces are replaced, and nothing else."""
    prefixes = {"first": FIRST, "never": ""}
    if step["split"] or step["replacement"] != SPACE or step["prepend_scheme"] not in prefixes:
        return None
    return Steps(SPACES, 0, [], writes_spaces=True, prefix=prefixes[step["prepend_scheme"]])


# -- added tokens --------------------------------------------------------------------------------------------------


def _only_matches(token: dict[str, Any], found: Steps | None) -> bool:
    """Special tokens are read as text; others are cut out wherever they stand, before or after the text is normalized.

    What stands behind such a token, and the token itself, may get a space before it as a text does: that is not known
    here, but of tokens of which :data:`ALONE` says so.
    """
    if token["special"] and not token["normalized"]:
        return True
    if token["single_word"] or token["lstrip"] or token["rstrip"] or token["content"] == "":
        return False
    prefix, writes_spaces = (found.prefix, found.writes_spaces) if found else ("", False)
    if not token["normalized"]:
        return prefix == ""
    if writes_spaces and not token["special"] and (prefix not in ("", ALONE) or " " in token["content"]):
        return False
    return token["content"].isascii()


def cuts(body: dict[str, Any], found: Steps) -> Cuts:
    """Tables for the kernel."""
    both = [[token for token in body["added_tokens"] if token["normalized"] is kind] for kind in (False, True)]
    # where all of a kind are special, nothing is found that could be a part of one
    raw, normal = ([] if all(token["special"] for token in tokens) else tokens for tokens in both)
    classes = case_classes() if found.rule == RULES[O200K] else character_classes()
    is_digit = numeric_characters() if found.digits else np.zeros(0, np.bool_)
    trees = (*_tree(raw), *_tree(normal))
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
    replaced = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    spaces = replaced if found.writes_spaces else None
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
