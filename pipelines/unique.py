"""Unique documents: the corpus without its duplicates and, if asked for, without the lines that many documents have."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import boilerplate, cuts, doc_ids
from pipelines.boilerplate import BoilerplateRecipe, PartCuts
from pipelines.clean import SPANS
from pipelines.cuts import CUTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.selection import ids, write_rows

VERSION = "1"


class UniqueRecipe(BoilerplateRecipe):
    """The clusters say which documents stay; to choose is what is cut out of these."""


class _PartRecipe(UniqueRecipe):
    """What steers the part of one source: nothing, or all documents among which a line may stand again."""

    corpus: str = ""


def unique(cleans: Sequence[Artifact], clusters: Artifact, recipe: UniqueRecipe, draft: Draft) -> Artifact:
    """The documents that stay, in the order of their source; the fates of the others name their survivors."""
    merged = [clusters.part(clean.key.partition) for clean in cleans]
    names = [clean.key.partition for clean in cleans]
    order = [names.index(name) for name in clusters.facts["order"]]
    cutting = recipe.unit != "off"
    steering = _PartRecipe()
    if cutting:
        corpus = digest(canonical_json([[cleans[i].content, merged[i].content] for i in order]))
        steering = _PartRecipe(**recipe.model_dump(), corpus=corpus)

    @functools.cache
    def everything() -> dict[int, PartCuts]:
        stays = [np.asarray(_in_order(cleans[i], merged[i])["survivor"].is_null()) for i in order]
        found = boilerplate.found([cleans[i] for i in order], stays, recipe, draft.store.scratch)
        return dict(zip(order, found, strict=True))

    parts = [
        draft.part(
            clean.key.partition, steering, [clean, merged[index]],
            lambda part, index=index, clean=clean: _without(
                clean, merged[index], part, everything()[index] if cutting else None, recipe.unit
            ),
        )
        for index, clean in enumerate(cleans)
    ]  # fmt: skip
    counts = summed_counts(parts)
    fates.check_conservation(counts, sum(clean.counts["docs"] for clean in cleans))
    return draft.seal(counts=counts, rows=rows_of_parts(parts), parts=parts)


def _in_order(clean: Artifact, merged: Artifact) -> pa.Table:
    """The fates that the clusters say, row by row beside the clean documents."""
    known = merged.table(fates.FILE)  # sorted by doc_id
    rows = doc_ids.positions(doc_ids.as_numpy(known["doc_id"]), ids(clean))
    if (rows < 0).any() or len(rows) != known.num_rows:
        raise ValueError(f"{merged.key} does not belong to {clean.key}; rebuild duplicate_clusters.")
    return known.take(rows)


def _without(clean: Artifact, merged: Artifact, draft: Draft, cut: PartCuts | None, unit: str) -> Artifact:
    settled = _in_order(clean, merged)
    here, edited, more = ids(clean), None, {}
    if cut is not None:
        settled = _settled(settled, cut, unit)
        about, spans = boilerplate.tables(clean, cut, unit)
        draft.write(CUTS, about)
        draft.write(SPANS, spans)
        edited = functools.partial(_edited, cut=cut, doc_ids_cut=here[cut.rows])
    draft.write(fates.FILE, settled)
    stays = np.flatnonzero(np.asarray(pc.equal(settled["fate"], fates.KEPT)))
    if cut is not None:
        more = {"documents_cut": int(np.isin(cut.rows, stays).sum()), "words_cut": int(cut.words.sum())}
    num_bytes, rows = write_rows(clean, stays, draft, edited)
    counts = fates.counted(settled)
    fates.check_conservation(counts, len(here))
    return draft.seal(counts={"docs": len(stays), "bytes": num_bytes, **counts, **more}, rows=rows)


def _settled(known: pa.Table, cut: PartCuts, unit: str) -> pa.Table:
    """The fates with those of the documents that go for what was cut out of them."""
    columns = {name: known[name].to_pylist() for name in fates.SCHEMA.names}
    left = dict(zip(cut.rows.tolist(), cut.words_left.tolist(), strict=True))
    for row in cut.short.tolist():
        columns["fate"][row], columns["reason"][row] = fates.DROPPED, f"cut_short:{unit}"
        columns["value"][row] = float(left[row])
    for place, row in enumerate(cut.twins.tolist()):
        columns["fate"][row], columns["method"][row] = fates.MERGED, boilerplate.TWIN
        columns["survivor"][row], columns["jaccard"][row] = doc_ids.as_bytes(cut.survivors, place), 1.0
    return pa.table(columns, schema=fates.SCHEMA)


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
