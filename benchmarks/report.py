"""The convention of every benchmark: a table for people, and one JSON object as the last line for programs."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, Any]:
    """What the figures hold for."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return {"processor": model or platform.processor(), "cores": os.cpu_count(), "python": platform.python_version()}


def versions(*names: str) -> dict[str, str]:
    return {name: metadata.version(name) for name in names}


def alternating(rounds: int, **contestants: Callable[[], Any]) -> dict[str, list[float]]:
    """Seconds of each contestant, in turns, so that a busy moment hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            started = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(rows: list[list[Any]], *header: str) -> str:
    """Columns that are as wide as their widest cell."""
    cells = [list(header), *[[str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def report(benchmark: str, rows: list[list[Any]], header: tuple[str, ...], **figures: Any) -> None:
    """Print the table and the JSON line; keep both under ``benchmarks/results`` if STEMMA_BENCH_SAVE is set."""
    text = table(rows, *header)
    line = json.dumps({"benchmark": benchmark, **figures, "machine": machine()}, sort_keys=True)
    if os.environ.get("STEMMA_BENCH_SAVE"):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{benchmark}.txt").write_text(f"{text}\n\n{line}\n")
    sys.stdout.write(f"{text}\n{line}\n")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
