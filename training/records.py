"""Records of a run: loss, rate and gradient norm of every step, and what the run tells the world meanwhile.

``losses.arrow`` is part of the result and holds what depends on recipe and data alone. ``metrics.jsonl`` has a line for
every step with speeds beside them, which belong to the circumstances; ``evaluations.jsonl`` one for every evaluation.
Whoever watches a run reads these two files; a tracker (see tracking.py) is handed the same figures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor

from training import flops
from training.curves import Track, append
from training.models.recipe import GPTRecipe

LOSSES = pa.schema([(n, pa.int64() if n == "step" else pa.float64()) for n in ("step", "loss", "lr", "grad_norm")])


class Row(NamedTuple):
    """One step that was taken."""

    step: int
    loss: float
    lr: float
    grad_norm: float


class Waiting(NamedTuple):
    """The same, still on the device; the loss is this process's share."""

    step: int
    loss: Tensor
    lr: float
    grad_norm: Tensor
    data_wait: float  # seconds that the step waited for its batch


@dataclass
class Meter:
    """Speed since it was last read."""

    recipe: GPTRecipe
    device: str
    world_size: int
    tokens: int = 0
    since: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        self.since, self.tokens = time.perf_counter(), 0

    def read(self) -> tuple[float, float, float | str]:
        """Seconds, tokens a second, and model FLOPs utilisation, ``unknown`` for a device that is not in the table."""
        seconds, tokens = time.perf_counter() - self.since, self.tokens
        self.start()
        speed = tokens / max(seconds, 1e-9)
        used = flops.utilisation(self.recipe, speed, self.device, self.world_size)
        return seconds, speed, "unknown" if used is None else round(used, 4)


def arrived(waiting: list[Waiting], world_size: int) -> list[Row]:
    """Bring figures from the device; losses are summed over the processes."""
    losses = torch.stack([each.loss for each in waiting]) / world_size
    if world_size > 1:
        dist.all_reduce(losses)
    norms = torch.stack([each.grad_norm for each in waiting])
    figures = zip(waiting, losses.tolist(), norms.tolist(), strict=True)
    return [Row(each.step, loss, each.lr, norm) for each, loss, norm in figures]


def report(
    path: Path, rows: list[Row], waits: list[float], num_steps: int, meter: Meter, say: Callable[[str], None],
    track: Track,
) -> None:  # fmt: skip
    """A line for each of these steps, which share their speed, and one for people."""
    seconds, speed, used = meter.read()
    lines: list[dict[str, Any]] = [
        {
            "step": row.step, "steps": num_steps, "loss": row.loss, "lr": row.lr, "grad_norm": row.grad_norm,
            "tokens_per_second": round(speed), "seconds": round(seconds / len(rows), 4),
            "data_wait_seconds": round(wait, 6), "mfu": used,
        }
        for row, wait in zip(rows, waits, strict=True)
    ]  # fmt: skip
    append(path, lines)
    track(lines)
    last = rows[-1]
    share = f" mfu {used:.1%}" if isinstance(used, float) else ""
    say(f"step {last.step}/{num_steps} loss {last.loss:.4f} lr {last.lr:.2e} {speed:,.0f} tokens/s{share}")


def report_evaluation(path: Path, evaluation: dict[str, Any], num_steps: int, track: Track) -> None:
    """A line for an evaluation."""
    if len(evaluation) == 1:  # the step alone: a fine-tune is judged where scores are made
        return
    append(path, [{"step": evaluation["step"], "steps": num_steps, **evaluation}])
    track([evaluation])


def losses_table(rows: list[Row]) -> pa.Table:
    columns = zip(*rows, strict=True) if rows else [[] for _ in LOSSES]  # every step so far was skipped
    return pa.table({f.name: pa.array(c, f.type) for f, c in zip(LOSSES, columns, strict=True)}, schema=LOSSES)


def rows_of(table: pa.Table) -> list[Row]:
    return [Row(*row) for row in zip(*(table[name].to_pylist() for name in LOSSES.names), strict=True)]
