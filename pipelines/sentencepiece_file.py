"""A model of sentencepiece (BPE or Unigram), as a ``tokenizer.json``.

The file is one message in the wire format of protocol buffers (sentencepiece_model.proto); the few fields that decide
which tokens a text has are read here. Sentencepiece writes a space as U+2581 and looks at a text as a whole. Control
tokens have no text: ``</s>`` that stands in a document is encoded as the characters that it consists of.
"""

from __future__ import annotations

import base64
import re
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipelines.unit_rules import NOT_ALONE, SPACE

FIRST = b"\n"  # byte of a file: field 1, of a known length
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # SentencePiece.Type
UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType
_MODELS = {UNIGRAM: "Unigram", BPE: "BPE", 3: "WORD", 4: "CHAR"}

Value = int | bytes


class SentencePieceError(ValueError):
    """A file is no sentencepiece model, or one that ``tokenizers`` cannot follow."""


class Piece(NamedTuple):
    """An entry of the vocabulary."""

    text: str
    score: float
    kind: int


class Model(NamedTuple):
    """What decides about tokens; defaults are those of sentencepiece_model.proto."""

    pieces: list[Piece]
    algorithm: int = UNIGRAM
    byte_fallback: bool = False
    character_map: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    whitespace_as_suffix: bool = False


def tokenizer_body(data: bytes) -> dict[str, Any]:
    """The ``tokenizer.json`` of a sentencepiece model.

    Raises:
        SentencePieceError: if it is none, or one with a feature that has no counterpart.
    """
    model = read(data)
    _check(model)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(n, piece) for n, piece in enumerate(model.pieces) if piece.kind in _ADDED],
        "normalizer": _normalizer(model),
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": _decoder(model),
        "model": _bpe(model) if model.algorithm == BPE else _unigram(model),
    }


# -- the file --------------------------------------------------------------------------------------------------


def read(data: bytes) -> Model:
    """The fields of a model.

    Raises:
        SentencePieceError: if the bytes are no such message.
    """
    try:
        pieces, specs = _messages(data)
        trainer, normalizer = dict(_fields(specs[2])), dict(_fields(specs[3]))
        return Model(
            pieces,
            algorithm=_int(trainer.get(3, UNIGRAM)),
            byte_fallback=bool(trainer.get(35, 0)),
            character_map=_bytes(normalizer.get(2, b"")),
            add_dummy_prefix=bool(normalizer.get(3, 1)),
            remove_extra_whitespaces=bool(normalizer.get(4, 1)),
            escape_whitespaces=bool(normalizer.get(5, 1)),
            whitespace_as_suffix=bool(trainer.get(24, 0)),
        )
    except (IndexError, struct.error, UnicodeDecodeError, TypeError) as error:
        raise SentencePieceError(f"it is torn or no sentencepiece model ({error}).") from None


