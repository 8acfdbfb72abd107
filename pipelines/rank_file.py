"""A rank file of tiktoken, as a ``tokenizer.json``: one token a line in base64, with its rank, which is its id.

The file says neither where texts are cut nor which special tokens there are: that is known of an encoding by its name.
Merges are not in it either. Tiktoken joins two neighbours whenever what they make together is a token, that of the
lowest rank first; of all the ways to halve a token, that procedure can meet but one, the one in which the token itself
falls into two before it is joined. So there is one merge a token, in the order of ranks, and none for a token that is
found only as a whole unit (``ignore_merges``).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipelines.unit_rules import CL100K, GPT2, GPT4, O200K, QWEN

_NONE = 1 << 62  # no rank
_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]+)")


class RankFileError(ValueError):
    """A rank file cannot be read; the message names the line."""


class Encoding(NamedTuple):
    """What a rank file does not say."""

    pattern: str
    specials: dict[str, int]
    normalizer: dict[str, str] | None = None


_END = "<|endoftext|>"
ENCODINGS = {  # tiktoken 0.14, openai_public.py; llama-models 0.3; Qwen's tokenization_qwen.py
    "r50k_base": Encoding(GPT2, {_END: 50256}),
    "p50k_base": Encoding(GPT2, {_END: 50256}),
    "cl100k_base": Encoding(
        CL100K,
        {
            _END: 100257,
            "<|fim_prefix|>": 100258,
            "<|fim_middle|>": 100259,
            "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": Encoding(O200K, {_END: 199999, "<|endofprompt|>": 200018}),
    "llama3": Encoding(
        GPT4,
        {
            "<|begin_of_text|>": 128000,
            "<|end_of_text|>": 128001,
            "<|start_header_id|>": 128006,
            "<|end_header_id|>": 128007,
            "<|eom_id|>": 128008,
            "<|eot_id|>": 128009,
        },
    ),
    "llama4": Encoding(
        O200K,
        {
            "<|begin_of_text|>": 200000,
            "<|end_of_text|>": 200001,
            "<|header_start|>": 200005,
            "<|header_end|>": 200006,
            "<|eom|>": 200007,
            "<|eot|>": 200008,
        },
    ),
    "qwen": Encoding(QWEN, {_END: 151643, "<|im_start|>": 151644, "<|im_end|>": 151645}, {"type": "NFC"}),
}


def is_rank_file(data: bytes) -> bool:
    """Whether the first line is that of a rank file."""
    return _LINE.fullmatch(data[:4096].split(b"\n", 1)[0].rstrip(b"\r")) is not None


def tokenizer_body(data: bytes, encoding: str) -> dict[str, Any]:
    """The ``tokenizer.json`` of a rank file.

    Raises:
        RankFileError: for a line that is none, a token or rank that comes twice, a byte without a token, or a rank
            that is a special token's.
    """
    ranks, known = _ranks(data), ENCODINGS[encoding]
    letters = _letters()
    said = {rank: "".join(letters[byte] for byte in token) for token, rank in ranks.items()}
    for name, number in known.specials.items():
        if number in said:
            raise RankFileError(
                f"its rank {number} is that of {name} in {encoding}: the file belongs to another encoding."
            )
    vocab = {said[rank]: rank for rank in sorted(said)} | known.specials
    merges = [["".join(letters[byte] for byte in half) for half in pair] for pair in _merges(ranks)]
    split = {"type": "Split", "pattern": {"Regex": known.pattern}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special_token(number, name) for name, number in known.specials.items()],
        "normalizer": known.normalizer,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocab,
            "merges": merges,
        },
    }


def special_token(number: int, content: str) -> dict[str, Any]:
    """A special token as a ``tokenizer.json`` lists it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **flags}


def _ranks(data: bytes) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    seen: set[int] = set()
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line)
        try:
            token, rank = base64.b64decode(found[1], validate=True) if found else b"", int(found[2]) if found else 0
        except binascii.Error:
            found, token, rank = None, b"", 0
        if found is None or not token:
            raise RankFileError(f"line {number} is {line[:40]!r}; expected a token in base64, a space and its rank.")
        if token in ranks or rank in seen:
            raise RankFileError(f"line {number}: token {token!r} or its rank {rank} stands in an earlier line as well.")
        ranks[token] = rank
        seen.add(rank)
    if missing := [byte for byte in range(256) if bytes([byte]) not in ranks]:
        raise RankFileError(f"it has no token for byte 0x{missing[0]:02x}; not every text could be said.")
    return ranks


def _merges(ranks: dict[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """The two halves of each token that has them, by rank."""
    for token in sorted(ranks, key=lambda token: ranks[token]):
        if len(token) > 1:
            parts = _parts(token, ranks)
            if len(parts) == 2:
                yield parts[0], parts[1]


def _parts(token: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """What the other tokens make of a token's bytes; two parts, unless the token is found only as a whole unit."""
    parts = [token[at : at + 1] for at in range(len(token))]
    while len(parts) > 2:
        found = [ranks.get(parts[at] + parts[at + 1], _NONE) for at in range(len(parts) - 1)]
        lowest = min(found)
        if lowest == _NONE:
            break
        at = found.index(lowest)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _letters() -> list[str]:
    """GPT-2's alphabet (Radford et al. 2019): the character that stands for each byte."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = iter(range(0x100, 0x200))
    return [chr(byte) if byte in set(shown) else chr(next(hidden)) for byte in range(256)]
