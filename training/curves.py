"""Curves: what a run tells of itself while it goes on, as files that anyone can follow. No torch here.

``metrics.jsonl`` has a line for every step, ``evaluations.jsonl`` one for every evaluation. Both end with the run's
scratch; how fast it was is kept among the circumstances of the model, thinned.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"
SPEED_POINTS = 200  # that are kept of a run: some 10 KB
Track = Callable[[list[dict[str, Any]]], None]  # told lines of metrics or evaluations, each with its step


def append(path: Path, lines: list[dict[str, Any]]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def curves(line: dict[str, Any]) -> dict[str, float]:
    """The figures of a line of either file, by names that stay the same from run to run, so that they plot."""
    found = {name: value for name, value in line.items() if name not in ("step", "steps")}
    if "loss" not in line:  # an evaluation
        found = {f"heldout_{name}": value for name, value in found.items() if not name.startswith("docs")}
        found |= {f"heldout_bpb/{part}": score["bpb"] for part, score in line.get("by_part", {}).items()}
    return {name: float(value) for name, value in found.items() if isinstance(value, (int, float))}


def speeds(path: Path) -> dict[str, list[Any]]:
    """Step, seconds a step, tokens a second, waits for data and MFU, each point the mean of its share of the steps.

    A step that was taken twice, because the run was killed behind its last checkpoint, counts as the last time.
    """
    lines = {line["step"]: line for line in _lines(path)}
    if not lines:
        return {}
    steps = sorted(lines)
    points = min(SPEED_POINTS, len(steps))
    edges = [len(steps) * n // points for n in range(points + 1)]
    names = ("seconds", "tokens_per_second", "data_wait_seconds", "mfu")
    found: dict[str, list[Any]] = {"step": [steps[stop - 1] for _, stop in pairwise(edges)]}
    for name in names:
        found[name] = [_mean([lines[step].get(name) for step in steps[a:b]]) for a, b in pairwise(edges)]
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # cut short when the run was killed; the next line may be joined to it
            continue
    return found


def _mean(values: list[Any]) -> float | None:
    """Of what is a number; MFU is none on a device that is not in the table."""
    numbers = [value for value in values if isinstance(value, (int, float))]
    return float(f"{math.fsum(numbers) / len(numbers):.5g}") if numbers else None
