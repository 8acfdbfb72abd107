"""Tokens of texts: those of the ``tokenizers`` library, most of them looked up.

A byte-level tokenizer cuts a text into units (a word with the space before it, a number, a run of white space) and
encodes each by itself. Texts repeat their units: here each different one is encoded once, by the library, and found in
a table ever after. The table changes how long a text takes, never its tokens.

Units are those of GPT-2, of GPT-4 and Llama 3, or of Qwen. A tokenizer of other units, or one that does more to a text
than this module knows of, is used as it is, text by text; :func:`why_whole` says why.
"""

from __future__ import annotations

import functools
import json
import threading
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
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
RULES = {GPT2: 0, GPT4: 3, QWEN: 1}  # as the kernel numbers them
TABLE_SIZE = 0x32400  # no letter, number or white space lies above CJK extension H (U+31350 to U+323AF)
TOGETHER = 64  # texts a call: tokenizers encodes a long list 8 times slower than batches of 1 to 64
CACHE_BYTES = 2 << 20  # of text that is encoded at once
MAX_UNITS = 1 << 20  # that the table holds; some 70 MB
MAX_BYTES = 64 << 20  # of units that the table holds

I64 = NDArray[np.int64]


class Table(NamedTuple):
    """Units by number with their tokens, and the slots of a hash table of them (open addressing, -1: free)."""

    slots: NDArray[np.int32]
    hashes: NDArray[np.uint64]  # of the unit in each slot
    data: NDArray[np.uint8]
    offsets: I64  # [units + 1], in data
    ids: NDArray[np.uint32]
    id_offsets: I64  # [units + 1], in ids


def _empty() -> Table:
    nothing, start = np.zeros(0, np.uint8), np.zeros(1, np.int64)
    slots, hashes = np.full(1 << 12, -1, np.int32), np.zeros(1 << 12, np.uint64)
    return Table(slots, hashes, nothing, start, nothing.astype(np.uint32), start)


