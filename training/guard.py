"""The guard: steps that would spoil a run are not taken, and it is written down which.

A step is not taken if its loss or gradient is no number, or if its loss lies far above those just before it. Its data
count as read, and its row stands in the run's table of skipped steps. What decides are the losses that a checkpoint
keeps, so that a run that was killed decides the same.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from training import loss_scale
from training.loss_scale import OVERFLOW
from training.recipes import OptimisationRecipe

if TYPE_CHECKING:  # a stage reads the table without torch
    from training.records import Row

WINDOW = 64  # losses that a loss is compared with
ENOUGH = 16  # of them, before anything is called a spike: at the start losses fall fast
LEAST_DEVIATION = 0.01  # nats: on a flat stretch the deviation is almost nothing, and everything would be a spike
SKIPPED = "skipped.arrow"
Skipped = tuple[int, float, float, str]  # step, loss, norm of the gradient, reason
SCHEMA = pa.schema([
    ("step", pa.int64()), ("loss", pa.float64()), ("grad_norm", pa.float64()), ("reason", pa.string())
])  # fmt: skip


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient became NaN or infinite, or too many steps had to be skipped."""


def is_on(recipe: OptimisationRecipe) -> bool:
    """Whether losses are looked at before each step is taken; that waits for the device."""
    return recipe.max_skips > 0 or recipe.dtype == "fp16"


def reason(row: Row, rows: Sequence[Row], recipe: OptimisationRecipe) -> str:
    """Why the step that has just been computed should not be taken, or nothing.

    Args:
        row: of the step.
        rows: of the steps that were taken, oldest first.
        recipe: of the run.

    Raises:
        NonFiniteLossError: if loss or norm is no number and no step may be skipped for that.
    """
    if recipe.dtype == "fp16" and math.isfinite(row.loss) and not math.isfinite(row.grad_norm):
        return OVERFLOW
    if not recipe.max_skips:
        check(row.step, row.loss, row.grad_norm, recipe)
    return objection(row.loss, row.grad_norm, [each.loss for each in rows[-WINDOW:]], recipe.spike_deviations)


def objection(loss: float, norm: float, before: Sequence[float], deviations: float) -> str:
    """Why a step should not be taken, or nothing.

    Args:
        loss: of the step.
        norm: of its gradient.
        before: losses of the steps that were taken, oldest first.
        deviations: a loss so many standard deviations above the mean of the last ``WINDOW`` is a spike; 0: none is.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return "not finite"
    window = before[-WINDOW:]
    if not deviations or len(window) < ENOUGH:
        return ""
    mean, deviation = statistics.fmean(window), statistics.pstdev(window)
    return "spike" if loss > mean + deviations * max(deviation, LEAST_DEVIATION) else ""


def check(step: int, loss: float, norm: float, recipe: OptimisationRecipe) -> None:
    """Without a guard.

    Raises:
        NonFiniteLossError: if loss or norm is no number.
    """
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise NonFiniteLossError(
            f"step {step}: the loss is {loss}, the norm of its gradient {norm}; nothing of this run was sealed. "
            f"Lower learning_rate ({recipe.learning_rate}) or raise warmup_steps "
            f"({recipe.warmup_steps}); `stemma audit step` lists the documents of the step, max_skips lets such steps "
            "be skipped, and the plan can skip its slots."
        )


def check_skipped(skipped: Sequence[Skipped], told: str, recipe: OptimisationRecipe) -> None:
    """After one more step was skipped, which is ``told``; those that overflow do not count, they lower the loss scale.

    Raises:
        NonFiniteLossError: if there are more than the recipe allows, or the loss scale cannot be lowered.
    """
    others = sum(why != OVERFLOW for _, _, _, why in skipped)
    if others > recipe.max_skips:
        raise NonFiniteLossError(
            f"{told}. {others} steps had to be skipped, max_skips is {recipe.max_skips}. Lower "
            f"learning_rate ({recipe.learning_rate}); `stemma audit step` lists the documents of a step."
        )
    if loss_scale.of(recipe, skipped[-1][0] + 1, skipped) < loss_scale.LEAST:
        raise NonFiniteLossError(
            f"{told}. The gradient overflows fp16 at a loss scale of {loss_scale.LEAST:g}, the least there is. Lower "
            f'learning_rate ({recipe.learning_rate}), or train with dtype = "bf16", which has the range of fp32.'
        )


def table(skipped: Sequence[Skipped]) -> pa.Table:
    """Steps that were not taken."""
    columns = zip(*skipped, strict=True) if skipped else [[] for _ in SCHEMA]
    return pa.table({f.name: pa.array(c, f.type) for f, c in zip(SCHEMA, columns, strict=True)}, schema=SCHEMA)
