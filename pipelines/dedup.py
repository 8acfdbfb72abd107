"""Duplicates across a corpus: which documents go, and for which one that stays.

Exact duplicates first (same bytes), then normalised ones (same words), then near ones (true Jaccard of the word
5-grams). Survivors are taken in one stated order, the rank of the source and then doc_id; a document goes only for a
*survivor*, never for another document that goes. Hence adding a source at the end changes nothing before it, and an
incremental corpus equals one that is built from nothing.

Memory: about 300 bytes a document for ids, digests and band hashes, and 4 bytes a shingle of those documents alone
that share a band bucket with another one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from pipelines.provenance.tables import read_batches, rows_digest
from pipelines.signatures import SHINGLES, SIGNATURES

VERSION = "1"
EXACT, NORMALISED, NEAR = METHODS = ("exact", "normalised", "near")
MERGED = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("survivor", pa.binary(16)),
        ("jaccard", pa.float64()),
        ("method", pa.string()),
    ]
)
I64 = NDArray[np.int64]


class DedupRecipe(Recipe):
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


class _PartRecipe(Recipe):
    """What steers the part of one source: the choices, and everything that stands before it in the order."""

    threshold: float
    bands: int
    rows: int
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


def ranked(sources: Sequence[str], prefer: Sequence[str]) -> list[int]:
    """Positions of the sources in the order in which their documents survive.

    Raises:
        ValueError: if a preferred name or pattern matches no source.
    """
    for pattern in prefer:
        if not any(_matches(source, pattern) for source in sources):
            raise ValueError(f"prefer names {pattern!r}, which is no source of this corpus ({', '.join(sources)}).")
    rank = [next((i for i, p in enumerate(prefer) if _matches(s, p)), len(prefer)) for s in sources]
    return sorted(range(len(sources)), key=lambda index: (rank[index], index))


def _matches(source: str, pattern: str) -> bool:
    return fnmatchcase(source, pattern) or source.rpartition("/")[0] == pattern


def cluster(cleans: Sequence[Artifact], signatures: Sequence[Artifact], recipe: DedupRecipe, draft: Draft) -> Artifact:
    """Every document that goes, with the survivor, their true Jaccard and the method; one part for each source.

    ``cleans`` and ``signatures`` are those of the same sources, in the order of the corpus.
    """
    names = [clean.key.partition for clean in cleans]
    if names != [signature.key.partition for signature in signatures]:
        raise ValueError("clean_documents and signatures must come from the same sources in the same order.")
    if not cleans:
        raise ValueError("a corpus needs at least one source.")
    widths = {s.manifest.recipe["num_perm"] for s in signatures}
    if len({canonical_json(s.manifest.recipe) for s in signatures}) > 1:
        raise ValueError("the signatures of a corpus must come from one recipe; rebuild those that differ.")
    bands, rows = bands_and_rows(recipe, widths.pop())
    order = ranked(names, recipe.prefer)

    @functools.cache
    def everything() -> list[pa.Table]:
        return _merged([cleans[i] for i in order], [signatures[i] for i in order], recipe.threshold, bands, rows)

    parts: dict[int, Artifact] = {}
    for rank, index in enumerate(order):
        earlier = [[cleans[i].content, signatures[i].content] for i in order[:rank]]
        steering = _PartRecipe(
            threshold=recipe.threshold, bands=bands, rows=rows, earlier=digest(canonical_json(earlier))
        )
        parts[index] = draft.part(
            names[index], steering, [cleans[index], signatures[index]],
            lambda part, rank=rank: _sealed(everything()[rank], part),
        )  # fmt: skip
    chosen = [parts[index] for index in range(len(names))]
    counts = summed_counts(chosen)
    fates.check_conservation(counts, sum(clean.counts["docs"] for clean in cleans))
    facts = {"bands": bands, "rows": rows, "order": [names[i] for i in order]}
    return draft.seal(counts=counts, facts=facts, rows=rows_of_parts(chosen), parts=chosen)


def _sealed(rows: pa.Table, draft: Draft) -> Artifact:
    """``rows``: the fates of one source, sorted by doc_id."""
    gone = rows.filter(rows["survivor"].is_valid()).select(MERGED.names).cast(MERGED)
    draft.write("merged.arrow", gone)
    draft.write(fates.FILE, rows)
    by_method = {f"merged_{name}": gone["method"].to_pylist().count(name) for name in METHODS}
    counts = fates.counted(rows)
    return draft.seal(counts={"docs": counts["kept"], **by_method, **counts}, rows=rows_digest([gone]))


@dataclass
class _Corpus:
    """All documents of a corpus in the order in which they survive."""

    ids: doc_ids.Ids
    exact: I64  # the first document with the same bytes
    alike: I64  # the first document with the same words
    sources: list[tuple[int, I64]]  # by rank: the first document, and the row of each document in its tables


def _merged(
    cleans: list[Artifact], signatures: list[Artifact], threshold: float, bands: int, rows: int
) -> list[pa.Table]:
    """By rank of the source: the fates of its documents, sorted by doc_id."""
    corpus = _loaded(cleans, signatures)
    numbers = np.arange(len(corpus.ids))
    survivor, jaccards = corpus.alike.copy(), np.ones(len(numbers))
    near, near_jaccards = _near(corpus, signatures, threshold, bands, rows)
    # a document with the words of another one follows it: to the same survivor, at the same Jaccard
    followed = near[corpus.alike]
    moved = followed >= 0
    survivor[moved], jaccards[moved] = followed[moved], near_jaccards[corpus.alike][moved]
    goes = survivor != numbers
    same_bytes = corpus.exact == corpus.exact[survivor]
    method = np.where(moved, NEAR, np.where(same_bytes, EXACT, NORMALISED)).astype(object)
    all_ids, tables = doc_ids.as_arrow(corpus.ids), []
    for first, row_of in corpus.sources:
        here = slice(first, first + len(row_of))
        stay = ~goes[here]
        tables.append(fates.from_columns(
            all_ids[here],
            pa.array(np.where(stay, fates.KEPT, fates.MERGED).astype(object), pa.string()),
            survivor=all_ids.take(pa.array(survivor[here], mask=stay)),
            jaccard=pa.array(jaccards[here], pa.float64(), mask=stay),
            method=pa.array(np.where(stay, "", method[here]).astype(object), pa.string()),
        ))  # fmt: skip
    return tables


def _loaded(cleans: list[Artifact], signatures: list[Artifact]) -> _Corpus:
    ids, digests, words, sources, first = [], [], [], [], 0
    for clean, signature in zip(cleans, signatures, strict=True):
        documents = clean.table(DOCUMENTS, ["doc_id", "sha256_out"])
        signed = signature.table(SIGNATURES, ["doc_id", "words", "num_words"])
        if not documents["doc_id"].equals(signed["doc_id"]):
            raise ValueError(f"{signature.key} does not belong to {clean.key}; rebuild the signatures.")
        here = doc_ids.as_numpy(documents["doc_id"])
        row_of = doc_ids.order(here)
        ids.append(here[row_of])
        digest_of = _as_words(documents["sha256_out"], 4)
        digests.append(digest_of[row_of])
        without = np.asarray(signed["num_words"]) == 0
        fingerprint = np.column_stack([_as_words(signed["words"], 2), without])
        # texts without words are alike only where their bytes are: the digest stands for the missing words
        fingerprint[without, :2] = digest_of[without, :2]
        words.append(fingerprint[row_of])
        sources.append((first, row_of))
        first += len(row_of)
    exact = _first_of_equals(np.concatenate(digests))
    return _Corpus(np.concatenate(ids), exact, _first_of_equals(np.concatenate(words)), sources)


def _as_words(column: pa.ChunkedArray, width: int) -> NDArray[np.uint64]:
    """A fixed-size binary column as [rows, width] of 64 bits."""
    chunks = [
        np.frombuffer(c.buffers()[1], np.uint64)[c.offset * width : (c.offset + len(c)) * width]
        for c in column.chunks if len(c)
    ]  # fmt: skip
    return np.concatenate([*chunks, np.zeros(0, np.uint64)]).reshape(-1, width)


def _first_of_equals(rows: NDArray[np.uint64]) -> I64:
    """For each row the index of the first equal row."""
    order = np.lexsort(rows.T)  # stable: equal rows stay in their order
    ordered = rows[order]
    fresh = np.ones(len(rows), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(rows), np.int64)
    first[order] = order[np.flatnonzero(fresh)[np.cumsum(fresh) - 1]] if len(rows) else order
    return first


def _near(corpus: _Corpus, signatures: list[Artifact], threshold: float, bands: int, rows: int) -> tuple[I64, NDArray]:
    """For each document the survivor whose near-duplicate it is, else -1; and their Jaccard."""
    from pipelines import stars

    survivor, jaccards = np.full(len(corpus.ids), -1, np.int64), np.zeros(len(corpus.ids))
    hashes, numbers = [np.zeros((0, bands), np.uint64)], [np.zeros(0, np.int64)]
    for (first, row_of), signature in zip(corpus.sources, signatures, strict=True):
        number_of = np.empty_like(row_of)  # by row of the table: number of the document in the corpus
        number_of[row_of] = np.arange(first, first + len(row_of))
        start = 0
        for batch in read_batches(signature.local(SIGNATURES), ["signature", "num_words"]):
            here = number_of[start : start + batch.num_rows]
            start += batch.num_rows
            wanted = (corpus.alike[here] == here) & (np.asarray(batch["num_words"]) > 0)
            values = batch["signature"].chunk(0).flatten().to_numpy().reshape(batch.num_rows, -1)
            hashes.append(stars.band_hashes(values, bands, rows)[wanted])
            numbers.append(here[wanted])
    found = np.concatenate(numbers)
    in_order = np.argsort(found)
    bucket_ids, num_buckets = stars.buckets(np.concatenate(hashes)[in_order])
    meets = (bucket_ids >= 0).any(axis=1)
    candidates = found[in_order][meets]
    shingles, offsets = _shingles(corpus, signatures, candidates)
    whose, alike = stars.stars(bucket_ids[meets], num_buckets, shingles, offsets, threshold)
    near = whose >= 0
    survivor[candidates[near]] = candidates[whose[near]]
    jaccards[candidates[near]] = alike[near]
    return survivor, jaccards


def _shingles(corpus: _Corpus, signatures: list[Artifact], wanted: I64) -> tuple[NDArray[np.uint32], I64]:
    """Shingle hashes of some documents, given by their ascending numbers, as one flat array with offsets."""
    from pipelines import stars

    lengths = np.zeros(len(wanted), np.int64)
    for begins, _, rows, places in _lists(corpus, signatures, wanted):
        lengths[places] = begins[rows + 1] - begins[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    flat = np.empty(offsets[-1], np.uint32)
    for begins, values, rows, places in _lists(corpus, signatures, wanted):
        stars.gather(begins, values, rows, offsets[places], flat)
    return flat, offsets


def _lists(
    corpus: _Corpus, signatures: list[Artifact], wanted: I64
) -> Iterator[tuple[I64, NDArray[np.uint32], I64, I64]]:
    """By record batch: offsets and values of its shingles, the wanted rows, and their places among the wanted."""
    for (first, row_of), signature in zip(corpus.sources, signatures, strict=True):
        low, high = np.searchsorted(wanted, [first, first + len(row_of)])
        rows = row_of[wanted[low:high] - first]
        by_row = np.argsort(rows)
        start = 0
        for batch in read_batches(signature.local(SHINGLES), ["hashes"]):
            lists = batch["hashes"].chunk(0)
            begin, end = np.searchsorted(rows, [start, start + batch.num_rows], sorter=by_row)
            places = by_row[begin:end]
            yield lists.offsets.to_numpy(), lists.values.to_numpy(), rows[places] - start, low + places
            start += batch.num_rows
