"""Vocabularies: byte-level BPE, learned once from training documents and then frozen under a name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from pipelines import doc_ids
from pipelines.documents import TEXTS
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, digest
from pipelines.provenance.tables import read_batches
from pipelines.selection import ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VERSION = "1"
FILE = "tokenizer.json"
END_OF_TEXT, PAD, USER, ASSISTANT = SPECIALS = ("<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>")
MEASURED_BYTES = 1 << 20  # of the sample, from which bytes a token are counted


class VocabularyRecipe(Recipe):
    """What the tokens are learned from, and how many there are."""

    algorithm: Literal["bpe"] = Field(default="bpe", description="byte-level byte pair encoding, GPT-2's splits")
    size: int = Field(default=2048, ge=260, le=1 << 20, description="tokens, 256 bytes and 4 special ones included")
    sample_bytes: int = Field(
        default=64_000_000, ge=1, description="text to learn from: the documents with the lowest doc_ids"
    )
    min_frequency: int = Field(default=2, ge=1, description="a pair that is seen less often is not merged")


def train_vocabulary(training: Artifact, recipe: VocabularyRecipe, draft: Draft) -> Artifact:
    """Learn ``tokenizer.json`` from a sample of the training documents.

    The sample takes documents in the order of their doc_ids, which are hashes: it is a random one, and a corpus that
    grows changes it little. Special tokens have the first ids. Where the sample gives too few merges, the vocabulary
    is filled up with tokens that no text can produce, so that its size is exactly the one asked for.
    """
    prefixes = _sample(training.parts(), recipe.sample_bytes)
    body = _padded(json.loads(learned(_texts(training.parts(), prefixes), recipe).to_str()), recipe.size)
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    draft.path(FILE).write_bytes(data)
    tokenizer = plain_tokenizer(data)
    few = _sample(training.parts(), min(recipe.sample_bytes, MEASURED_BYTES))
    measured = list(_texts(training.parts(), few))
    num_tokens = sum(len(encoding) for encoding in tokenizer.encode_batch_fast(measured))
    num_bytes = sum(len(text.encode()) for text in measured)
    return draft.seal(
        counts={"tokens": recipe.size, "merges": len(body["model"]["merges"]), "sample_docs": sum(prefixes)},
        facts={
            "size": recipe.size,
            "eos_id": 0,
            "eos_token": END_OF_TEXT,
            "specials": {token: number for number, token in enumerate(SPECIALS)},
            "bytes_per_token": round(num_bytes / num_tokens, 4) if num_tokens else 0.0,
        },
        rows=digest(data),
    )


def plain_tokenizer(vocabulary: Artifact | bytes) -> Tokenizer:
    """The tokenizer that reads a text as nothing but text.

    ``<|endoftext|>`` that stands in a document is encoded as the characters that it consists of: a document cannot
    end itself. Special tokens are put in by id, by whoever means them.
    """
    from tokenizers import Tokenizer

    data = vocabulary if isinstance(vocabulary, bytes) else vocabulary.local(FILE).read_bytes()
    tokenizer = Tokenizer.from_str(data.decode())
    tokenizer.encode_special_tokens = True
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _sample(parts: Sequence[Artifact], sample_bytes: int) -> list[int]:
    """How many documents of each part (they are sorted by doc_id) the sample takes: at least one in all.

    Raises:
        ValueError: if there is no document.
    """
    every = np.concatenate([ids(part) for part in parts])
    if len(every) == 0:
        raise ValueError("a vocabulary needs text to learn from: training_documents is empty.")
    sizes = np.concatenate([np.asarray(part.table("documents.arrow", ["num_bytes"])["num_bytes"]) for part in parts])
    homes = np.repeat(np.arange(len(parts)), [len(ids(part)) for part in parts])
    order = doc_ids.order(every)
    taken = order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), sample_bytes, side="right")))]
    return np.bincount(homes[taken], minlength=len(parts)).tolist()


def _texts(parts: Sequence[Artifact], prefixes: Sequence[int]) -> Iterator[str]:
    for part, wanted in zip(parts, prefixes, strict=True):
        left = wanted
        for batch in read_batches(part.local(TEXTS), ["text"]):
            if left <= 0:
                break
            yield from batch["text"].slice(0, left).to_pylist()
            left -= batch.num_rows


def learned(texts: Iterable[str], recipe: VocabularyRecipe) -> Tokenizer:
    """A tokenizer that is learned from texts; where they give too few merges, it is smaller than the recipe says."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.size,
        min_frequency=recipe.min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),  # all bytes, seen or not: no unknown token
        show_progress=False,
    )
    tokenizer.train_from_iterator(iter(texts), trainer)
    return tokenizer


def _padded(body: dict[str, Any], size: int) -> dict[str, Any]:
    """Fill the vocabulary up with entries that no merge leads to."""
    known = body["model"]["vocab"]
    for number in range(len(known), size):
        known[f"<|unused-{number}|>"] = number
    return body
