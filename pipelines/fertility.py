"""Fertility: how many tokens a vocabulary needs for the texts of each source and each language.

A language that needs twice the tokens a word of another gets half its context and costs twice as much to train on
(Ács 2019; Rust et al. 2021, section 3.1). Words are those that cleaning counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pipelines.documents import DOCUMENTS, TEXTS
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.tables import read_batches
from pipelines.tokenizing import Encoder

MAX_GROUPS = 50  # sources, and languages, with the most bytes: facts are to be read


class Measured(NamedTuple):
    """Some documents, and what a vocabulary makes of them."""

    totals: dict[str, float]  # docs, bytes, tokens, changed; bytes_per_token
    sources: dict[str, dict[str, float]]
    languages: dict[str, dict[str, float]]


def measured(parts: Sequence[Artifact], prefixes: Sequence[int], encode: Encoder) -> Measured:
    """Measure the first so many documents of each part.

    ``changed`` are documents that do not come back from their tokens character by character.
    """
    rows = [_rows(part, wanted, encode) for part, wanted in zip(parts, prefixes, strict=True) if wanted]
    found = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} if rows else {}
    groups = {name: _by_group(found, found[name]) if found else {} for name in ("source", "language")}
    totals = _by_group(found, np.full(len(found["bytes"]), "all")).get("all", {}) if found else {}
    return Measured(totals, groups["source"], groups["language"])


def _rows(part: Artifact, wanted: int, encode: Encoder) -> dict[str, Any]:
    """Columns [documents]: source, language, bytes, words, tokens, changed."""
    documents = part.table(DOCUMENTS, ["language", "num_bytes", "num_words"]).slice(0, wanted)
    tokens, changed, left = [], [], wanted
    for batch in read_batches(part.local(TEXTS), ["text"]):
        if left <= 0:
            break
        texts = batch["text"].slice(0, left)
        ids, offsets = encode.encode(texts)
        tokens.append(np.diff(offsets))
        rows = [ids[start:end].tolist() for start, end in pairwise(offsets)]
        said = encode.tokenizer.decode_batch(rows, skip_special_tokens=False)
        changed.append(np.array([a != b for a, b in zip(said, texts.to_pylist(), strict=True)], bool))
        left -= batch.num_rows
    return {
        "source": np.full(wanted, part.key.part.rpartition("/")[0] or part.key.part, object),
        "language": np.array(documents["language"].to_pylist(), object),
        "bytes": documents["num_bytes"].to_numpy(),
        "words": documents["num_words"].to_numpy(),
        "tokens": np.concatenate(tokens),
        "changed": np.concatenate(changed),
    }


def _by_group(found: dict[str, Any], labels: np.ndarray) -> dict[str, dict[str, float]]:
    """Sums and ratios by label; of very many labels those with the most bytes, in the order of their names."""
    names, numbers = np.unique(labels.astype(str), return_inverse=True)
    sums = {
        name: np.bincount(numbers, found[name], len(names)).astype(np.int64)
        for name in ("bytes", "words", "tokens", "changed")
    }
    sums["docs"] = np.bincount(numbers, minlength=len(names))
    most = sorted(np.argsort(-sums["bytes"], kind="stable")[:MAX_GROUPS])
    return {str(names[k]): _ratios({name: int(values[k]) for name, values in sums.items()}) for k in most}


def _ratios(sums: dict[str, int]) -> dict[str, float]:
    tokens, words = sums["tokens"], sums["words"]
    return {
        **sums,
        "bytes_per_token": round(sums["bytes"] / tokens, 4) if tokens else 0.0,
        "tokens_per_word": round(tokens / words, 4) if words else 0.0,
    }
