"""Unique documents: the corpus without its duplicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines import doc_ids
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.selection import ids, write_rows

VERSION = "1"


class UniqueRecipe(Recipe):
    """Nothing to choose: the clusters say who stays."""


def unique(cleans: Sequence[Artifact], clusters: Artifact, recipe: UniqueRecipe, draft: Draft) -> Artifact:
    """The documents that stay, in the order of their source; the fates of the others name their survivors."""
    parts = []
    for clean in cleans:
        merged = clusters.part(clean.key.partition)
        parts.append(draft.part(
            clean.key.partition, recipe, [clean, merged], lambda part, c=clean, m=merged: _without(c, m, part)
        ))  # fmt: skip
    counts = summed_counts(parts)
    fates.check_conservation(counts, sum(clean.counts["docs"] for clean in cleans))
    return draft.seal(counts=counts, rows=rows_of_parts(parts), parts=parts)


def _without(clean: Artifact, merged: Artifact, draft: Draft) -> Artifact:
    here = ids(clean)
    known = merged.table(fates.FILE)  # sorted by doc_id
    rows = doc_ids.positions(doc_ids.as_numpy(known["doc_id"]), here)
    if (rows < 0).any() or len(rows) != known.num_rows:
        raise ValueError(f"{merged.key} does not belong to {clean.key}; rebuild duplicate_clusters.")
    in_order = known.take(rows)
    draft.write(fates.FILE, in_order)
    stays = np.flatnonzero(np.asarray(in_order["survivor"].is_null()))
    num_bytes, digest = write_rows(clean, stays, draft)
    counts = fates.counted(in_order)
    fates.check_conservation(counts, len(here))
    return draft.seal(counts={"docs": len(stays), "bytes": num_bytes, **counts}, rows=digest)
