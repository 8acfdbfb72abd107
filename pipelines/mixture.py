"""Mixtures: how often a run reads each source, as the closed-form plan that lineage and the trainer share."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction
from typing import Literal, NamedTuple, Self

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from pipelines.cells import Cell, cells
from pipelines.mixture_entries import SOURCE, Entry, parsed_entry, parsed_phase, phases_of
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.recipe import Recipe, digest
from pipelines.provenance.tables import rows_digest

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


class MixtureRecipe(Recipe):
    """How much is read, in which batches, and from which documents."""

    sequence_length: int = Field(default=256, ge=1, le=1 << 20, description="targets of a sequence")
    batch_size: int = Field(default=32, ge=1, le=1 << 20, description="sequences of a step")
    steps: int = Field(default=320, ge=1, description="steps of the run")
    seed: int = Field(default=1, ge=0, description="another seed, another order")
    weights: list[str] = Field(
        default_factory=list,
        description="NAME=FACTOR: read a source (or all that match a pattern) so many times as often as its tokens "
        "alone would have it; the first that matches counts; 0 leaves it out; none: by tokens. NAME=N epochs: exactly "
        "so often. Instead of NAME also COLUMN:VALUE (language:de, licence:MIT) or COLUMN>=NUMBER (a signal of "
        "cleaning): factors of different columns multiply",
    )
    phases: list[str] = Field(
        default_factory=list,
        description="FROM: NAME=FACTOR, …: from this fraction of the run (0.8) or step (601) on other weights hold; "
        "epochs go on across phases",
    )
    alpha: float = Field(
        default=1.0, ge=0, le=1,
        description="temperature: a group is read in proportion to its size to the power of alpha, 1: by size, 0: all "
        "groups alike (0.3 for languages, Conneau et al. 2020)",
    )  # fmt: skip
    alpha_over: str = Field(
        default=SOURCE, min_length=1, description="what the groups are: source, language, licence or another column"
    )
    max_epochs: int = Field(
        default=0, ge=0,
        description="no sequence is read more often; what a source cannot give the others do; 0: no limit "
        "(up to 4 epochs are nearly as good as new text, Muennighoff et al. 2023)",
    )  # fmt: skip
    packing: Literal["concatenate", "best_fit"] = Field(
        default="concatenate",
        description="concatenate: documents follow each other and are cut where a sequence ends; best_fit: only "
        "documents longer than a sequence are cut (Ding et al. 2024)",
    )

    @field_validator("weights")
    @classmethod
    def _weights_are_entries(cls, weights: list[str]) -> list[str]:
        for entry in weights:
            parsed_entry(entry)
        return weights

    @field_validator("phases")
    @classmethod
    def _phases_are_phases(cls, phases: list[str]) -> list[str]:
        for phase in phases:
            parsed_phase(phase)
        return phases

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        for _, entries in self.by_phase():
            for entry in entries:
                if entry.is_epochs and self.max_epochs and entry.value > self.max_epochs:
                    raise ValueError(
                        f"{entry.text!r} asks for more epochs than max_epochs, which is {self.max_epochs}."
                    )
        return self

    def by_phase(self) -> list[tuple[int, list[Entry]]]:
        """(first step, entries) of every phase."""
        return phases_of(self.weights, self.phases, self.steps)


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
    for (first, entries), end in zip(phases, ends, strict=True):
        used = [sum(column) for column in zip(*slots, strict=True)] if slots else [0] * len(found)
        slots.append(_phase_slots((end - first) * recipe.batch_size, found, entries, recipe, used))
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


def _phase_slots(
    total: int, found: Sequence[Cell], entries: Sequence[Entry], recipe: MixtureRecipe, used: Sequence[int]
) -> list[int]:
    """Slots of each cell in one phase: what entries fix, and of the rest its share."""
    _check_matched(found, entries)
    sequences = [cell.sequences for cell in found]
    fixed = [_fixed(cell, entries) for cell in found]
    asked = sum(slots for slots in fixed if slots is not None)
    if asked > total:
        raise ValueError(
            f"the entries in epochs ask for {asked} sequences, the phase reads {total}. Lower the epochs or raise steps."
        )
    for cell, slots, before in zip(found, fixed, used, strict=True):
        if slots and recipe.max_epochs and before + slots > cell.sequences * recipe.max_epochs:
            raise ValueError(
                f"{cell.name} would be read {(before + slots) / cell.sequences:.2f} times in all phases together, "
                f"max_epochs is {recipe.max_epochs}. Lower its epochs or raise max_epochs."
            )
    if asked == total:
        return [slots or 0 for slots in fixed]
    weights = cell_factors(found, entries, recipe)
    open_weights = [Fraction(0) if slots is not None else w for w, slots in zip(weights, fixed, strict=True)]
    if asked and not any(w * n for w, n in zip(open_weights, sequences, strict=True)):
        raise ValueError(
            f"the entries in epochs read {asked} of {total} sequences of the phase, and no other source has a weight. "
            "Lower steps, raise the epochs, or give another source a weight."
        )
    rest = shared(total - asked, sequences, open_weights, recipe.max_epochs, used)
    return [slots if slots is not None else given for slots, given in zip(fixed, rest, strict=True)]


def _fixed(cell: Cell, entries: Sequence[Entry]) -> int | None:
    entry = next((e for e in entries if e.is_epochs and cell.matches(e.selector)), None)
    return None if entry is None else int(entry.value * cell.sequences + Fraction(1, 2))


def _check_matched(found: Sequence[Cell], entries: Sequence[Entry]) -> None:
    for entry in entries:
        # a band without a document is a fact, a name that is nobody's is a mistake
        if entry.selector.relation == ":" and not any(cell.matches(entry.selector) for cell in found):
            names = ", ".join(dict.fromkeys(cell.part for cell in found))
            what = "source" if entry.selector.column == SOURCE else "document"
            raise ValueError(f"weight {entry.text!r} names no {what} of this corpus ({names}).")


def cell_factors(found: Sequence[Cell], entries: Sequence[Entry], recipe: MixtureRecipe) -> list[Fraction]:
    """The factor of each cell: of each column (and of sources) the first entry that matches, and the temperature."""
    columns = dict.fromkeys(entry.selector.column for entry in entries if not entry.is_epochs)
    heat = _temperature(found, recipe)
    factors_of = []
    for cell, warm in zip(found, heat, strict=True):
        factor = warm
        for column in columns:
            own = (
                e.value for e in entries if e.selector.column == column and not e.is_epochs and cell.matches(e.selector)
            )
            factor *= next(own, Fraction(1))
        factors_of.append(factor)
    return factors_of


def _temperature(found: Sequence[Cell], recipe: MixtureRecipe) -> list[Fraction]:
    """n^(alpha - 1) of the group of n sequences that each cell belongs to; in decimals, the same on every machine."""
    if recipe.alpha == 1:
        return [Fraction(1)] * len(found)
    groups = [cell.part if recipe.alpha_over == SOURCE else cell.value for cell in found]
    sizes = {group: sum(c.sequences for c, g in zip(found, groups, strict=True) if g == group) for group in set(groups)}
    exact, power = Context(prec=30), Decimal(repr(recipe.alpha)) - 1
    heats = {g: Fraction(exact.power(Decimal(n), power)) if n else Fraction(0) for g, n in sizes.items()}
    return [heats[group] for group in groups]


def factors(names: Sequence[str], weights: Sequence[str]) -> list[Fraction]:
    """The factor of each source, exact as it was written.

    Raises:
        ValueError: if an entry is no ``NAME=FACTOR``, or names no source.
    """
    entries = [parsed_entry(entry) for entry in weights]
    plain = [Cell(name, frozenset(), "", 0, 0, None, 1) for name in names]
    _check_matched(plain, entries)
    return cell_factors(plain, entries, MixtureRecipe())


def shared(
    total: int, sequences: Sequence[int], weights: Sequence[Fraction], max_epochs: int = 0, used: Sequence[int] = ()
) -> list[int]:
    """Distribute slots in proportion to sequences times weight, by largest remainder, in whole numbers.

    Args:
        total: slots.
        sequences: of each source.
        weights: of each source.
        max_epochs: how often a sequence may be read; 0 for no limit.
        used: how many slots each source had in earlier phases, which count for that.

    Raises:
        ValueError: if every weight is 0, or ``max_epochs`` of all sequences are fewer than the slots.
    """
    claims = [number * weight for number, weight in zip(sequences, weights, strict=True)]
    if not any(claims):
        raise ValueError("every source has weight 0 or no sequence; give at least one a weight.")
    before = used or [0] * len(claims)
    caps = [number * max_epochs - had if max_epochs else total for number, had in zip(sequences, before, strict=True)]
    room = sum(cap for cap, claim in zip(caps, claims, strict=True) if claim)
    if room < total:
        raise ValueError(
            f"the run reads {total} sequences, {max_epochs} epochs of the corpus hold {room}. Lower steps or "
            "batch_size, raise max_epochs, or add text."
        )
    slots, open_ones, left = [0] * len(claims), [i for i, claim in enumerate(claims) if claim], total
    while True:
        share = Fraction(left) / sum(claims[i] for i in open_ones)
        full = [i for i in open_ones if claims[i] * share > caps[i]]
        if not full:
            break
        for index in full:  # they give all that they have; the others share what is left
            slots[index] = caps[index]
            left -= caps[index]
        open_ones = [i for i in open_ones if i not in full]
    exact = {index: claims[index] * share for index in open_ones}
    for index in open_ones:
        slots[index] = int(exact[index])
    by_remainder = sorted(open_ones, key=lambda index: (slots[index] - exact[index], index))
    for index in by_remainder[: total - sum(slots)]:
        slots[index] += 1
    return slots


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
        segments=[Segment(first_step=1, first_slot=0, batch_size=recipe.batch_size)],
        continued=len(found.slots) > 1,
    )