def _messages(data: bytes) -> tuple[list[Piece], dict[int, bytes]]:
    """The pieces, and the specifications of trainer and normalizer by the number of their field."""
    pieces, specs = [], {2: b"", 3: b""}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_bytes(value)))
        elif number in specs:
            specs[number] += _bytes(value)  # fields of a message that comes twice are joined
    if not specs[2]:
        raise IndexError("it ends before the specification of its trainer")
    return pieces, specs


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    score = struct.unpack("<f", _bytes(fields.get(2, b"\0\0\0\0")))[0]
    return Piece(_bytes(fields.get(1, b"")).decode(), score, _int(fields.get(3, NORMAL)))


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """Number and value of each field of a message: integers, or bytes as they are."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size, at = _varint(data, at) if kind == 2 else (8 if kind == 1 else 4, at)
            if at + size > len(data):
                raise IndexError(f"a field of {size} bytes at byte {at} ends after the file")
            value, at = data[at : at + size], at + size
        else:
            raise TypeError(f"wire type {kind} before byte {at}")
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError("a number where bytes are expected")
    return value


def _int(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError("bytes where a number is expected")
    return value


# -- what it means -----------------------------------------------------------------------------------------------

_ADDED = (UNKNOWN, CONTROL, USER_DEFINED)


def _check(model: Model) -> None:
    kinds = [piece.kind for piece in model.pieces]
    texts = [piece.text for piece in model.pieces]
    if kinds.count(UNKNOWN) != 1 or len(set(texts)) < len(texts) or "" in texts:
        raise SentencePieceError(
            f"it has {len(texts)} pieces, {kinds.count(UNKNOWN)} of them unknown; expected exactly one unknown piece, "
            "and all pieces different and not empty."
        )
    scores = Counter(piece.score for piece in model.pieces if _is_made(piece))
    wrong = {
        f"it is a {_MODELS.get(model.algorithm, model.algorithm)} model": model.algorithm not in (UNIGRAM, BPE),
        "it keeps spaces (escape_whitespaces is false)": not model.escape_whitespaces,
        "it writes spaces behind words (treat_whitespace_as_suffix)": model.whitespace_as_suffix,
        "its vocabulary is restricted (it has unused pieces)": UNUSED in kinds,
        "it falls back to bytes and lacks some": model.byte_fallback and kinds.count(BYTE) != 256,
        "it gives different pieces one score": model.algorithm == BPE and max(scores.values(), default=0) > 1,
        "a symbol of its user holds a space, where sentencepiece has U+2581": _has_spaced_symbol(model),
        "it may write a symbol of its user with other pieces": model.algorithm == UNIGRAM and _has_loose_symbol(model),
    }
    for reason, holds in wrong.items():
        if holds:
            raise SentencePieceError(f"{reason}; Unigram and BPE models without that can be taken.")


def _is_made(piece: Piece) -> bool:
    """Whether it is made from others; runs of one character may have one score."""
    return piece.kind == NORMAL and len(set(piece.text)) > 1


def _has_spaced_symbol(model: Model) -> bool:
    return any(piece.kind == USER_DEFINED and " " in piece.text for piece in model.pieces)


def _has_loose_symbol(model: Model) -> bool:
    """Whether a Unigram model could write a symbol of its user in another way: ``tokenizers`` always takes it whole.

    Sentencepiece gives it the best score of all pieces for each of its characters (or bytes), less 0.1, and takes the
    best way through the text (unigram_model.cc): another one may win if a piece holds the symbol or hangs over one of
    its ends (itself in ``||||`` too), or if the pieces that it consists of have scores as good.
    """
    scores = {piece.text: piece.score for piece in model.pieces if piece.kind in (NORMAL, USER_DEFINED)}
    best = max((piece.score for piece in model.pieces if piece.kind == NORMAL), default=0.0)
    for symbol in (piece.text for piece in model.pieces if piece.kind == USER_DEFINED):
        bonus = min(len(symbol) * best, len(symbol.encode()) * best) - 0.1
        others = {text: score for text, score in scores.items() if text != symbol}
        if _best_spelling(symbol, others) >= bonus or any(_reaches_over(text, symbol) for text in scores):
            return True
    return False


def _best_spelling(symbol: str, scores: dict[str, float]) -> float:
    """The best sum of scores of pieces that a symbol consists of; -inf if it consists of none."""
    sums = [0.0] + [float("-inf")] * len(symbol)
    for end in range(1, len(symbol) + 1):
        found = (sums[start] + scores[symbol[start:end]] for start in range(end) if symbol[start:end] in scores)
        sums[end] = max(found, default=float("-inf"))
    return sums[-1]


def _reaches_over(text: str, symbol: str) -> bool:
    """Whether a piece holds the symbol and more, or a part of it and what stands beside it."""
    if symbol[0] not in text and symbol[-1] not in text:
        return False
    shorter = min(len(text), len(symbol))
    hangs_over = any(text[-k:] == symbol[:k] or symbol[-k:] == text[:k] for k in range(1, shorter))
    return hangs_over or (text != symbol and symbol in text)


def _added(number: int, piece: Piece) -> dict[str, Any]:
    """A control token, or a symbol of the user, which stands whole wherever it is found in the normalized text."""
    is_user = piece.kind == USER_DEFINED
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": is_user, "special": not is_user}
    return {"id": number, "content": piece.text, **flags}


def _normalizer(model: Model) -> dict[str, Any]:
    r"""Sentencepiece's order: characters, spaces at the ends and double ones, the space before, U+2581 for a space."""
    steps: list[dict[str, Any]] = []
    if model.character_map:
        steps.append({"type": "Precompiled", "precompiled_charsmap": base64.b64encode(model.character_map).decode()})
    if model.remove_extra_whitespaces:
        steps += [_replace({"Regex": r"\A +"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if model.add_dummy_prefix:
        users = [re.escape(piece.text) for piece in model.pieces if piece.kind == USER_DEFINED]
        # tokens of the user are normalized as texts are: alone, they get no space before them
        alone = _replace({"Regex": f"{NOT_ALONE}(?:{'|'.join(users)})\\z)"}, SPACE)
        steps.append(alone if users else {"type": "Prepend", "prepend": SPACE})
    steps.append(_replace({"String": " "}, SPACE))
    if model.remove_extra_whitespaces:
        steps.append(_replace({"Regex": rf"{SPACE}+\z"}, ""))
    return {"type": "Sequence", "normalizers": steps}


def _decoder(model: Model) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [_replace({"String": SPACE}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if model.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _replace(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _bpe(model: Model) -> dict[str, Any]:
    unknown = next(piece.text for piece in model.pieces if piece.kind == UNKNOWN)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": unknown,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.text: number for number, piece in enumerate(model.pieces)},
        "merges": list(_merges(model)),
    }


def _merges(model: Model) -> Iterator[list[str]]:
    """One merge a piece, the best score first: the two parts into which the other pieces make it.

    As in ``rank_file.py``: neighbours are joined whenever what they make is a piece, so one halving can be met. Of
    equal scores the leftmost comes first, where ``tokenizers`` knows no equal ones: runs of spaces, which Llama and
    Mistral give one score, grow from the left if longer ones come first.
    """
    normal = {piece.text: -piece.score for piece in model.pieces if piece.kind == NORMAL}
    for text in sorted(normal, key=lambda text: (normal[text], -len(text))):
        parts = list(text)
        while len(parts) > 2:
            found = [normal.get(parts[at] + parts[at + 1], float("inf")) for at in range(len(parts) - 1)]
            at = found.index(min(found))
            if found[at] == float("inf"):
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        if len(parts) == 2:
            yield parts


def _unigram(model: Model) -> dict[str, Any]:
    unknown = next(number for number, piece in enumerate(model.pieces) if piece.kind == UNKNOWN)
    return {
        "type": "Unigram",
        "unk_id": unknown,
        "byte_fallback": model.byte_fallback,
        "vocab": [[piece.text, piece.score] for piece in model.pieces],
    }
