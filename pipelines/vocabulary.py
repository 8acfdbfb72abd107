"""Vocabularies: learned once from training documents, or taken from a file, and then frozen under a name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from pipelines import doc_ids
from pipelines.documents import TEXTS
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, digest
from pipelines.provenance.tables import read_batches
from pipelines.selection import ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VERSION = "2"
FILE = "tokenizer.json"
END_OF_TEXT, PAD, USER, ASSISTANT = SPECIALS = ("<|endoftext|>", "<|pad|>", "<|user|>", "<|assistant|>")
MEASURED_BYTES = 1 << 20  # of the sample, from which bytes a token are counted


class VocabularyRecipe(Recipe):
    """What the tokens are learned from, and how many there are."""

    algorithm: Literal["bpe", "unigram", "wordpiece", "bytes"] = Field(
        default="bpe", description="how tokens are learned, all over bytes and GPT-2's splits; bytes: 260, none learned"
    )
    size: int = Field(default=2048, ge=260, le=1 << 20, description="tokens, 256 bytes and 4 special ones included")
    sample_bytes: int = Field(
        default=64_000_000, ge=1, description="text to learn from: the documents with the lowest doc_ids"
    )
    min_frequency: int = Field(
        default=2, ge=1, description="a pair that is seen less often is not merged (bpe and wordpiece)"
    )
    file_digest: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="blake3 of a tokenizer.json, sentencepiece model or rank file that is taken; empty: tokens are learned",
    )
    origin: str = Field(default="", description="where that file stands on the Hugging Face hub; empty: a file at hand")
    encoding: Literal["", "r50k_base", "p50k_base", "cl100k_base", "o200k_base", "llama3", "llama4", "qwen"] = Field(
        default="", description="what a rank file of tiktoken is of: how texts are cut, and its special tokens"
    )
    end_token: str = Field(
        default="", description="token of that file which ends a document; empty: <|endoftext|>, added if it has none"
    )

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        from pipelines.subwords import least_size

        least = least_size(self.algorithm, len(SPECIALS))
        if self.size < least or (self.algorithm == "bytes" and self.size != least):
            only = "exactly" if self.algorithm == "bytes" else "at least"
            raise ValueError(f"size is {self.size}; a vocabulary of {self.algorithm} has {only} {least} tokens.")
        return self


def train_vocabulary(
    training: Artifact, recipe: VocabularyRecipe, draft: Draft, *, file: Path | None = None
) -> Artifact:
    """Learn ``tokenizer.json`` from a sample of the training documents, or take it from a ``file``, and measure it.

    The sample takes documents in the order of their doc_ids, which are hashes: it is a random one, and a corpus that
    grows changes it little. Special tokens have the first ids. Where the sample gives too few tokens, the vocabulary
    is filled up with tokens that no text can produce, so that its size is exactly the one asked for.
    """
    from pipelines.fertility import measured
    from pipelines.subwords import learned
    from pipelines.tokenizer_file import imported, size_of
    from pipelines.tokenizing import Encoder

    prefixes = _sample(training.parts(), recipe.sample_bytes)
    if recipe.file_digest:
        body, specials = imported(file, recipe.file_digest, recipe.end_token, SPECIALS, recipe.encoding)
    else:
        body = learned(_texts(training.parts(), prefixes), recipe, list(SPECIALS))
        specials = {token: number for number, token in enumerate(SPECIALS)}
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    draft.path(FILE).write_bytes(data)
    few = _sample(training.parts(), min(recipe.sample_bytes, MEASURED_BYTES))
    found = measured(training.parts(), few, Encoder(data))
    return draft.seal(
        counts={
            "tokens": size_of(body), "merges": len(body["model"].get("merges", [])), "sample_docs": sum(prefixes)
        },
        facts={
            "size": size_of(body),
            "eos_id": specials[END_OF_TEXT],
            "eos_token": recipe.end_token or END_OF_TEXT,
            "specials": specials,
            "bytes_per_token": found.totals["bytes_per_token"],
            "fertility": found._asdict(),
        },
        rows=digest(data),
    )  # fmt: skip


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