class Encoder:
    """Encodes columns of texts with one ``tokenizer.json``, special tokens in a text as the text that they are.

    Two threads may share one: they take turns.
    """

    def __init__(self, data: bytes, *, max_units: int = MAX_UNITS, max_bytes: int = MAX_BYTES) -> None:
        from pipelines.vocabulary import plain_tokenizer

        self.tokenizer = plain_tokenizer(data)
        self.why_whole = why_whole(json.loads(data))
        self.max_id = max(self.tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
        self.max_units, self.max_bytes = max_units, max_bytes
        self.table = _empty()
        self._lock = threading.Lock()
        if not self.why_whole:
            body = json.loads(data)
            self._units = _units(body["pre_tokenizer"]) or Units(0, [])
            self._of_units = _unit_tokenizer(body, self._units)
            self._is_nfc = body["normalizer"] is not None
            self._trie, self._tokens = _added(body["added_tokens"])

    def encode(
        self, texts: pa.Array | pa.ChunkedArray, dtype: Any = np.uint32, end_id: int = -1
    ) -> tuple[NDArray[Any], I64]:
        """Tokens of all texts one after another, and where those of each text begin: int64 [texts + 1].

        Args:
            texts: strings, none of them null.
            dtype: of the tokens; the largest id must fit.
            end_id: a token that ends each text, none if it is negative.

        Raises:
            ValueError: if a text is null, or if ``dtype`` is too small for the vocabulary.
        """
        from pipelines.words import pieces

        if max(self.max_id, end_id) > np.iinfo(dtype).max:
            raise ValueError(
                f"the vocabulary has ids up to {max(self.max_id, end_id)}, and {np.dtype(dtype)} holds ids up to "
                f"{np.iinfo(dtype).max}: ask for a larger one."
            )
        found = [self._piece(piece, np.dtype(dtype), end_id) for piece in pieces(texts, CACHE_BYTES)]
        if len(found) == 1:
            return found[0]
        lengths = [np.diff(offsets) for _, offsets in found]
        tokens = np.concatenate([np.zeros(0, dtype), *(tokens for tokens, _ in found)])
        return tokens, np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))])

    def _piece(self, texts: pa.Array, dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        if self.why_whole:
            return self._whole(texts.to_pylist(), dtype, end_id)
        with self._lock:
            return self._by_units(texts, dtype, end_id)

    def _whole(self, texts: list[str], dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        found = [np.zeros(0, dtype)]
        more = [] if end_id < 0 else [end_id]
        for start in range(0, len(texts), TOGETHER):
            encoded = self.tokenizer.encode_batch_fast(texts[start : start + TOGETHER])
            found += [np.array([*one.ids, *more], dtype) for one in encoded]
        return np.concatenate(found), np.concatenate([[0], np.cumsum([len(one) for one in found[1:]], dtype=np.int64)])

    def _by_units(self, texts: pa.Array, dtype: np.dtype[Any], end_id: int) -> tuple[NDArray[Any], I64]:
        from pipelines import tokenizing_kernel as kernel
        from pipelines.words import text_buffers

        if self._is_nfc:
            texts = self._composed(texts)
        data, rows = text_buffers(texts)
        classes = character_classes()
        if len(self.table.offsets) > self.max_units or self.table.data.size > self.max_bytes:
            self.table = _empty()
        bounds, numbers, of_text = kernel.numbered_units(
            data, rows, classes, self._units.rule, self._trie, self._tokens, self.table
        )
        unknown = np.flatnonzero(numbers == kernel.UNKNOWN)
        if unknown.size:
            first = kernel.first_ones(data, bounds, unknown)
            self._learn([data[bounds[unit] : bounds[unit + 1]].tobytes() for unit in first])
            kernel.renumber(data, bounds, numbers, unknown, self.table)
        offsets = kernel.token_offsets(numbers, of_text, self.table.id_offsets, int(end_id >= 0))
        tokens = np.empty(offsets[-1], dtype)
        kernel.gather(numbers, of_text, self.table.id_offsets, self.table.ids, end_id, tokens)
        return tokens, offsets

    def _composed(self, texts: pa.Array) -> pa.Array:
        """Texts in Unicode's normal form C, which nearly all of them are in."""
        import pyarrow.compute as pc

        from pipelines.tokenizing_kernel import not_inert
        from pipelines.words import text_buffers

        may_change = pa.array(not_inert(*text_buffers(texts), inert_characters()))
        normalizer = self.tokenizer.normalizer
        composed = [normalizer.normalize_str(text) for text in texts.filter(may_change).to_pylist()]
        if not composed:
            return texts
        return pc.replace_with_mask(texts.cast(pa.large_string()), may_change, pa.array(composed, pa.large_string()))

    def _learn(self, units: list[bytes]) -> None:
        """Add units, each different from all others and from those that are known."""
        from pipelines.tokenizing_kernel import fill

        old = self.table
        ids, id_ends = self._encoded_units([unit.decode() for unit in units])
        offsets = old.data.size + np.cumsum([len(unit) for unit in units], dtype=np.int64)
        data = np.concatenate([old.data, np.frombuffer(b"".join(units), np.uint8)])
        new = old._replace(
            data=data,
            offsets=np.concatenate([old.offsets, offsets]),
            ids=np.concatenate([old.ids, ids]),
            id_offsets=np.concatenate([old.id_offsets, old.ids.size + id_ends]),
        )
        first = len(old.offsets) - 1
        if 2 * len(new.offsets) > old.slots.size:
            size, first = 1 << (4 * len(new.offsets)).bit_length(), 0
            new = new._replace(slots=np.full(size, -1, np.int32), hashes=np.zeros(size, np.uint64))
        fill(new.slots, new.hashes, new.data, new.offsets, first)
        self.table = new

    def _encoded_units(self, units: list[str]) -> tuple[NDArray[np.uint32], I64]:
        ids: list[int] = []
        ends: list[int] = []
        for start in range(0, len(units), TOGETHER):
            for encoding in self._of_units.encode_batch_fast(units[start : start + TOGETHER]):
                ids += encoding.ids
                ends.append(len(ids))
        return np.array(ids, np.uint32), np.array(ends, np.int64)


@functools.lru_cache(maxsize=2)
def encoder(data: bytes) -> Encoder:
    """The encoder of a ``tokenizer.json``, one for all parts that a process encodes."""
    return Encoder(data)


def why_whole(body: dict[str, Any]) -> str:
    """Why the texts of this ``tokenizer.json`` cannot be encoded unit by unit; empty if they can."""
    reasons = {
        "a pre-tokenizer of other units": _units(body["pre_tokenizer"]) is None,
        "a normalizer other than NFC": body["normalizer"] not in (None, {"type": "NFC"}),
        "a post-processor that adds tokens": (body["post_processor"] or {"type": "ByteLevel"})["type"] != "ByteLevel",
        "dropout": bool(body["model"].get("dropout")),
        "an added token that does more than match": not all(map(_only_matches, body["added_tokens"])),
    }
    return ", ".join(reason for reason, holds in reasons.items() if holds)


class Units(NamedTuple):
    """How a pre-tokenizer cuts a text."""

    rule: int
    within: list[dict[str, Any]]  # what it does to each unit after that


def _units(pre_tokenizer: dict[str, Any] | None) -> Units | None:
    """None if it does not begin by cutting a text into units that are known here."""
    steps = [pre_tokenizer or {}]
    if steps[0].get("type") == "Sequence":
        steps = steps[0]["pretokenizers"]
    begun = 1 if steps[0].get("type") == "Split" else 0
    first, rest = (steps[begun] if len(steps) > begun else {}), steps[begun + 1 :]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": not begun}
    is_first = {"use_regex": True, **{key: first[key] for key in first if key != "trim_offsets"}} == byte_level
    pattern = steps[0]["pattern"].get("Regex") if begun else GPT2
    isolates = not begun or (steps[0]["behavior"], steps[0]["invert"]) == ("Isolated", False)
    if not is_first or not isolates or pattern not in RULES or any(step["type"] != "Split" for step in rest):
        return None
    return Units(RULES[pattern], rest)


def _only_matches(token: dict[str, Any]) -> bool:
    """Special tokens are read as text; others are cut out of the normalized text wherever they stand."""
    if token["special"] and not token["normalized"]:
        return True
    strips = token["single_word"] or token["lstrip"] or token["rstrip"]
    return token["normalized"] and not strips and token["content"].isascii() and token["content"] != ""


def _added(tokens: Sequence[dict[str, Any]]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Added tokens as a tree of their bytes: next node [nodes, 256] (0: none), token that ends at a node [nodes]."""
    from pipelines.tokenizing_kernel import SKIPPED, UNKNOWN

    nodes, ends = [np.zeros(256, np.int32)], [UNKNOWN]
    for token in tokens:
        if not token["normalized"]:
            continue
        node = 0
        for byte in token["content"].encode():
            if nodes[node][byte] == 0:
                nodes[node][byte] = len(nodes)
                nodes.append(np.zeros(256, np.int32))
                ends.append(UNKNOWN)
            node = int(nodes[node][byte])
        ends[node] = SKIPPED if token["special"] else token["id"]
    return np.array(nodes), np.array(ends, np.int32)


def _unit_tokenizer(body: dict[str, Any], units: Units) -> Tokenizer:
    """The same model for one unit at a time."""
    from tokenizers import Tokenizer

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    steps = [byte_level, *units.within]
    bare = {"added_tokens": [], "normalizer": None, "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(
        json.dumps({**body, **bare, "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps}})
    )


@functools.cache
def character_classes() -> NDArray[np.uint8]:
    r"""By code point: what the library's own regular expressions take for ``\p{L}``, ``\p{N}`` and ``\s``."""
    from tokenizers import Regex, normalizers

    from pipelines.units_kernel import LETTER, NUMBER, WHITE

    classes = np.zeros(TABLE_SIZE, np.uint8)
    codes = np.array([code for code in range(1, TABLE_SIZE) if not 0xD800 <= code < 0xE000])
    for kind, pattern in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (WHITE, r"\s")):
        marked = normalizers.Replace(Regex(pattern), "\0")
        for some in np.array_split(codes, TABLE_SIZE >> 12):
            text = marked.normalize_str("".join(map(chr, some)))
            classes[some[[character == "\0" for character in text]]] = kind
    classes.flags.writeable = False
    return classes


@functools.cache
def inert_characters() -> NDArray[np.bool_]:
    """By code point: characters that normal form C leaves alone and where they are, whatever stands beside them."""
    inert = np.zeros(TABLE_SIZE, np.bool_)
    seconds = set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))  # vowels and finals of Hangul
    for code in range(TABLE_SIZE):
        character = chr(code)
        parts = unicodedata.decomposition(character).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(int(parts[1], 16))
        stays = not unicodedata.combining(character) and unicodedata.normalize("NFC", character) == character
        inert[code] = stays and unicodedata.category(character) not in ("Cn", "Cs")
    inert[sorted(seconds)] = False
    inert.flags.writeable = False
    return inert
