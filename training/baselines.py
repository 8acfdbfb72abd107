"""Baselines: n-gram models of tokens, counted on the training stream, scored on the same held-out text as the model.

A network that does not beat a bigram has learnt nothing that a table of counts does not know.
Smoothing is absolute discounting with interpolation, the discount estimated from the counts of counts as
D = n1 / (n1 + 2 n2) (Ney, Essen & Kneser 1994, "On structuring probabilistic dependences in stochastic language
modelling"); the unigram below it all adds one to each count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.layouts import LaidOut
from pipelines.shard_reader import ShardReader
from training.heldout import HeldoutDocument, bits_per_byte

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]
ORDERS = {"unigram_bpb": 1, "bigram_bpb": 2, "trigram_bpb": 3}


@dataclass(frozen=True)
class Counts:
    """Occurrences of n-grams, packed into one word each, with what smoothing needs of their contexts."""

    grams: U64  # sorted, distinct
    counts: NDArray[np.int64]
    contexts: U64  # sorted, distinct
    totals: NDArray[np.int64]  # occurrences of each context
    kinds: NDArray[np.int64]  # distinct tokens that follow each context
    discount: float

    @classmethod
    def of(cls, packed: U64, vocab_size: int) -> Counts:
        grams, counts = np.unique(packed, return_counts=True)
        contexts, firsts = np.unique(grams // np.uint64(vocab_size), return_index=True)
        totals = np.add.reduceat(counts, firsts) if len(counts) else counts
        kinds = np.diff(np.append(firsts, len(grams)))
        ones, twos = int((counts == 1).sum()), int((counts == 2).sum())
        # too few n-grams for an estimate: half an occurrence; a discount of 0 would give unseen ones no probability
        discount = ones / (ones + 2 * twos) if ones and twos else 0.5
        return cls(grams, counts, contexts, totals, kinds, discount)

    def probability(self, packed: U64, vocab_size: int, lower: F64) -> F64:
        """Interpolated with the probability of the shorter context; unseen contexts leave all to that."""
        count = _looked_up(self.grams, self.counts, packed)
        context = packed // np.uint64(vocab_size)
        total = _looked_up(self.contexts, self.totals, context)
        kinds = _looked_up(self.contexts, self.kinds, context)
        known = np.maximum(total, 1)
        seen = (np.maximum(count - self.discount, 0.0) + self.discount * kinds * lower) / known
        return np.where(total > 0, seen, lower)


def _looked_up(keys: U64, values: NDArray[np.int64], wanted: U64) -> NDArray[np.int64]:
    if len(keys) == 0:
        return np.zeros(len(wanted), np.int64)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], 0)


class NGrams:
    """Unigram, bigram and trigram of one token stream."""

    def __init__(self, streams: Sequence[np.ndarray], vocab_size: int, eos_id: int) -> None:
        if vocab_size > 2**21:
            raise ValueError(f"a vocabulary of {vocab_size} does not fit three times into 64 bits (2,097,152 does).")
        self.vocab_size, self.eos_id = vocab_size, eos_id
        self.unigrams = np.zeros(vocab_size, np.int64)
        for stream in streams:
            self.unigrams += np.bincount(stream, minlength=vocab_size)
        packed = {n: [self._packed(stream, n) for stream in streams] for n in (2, 3)}
        self.counts = {n: Counts.of(np.concatenate(packed[n]), vocab_size) for n in (2, 3)}

    def _packed(self, stream: np.ndarray, order: int) -> U64:
        """Each token with the ``order - 1`` before it; a stream begins after one end of text, as documents do."""
        wide = np.concatenate([np.full(order - 1, self.eos_id, np.uint64), stream.astype(np.uint64)])
        packed = np.zeros(len(stream), np.uint64)
        for place in range(order):
            packed = packed * np.uint64(self.vocab_size) + wide[place : place + len(stream)]
        return packed

    def probabilities(self, tokens: np.ndarray, order: int) -> F64:
        """Of each token of a document, given at most ``order - 1`` tokens before it."""
        found = (self.unigrams[tokens] + 1) / (int(self.unigrams.sum()) + self.vocab_size)
        for n in range(2, order + 1):
            found = self.counts[n].probability(self._packed(tokens, n), self.vocab_size, found)
        return found

    def bits_per_byte(self, documents: Sequence[HeldoutDocument], order: int) -> float | None:
        losses = (-np.log(self.probabilities(document.tokens, order)) for document in documents)
        return bits_per_byte((float(each) for loss in losses for each in loss), documents)


def baselines(
    readers: Mapping[str, ShardReader | LaidOut],
    documents: Sequence[HeldoutDocument],
    vocab_size: int,
    eos_id: int,
    max_tokens: int,
    say: Callable[[str], None] = print,
) -> dict[str, float | None]:
    """Bits per byte of the three baselines.

    Args:
        readers: training shards by part.
        documents: held-out ones.
        vocab_size: number of tokens.
        eos_id: stands before each document.
        max_tokens: to count; where there are more, each part gives the beginning of its stream, in proportion.
        say: told if not all tokens were counted.
    """
    total = sum(reader.num_tokens for reader in readers.values())
    if total > max_tokens:
        say(f"the n-gram baselines count {max_tokens:,} of {total:,} training tokens")
    shares = {name: reader.num_tokens * min(total, max_tokens) // max(total, 1) for name, reader in readers.items()}
    grams = NGrams([readers[name].tokens(0, shares[name]) for name in sorted(readers)], vocab_size, eos_id)
    return {name: grams.bits_per_byte(documents, order) for name, order in ORDERS.items()}
