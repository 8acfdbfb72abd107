"""Semantic edges: which documents of a corpus go because one that stays says the same in other words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from pipelines import doc_ids
from pipelines.documents import TEXTS
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batches
from pipelines.selection import ids


class SemanticRecipe(Recipe):
    """Semantic near-duplicates among the documents that the clusters leave; none without a model."""

    model: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="digest of the network that gives embeddings; empty: none"
    )
    threshold: float = Field(
        default=0, ge=0, le=1,
        description="cosine with a document that stays at which one goes (SemDeDup, Abbas et al. 2023)",
    )  # fmt: skip
    clusters: int = Field(
        default=0, ge=0, le=1 << 20,
        description="of k-means, within which documents are compared; 0: one for every 4,000 documents",
    )  # fmt: skip
    max_tokens: int = Field(default=256, ge=1, le=1 << 20, description="of a text that its embedding is made from")

    @model_validator(mode="after")
    def _has_both(self) -> Self:
        if bool(self.model) != (self.threshold > 0):
            missing = "threshold, a cosine such as 0.95" if self.model else "model, a directory"
            raise ValueError(f"semantic near-duplicates need both a model and a threshold; say {missing}.")
        return self


class Edges(NamedTuple):
    """Of one source: rows of its documents that go for their sense, the documents that stay, and the cosines."""

    rows: np.ndarray
    survivors: doc_ids.Ids
    cosines: np.ndarray


def edges(
    cleans: Mapping[str, Artifact], known: Mapping[str, pa.Table], recipe: SemanticRecipe, model: Path | None
) -> dict[str, Edges]:
    """By source: what goes of the documents that are left. They survive by source, in the order given, and doc_id.

    Args:
        cleans: by source.
        known: fates so far, row by row beside the clean documents.
        recipe: names the model by its digest.
        model: directory.

    Raises:
        ValueError: if the directory does not hold the model of the recipe.
    """
    from pipelines import semantic

    if model is None or semantic.model_digest(model) != recipe.model:
        raise ValueError(
            f"the recipe's model has digest {recipe.model[:12]}…; that is not the directory's ({model}): set model in "
            "[corpora.NAME.semantic] and run again."
        )
    homes, rows, found = [], [], []
    for name, clean in cleans.items():
        here = ids(clean)
        left = np.asarray(known[name]["survivor"].is_null())
        order = doc_ids.order(here)
        mine = order[left[order]]
        homes += [name] * len(mine)
        rows.append(mine)
        found.append(here[mine])
    whole = np.concatenate(found)
    texts = (text for clean, mine in zip(cleans.values(), rows, strict=True) for text in _texts(clean, mine))
    vectors = semantic.embedded(texts, model, recipe.max_tokens)
    stars = semantic.stars(vectors, recipe.threshold, recipe.clusters, doc_ids.order(whole))
    home, row, goes = np.array(homes, object), np.concatenate(rows), stars.survivor >= 0
    chosen = {name: np.flatnonzero((home == name) & goes) for name in cleans}
    return {name: Edges(row[i], whole[stars.survivor[i]], stars.cosine[i]) for name, i in chosen.items()}


def with_edges(known: pa.Table, edges: Edges) -> pa.Table:
    """The fates with those of the documents that go for their sense: the value is the cosine."""
    from pipelines.semantic import METHOD

    columns = {name: known[name].to_pylist() for name in fates.SCHEMA.names}
    survivors = doc_ids.as_arrow(edges.survivors).to_pylist()
    for row, survivor, cosine in zip(edges.rows.tolist(), survivors, edges.cosines.tolist(), strict=True):
        columns["fate"][row], columns["method"][row] = fates.MERGED, METHOD
        columns["survivor"][row], columns["value"][row] = survivor, cosine
    return pa.table(columns, schema=fates.SCHEMA)


def _texts(clean: Artifact, rows: np.ndarray) -> Iterator[Any]:
    """The texts of some rows, in this order."""
    wanted = np.sort(rows)
    held: dict[int, str] = {}
    start = 0
    for batch in read_batches(clean.local(TEXTS), ["text"]):
        here = wanted[(wanted >= start) & (wanted < start + batch.num_rows)]
        held |= dict(zip(here.tolist(), batch["text"].take(pa.array(here - start)).to_pylist(), strict=True))
        start += batch.num_rows
    yield from (held[row] for row in rows.tolist())
