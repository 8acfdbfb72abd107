"""Learning rate by step: a straight warm-up, then one of four ways to the end.

Steps count from 1: step ``warmup_steps`` has the peak, step ``num_steps`` has the end, ``peak * min_ratio`` (but for
``constant``). A warm-up that is longer than the run never reaches the peak.
"""

from __future__ import annotations

import math

from training.recipes import OptimisationRecipe


def learning_rate(step: int, num_steps: int, recipe: OptimisationRecipe) -> float:
    """The rate of a step of a run of ``num_steps``."""
    peak, warmup, low = recipe.learning_rate, recipe.warmup_steps, recipe.min_lr_ratio
    if recipe.schedule == "cosine":
        return warmup_cosine(step, num_steps, peak, warmup, low)
    if step <= warmup:
        return peak * step / warmup
    if recipe.schedule == "constant":
        return peak
    begin = num_steps - math.ceil(recipe.decay_ratio * num_steps) if recipe.schedule == "wsd" else 0
    return peak * straight_down(step, max(warmup, begin), num_steps, low)


def warmup_cosine(step: int, num_steps: int, peak: float, warmup_steps: int, min_ratio: float) -> float:
    """Straight up to the peak, then half a cosine down to ``peak * min_ratio`` (Loshchilov & Hutter 2017, eq. 5)."""
    if step <= warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * (min_ratio + (1 - min_ratio) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def straight_down(step: int, begin: int, end: int, low: float) -> float:
    """1 up to the step ``begin``, then a straight line to ``low`` at the step ``end``.

    With ``begin`` late in the run it is warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395, eq. 1).
    """
    progress = (step - begin) / max(1, end - begin)
    return 1.0 - (1.0 - low) * min(1.0, max(0.0, progress))
