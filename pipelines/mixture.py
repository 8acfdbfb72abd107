"""Mixtures: how often a run reads each source, as the closed-form plan that lineage and the trainer share."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from fractions import Fraction

import pyarrow as pa
from pydantic import Field

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import rows_digest

VERSION = "1"
PLAN, SOURCES = "plan.json", "sources.arrow"
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


class MixtureRecipe(Recipe):
    """How much is read, in which batches, and from which sources."""

    sequence_length: int = Field(default=256, ge=1, le=1 << 20, description="targets of a sequence")
    batch_size: int = Field(default=32, ge=1, le=1 << 20, description="sequences of a step")
    steps: int = Field(default=320, ge=1, description="steps of the run")
    seed: int = Field(default=1, ge=0, description="another seed, another order")
    weights: list[str] = Field(
        default_factory=list,
        description="NAME=FACTOR: read a source (or all that match a pattern) so many times as often as its tokens "
        "alone would have it; the first that matches counts; 0 leaves it out; none: by tokens",
    )
    max_epochs: int = Field(
        default=0, ge=0,
        description="no sequence is read more often; what a source cannot give the others do; 0: no limit "
        "(up to 4 epochs are nearly as good as new text, Muennighoff et al. 2023)",
    )  # fmt: skip


def mix(
    token_shards: Artifact, heldout_shards: Artifact, vocabulary: Artifact, recipe: MixtureRecipe, draft: Draft
) -> Artifact:
    """The plan of a run, and what each source gives to it.

    Raises:
        ValueError: if the corpus is smaller than one sequence or than ``max_epochs`` allows, or if the shards were
            made with another vocabulary.
    """
    for shards in (token_shards, heldout_shards):
        if shards.facts["vocabulary"] != vocabulary.content:
            raise ValueError(f"{shards.key} was made with another vocabulary than {vocabulary.key}; rebuild it.")
    parts = token_shards.parts()
    tokens = [part.counts["tokens"] for part in parts]
    sequences = [max(0, number - 1) // recipe.sequence_length for number in tokens]
    if not any(sequences):
        raise ValueError(
            f"corpus {token_shards.key.partition} has {sum(tokens)} tokens, the largest source {max(tokens)}; one "
            f"sequence needs {recipe.sequence_length + 1} of one source. Add text or lower sequence_length."
        )
    names = [part.key.part for part in parts]
    slots = shared(recipe.steps * recipe.batch_size, sequences, factors(names, recipe.weights), recipe.max_epochs)
    sources = _sources(parts, sequences, slots, recipe.sequence_length)
    draft.write(SOURCES, sources)
    used = [index for index, number in enumerate(sequences) if number]
    plan = Plan(
        seed=recipe.seed,
        sequence_length=recipe.sequence_length,
        parts=[PlanPart(name=names[index], num_sequences=sequences[index]) for index in used],
        phases=[PlanPhase(slots=[slots[index] for index in used])],
        segments=[Segment(first_step=1, first_slot=0, batch_size=recipe.batch_size)],
    )
    draft.write_json(PLAN, plan.model_dump(mode="json"))
    return draft.seal(
        counts={
            "sources": len(used), "docs": token_shards.counts["docs"], "tokens": sum(tokens),
            "sequences": sum(sequences), "slots": sum(slots), "steps": recipe.steps,
            "trained_tokens": sum(slots) * recipe.sequence_length,
        },
        facts={"plan": plan.digest, "vocabulary": vocabulary.content, "epochs": round(sum(slots) / sum(sequences), 4)},
        rows=rows_digest([sources]),
    )  # fmt: skip


def factors(names: Sequence[str], weights: Sequence[str]) -> list[Fraction]:
    """The factor of each source, exact as it was written.

    Raises:
        ValueError: if an entry is no ``NAME=FACTOR``, or names no source.
    """
    entries = []
    for entry in weights:
        pattern, _, factor = entry.rpartition("=")
        try:
            value = Fraction(factor)
        except (ValueError, ZeroDivisionError):
            value = Fraction(-1)
        if not pattern or value < 0:
            raise ValueError(f"weight {entry!r}: expected NAME=FACTOR with a number from 0 on, such as 'wiki=2'.")
        if not any(_matches(name, pattern) for name in names):
            raise ValueError(f"weight {entry!r} names no source of this corpus ({', '.join(names)}).")
        entries.append((pattern, value))
    return [next((v for p, v in entries if _matches(name, p)), Fraction(1)) for name in names]


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.rpartition("/")[0] == pattern


def shared(total: int, sequences: Sequence[int], weights: Sequence[Fraction], max_epochs: int = 0) -> list[int]:
    """Distribute slots in proportion to sequences times weight, by largest remainder, in whole numbers.

    Raises:
        ValueError: if every weight is 0, or ``max_epochs`` of all sequences are fewer than the slots.
    """
    claims = [number * weight for number, weight in zip(sequences, weights, strict=True)]
    if not any(claims):
        raise ValueError("every source has weight 0 or no sequence; give at least one a weight.")
    caps = [number * max_epochs if max_epochs else total for number in sequences]
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


def _sources(parts: Sequence[Artifact], sequences: Sequence[int], slots: Sequence[int], length: int) -> pa.Table:
    rows = [
        {
            "part": part.key.part, "licence": part.facts["licence"], "docs": part.counts["docs"],
            "tokens": part.counts["tokens"], "sequences": number, "slots": given,
            "epochs": given / number if number else 0.0,
            "tail_tokens": part.counts["tokens"] - (number * length + 1 if number else 0),
        }
        for part, number, given in zip(parts, sequences, slots, strict=True)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SOURCES_SCHEMA)
