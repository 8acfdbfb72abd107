"""Held-out documents: set aside before anything learns from the corpus, a whole group at a time.

A group is what its source says belongs together (a file, a thread, a site), because documents of one group resemble
one another: a docstring that is held out while its neighbour is trained on measures memory, not learning. A group is
held out by a hash of its name, so that it stays held out in every later snapshot and whatever else is in the corpus.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.selection import by_doc_id, ids, write_rows

VERSION = "1"


class HeldoutRecipe(Recipe):
    """How much is held out."""

    ratio: float = Field(default=0.05, ge=0, le=1, description="share of the groups that is held out")
    seed: int = Field(default=1, ge=0, description="another seed holds out other groups")


def is_held_out(source: str, group: str, recipe: HeldoutRecipe) -> bool:
    """Whether a group of a source (named without its snapshot) is held out: a hash below the ratio."""
    hasher = hashlib.sha256()
    for field in (str(recipe.seed), source, group):
        hasher.update(len(field.encode()).to_bytes(8, "little"))
        hasher.update(field.encode())
    return int.from_bytes(hasher.digest()[:8], "little") < recipe.ratio * 2**64


def hold_out(unique: Artifact, recipe: HeldoutRecipe, draft: Draft) -> Artifact:
    """The held-out documents of every source, sorted by doc_id; fates for all documents that were looked at."""
    parts = [
        draft.part(part.key.part, recipe, [part], lambda d, part=part: _held_out(part, recipe, d))
        for part in unique.parts()
    ]
    counts = summed_counts(parts)
    fates.check_conservation(counts, unique.counts["docs"])
    return draft.seal(counts=counts, rows=rows_of_parts(parts), parts=parts)


def _held_out(unique: Artifact, recipe: HeldoutRecipe, draft: Draft) -> Artifact:
    chosen = _chosen(unique, recipe)
    order = doc_ids.order(ids(unique))
    fate = np.where(chosen[order], fates.HELD_OUT, fates.KEPT).astype(object)
    seen = fates.from_columns(doc_ids.as_arrow(ids(unique)[order]), pa.array(fate, pa.string()))
    draft.write(fates.FILE, seen)
    num_bytes, digest = write_rows(unique, by_doc_id(unique, chosen), draft)
    counts = fates.counted(seen)
    fates.check_conservation(counts, unique.counts["docs"])
    return draft.seal(counts={"docs": counts["held_out"], "bytes": num_bytes, **counts}, rows=digest)


def _chosen(unique: Artifact, recipe: HeldoutRecipe) -> NDArray[np.bool_]:
    """One truth value a document, decided once for each group."""
    source = unique.key.part.rpartition("/")[0] or unique.key.part
    groups = pa.concat_arrays([pa.array([], pa.string()), *unique.table(DOCUMENTS, ["group"])["group"].chunks])
    groups = groups.dictionary_encode()
    by_group = np.array([is_held_out(source, name, recipe) for name in groups.dictionary.to_pylist()], bool)
    return by_group[groups.indices.to_numpy()] if len(groups) else np.zeros(0, bool)
