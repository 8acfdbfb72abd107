"""Mixtures: how often a run reads each source, as the closed-form plan that lineage and the trainer share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from pipelines.batch_sizes import slots_before
from pipelines.cells import Cell, cells
from pipelines.mixture_entries import SOURCE
from pipelines.mixture_recipe import MixtureRecipe
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase
from pipelines.provenance.recipe import digest
from pipelines.provenance.tables import rows_digest
from pipelines.shares import phase_slots

VERSION = "1"
PLAN, SOURCES, CELLS = "plan.json", "sources.arrow", "cells.arrow"
SOURCES_SCHEMA = pa.schema([
    ("part", pa.string()),
    ("licence", pa.string()),
    ("docs", pa.int64()),
    ("tokens", pa.int64()),
    ("sequences", pa.int64()),
    ("slots", pa.int64()),
    ("epochs", pa.float64()),  # slots a sequence
    ("tail_tokens", pa.int64()),  # at the end of the part, too few for a sequence: no run reads them
])  # fmt: skip
CELLS_SCHEMA = pa.schema([
    ("phase", pa.int64()),  # from 1
    ("first_step", pa.int64()),
    ("name", pa.string()),  # of the part of the plan
    ("part", pa.string()),  # of the shards
    ("docs", pa.int64()),
    ("tokens", pa.int64()),
    ("sequences", pa.int64()),
    ("slots", pa.int64()),  # in this phase
    ("epochs", pa.float64()),
])  # fmt: skip


class Mixed(NamedTuple):
    """Who is read how often: [phases][cells] slots."""

    cells: list[Cell]
    first_steps: list[int]
    slots: list[list[int]]

    def totals(self) -> list[int]:
        """Slots of each cell in the whole run."""
        return [sum(column) for column in zip(*self.slots, strict=True)]


def mixed(token_shards: Artifact, recipe: MixtureRecipe) -> Mixed:
    """How the slots of a run are shared among the documents of a corpus, phase by phase.

    Raises:
        ValueError: if the corpus is smaller than one sequence or than ``max_epochs`` allows, or an entry is about no
            document.
    """
    phases = recipe.by_phase()
    selectors = [entry.selector for _, entries in phases for entry in entries]
    by = SOURCE if recipe.alpha == 1 else recipe.alpha_over
    best_fit = recipe.packing == "best_fit"
    found = cells(token_shards, selectors, by, recipe.sequence_length, best_fit=best_fit)
    if not any(cell.sequences for cell in found):
        tokens = [part.counts["tokens"] for part in token_shards.parts()]
        raise ValueError(
            f"corpus {token_shards.key.partition} has {sum(tokens)} tokens, the largest source {max(tokens)}; one "
            f"sequence needs {recipe.sequence_length + 1} of one source. Add text or lower sequence_length."
        )
    ends = [first for first, _ in phases[1:]] + [recipe.steps + 1]
    slots: list[list[int]] = []
    sizes = recipe.batches()
    for (first, entries), end in zip(phases, ends, strict=True):
        used = [sum(column) for column in zip(*slots, strict=True)] if slots else [0] * len(found)
        slots.append(phase_slots(slots_before(end, sizes) - slots_before(first, sizes), found, entries, recipe, used))
    return Mixed(found, [first for first, _ in phases], slots)


def mix(
    token_shards: Artifact, heldout_shards: Artifact, vocabulary: Artifact, recipe: MixtureRecipe, draft: Draft
) -> Artifact:
    """The plan of a run, and what each source gives to it.

    Raises:
        ValueError: as :func:`mixed`, or if the shards were made with another vocabulary.
    """
    for shards in (token_shards, heldout_shards):
        if shards.facts["vocabulary"] != vocabulary.content:
            raise ValueError(f"{shards.key} was made with another vocabulary than {vocabulary.key}; rebuild it.")
    if recipe.packing == "best_fit" and vocabulary.facts["specials"]["<|pad|>"] == vocabulary.facts["eos_id"]:
        raise ValueError(
            f"{vocabulary.key} pads with its end of text: what fills a sequence up could not be told from it."
        )
    found = mixed(token_shards, recipe)
    totals, parts = found.totals(), token_shards.parts()
    sources = _sources(parts, found, recipe.sequence_length)
    draft.write(SOURCES, sources)
    plan = _plan(found, recipe, vocabulary, draft)
    draft.write_json(PLAN, plan.model_dump(mode="json"))
    tables = [sources]
    if recipe.phases or any(cell.segments is not None for cell in found.cells):
        tables.append(cells_table(found))
        draft.write(CELLS, tables[-1])
    sequences = sum(cell.sequences for cell in found.cells)
    facts = {"plan": plan.digest, "vocabulary": vocabulary.content, "epochs": round(sum(totals) / sequences, 4)}
    return draft.seal(
        counts={
            "sources": len({cell.part for cell in found.cells if cell.sequences}), "docs": token_shards.counts["docs"],
            "tokens": sum(part.counts["tokens"] for part in parts),
            "sequences": sequences, "slots": sum(totals), "steps": recipe.steps,
            "trained_tokens": sum(totals) * recipe.sequence_length, **packing_counts(found),
        },
        facts=facts,
        rows=rows_digest([sources]) if len(tables) == 1 else digest("".join(map(_rows, tables)).encode()),
    )  # fmt: skip


def _rows(table: pa.Table) -> str:
    return rows_digest([table])


def packing_counts(found: Mixed) -> dict[str, int]:
    """What best-fit packing cut and filled up, beside what concatenating would have cut; nothing for the latter."""
    cut = [cell.cut for cell in found.cells if cell.cut is not None]
    if not cut:
        return {}
    return {
        "cut_docs": sum(ours for ours, _ in cut), "cut_docs_if_concatenated": sum(theirs for _, theirs in cut),
        "filled_tokens": sum(cell.filled for cell in found.cells),
    }  # fmt: skip


def _sources(parts: Sequence[Artifact], found: Mixed, length: int) -> pa.Table:
    rows, totals = [], found.totals()
    for part in parts:
        own = [index for index, cell in enumerate(found.cells) if cell.part == part.key.part]
        number, given = sum(found.cells[i].sequences for i in own), sum(totals[i] for i in own)
        rows.append({
            "part": part.key.part, "licence": part.facts["licence"], "docs": part.counts["docs"],
            "tokens": part.counts["tokens"], "sequences": number, "slots": given,
            "epochs": given / number if number else 0.0,
            "tail_tokens": sum(_tail(found.cells[i], length) for i in own),
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SOURCES_SCHEMA)


def _tail(cell: Cell, length: int) -> int:
    if cell.cut is not None:  # packed: everything is read
        return 0
    return cell.tokens - (cell.sequences * length + 1 if cell.sequences else 0)


def cells_table(found: Mixed) -> pa.Table:
    """Every cell in every phase."""
    rows = [
        {
            "phase": phase + 1, "first_step": first, "name": cell.name, "part": cell.part, "docs": cell.docs,
            "tokens": cell.tokens, "sequences": cell.sequences, "slots": slots,
            "epochs": slots / cell.sequences if cell.sequences else 0.0,
        }
        for phase, (first, given) in enumerate(zip(found.first_steps, found.slots, strict=True))
        for cell, slots in zip(found.cells, given, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=CELLS_SCHEMA)


def _plan(found: Mixed, recipe: MixtureRecipe, vocabulary: Artifact, draft: Draft) -> Plan:
    used = [index for index, cell in enumerate(found.cells) if cell.sequences]
    parts = []
    for number, cell in enumerate(found.cells[index] for index in used):
        extra: dict[str, str | int] = {}
        if cell.segments is not None:
            extra = {"layout": f"layouts/{number:05d}.arrow", "source": cell.part}
            draft.write(str(extra["layout"]), cell.segments)
        if cell.cut is not None:
            extra |= {"stride": recipe.sequence_length + 1, "fill": vocabulary.facts["specials"]["<|pad|>"]}
        parts.append(PlanPart(name=cell.name, num_sequences=cell.sequences, **extra))  # type: ignore[arg-type]
    return Plan(
        seed=recipe.seed,
        sequence_length=recipe.sequence_length,
        parts=parts,
        phases=[PlanPhase(slots=[given[index] for index in used]) for given in found.slots],
        segments=recipe.batches(),
        continued=len(found.slots) > 1,
    )
