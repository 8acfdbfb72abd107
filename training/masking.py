"""Masking: which tokens an encoder must guess, the same for one (seed, step, place in the batch) on every machine.

BERT's rule (Devlin et al. 2019, section 3.1 and appendix A.1): of the hidden tokens 80 % become the mask token, 10 %
another token, 10 % stay. Exactly the same number is hidden in every sequence, so that processes and microbatches agree
on what a mean is over. With ``whole_words`` a word is hidden with all its tokens (as in Cui et al. 2019,
arXiv:1906.08101); what is then hidden less weighs more. No torch here: the stage adds the mask token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.provenance.order import order_key, permute

MASK_TOKENS = ("<|mask|>", "[MASK]", "<mask>")
OF_TEN = (8, 9)  # tenths: below the first a mask, below the second another token, else the token itself
I64 = NDArray[np.int64]


def with_mask_token(tokenizer: dict[str, Any], size: int) -> tuple[dict[str, Any], int]:
    """A ``tokenizer.json`` that has a mask token, and its id: its own, or a new one behind its ``size`` tokens."""
    own = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    for name in MASK_TOKENS:
        if name in own:
            return tokenizer, own[name]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = {"id": size, "content": MASK_TOKENS[0], **flags, "special": True}
    return {**tokenizer, "added_tokens": [*tokenizer["added_tokens"], added]}, size


class Edges(NamedTuple):
    """By token: whether its text begins inside a word, and whether it ends inside one."""

    continues_V: NDArray[np.bool_]
    open_V: NDArray[np.bool_]

    def words(self, tokens_T: np.ndarray) -> I64:
        """Number of the word of each token, from 0; a stretch without letters or digits is one token a word."""
        joined = self.open_V[tokens_T[:-1]] & self.continues_V[tokens_T[1:]]
        return np.concatenate([[0], np.cumsum(~joined)]).astype(np.int64)


def word_edges(tokenizer: dict[str, Any], size: int) -> Edges:
    """Where words begin and end, from the tokens of a byte-level, WordPiece or SentencePiece ``tokenizer.json``."""
    vocab = tokenizer["model"]["vocab"]
    pieces = vocab if isinstance(vocab, dict) else {entry[0]: number for number, entry in enumerate(vocab)}
    special = {token["content"] for token in tokenizer["added_tokens"]}
    prefix = tokenizer["model"].get("continuing_subword_prefix") or ""
    found = Edges(np.zeros(size, np.bool_), np.zeros(size, np.bool_))
    for piece, number in pieces.items():
        if piece in special or number >= size:
            continue
        text = piece.removeprefix(prefix) if prefix else piece
        found.continues_V[number] = _inside_word(text[:1]) and (not prefix or piece.startswith(prefix))
        found.open_V[number] = _inside_word(text[-1:])
    return found


def _inside_word(character: str) -> bool:
    # the byte alphabet shows a space as G with a dot above, a new line as C with one; SentencePiece has a low bar
    return character.isalnum() and character not in {"\u0120", "\u010a", "\u0109", "\u010d"}


class Hidden(NamedTuple):
    """Sequences with some tokens hidden; K is the same for all."""

    tokens_BT: I64  # what the network sees
    places_BK: I64
    truths_BK: I64  # what stands there
    weights_BK: NDArray[np.float32]


@dataclass(frozen=True)
class Masker:
    """Hides tokens.

    Args:
        ratio: share of the tokens of a sequence that is hidden.
        mask_id: stands where a token is hidden.
        num_tokens: of the vocabulary, from which other tokens are drawn.
        seed: of the recipe.
        edges: for whole words.
    """

    ratio: float
    mask_id: int
    num_tokens: int
    seed: int
    edges: Edges | None = None

    def num_hidden(self, length: int) -> int:
        """K, for sequences of ``length`` tokens."""
        return max(1, round(self.ratio * length))

    def hide(self, tokens_BT: I64, step: int, first: int) -> Hidden:
        """``first``: place of the first of these sequences in the global batch of the step."""
        size = self.num_hidden(tokens_BT.shape[1])
        found = Hidden(
            tokens_BT.copy(), np.zeros((len(tokens_BT), size), np.int64), np.zeros((len(tokens_BT), size), np.int64),
            np.zeros((len(tokens_BT), size), np.float32),
        )  # fmt: skip
        for row, tokens_T in enumerate(tokens_BT):
            key = order_key("mask", self.seed, step, first + row)
            places = self._places(tokens_T, size, key)
            num = len(places)
            found.places_BK[row, :num], found.truths_BK[row, :num] = places, tokens_T[places]
            found.weights_BK[row, :num] = size / num
            found.tokens_BT[row, places] = self._shown(tokens_T[places], order_key("shown", key))
        return found

    def _places(self, tokens_T: np.ndarray, size: int, key: int) -> I64:
        """Places of at most ``size`` hidden tokens, ascending; at least one."""
        length = len(tokens_T)
        if self.edges is None:
            return np.sort(permute(np.arange(size), length, key).astype(np.int64))
        words_T = self.edges.words(tokens_T)
        sizes = np.bincount(words_T)
        order = permute(np.arange(len(sizes)), len(sizes), key).astype(np.int64)
        enough = np.searchsorted(np.cumsum(sizes[order]), size, side="right")  # words that fit whole
        return np.flatnonzero(np.isin(words_T, order[: max(1, enough)]))[:size]

    def _shown(self, truths_K: np.ndarray, key: int) -> I64:
        """What stands at hidden places: mask, another token, or the token itself."""
        numbers = np.arange(len(truths_K))
        tenths = permute(numbers, 10 * max(1 << 16, len(truths_K)), key) % np.uint64(10)
        others = permute(numbers % self.num_tokens, self.num_tokens, key).astype(np.int64)
        return np.where(tenths < OF_TEN[0], self.mask_id, np.where(tenths < OF_TEN[1], others, truths_K))
