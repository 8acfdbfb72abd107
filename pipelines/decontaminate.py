"""Training documents: the unique ones that are neither held out nor show a benchmark's items."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines import doc_ids
from pipelines.documents import TEXTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, digest
from pipelines.provenance.tables import rows_digest
from pipelines.selection import by_doc_id, ids, write_rows

if TYPE_CHECKING:
    from pipelines.overlap import Matches, OverlapIndex

VERSION = "1"
ITEMS, OVERLAPS = "items.arrow", "overlaps.arrow"
OVERLAPS_SCHEMA = pa.schema([
    ("doc_id", pa.binary(16)),
    ("suite", pa.string()),
    ("task", pa.string()),
    ("item_id", pa.string()),
    ("coverage", pa.float64()),  # share of the item's words that lie in an n-gram of the document
    ("longest", pa.int64()),  # words of the longest run that the document shows
])  # fmt: skip
ITEMS_SCHEMA = pa.schema([
    ("suite", pa.string()),
    ("task", pa.string()),
    ("item_id", pa.string()),
    ("num_words", pa.int64()),
    ("check", pa.string()),  # ngram, phrase or no: how the item can be looked for at all
    ("coverage", pa.float64()),  # the highest among the documents that were not held out
    ("kept_coverage", pa.float64()),  # the highest among the training documents
    ("num_documents", pa.int64()),  # that were dropped or would have been, for this item
])  # fmt: skip


class DecontaminateRecipe(Recipe):
    """How much of a benchmark item a training document may show."""

    ngram: int = Field(default=13, ge=2, le=50, description="words of an n-gram (GPT-3, Brown et al. 2020, app. C)")
    floor: int = Field(default=8, ge=2, le=50, description="items of fewer words are looked for whole")
    phrase_floor: int = Field(default=5, ge=1, le=50, description="items of fewer words cannot be checked")
    coverage: float = Field(
        default=0.4, gt=0, le=1,
        description="share of an item's words at which a document is dropped; 0.4, because half an item cut off in "
        "the middle still gives its question away",
    )  # fmt: skip
    report: float = Field(default=0.1, gt=0, le=1, description="overlaps below this are not listed")


@dataclass(frozen=True)
class _Items:
    """All items of all suites, in the order of the suites."""

    table: pa.Table  # suite, task, item_id
    index: OverlapIndex


def training_documents(
    unique: Artifact, heldout: Artifact, prompts: Sequence[Artifact], recipe: DecontaminateRecipe, draft: Draft
) -> Artifact:
    """What a model may learn from: one part for each source, sorted by doc_id.

    ``items.arrow`` says of every benchmark item how it was looked for and how much of it was found; the
    ``overlaps.arrow`` of the parts names the documents.
    """

    @functools.cache
    def items() -> _Items:
        return _read_items(prompts, recipe)

    parts = []
    for part in unique.parts():
        held = heldout.part(part.key.part)
        parts.append(draft.part(
            part.key.part, recipe, [part, held, *prompts],
            lambda d, part=part, held=held: _training(part, held, items, recipe, d),
        ))  # fmt: skip
    counts = summed_counts(parts)
    fates.check_conservation(counts, unique.counts["docs"])
    report = _report(items(), parts, recipe)
    draft.write(ITEMS, report)
    return draft.seal(
        counts={**counts, "items": report.num_rows, "items_not_checkable": report["check"].to_pylist().count("no")},
        rows=digest((rows_of_parts(parts) + rows_digest([report])).encode()), parts=parts,
    )  # fmt: skip


def _read_items(prompts: Sequence[Artifact], recipe: DecontaminateRecipe) -> _Items:
    from pipelines.overlap import OverlapIndex

    schema = pa.schema([("suite", pa.string()), ("task", pa.string()), ("item_id", pa.string())])
    named, texts = [schema.empty_table()], [pa.array([], pa.large_string())]
    for suite in prompts:
        table = suite.table(ITEMS)
        names = pa.array([suite.key.partition] * table.num_rows, pa.string())
        named.append(pa.table([names, table["task"], table["item_id"]], schema=schema))
        texts += table["text"].cast(pa.large_string()).chunks
    table = pa.concat_tables(named).combine_chunks()
    keys = list(zip(*(table[name].to_pylist() for name in schema.names), strict=True))
    if len(set(keys)) < len(keys):
        twice = next(key for position, key in enumerate(keys) if key in keys[:position])
        raise ValueError(f"benchmark item {'/'.join(twice)} occurs twice; item_ids must differ inside a task.")
    index = OverlapIndex(pa.concat_arrays(texts), recipe.ngram, recipe.floor, recipe.phrase_floor)
    return _Items(table, index)


def _training(
    unique: Artifact, heldout: Artifact, items: Callable[[], _Items], recipe: DecontaminateRecipe, draft: Draft
) -> Artifact:
    here = ids(unique)
    held = doc_ids.positions(ids(heldout), here) >= 0
    overlaps, worst, worst_item = _overlaps(unique, held, items(), recipe)
    dropped = worst >= recipe.coverage
    kept = ~held & ~dropped
    order = doc_ids.order(here)
    seen = fates.from_columns(
        doc_ids.as_arrow(here[order]),
        pa.array(np.select([held, dropped], [fates.HELD_OUT, fates.DROPPED], fates.KEPT)[order].astype(object)),
        reason=_reasons(items().table, worst_item[order], dropped[order]),
        value=pa.array(worst[order], pa.float64(), mask=~dropped[order]),
    )
    draft.write(fates.FILE, seen)
    draft.write(OVERLAPS, overlaps)
    num_bytes, rows = write_rows(unique, by_doc_id(unique, kept), draft)
    counts = fates.counted(seen)
    fates.check_conservation(counts, unique.counts["docs"])
    if counts["held_out"] != heldout.counts["docs"]:
        raise ValueError(f"{heldout.key} does not belong to {unique.key}; rebuild heldout_documents.")
    return draft.seal(counts={"docs": counts["kept"], "bytes": num_bytes, **counts}, rows=rows)


def _overlaps(
    unique: Artifact, held: NDArray[np.bool_], items: _Items, recipe: DecontaminateRecipe
) -> tuple[pa.Table, NDArray[np.float64], NDArray[np.int64]]:
    """The overlaps worth listing, sorted by doc_id; and by document its highest coverage and the item that has it."""
    from pipelines.overlap import matches_of

    found = [_listed(m, held, recipe) for m in matches_of(items.index, unique.table(TEXTS, ["text"])["text"])]
    doc = np.concatenate([np.zeros(0, np.int64), *(m.documents for m in found)])
    item = np.concatenate([np.zeros(0, np.int64), *(m.items for m in found)])
    share = np.concatenate([np.zeros(0), *(m.coverage for m in found)])
    run = np.concatenate([np.zeros(0, np.int64), *(m.longest for m in found)])
    here = ids(unique)
    worst, worst_item = np.zeros(len(here)), np.zeros(len(here), np.int64)
    first = np.lexsort((item, -share, doc))  # of each document the highest coverage, then the first item
    first = first[np.unique(doc[first], return_index=True)[1]]
    worst[doc[first]], worst_item[doc[first]] = share[first], item[first]
    rank = np.empty(len(here), np.int64)
    rank[doc_ids.order(here)] = np.arange(len(here))
    listing = np.lexsort((item, rank[doc]))
    columns = [
        doc_ids.as_arrow(here[doc[listing]]),
        *items.table.take(pa.array(item[listing])).columns,
        share[listing],
        run[listing],
    ]
    return pa.table(columns, schema=OVERLAPS_SCHEMA), worst, worst_item


def _listed(match: Matches, held: NDArray[np.bool_], recipe: DecontaminateRecipe) -> Matches:
    from pipelines.overlap import Matches

    wanted = ~held[match.documents] & (match.coverage >= min(recipe.report, recipe.coverage))
    return Matches(match.documents[wanted], match.items[wanted], match.coverage[wanted], match.longest[wanted])


def _reasons(items: pa.Table, item: NDArray[np.int64], dropped: NDArray[np.bool_]) -> pa.Array:
    suites, tasks = items["suite"].to_pylist(), items["task"].to_pylist()
    return pa.array(
        [f"overlap:{suites[i]}/{tasks[i]}" if gone else "" for i, gone in zip(item, dropped, strict=True)], pa.string()
    )


def _report(items: _Items, parts: Sequence[Artifact], recipe: DecontaminateRecipe) -> pa.Table:
    """One row for each item of each suite."""
    keys = zip(*(items.table[name].to_pylist() for name in items.table.column_names), strict=True)
    row_of = {key: row for row, key in enumerate(keys)}
    highest, kept, num_documents = np.zeros(len(row_of)), np.zeros(len(row_of)), np.zeros(len(row_of), np.int64)
    for part in parts:
        overlaps = part.table(OVERLAPS)
        named = zip(*(overlaps[name].to_pylist() for name in ("suite", "task", "item_id")), strict=True)
        rows = np.array([row_of[key] for key in named], np.int64)
        coverage = np.asarray(overlaps["coverage"])
        stays = doc_ids.positions(ids(part), doc_ids.as_numpy(overlaps["doc_id"])) >= 0
        np.maximum.at(highest, rows, coverage)
        np.maximum.at(kept, rows[stays], coverage[stays])
        np.add.at(num_documents, rows, coverage >= recipe.coverage)
    checks = [str(check) for check in items.index.checks]
    columns = [*items.table.columns, items.index.num_words, checks, highest, kept, num_documents]
    return pa.table(columns, schema=ITEMS_SCHEMA)
