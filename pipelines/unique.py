"""Unique documents: the corpus without its duplicates and, if asked for, without what says the same in other words and
without the lines that many documents have.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import boilerplate, cuts, doc_ids, semantic_edges
from pipelines.boilerplate import BoilerplateRecipe, PartCuts
from pipelines.clean import SPANS
from pipelines.cuts import CUTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.selection import ids, write_rows
from pipelines.semantic_edges import Edges, SemanticRecipe

VERSION = "2"
CUTTING_VERSION = "3"  # 2 left a blank line where two cut lines with a blank one between began a text


class UniqueRecipe(BoilerplateRecipe, SemanticRecipe):
    """The clusters say which documents stay; to choose is which of these go for their sense, and what is cut out."""


def version(recipe: UniqueRecipe) -> str:
    """Of the stage under a recipe: where nothing is cut, both make the same bytes."""
    return CUTTING_VERSION if recipe.unit != "off" else VERSION


class _PartRecipe(UniqueRecipe):
    """What steers the part of one source: nothing, or all documents that its own are compared with."""

    corpus: str = ""


def unique(
    cleans: Sequence[Artifact], clusters: Artifact, recipe: UniqueRecipe, draft: Draft, *, model: Path | None = None
) -> Artifact:
    """The documents that stay, in the order of their source; the fates of the others name their survivors."""
    by_name = {clean.key.partition: clean for clean in cleans}
    ordered = {name: by_name[name] for name in clusters.facts["order"]}
    merged = {name: clusters.part(name) for name in ordered}
    steering, cutting = _PartRecipe(), recipe.unit != "off"
    if recipe.model or cutting:
        corpus = digest(canonical_json([[ordered[name].content, merged[name].content] for name in ordered]))
        steering = _PartRecipe(**recipe.model_dump(), corpus=corpus)

    @functools.cache
    def alike() -> dict[str, Edges]:
        known = {name: _clustered(clean, merged[name]) for name, clean in ordered.items()}
        return semantic_edges.edges(ordered, known, recipe, model)

    def left(name: str) -> pa.Table:
        known = _clustered(ordered[name], merged[name])
        return semantic_edges.with_edges(known, alike()[name]) if recipe.model else known

    @functools.cache
    def frames() -> dict[str, PartCuts]:
        stays = [np.asarray(left(name)["survivor"].is_null()) for name in ordered]
        found = boilerplate.found(list(ordered.values()), stays, recipe, draft.store.scratch)
        return dict(zip(ordered, found, strict=True))

    def part(name: str, into: Draft) -> Artifact:
        more = {"merged_semantic": len(alike()[name].rows)} if recipe.model else {}
        cut = frames()[name] if cutting else None
        return _without(ordered[name], left(name), into, cut, recipe.unit, more)

    parts = [
        draft.part(name, steering, [clean, merged[name]], functools.partial(part, name))
        for name, clean in by_name.items()
    ]
    counts = summed_counts(parts)
    fates.check_conservation(counts, sum(clean.counts["docs"] for clean in cleans))
    return draft.seal(counts=counts, rows=rows_of_parts(parts), parts=parts)


def _clustered(clean: Artifact, merged: Artifact) -> pa.Table:
    """The fates that the clusters say, row by row beside the clean documents."""
    known = merged.table(fates.FILE)  # sorted by doc_id
    rows = doc_ids.positions(doc_ids.as_numpy(known["doc_id"]), ids(clean))
    if (rows < 0).any() or len(rows) != known.num_rows:
        raise ValueError(f"{merged.key} does not belong to {clean.key}; rebuild duplicate_clusters.")
    return known.take(rows)


def _without(
    clean: Artifact, settled: pa.Table, draft: Draft, cut: PartCuts | None, unit: str, more: dict[str, int]
) -> Artifact:
    here, edited = ids(clean), None
    if cut is not None:
        settled = _settled(settled, cut, unit)
        about, spans = boilerplate.tables(clean, cut, unit)
        draft.write(CUTS, about)
        draft.write(SPANS, spans)
        edited = functools.partial(_edited, cut=cut, doc_ids_cut=here[cut.rows])
    draft.write(fates.FILE, settled)
    stays = np.flatnonzero(np.asarray(pc.equal(settled["fate"], fates.KEPT)))
    if cut is not None:
        more |= {"documents_cut": int(np.isin(cut.rows, stays).sum()), "words_cut": int(cut.words.sum())}
    num_bytes, rows = write_rows(clean, stays, draft, edited)
    counts = fates.counted(settled)
    fates.check_conservation(counts, len(here))
    return draft.seal(counts={"docs": len(stays), "bytes": num_bytes, **counts, **more}, rows=rows)


def _settled(known: pa.Table, cut: PartCuts, unit: str) -> pa.Table:
    """The fates with those of the documents that go for what was cut out of them."""
    ids, left = known["doc_id"], cut.words_left[np.searchsorted(cut.rows, cut.short)]
    num_short, num_twins = len(cut.short), len(cut.twins)
    dropped = fates.from_columns(
        ids.take(pa.array(cut.short)), pa.array([fates.DROPPED] * num_short, pa.string()),
        reason=pa.array([f"cut_short:{unit}"] * num_short, pa.string()), value=pa.array(left, pa.float64()),
    )  # fmt: skip
    merged = fates.from_columns(
        ids.take(pa.array(cut.twins)), pa.array([fates.MERGED] * num_twins, pa.string()),
        survivor=doc_ids.as_arrow(cut.survivors), jaccard=pa.array(np.ones(num_twins)),
        method=pa.array([boilerplate.TWIN] * num_twins, pa.string()),
    )  # fmt: skip
    place = np.arange(known.num_rows)
    place[np.concatenate([cut.short, cut.twins])] = known.num_rows + np.arange(num_short + num_twins)
    return pa.concat_tables([known, dropped, merged]).take(pa.array(place))


def _edited(
    documents: pa.Table, texts: pa.Table, cut: PartCuts, doc_ids_cut: NDArray[np.bytes_]
) -> tuple[pa.Table, pa.Table]:
    """Documents and texts with what is left of those that are cut."""
    here = doc_ids.as_numpy(documents["doc_id"])
    order = doc_ids.order(doc_ids_cut)
    place = doc_ids.positions(doc_ids_cut[order], here)
    found = {
        doc_ids.as_bytes(here, row): cut.cut(int(order[place[row]]), texts["text"][row].as_py())
        for row in np.flatnonzero(place >= 0).tolist()
    }
    return cuts.with_cuts(documents, texts, found)
