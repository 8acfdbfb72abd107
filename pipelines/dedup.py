"""Duplicates across a corpus: which documents go, and for which one that stays.

Exact duplicates first (same bytes), then normalised ones (same words), then near ones (true Jaccard of the word
5-grams), then, if asked for, those that another one holds whole (``containment.py``). Survivors are taken in one stated
order (``survival.py``); a document goes only for a *survivor*, never for another document that goes. Hence adding a source at the end changes nothing before it where the order is that of the
sources, and an incremental corpus always equals one that is built from nothing.

Memory: about 100 bytes a document for ids and digests, and what ``near.py`` says.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from pipelines import containment, doc_ids
from pipelines.band_index import BandHashes
from pipelines.containment import ContainmentRecipe
from pipelines.near import Found
from pipelines.near import near as near_duplicates
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.tables import rows_digest
from pipelines.survival import Corpus, Keep, in_order, ranked

VERSION = "2"
EXACT, NORMALISED, NEAR, CONTAINED = METHODS = ("exact", "normalised", "near", "contained")
MERGED = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("survivor", pa.binary(16)),
        ("jaccard", pa.float64()),
        ("method", pa.string()),
    ]
)


class DedupRecipe(ContainmentRecipe):
    """How alike two documents must be for one of them to go."""

    threshold: float = Field(default=0.8, gt=0, le=1, description="true Jaccard with a survivor at which one goes")
    bands: int = Field(
        default=18, ge=0, le=1024,
        description="18 bands of 6 rows find a pair at Jaccard 0.8 with probability 0.996 (14 of 8: 0.92); every "
        "candidate is verified, so more bands cost time and no precision. 0: datasketch's choice for the threshold",
    )  # fmt: skip
    rows: int = Field(default=6, ge=0, le=1024, description="signature values of a band; 0 with bands 0")
    prefer: list[str] = Field(
        default_factory=list,
        description="sources (names or patterns) whose documents stay first; then the order of the corpus",
    )
    keep: Keep = Field(
        default="order", description="which of several stays: order of sources, longest, oldest or best by quality; "
        "of equals the first by source and doc_id, and one without a date or value last",
    )  # fmt: skip
    quality: str = Field(
        default="classifier_score", description="signal of clean_documents by which keep = quality chooses the largest"
    )


class _PartRecipe(ContainmentRecipe):
    """What steers the part of one source: the choices, and everything that may stand before it in the order."""

    threshold: float
    bands: int
    rows: int
    keep: str
    quality: str
    earlier: str


def bands_and_rows(recipe: DedupRecipe, num_perm: int) -> tuple[int, int]:
    """The bands of the recipe, or datasketch's optimum where a missed pair weighs 19 times a needless comparison.

    Raises:
        ValueError: if the signatures are too short for the bands.
    """
    if recipe.bands and recipe.rows:
        bands, rows = recipe.bands, recipe.rows
    else:
        from datasketch import MinHashLSH

        index = MinHashLSH(threshold=recipe.threshold, num_perm=num_perm, weights=(0.05, 0.95))
        bands, rows = index.b, index.r
    if bands * rows > num_perm:
        raise ValueError(
            f"{bands} bands of {rows} rows need signatures of {bands * rows} permutations, these have {num_perm}. "
            "Lower bands or rows, or raise num_perm of the signature recipe."
        )
    return bands, rows


def cluster(
    cleans: Sequence[Artifact],
    signatures: Sequence[Artifact],
    recipe: DedupRecipe,
    draft: Draft,
    raws: Sequence[Artifact] = (),
) -> Artifact:
    """Every document that goes, with the survivor, their true Jaccard and the method; one part for each source.

    ``cleans`` and ``signatures`` are those of the same sources, in the order of the corpus; so are ``raws``, which
    only ``keep = "oldest"`` reads.
    """
    names = _names(cleans, signatures, raws)
    widths = {s.manifest.recipe["num_perm"] for s in signatures}
    if len({canonical_json(s.manifest.recipe) for s in signatures}) > 1:
        raise ValueError("the signatures of a corpus must come from one recipe; rebuild those that differ.")
    bands, rows = bands_and_rows(recipe, widths.pop())
    order = ranked(names, recipe.prefer)
    inputs = [[artifacts[i] for artifacts in (cleans, signatures, raws) if artifacts] for i in order]
    steering = _steerings(inputs, recipe, bands, rows)
    parts: list[Artifact] = []  # by rank
    with ExitStack() as stack:

        @functools.cache
        def everything() -> _Settled:
            done = parts if _is_fold(recipe) and not recipe.containment else []
            return stack.enter_context(_settled(inputs, list(done), recipe, (bands, rows), draft.store.scratch))

        for rank, index in enumerate(order):
            parts.append(draft.part(
                names[index], steering[rank], inputs[rank],
                lambda part, rank=rank: _sealed(everything(), rank, recipe, part),
            ))  # fmt: skip
    chosen = [parts[order.index(index)] for index in range(len(names))]
    counts = summed_counts(chosen)
    fates.check_conservation(counts, sum(clean.counts["docs"] for clean in cleans))
    facts = {"bands": bands, "rows": rows, "order": [names[i] for i in order]}
    return draft.seal(counts=counts, facts=facts, rows=rows_of_parts(chosen), parts=chosen)


def _is_fold(recipe: DedupRecipe) -> bool:
    """Whether a later source changes nothing before it: by another order, it may hold the document that stays."""
    return recipe.keep == "order"


def _steerings(inputs: Sequence[Sequence[Artifact]], recipe: DedupRecipe, bands: int, rows: int) -> list[_PartRecipe]:
    """By rank of the source."""
    chosen = recipe.model_dump(include=set(ContainmentRecipe.model_fields)) if recipe.containment else {}
    chosen |= {"threshold": recipe.threshold, "bands": bands, "rows": rows, "keep": recipe.keep}
    contents = [[artifact.content for artifact in one] for one in inputs]
    return [
        _PartRecipe(
            **chosen, quality=recipe.quality if recipe.keep == "quality" else "",
            earlier=digest(canonical_json(contents[:rank] if _is_fold(recipe) else contents)),
        )
        for rank in range(len(inputs))
    ]  # fmt: skip


@dataclass
class _Settled:
    """What becomes of the documents of all sources but the first, which were settled before."""

    first: int  # rank of the first source of which it says something
    fates: list[pa.Table]  # by rank from there on, sorted by doc_id
    hashes: BandHashes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.hashes.close()


def _settled(
    inputs: Sequence[Sequence[Artifact]],
    earlier: list[Artifact],
    recipe: DedupRecipe,
    bands_rows: tuple[int, int],
    scratch: Path,
) -> _Settled:
    """Compare the documents of the sources behind ``earlier``, all given by rank, with one another and with those."""
    cleans, signed, dated = ([one[kind] for one in inputs if len(one) > kind] for kind in range(3))
    corpus = in_order(cleans, signed, dated, recipe.keep, recipe.quality)
    hashes = BandHashes(corpus, signed, len(earlier), *bands_rows, scratch)
    held = containment.held(corpus, cleans, recipe) if recipe.containment else containment.NOTHING
    near = near_duplicates(corpus, signed, hashes, earlier, recipe.threshold, held)
    return _Settled(len(earlier), _fates(corpus, near, earlier), hashes)


def _names(cleans: Sequence[Artifact], signatures: Sequence[Artifact], raws: Sequence[Artifact]) -> list[str]:
    """The sources of a corpus, once everything is of the same ones."""
    names = [clean.key.partition for clean in cleans]
    if any(names != [artifact.key.partition for artifact in given] for given in (signatures, raws or cleans)):
        raise ValueError("clean_documents and signatures must come from the same sources in the same order.")
    if not cleans:
        raise ValueError("a corpus needs at least one source.")
    return names


def _sealed(settled: _Settled, rank: int, recipe: DedupRecipe, draft: Draft) -> Artifact:
    """The part of one source: who goes, the fates of all, and where later sources find who stays."""
    rows = settled.fates[rank - settled.first]
    stays = np.asarray(rows["survivor"].is_null())
    gone = rows.filter(rows["survivor"].is_valid()).select(MERGED.names).cast(MERGED)
    draft.write("merged.arrow", gone)
    draft.write(fates.FILE, rows)
    if _is_fold(recipe) and not recipe.containment:
        settled.hashes.write_index(rank, stays, draft)
    methods = gone["method"].to_pylist()
    by_method = {f"merged_{n}": methods.count(n) for n in METHODS if n != CONTAINED or recipe.containment}
    counts = fates.counted(rows)
    return draft.seal(counts={"docs": counts["kept"], **by_method, **counts}, rows=rows_digest([gone]))


def _fates(corpus: Corpus, near: Found, earlier: Sequence[Artifact]) -> list[pa.Table]:
    """By rank of the sources that are not settled yet: the fates of their documents, sorted by doc_id."""
    survivor, jaccards = corpus.alike.copy(), np.ones(len(corpus.ids))
    # a document with the words of another one follows it: to the same survivor, at the same Jaccard
    followed, coverage = near.survivor[corpus.alike], near.coverage[corpus.alike]
    moved = followed >= 0
    survivor[moved], jaccards[moved] = followed[moved], near.jaccard[corpus.alike][moved]
    names = corpus.ids[survivor]
    for rank, part in enumerate(earlier):
        _follow_into(corpus, rank, part, (names, jaccards, moved))
    goes = survivor != np.arange(len(corpus.ids))
    same_bytes = corpus.exact == corpus.exact[survivor]
    method = np.select([coverage > 0, moved, same_bytes], [CONTAINED, NEAR, EXACT], NORMALISED).astype(object)
    tables = []
    for _, here in corpus.sources[len(earlier) :]:
        stay = ~goes[here]
        tables.append(fates.from_columns(
            doc_ids.as_arrow(corpus.ids[here]),
            pa.array(np.where(stay, fates.KEPT, fates.MERGED).astype(object), pa.string()),
            survivor=_masked(names[here], stay),
            jaccard=pa.array(jaccards[here], pa.float64(), mask=stay),
            method=pa.array(np.where(stay, "", method[here]).astype(object), pa.string()),
            value=pa.array(coverage[here], pa.float64(), mask=coverage[here] == 0),
        ))  # fmt: skip
    return tables


def _follow_into(corpus: Corpus, rank: int, part: Artifact, into: tuple[doc_ids.Ids, np.ndarray, np.ndarray]) -> None:
    """Send those with the words of a near-duplicate of a settled source where that one went."""
    names, jaccards, moved = into
    begin, end = corpus.sources[rank][1][[0, -1]] if len(corpus.sources[rank][1]) else (0, -1)
    followers = np.flatnonzero((corpus.alike >= begin) & (corpus.alike <= end))
    followers = followers[followers > end]
    rows = part.table(fates.FILE, ["survivor", "jaccard", "method"]).take(pa.array(corpus.alike[followers] - begin))
    is_near = np.asarray(pc.equal(rows["method"], NEAR))
    those = followers[is_near]
    near = rows.filter(pa.array(is_near))
    names[those], jaccards[those] = doc_ids.as_numpy(near["survivor"]), np.asarray(near["jaccard"])
    moved[those] = True


def _masked(ids: doc_ids.Ids, absent: np.ndarray) -> pa.Array:
    """Ids of which some are absent."""
    return doc_ids.as_arrow(ids).take(pa.array(np.arange(len(ids)), mask=absent))
