"""A tokenizer.json that somebody else made, taken as a vocabulary.

It keeps its tokens and their ids. What the trainer needs and it lacks is added behind them: a token that ends a
document, one that fills up, and two that open the turns of a conversation. A post-processor, which puts special tokens
around every text, is left out: here they are put in by whoever means them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3


class TokenizerFileError(ValueError):
    """A file cannot be a vocabulary."""


def file_digest(path: Path) -> str:
    """blake3 of the file.

    Raises:
        TokenizerFileError: if there is none.
    """
    try:
        return blake3(path.read_bytes()).hexdigest()
    except OSError as error:
        raise TokenizerFileError(
            f"{path}: cannot be read ({error.strerror}); a vocabulary's path is that of a tokenizer.json."
        ) from None


def imported(
    path: Path | None, expected: str, end_token: str, specials: Sequence[str]
) -> tuple[dict[str, Any], dict[str, int]]:
    """The ``tokenizer.json`` with every special token in it, and the ids of these, the first of which ends a document.

    Args:
        path: of the file.
        expected: its blake3.
        end_token: its own token that ends a document; empty: the first of ``specials``.
        specials: names of special tokens that must be there.

    Raises:
        TokenizerFileError: if the file is missing, another one or no tokenizer, or has no such ``end_token``.
    """
    if path is None:
        raise TokenizerFileError("the recipe names a tokenizer.json by its digest, and no file is given; set path.")
    if (found := file_digest(path)) != expected:
        raise TokenizerFileError(f"{path.name}: has digest {found[:12]}…, the recipe says {expected[:12]}…. Run again.")
    body = _read(path)
    tokens = {token["content"]: token for token in body["added_tokens"]}
    if end_token and end_token not in tokens:
        special = ", ".join(repr(name) for name, token in tokens.items() if token["special"]) or "none"
        raise TokenizerFileError(f"{path.name}: has no token {end_token!r} for end_token; its special ones: {special}.")
    known, ids = _vocab(body), {}
    for name in specials:
        own = end_token if end_token and name == specials[0] else name
        if own not in tokens:
            number = known.get(own, size_of(body))
            tokens[own] = _special(number, own)
            body["added_tokens"].append(tokens[own])
        tokens[own]["special"] = True  # as text it is read as text: no document ends itself
        ids[name] = tokens[own]["id"]
    return {**body, "post_processor": None, "truncation": None, "padding": None}, ids


def size_of(body: dict[str, Any]) -> int:
    """One more than the largest id: the rows of an embedding."""
    return 1 + max([*_vocab(body).values(), *(token["id"] for token in body["added_tokens"])])


def _read(path: Path) -> dict[str, Any]:
    from tokenizers import Tokenizer

    try:
        text = path.read_text("utf-8")
        Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 (the library raises nothing more exact)
        raise TokenizerFileError(f"{path.name}: is no tokenizer.json that tokenizers reads ({error}).") from None
    return json.loads(text)


def _vocab(body: dict[str, Any]) -> dict[str, int]:
    vocab = body["model"]["vocab"]
    return vocab if isinstance(vocab, dict) else {entry[0]: number for number, entry in enumerate(vocab)}


def _special(number: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **flags}
