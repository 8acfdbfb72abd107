"""A tokenizer that somebody else made, taken as a vocabulary: a tokenizer.json, or what is turned into one.

It keeps its tokens and their ids. What the trainer needs and it lacks is added behind them: a token that ends a
document, one that fills up, and two that open the turns of a conversation. A post-processor, which puts special tokens
around every text, is left out: here they are put in by whoever means them.

A sentencepiece model and a rank file of tiktoken are told by their bytes, whatever their names; the latter's encoding
is named beside it, since it says neither where to cut nor its special tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blake3 import blake3

from pipelines import rank_file, sentencepiece_file
from pipelines.rank_file import special_token


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
            f"{path}: cannot be read ({error.strerror}); a vocabulary's path is that of a tokenizer.json, a model of "
            "sentencepiece or a rank file of tiktoken."
        ) from None


def checked_encoding(path: Path, encoding: str) -> None:
    """That an encoding is named where a file needs one, and only there.

    Raises:
        TokenizerFileError: if not; the message says which names there are.
    """
    is_ranks = rank_file.is_rank_file(path.read_bytes())
    if is_ranks and not encoding:
        there = ", ".join(rank_file.ENCODINGS)
        raise TokenizerFileError(
            f"{path.name}: is a rank file, which does not say where texts are cut; set encoding to one of {there}."
        )
    if encoding and not is_ranks:
        raise TokenizerFileError(f"{path.name}: is no rank file; encoding {encoding!r} is for those alone.")


def imported(
    path: Path | None, expected: str, end_token: str, specials: Sequence[str], encoding: str = ""
) -> tuple[dict[str, Any], dict[str, int]]:
    """The ``tokenizer.json`` with every special token in it, and the ids of these, the first of which ends a document.

    Args:
        path: of the file.
        expected: its blake3.
        end_token: its own token that ends a document; empty: the first of ``specials``.
        specials: names of special tokens that must be there.
        encoding: what a rank file is of; empty for others.

    Raises:
        TokenizerFileError: if the file is missing, another one or no tokenizer, or has no such ``end_token``.
    """
    if path is None:
        raise TokenizerFileError("the recipe names a tokenizer by its digest, and no file is given; set path.")
    if (found := file_digest(path)) != expected:
        raise TokenizerFileError(f"{path.name}: has digest {found[:12]}…, the recipe says {expected[:12]}…. Run again.")
    body = _read(path, encoding)
    tokens = {token["content"]: token for token in body["added_tokens"]}
    if end_token and end_token not in tokens:
        special = ", ".join(repr(name) for name, token in tokens.items() if token["special"]) or "none"
        raise TokenizerFileError(f"{path.name}: has no token {end_token!r} for end_token; its special ones: {special}.")
    ids = {}
    for name in specials:
        own = end_token if end_token and name == specials[0] else name
        if own not in tokens:
            tokens[own] = special_token(_number(body, own), own)
            body["added_tokens"].append(tokens[own])
        tokens[own]["special"] = True  # as text it is read as text: no document ends itself
        ids[name] = tokens[own]["id"]
    if body["model"].get("type") == "Unigram":
        body["pre_tokenizer"] = _kept_apart(body)
    return {**body, "post_processor": None, "truncation": None, "padding": None}, ids


def size_of(body: dict[str, Any]) -> int:
    """One more than the largest id: the rows of an embedding."""
    return 1 + max([*_vocab(body).values(), *(token["id"] for token in body["added_tokens"])])


def _read(path: Path, encoding: str) -> dict[str, Any]:
    from tokenizers import Tokenizer

    checked_encoding(path, encoding)
    data = path.read_bytes()
    try:
        if encoding:
            body = rank_file.tokenizer_body(data, encoding)
        elif data[:1] == sentencepiece_file.FIRST and data.lstrip()[:1] != b"{":
            body = sentencepiece_file.tokenizer_body(data)
        else:
            body = json.loads(data)
        Tokenizer.from_str(json.dumps(body))
    except (rank_file.RankFileError, sentencepiece_file.SentencePieceError) as error:
        raise TokenizerFileError(f"{path.name}: {error}") from None
    except Exception as error:  # noqa: BLE001 (the library raises nothing more exact)
        raise TokenizerFileError(
            f"{path.name}: is no tokenizer.json that tokenizers reads ({error}), and no model of sentencepiece or rank "
            "file either."
        ) from None
    return body


def _number(body: dict[str, Any], token: str) -> int:
    """The id of a token that is to be added: the one after the largest.

    Where ids have gaps, it stands in the model's vocabulary as well: by itself ``tokenizers`` gives the next id after
    as many as there are.
    """
    known, after = _vocab(body), size_of(body)
    has_gaps = max(known.values(), default=-1) >= len(known)
    if has_gaps and token not in known:
        body["model"]["vocab"][token] = after
    return known.get(token, after)


def _kept_apart(body: dict[str, Any]) -> dict[str, Any]:
    """A pre-tokenizer that cuts what looks like a special token behind its first character.

    Unigram takes whatever is in its vocabulary for text, special tokens and the names of bytes too.
    """
    names = [token["content"] for token in body["added_tokens"] if token["special"]]
    if body["model"].get("byte_fallback"):
        names += [piece for piece, _ in body["model"]["vocab"] if re.fullmatch("<0x[0-9A-F]{2}>", piece)]
    rests: dict[str, list[str]] = {}
    for name in names:
        if len(name) > 1:
            rests.setdefault(name[0], []).append(re.escape(name[1:]))
    looks = "|".join(f"{re.escape(first)}(?={'|'.join(rest)})" for first, rest in rests.items())
    cut = {"type": "Split", "pattern": {"Regex": looks}, "behavior": "MergedWithPrevious", "invert": False}
    own = body["pre_tokenizer"]
    steps = own["pretokenizers"] if own and own["type"] == "Sequence" else [own] if own else []
    return {"type": "Sequence", "pretokenizers": [*steps, cut]}


def _vocab(body: dict[str, Any]) -> dict[str, int]:
    vocab = body["model"]["vocab"]
    return vocab if isinstance(vocab, dict) else {entry[0]: number for number, entry in enumerate(vocab)}
