"""Benchmark items in token shards: which items the tokens themselves show, with nothing but shards and vocabulary at hand.

Decontamination compares words of texts, before there are tokens. This is the other end: what a trainer reads is
searched for the items' own tokens. A token of an item counts if it lies in an n-gram of tokens that a document holds as
well, which is how Llama 2 was examined ("any token n-gram longer than 10 tokens", Touvron et al. 2023, appendix A.6).
Eleven tokens of its vocabulary are eight words or so, of one of 2,048 tokens four: here an n-gram has as many tokens as
13 words have, and never fewer than 11. Tokens know case, punctuation and line breaks: what is found stands there letter
by letter, and an item in another spelling is the business of decontamination.

The tokens at an item's ends depend on what stands before and behind it in a document. An item is therefore looked for
with and without a space before it, and that of the two counts of which more is shown.

Import this module only inside functions, never where the graph is defined: its kernels are compiled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import doc_ids
from pipelines.overlap import U64, Check, OverlapIndex
from pipelines.provenance.artifact import Artifact
from pipelines.shard_reader import ShardReader
from pipelines.tokenizing import Encoder
from pipelines.words import mixed

WORDS, LEAST = 13, 11  # words of an n-gram (GPT-3, Brown et al. 2020, app. C), and the fewest tokens (Llama 2)
FLOOR = 8  # tokens
COVERAGE = 0.8  # from which share of its tokens on Llama 2 calls a sample dirty
MOST_NAMED = 10  # documents that are named for each item
SHOWN_SCHEMA = pa.schema([
    ("suite", pa.string()),
    ("task", pa.string()),
    ("item_id", pa.string()),
    ("num_tokens", pa.int64()),
    ("checkable", pa.bool_()),  # whether it has tokens enough to be looked for
    ("coverage", pa.float64()),  # the highest share of its tokens that a document shows
    ("num_documents", pa.int64()),  # that show at least the share asked for
    ("documents", pa.list_(pa.binary(16))),  # the first of them, by coverage and then by id
])  # fmt: skip


class TokenIndex:
    """The token n-grams of items.

    Args:
        texts: of the items.
        encode: the vocabulary of the shards.
        ngram: tokens of an n-gram; a shorter item is looked for whole.
        floor: tokens below which an item cannot be checked.
    """

    def __init__(self, texts: Sequence[str], encode: Encoder, ngram: int, floor: int = FLOOR) -> None:
        self._table = token_hashes(encode.max_id + 1)
        tokens, offsets = encode.encode(pa.array([*texts, *(f" {text}" for text in texts)], pa.large_string()))
        self._num = len(texts)
        self._index = OverlapIndex.of_hashes(self._table[tokens], offsets, ngram, floor)
        self.num_tokens = self._index.num_words[: self._num]
        checks = self._index.checks
        self.checkable = [Check.NO not in (one, other) for one, other in zip(checks, checks[self._num :], strict=False)]

    def matches(self, tokens: NDArray, offsets: NDArray[np.int64]) -> Iterator[tuple[int, int, float]]:
        """(document, item, share of the item's tokens) for each document of a batch and each item that it shows."""
        found = self._index.matches_of_hashes(self._table[tokens], offsets)
        best: dict[tuple[int, int], float] = {}
        items = (found.items % max(1, self._num)).tolist()
        for document, item, share in zip(found.documents.tolist(), items, found.coverage.tolist(), strict=True):
            if self.checkable[item]:
                best[document, item] = max(share, best.get((document, item), 0.0))
        yield from ((document, item, share) for (document, item), share in best.items())


class Item(NamedTuple):
    """A benchmark item."""

    suite: str
    task: str
    item_id: str
    text: str


def items_of(prompts: Artifact) -> list[Item]:
    """The items of a sealed suite."""
    columns = prompts.table("items.arrow", ["task", "item_id", "text"])
    named = zip(*(columns[name].to_pylist() for name in ("task", "item_id", "text")), strict=True)
    return [Item(prompts.key.partition, *one) for one in named]


def tokens_of_words(vocabulary: Artifact) -> int:
    """As many tokens as :data:`WORDS` words have in the texts of a vocabulary, and at least :data:`LEAST`."""
    return max(LEAST, round(WORDS * vocabulary.facts["fertility"]["totals"]["tokens_per_word"]))


def shown_by_tokens(shards: Artifact, items: Sequence[Item], *, ngram: int = 0, coverage: float = COVERAGE) -> pa.Table:
    """What the tokens of all parts show of each item: a row for each, in their order (:data:`SHOWN_SCHEMA`).

    Args:
        shards: ``token_shards``.
        items: that are looked for.
        ngram: tokens of an n-gram; 0: see :func:`tokens_of_words`.
        coverage: share of its tokens at which a document shows an item.
    """
    ngram = ngram or tokens_of_words(shards.input("vocabulary"))
    encode = Encoder(shards.input("vocabulary").local("tokenizer.json").read_bytes())
    index = TokenIndex([item.text for item in items], encode, ngram, min(FLOOR, ngram))
    highest = [0.0] * len(items)
    documents: list[list[tuple[float, bytes]]] = [[] for _ in items]
    for part in shards.parts():
        for ids, offsets, tokens in ShardReader.open(part).batches():
            for document, item, share in index.matches(tokens, offsets):
                highest[item] = max(highest[item], share)
                if share >= coverage:
                    documents[item].append((-share, doc_ids.as_bytes(ids, document)))
    return pa.table(
        [
            *([item[column] for item in items] for column in range(3)),
            index.num_tokens,
            index.checkable,
            highest,
            [len(found) for found in documents],
            [[doc_id for _, doc_id in sorted(found)[:MOST_NAMED]] for found in documents],
        ],
        schema=SHOWN_SCHEMA,
    )


def token_hashes(size: int) -> U64:
    """64 bits for each token id."""
    return mixed.py_func(np.arange(1, size + 1, dtype=np.uint64))
