"""Training documents: the unique ones that are neither held out nor show a benchmark's items."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines import contamination, cuts, doc_ids
from pipelines.clean import SPANS, SPANS_SCHEMA
from pipelines.contamination import FROM_FILES, FROM_HELDOUT, ITEMS, ITEMS_SCHEMA, OVERLAPS, OVERLAPS_SCHEMA
from pipelines.cuts import CUTS, CUTS_SCHEMA, Cut
from pipelines.documents import TEXTS
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, digest
from pipelines.provenance.tables import rows_digest
from pipelines.selection import by_doc_id, ids, write_rows

if TYPE_CHECKING:
    from pipelines.item_index import ItemIndex
    from pipelines.overlap import Matches

VERSION = "3"


class DecontaminateRecipe(Recipe):
    """How much of a benchmark item a training document may show."""

    ngram: int = Field(default=13, ge=2, le=50, description="words of an n-gram (GPT-3, Brown et al. 2020, app. C)")
    floor: int = Field(default=8, ge=2, le=50, description="items of fewer words are looked for whole")
    phrase_floor: int = Field(default=5, ge=1, le=50, description="items of fewer words cannot be checked")
    coverage: float = Field(
        default=0.4, gt=0, le=1,
        description="share of an item's words at which a document shows it; 0.4, because half an item cut off in "
        "the middle still gives its question away",
    )  # fmt: skip
    action: Literal["ask", "drop", "cut", "flag"] = Field(
        default="ask",
        description="what becomes of a document that shows an item. drop: it goes. cut: what it shows is taken out. "
        "flag: it stays, the item is dirty, and scores are told for clean items as well. ask: it goes, and items of a "
        "benchmark brought from files hold training up until one of the others is written",
    )
    min_words_left: int = Field(
        default=20, ge=0, le=1_000_000, description="a document with fewer words left after a cut is dropped"
    )
    unspaced: bool = Field(
        default=True, description="Chinese, Japanese, Thai, Lao, Burmese and Khmer are compared character by character"
    )
    report: float = Field(default=0.1, gt=0, le=1, description="overlaps below this are not listed")


@dataclass(frozen=True)
class _Items:
    """All items of all suites, in the order of the suites."""

    table: pa.Table  # suite, task, item_id, origin
    index: ItemIndex


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
    status = report["status"].to_pylist()
    return draft.seal(
        counts={
            **counts,
            "items": report.num_rows,
            "items_not_checkable": status.count(contamination.NOT_CHECKABLE),
            "items_dirty": status.count(contamination.DIRTY),
        },
        rows=digest((rows_of_parts(parts) + rows_digest([report])).encode()), parts=parts,
    )  # fmt: skip


def _read_items(prompts: Sequence[Artifact], recipe: DecontaminateRecipe) -> _Items:
    from pipelines.item_index import ItemIndex

    schema = pa.schema([(name, pa.string()) for name in ("suite", "task", "item_id", "origin")])
    named, questions, answers = [schema.empty_table()], list[str](), list[str]()
    for suite in prompts:
        table = suite.table(ITEMS)
        names = pa.array([suite.key.partition] * table.num_rows, pa.string())
        named.append(pa.table([names, table["task"], table["item_id"], _origins(table)], schema=schema))
        for question, answer in _in_two(table):
            questions.append(question)
            answers.append(answer)
    table = pa.concat_tables(named).combine_chunks()
    keys = list(zip(*(table[name].to_pylist() for name in schema.names[:3]), strict=True))
    if len(set(keys)) < len(keys):
        twice = next(key for position, key in enumerate(keys) if key in keys[:position])
        raise ValueError(f"benchmark item {'/'.join(twice)} occurs twice; item_ids must differ inside a task.")
    sizes = recipe.ngram, recipe.floor, recipe.phrase_floor
    return _Items(table, ItemIndex(questions, answers, sizes, recipe.unspaced))


def _in_two(items: pa.Table) -> Iterator[tuple[str, str]]:
    """Question and answer of each item; all is question where nobody says where the answer begins."""
    texts = items["text"].to_pylist()
    starts = items["answer_start"].to_pylist() if "answer_start" in items.column_names else [None] * len(texts)
    for text, start in zip(texts, starts, strict=True):
        yield (text, "") if start is None else (text[:start], text[start:])


def _origins(items: pa.Table) -> list[str]:
    documents = items["doc_id"].to_pylist() if "doc_id" in items.column_names else [None] * items.num_rows
    return [FROM_FILES if doc_id is None else FROM_HELDOUT for doc_id in documents]


def _training(
    unique: Artifact, heldout: Artifact, items: Callable[[], _Items], recipe: DecontaminateRecipe, draft: Draft
) -> Artifact:
    here = ids(unique)
    held = doc_ids.positions(ids(heldout), here) >= 0
    seen = _seen(unique, held, items(), recipe)
    shows = seen.worst >= recipe.coverage
    cut = _cuts(unique, np.flatnonzero(shows), items(), recipe, draft) if recipe.action == "cut" else {}
    rows_cut = np.array(list(cut), np.int64)
    words_left = np.full(len(here), np.inf)
    words_left[rows_cut] = [cut[row].words_left for row in rows_cut.tolist()]
    short = words_left < recipe.min_words_left
    dropped = short if recipe.action == "cut" else shows & (recipe.action != "flag")
    order = doc_ids.order(here)
    value = np.where(np.isfinite(words_left), words_left, seen.worst)
    settled = fates.from_columns(
        doc_ids.as_arrow(here[order]),
        pa.array(np.select([held, dropped], [fates.HELD_OUT, fates.DROPPED], fates.KEPT)[order].astype(object)),
        reason=_reasons(items().table, seen.item[order], dropped[order], "cut_short" if cut else "overlap"),
        value=pa.array(value[order], pa.float64(), mask=~dropped[order]),
    )
    draft.write(fates.FILE, settled)
    draft.write(OVERLAPS, _listing(here, seen.matches, _left(seen.matches, dropped, cut, items()), items()))
    stays = {doc_ids.as_bytes(here, row): one for row, one in cut.items() if not short[row]}
    num_bytes, rows = write_rows(
        unique, by_doc_id(unique, ~held & ~dropped), draft, functools.partial(cuts.with_cuts, cuts=stays)
    )
    counts = fates.counted(settled)
    fates.check_conservation(counts, unique.counts["docs"])
    if counts["held_out"] != heldout.counts["docs"]:
        raise ValueError(f"{heldout.key} does not belong to {unique.key}; rebuild heldout_documents.")
    return draft.seal(
        counts={"docs": counts["kept"], "bytes": num_bytes, **counts, "documents_cut": len(stays)}, rows=rows
    )


class _Seen(NamedTuple):
    """What the documents of a part show."""

    matches: Matches  # that are worth listing, in the order of the texts
    worst: NDArray[np.float64]  # [documents], highest coverage
    item: NDArray[np.int64]  # [documents], the first item that has it


def _seen(unique: Artifact, held: NDArray[np.bool_], items: _Items, recipe: DecontaminateRecipe) -> _Seen:
    from pipelines.overlap import Matches, matches_of

    found = [_listed(m, held, recipe) for m in matches_of(items.index, unique.table(TEXTS, ["text"])["text"])]
    none = np.zeros(0, np.int64)
    every = Matches(
        np.concatenate([none, *(m.documents for m in found)]),
        np.concatenate([none, *(m.items for m in found)]),
        np.concatenate([np.zeros(0), *(m.coverage for m in found)]),
        np.concatenate([none, *(m.longest for m in found)]),
    )
    worst, worst_item = np.zeros(len(held)), np.zeros(len(held), np.int64)
    first = np.lexsort((every.items, -every.coverage, every.documents))
    first = first[np.unique(every.documents[first], return_index=True)[1]]
    worst[every.documents[first]], worst_item[every.documents[first]] = every.coverage[first], every.items[first]
    return _Seen(every, worst, worst_item)


def _listed(match: Matches, held: NDArray[np.bool_], recipe: DecontaminateRecipe) -> Matches:
    from pipelines.overlap import Matches

    wanted = ~held[match.documents] & (match.coverage >= min(recipe.report, recipe.coverage))
    return Matches(match.documents[wanted], match.items[wanted], match.coverage[wanted], match.longest[wanted])


def _cuts(
    unique: Artifact, rows: NDArray[np.int64], items: _Items, recipe: DecontaminateRecipe, draft: Draft
) -> dict[int, Cut]:
    """What is left of the texts of some rows; spans and digests are written, in the order of the doc_ids."""
    here, texts = ids(unique), unique.table(TEXTS, ["text"])["text"]
    suites, tasks = items.table["suite"].to_pylist(), items.table["task"].to_pylist()
    found: dict[int, Cut] = {}
    about, spans = [], []
    order = doc_ids.order(here)
    for row in order[np.isin(order, rows)].tolist():
        text = texts[row].as_py()
        one = found[row] = cuts.cut(text, items.index, recipe.coverage)
        name = doc_ids.as_bytes(here, row)
        about.append(one.row(name, text))
        spans += [(name, f"overlap:{suites[s.item]}/{tasks[s.item]}", s.start, s.length) for s in one.spans]
    draft.write(CUTS, pa.Table.from_pylist(about, schema=CUTS_SCHEMA))
    columns = zip(*spans, strict=True) if spans else [[]] * len(SPANS_SCHEMA)
    draft.write(SPANS, pa.table([list(column) for column in columns], schema=SPANS_SCHEMA))
    return found


def _left(matches: Matches, dropped: NDArray[np.bool_], cut: dict[int, Cut], items: _Items) -> NDArray[np.float64]:
    """Coverage of each match in the training document."""
    left = np.where(dropped[matches.documents], 0.0, matches.coverage)
    for row, one in cut.items():
        if dropped[row]:
            continue
        again = items.index.matches(pa.array([one.text], pa.large_string()))
        share = dict(zip(again.items.tolist(), again.coverage.tolist(), strict=True))
        begin, end = np.searchsorted(matches.documents, [row, row + 1])
        left[begin:end] = [share.get(item, 0.0) for item in matches.items[begin:end].tolist()]
    return left


def _listing(here: doc_ids.Ids, matches: Matches, left: NDArray[np.float64], items: _Items) -> pa.Table:
    """Sorted by doc_id, then as the items stand."""
    rank = np.empty(len(here), np.int64)
    rank[doc_ids.order(here)] = np.arange(len(here))
    order = np.lexsort((matches.items, rank[matches.documents]))
    named = items.table.select(["suite", "task", "item_id"]).take(pa.array(matches.items[order]))
    measured = [matches.coverage[order], matches.longest[order], left[order]]
    columns = [doc_ids.as_arrow(here[matches.documents[order]]), *named.columns, *measured]
    return pa.table(columns, schema=OVERLAPS_SCHEMA)


def _reasons(items: pa.Table, item: NDArray[np.int64], dropped: NDArray[np.bool_], why: str) -> pa.Array:
    suites, tasks = items["suite"].to_pylist(), items["task"].to_pylist()
    return pa.array(
        [f"{why}:{suites[i]}/{tasks[i]}" if gone else "" for i, gone in zip(item, dropped, strict=True)], pa.string()
    )


def _report(items: _Items, parts: Sequence[Artifact], recipe: DecontaminateRecipe) -> pa.Table:
    """One row for each item of each suite."""
    found = contamination.found_in(parts, items.table, recipe.coverage)
    checks = [str(check) for check in items.index.checks]
    origins = items.table["origin"].to_pylist()
    status = contamination.statuses(checks, origins, found, recipe.coverage, recipe.action == "ask")
    return pa.table([*items.table.columns, items.index.num_words, checks, *found, status], schema=ITEMS_SCHEMA)
