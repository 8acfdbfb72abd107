"""N-gram models of reference text, and how surprised they are by a document (its perplexity).

Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1999, section 3), which CCNet (Wenzek et al. 2020, section
4.2) uses to rank web pages by how near they are to Wikipedia. Tokens are the words of :mod:`pipelines.words`, so case,
punctuation and white space play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, digest
from pipelines.provenance.tables import rows_digest
from pipelines.samples import sampled

VERSION = "1"
FALLBACK = (0.5, 1.0, 1.5)  # discounts where counts of counts give none, as KenLM's --discount_fallback

I64 = NDArray[np.int64]
Floats = NDArray[np.float64]


class PerplexityRecipe(Recipe):
    """What a model of reference text remembers."""

    perplexity_order: int = Field(default=5, ge=1, le=5, description="words of the longest n-gram (CCNet: 5)")
    perplexity_unit: Literal["word", "character"] = Field(
        default="word", description="what is predicted; characters for scripts without spaces"
    )
    perplexity_min_count: int = Field(default=2, ge=1, description="words that are seen less often are all one word")
    perplexity_sample_bytes: int = Field(
        default=256_000_000, ge=1, description="text to learn from: the documents with the lowest doc_ids"
    )


def train_ngram_model(reference: Sequence[Artifact], recipe: PerplexityRecipe, draft: Draft) -> Artifact:
    """Count the n-grams of the reference documents (raw or clean) and smooth their probabilities.

    Writes ``1-grams.arrow`` (word hash, 0 for unknown, begin and end; then words by hash) and ``N-grams.arrow`` for
    every other order: sorted keys (position of the context in the order below * tokens + word), natural logarithms of
    the probability and of the weight of unseen continuations.

    Raises:
        ValueError: if the reference has no word.
    """
    hashes, offsets = _tokens([texts for _, texts in sampled(reference, recipe.perplexity_sample_bytes)], recipe)
    if len(hashes) == 0:
        raise ValueError("a reference model needs words to learn from: the reference documents have none.")
    words, ids = _vocabulary(hashes, recipe.perplexity_min_count)
    tables = _smoothed(*_sequence(ids, offsets), len(words), recipe.perplexity_order)
    tables[0] = tables[0].rename_columns(["word", *tables[0].column_names[1:]]).set_column(0, "word", pa.array(words))
    for order, table in enumerate(tables, 1):
        draft.write(f"{order}-grams.arrow", table)
    counts = {f"{order}_grams": table.num_rows for order, table in enumerate(tables, 1)}
    unknown = int((ids == 0).sum())
    return draft.seal(
        counts={"docs": len(offsets) - 1, "tokens": len(ids), "unknown": unknown, **counts},
        facts={"unknown_ratio": round(unknown / len(ids), 6)},
        rows=digest("".join(rows_digest([table]) for table in tables).encode()),
    )


class NgramModel(NamedTuple):
    """A trained model, ready to score."""

    recipe: PerplexityRecipe
    words: NDArray[np.uint64]  # hashes of the words with ids from 3 on, sorted
    word_slots: NDArray[np.int32]
    keys: NDArray[np.uint64]
    first_key: I64  # by order: where its n-grams begin in logs and backoffs
    slots: NDArray[np.int32]
    first_slot: I64  # by order
    logs: NDArray[np.float32]
    backoffs: NDArray[np.float32]

    @classmethod
    def load(cls, artifact: Artifact) -> NgramModel:
        from pipelines.instruments.ngram_kernel import FIRST_WORD, slots_of

        recipe = PerplexityRecipe.model_validate(artifact.manifest.recipe)
        tables = [artifact.table(f"{order}-grams.arrow") for order in range(1, recipe.perplexity_order + 1)]
        words = np.asarray(tables[0]["word"])[FIRST_WORD:]
        keys = [np.asarray(table["key"]) for table in tables[1:]]
        slots = [slots_of(some) for some in keys]
        return cls(
            recipe,
            words,
            slots_of(words),
            np.concatenate([np.zeros(0, np.uint64), *keys]),
            np.cumsum([0, 0, *(table.num_rows for table in tables)]),
            np.concatenate([np.zeros(0, np.int32), *slots]),
            np.cumsum([0, 0, 0, *(len(some) for some in slots)]),
            np.concatenate([np.asarray(table["log_probability"]) for table in tables]),
            np.concatenate([np.asarray(table["log_backoff"]) for table in tables]),
        )

    def perplexities(self, texts: pa.Array | pa.ChunkedArray) -> Floats:
        """The exponential of the mean surprise of a text's words and its end: float64 [docs]; of its end, if it is empty."""
        from pipelines.instruments.ngram_kernel import token_ids
        from pipelines.words import pieces

        found = [np.zeros(0)]
        for piece in pieces(texts):
            hashes, offsets = _tokens([piece], self.recipe)
            logs = self.log_probabilities(token_ids(hashes, self.words, self.word_slots), offsets)
            begins = offsets[:-1] + np.arange(len(piece))  # every document before has its end as well
            found.append(np.exp(-np.add.reduceat(logs, begins) / (np.diff(offsets) + 1)))
        return np.concatenate(found)

    def log_probabilities(self, ids: NDArray[np.int32], offsets: I64) -> Floats:
        """Natural logarithm of the probability of each token and of the end of each document: [tokens + docs]."""
        from pipelines.instruments.ngram_kernel import log_probabilities

        return log_probabilities(
            ids, offsets, self.recipe.perplexity_order, int(self.first_key[2]), self.keys, self.first_key,
            self.slots, self.first_slot, self.logs, self.backoffs,
        )  # fmt: skip


