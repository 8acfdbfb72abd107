"""Loss scale: what fp16 gradients are multiplied with, so that small ones do not vanish (Micikevicius et al. 2018,
arXiv:1710.03740, section 3.2).

A step whose gradient overflows is not taken, stands among the skipped ones with that reason, and halves the scale; a
long row of steps without one doubles it (as torch's GradScaler does). So the scale follows from the steps that
overflowed, which every checkpoint lists: nothing else is kept, and a run that was killed goes on with the same scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from training.recipes import OptimisationRecipe

if TYPE_CHECKING:  # a stage reads the table of skipped steps without torch
    import torch

START, LEAST, MOST = 2.0**16, 1.0, 2.0**24  # powers of two: scaling changes no bit of a gradient that fits
PATIENCE = 2000  # steps without an overflow before the scale is doubled
OVERFLOW = "overflow"


def of(recipe: OptimisationRecipe, step: int, skipped: Sequence[tuple[int, float, float, str]]) -> float:
    """The scale of a step of a run, given its skipped steps; 1 is none."""
    if recipe.dtype != "fp16":
        return 1.0
    return at(step, [each for each, _, _, reason in skipped if reason == OVERFLOW])


def at(step: int, overflows: Iterable[int]) -> float:
    """The scale of a step, given the earlier ones that overflowed, ascending."""
    scale, last = START, 0
    for each in overflows:
        scale, last = _grown(scale, each - last - 1) / 2, each
    return _grown(scale, step - last - 1)


def _grown(scale: float, steps: int) -> float:
    return min(scale * 2.0 ** (steps // PATIENCE), max(MOST, scale))


def unscale(parameters: Iterable[torch.nn.Parameter], scale: float) -> None:
    """Bring gradients back to their own size."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(1 / scale)
