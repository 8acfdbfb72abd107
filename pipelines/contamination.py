"""Contamination: what documents show of benchmark items, item by item, and what other thresholds would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.tables import read_batches

ITEMS, OVERLAPS = "items.arrow", "overlaps.arrow"
CLEAN, DIRTY, NOT_CHECKABLE = "clean", "dirty", "not checkable"
FROM_HELDOUT, FROM_FILES = "heldout", "files"
OVERLAPS_SCHEMA = pa.schema([
    ("doc_id", pa.binary(16)),
    ("suite", pa.string()),
    ("task", pa.string()),
    ("item_id", pa.string()),
    ("coverage", pa.float64()),  # share of the item's words that lie in an n-gram of the document
    ("longest", pa.int64()),  # words of the longest run that the document shows
    ("left", pa.float64()),  # coverage in the training document; 0 where the document or the span went
])  # fmt: skip
ITEMS_SCHEMA = pa.schema([
    ("suite", pa.string()),
    ("task", pa.string()),
    ("item_id", pa.string()),
    ("origin", pa.string()),  # heldout: cut from held-out documents; files: a benchmark that was brought
    ("num_words", pa.int64()),
    ("check", pa.string()),  # ngram, phrase or no: how the item can be looked for at all
    ("coverage", pa.float64()),  # the highest among the documents that were not held out
    ("kept_coverage", pa.float64()),  # the highest among the training documents
    ("num_documents", pa.int64()),  # that show the item and were dropped, cut or flagged for it
    ("status", pa.string()),  # clean, dirty (training documents show it, or nobody said what to do) or not checkable
])  # fmt: skip
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


class Found(NamedTuple):
    """What overlaps say of every item: arrays [items]."""

    highest: NDArray[np.float64]
    kept: NDArray[np.float64]
    num_documents: NDArray[np.int64]


def found_in(parts: Sequence[Artifact], items: pa.Table, coverage: float) -> Found:
    """Read the overlaps of all parts; rows are those of ``items`` (suite, task, item_id)."""
    keys = zip(*(items[name].to_pylist() for name in ("suite", "task", "item_id")), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    found = Found(np.zeros(len(row_of)), np.zeros(len(row_of)), np.zeros(len(row_of), np.int64))
    for part in parts:
        overlaps = part.table(OVERLAPS)
        named = zip(*(overlaps[name].to_pylist() for name in ("suite", "task", "item_id")), strict=True)
        rows = np.array([row_of[key] for key in named], np.int64)
        share = np.asarray(overlaps["coverage"])
        np.maximum.at(found.highest, rows, share)
        np.maximum.at(found.kept, rows, np.asarray(overlaps["left"]))
        np.add.at(found.num_documents, rows, share >= coverage)
    return found


def statuses(checks: Sequence[str], origins: Sequence[str], found: Found, coverage: float, asked: bool) -> list[str]:
    """Clean, dirty or not checkable, item by item.

    Args:
        checks: how each item is looked for.
        origins: where each item comes from.
        found: what documents show.
        coverage: from which share on an item is shown.
        asked: nobody has said what to do. What was cut from held-out documents has kin among the others as a matter
            of course; an item that was brought from files is a leak that somebody must look at.
    """
    leaks = asked & (np.array(origins, object) == FROM_FILES) & (found.num_documents > 0)
    dirty = leaks | (found.kept >= coverage)
    return [NOT_CHECKABLE if c == "no" else DIRTY if d else CLEAN for c, d in zip(checks, dirty, strict=True)]


class Cost(NamedTuple):
    """What lies above a threshold."""

    coverage: float
    documents: int  # that show an item
    num_bytes: int  # their text
    items: int  # that are shown


class Tradeoff(NamedTuple):
    """What acting at several thresholds would cost, of the documents that were not held out."""

    documents: int
    num_bytes: int
    items: int
    costs: list[Cost]


def tradeoff(training: Artifact, coverages: Sequence[float]) -> Tradeoff:
    """What each threshold would act on, from the overlaps that decontamination stored. Nothing is scanned again.

    Raises:
        ValueError: for a threshold below what was listed, or a part made before overlaps said what is left.
    """
    listed = min(training.manifest.recipe["report"], training.manifest.recipe["coverage"])
    if low := [c for c in coverages if not listed <= c <= 1]:
        raise ValueError(
            f"coverage {low[0]:g}: overlaps are listed from {listed:g} to 1. Set `report` to {low[0]:g} in the corpus's "
            "decontaminate table and run, or ask for a higher coverage."
        )
    sizes = [_sizes(training.input("unique_documents").part(part.key.part), part) for part in training.parts()]
    tables = [part.table(OVERLAPS) for part in training.parts()]
    costs = [_cost(c, tables, [mine for mine, _, _ in sizes]) for c in coverages]
    items = training.table(ITEMS, ["check"])["check"].to_pylist()
    documents, num_bytes = sum(n for _, n, _ in sizes), sum(b for _, _, b in sizes)
    return Tradeoff(documents, num_bytes, len(items) - items.count("no"), costs)


def _sizes(unique: Artifact, part: Artifact) -> tuple[dict[bytes, int], int, int]:
    """Bytes of each document that an overlap names; number and bytes of the documents that were not held out."""
    named = set(part.table(OVERLAPS, ["doc_id"])["doc_id"].to_pylist())
    held = part.table(fates.FILE, ["doc_id", "fate"])
    is_held = np.asarray(held["fate"].to_pylist(), object) == fates.HELD_OUT
    held_ids = doc_ids.as_numpy(held["doc_id"])[is_held]
    mine: dict[bytes, int] = {}
    documents = num_bytes = 0
    for batch in read_batches(unique.local(DOCUMENTS), ["doc_id", "num_bytes"]):
        size = np.asarray(batch["num_bytes"])
        stays = doc_ids.positions(held_ids, doc_ids.as_numpy(batch["doc_id"])) < 0
        documents, num_bytes = documents + int(stays.sum()), num_bytes + int(size[stays].sum())
        mine |= {i: int(n) for i, n in zip(batch["doc_id"].to_pylist(), size, strict=True) if i in named}
    return mine, documents, num_bytes


def _cost(coverage: float, tables: Sequence[pa.Table], sizes: Sequence[dict[bytes, int]]) -> Cost:
    documents = num_bytes = 0
    items: set[tuple[str, str, str]] = set()
    for overlaps, mine in zip(tables, sizes, strict=True):
        shown = overlaps.filter(pa.array(np.asarray(overlaps["coverage"]) >= coverage))
        ids = set(shown["doc_id"].to_pylist())
        documents, num_bytes = documents + len(ids), num_bytes + sum(mine[i] for i in ids)
        items |= set(zip(*(shown[n].to_pylist() for n in ("suite", "task", "item_id")), strict=True))
    return Cost(coverage, documents, num_bytes, len(items))