def discounts(adjusted: I64) -> Floats:
    """What is taken off counts of 0, 1, 2, 3 and more: from the counts of counts (Chen & Goodman 1999, eq. 26)."""
    n = [0, *(int((adjusted == count).sum()) for count in (1, 2, 3, 4))]
    if all(n[1:]):
        y = n[1] / (n[1] + 2 * n[2])
        found = [count - (count + 1) * y * n[count + 1] / n[count] for count in (1, 2, 3)]
        if all(0 < discount <= count for count, discount in enumerate(found, 1)):
            return np.array([0.0, *found])
    return np.array([0.0, *FALLBACK])


def _tokens(columns: Sequence[pa.ChunkedArray | pa.Array], recipe: PerplexityRecipe) -> tuple[NDArray[np.uint64], I64]:
    """Hashes of the tokens of all texts, and where those of each begin: [docs + 1]."""
    from pipelines.instruments.ngram_kernel import character_hashes
    from pipelines.words import character_table, pieces, text_buffers, word_hashes

    found = [
        word_hashes(piece)
        if recipe.perplexity_unit == "word"
        else character_hashes(*text_buffers(piece), character_table())
        for column in columns
        for piece in pieces(column)
    ]
    lengths = np.concatenate([np.zeros(1, np.int64), *(np.diff(offsets) for _, offsets in found)])
    return np.concatenate([np.zeros(0, np.uint64), *(hashes for hashes, _ in found)]), np.cumsum(lengths)


def _vocabulary(hashes: NDArray[np.uint64], min_count: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Word hashes by token id (0 for the three special ones), and the ids of the tokens."""
    from pipelines.instruments.ngram_kernel import FIRST_WORD, slots_of, token_ids

    distinct, counts = np.unique(hashes, return_counts=True)
    kept = distinct[counts >= min_count]
    words = np.concatenate([np.zeros(FIRST_WORD, np.uint64), kept])
    return words, token_ids(hashes, kept, slots_of(kept))


def _sequence(ids: NDArray[np.int32], offsets: I64) -> tuple[I64, I64]:
    """All documents end to end, each with its begin and end, and the place of every token in its document from 0."""
    from pipelines.instruments.ngram_kernel import BEGIN, END

    lengths = np.diff(offsets) + 2
    begins = np.cumsum(lengths) - lengths
    sequence = np.zeros(int(lengths.sum()), np.int64)
    depth = np.arange(len(sequence)) - np.repeat(begins, lengths)
    sequence[begins], sequence[begins + lengths - 1] = BEGIN, END
    sequence[(depth > 0) & (depth < np.repeat(lengths, lengths) - 1)] = ids
    return sequence, depth


def _smoothed(sequence: I64, depth: I64, num_tokens: int, order: int) -> list[pa.Table]:
    """One table for each order: key, log_probability, log_backoff."""
    grams = _counted(sequence, depth, num_tokens, order)
    probability, backoffs, tables = np.zeros(0), [], []
    for n, gram in enumerate(grams, 1):
        adjusted = gram.counts if n == order else _continuations(gram, grams[n])
        context = (gram.keys // np.uint64(num_tokens)).astype(np.int64)
        taken = discounts(adjusted)[np.minimum(adjusted, 3)]
        size = len(grams[n - 2].keys) if n > 1 else 1
        total = np.bincount(context, adjusted, size)
        weight = np.divide(np.bincount(context, taken, size), total, out=np.ones(size), where=total > 0)
        lower = probability[gram.suffix] if n > 1 else np.full(num_tokens, 1 / (num_tokens - 1))
        probability = (adjusted - taken) / total[context] + weight[context] * lower
        backoffs.append(weight)
        tables.append((gram.keys, probability))
    logs = [(keys, np.log(found)) for keys, found in tables]
    last = np.zeros(len(grams[-1].keys))
    weights = [*(np.log(weight) for weight in backoffs[1:]), last]
    return [
        pa.table([keys, found.astype(np.float32), weight.astype(np.float32)], ["key", "log_probability", "log_backoff"])
        for (keys, found), weight in zip(logs, weights, strict=True)
    ]


class _Grams(NamedTuple):
    """The distinct n-grams of one order, sorted by key."""

    keys: NDArray[np.uint64]
    counts: I64
    suffix: I64  # position of the n-gram without its first word in the order below
    at_begin: NDArray[np.bool_]  # its first token is the begin of a document


def _counted(sequence: I64, depth: I64, num_tokens: int, order: int) -> list[_Grams]:
    """N-grams of every order; the begin of a document is no word that is counted."""
    from pipelines.instruments.ngram_kernel import BEGIN

    counts = np.bincount(sequence, minlength=num_tokens)
    counts[BEGIN] = 0
    every = np.arange(num_tokens)
    grams = [_Grams(every.astype(np.uint64), counts, np.zeros(num_tokens, np.int64), every == BEGIN)]
    position = sequence  # of the n-gram that ends at each token
    for n in range(2, order + 1):
        at = np.flatnonzero(depth >= n - 1)
        key = position[at - 1].astype(np.uint64) * np.uint64(num_tokens) + sequence[at].astype(np.uint64)
        keys, first, inverse, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
        grams.append(_Grams(keys, counts, position[at[first]], depth[at[first]] == n - 1))
        position = np.full(len(sequence), -1, np.int64)
        position[at] = inverse
    return grams


def _continuations(gram: _Grams, longer: _Grams) -> I64:
    """In how many words' company an n-gram follows; at the begin of a document, how often it is seen (Heafield 2011)."""
    followed = np.bincount(longer.suffix, minlength=len(gram.keys))
    return np.where(gram.at_begin, gram.counts, followed)
