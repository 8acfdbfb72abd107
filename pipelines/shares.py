"""Shares: how the slots of a phase are dealt out among the cells of a corpus, exactly, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from fractions import Fraction

from pipelines.cells import Cell
from pipelines.mixture_entries import SOURCE, Entry
from pipelines.mixture_recipe import MixtureRecipe


def phase_slots(
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
