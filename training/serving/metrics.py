"""Metrics: what a server has done, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter

PREFIX = "stemma_"
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
MEANING = {
    "requests_total": "Requests answered, by path and status",
    "prompt_tokens_total": "Tokens of prompts that were read",
    "generated_tokens_total": "Tokens that were written",
    "steps_total": "Steps of the decoder; generated tokens by step are the rows of a batch",
    "rows_running": "Continuations that are being written",
    "rows_waiting": "Continuations that wait for a place",
    "first_token_seconds": "From a request to its first token",
    "request_seconds": "From a request to the end of its answer",
}


class Metrics:
    """Counters and histograms; every thread may write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()  # (name, labels)
        self._buckets: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def count(self, name: str, amount: int = 1, **labels: str | int) -> None:
        text = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
        with self._lock:
            self._counts[name, f"{{{text}}}" if text else ""] += amount

    def observe(self, name: str, seconds: float) -> None:
        with self._lock:
            buckets = self._buckets.setdefault(name, [0] * (len(BOUNDS) + 1))
            buckets[bisect_left(BOUNDS, seconds)] += 1
            self._sums[name] += seconds  # type: ignore[assignment]  # seconds are no whole numbers

    def text(self, **gauges: int) -> str:
        """Everything, with the present values of gauges."""
        with self._lock:
            lines: list[str] = []
            for name in MEANING:
                lines += self._series(name, gauges)
        return "\n".join(lines) + "\n"

    def _series(self, name: str, gauges: dict[str, int]) -> list[str]:
        full = PREFIX + name
        if name in gauges:
            return [*_head(name, "gauge"), f"{full} {gauges[name]}"]
        if name.endswith("_total"):
            rows = sorted((labels, value) for (n, labels), value in self._counts.items() if n == name)
            return [*_head(name, "counter"), *(f"{full}{labels} {value}" for labels, value in rows)]
        buckets, total, lines = self._buckets.get(name, [0] * (len(BOUNDS) + 1)), 0, _head(name, "histogram")
        for bound, number in zip((*BOUNDS, "+Inf"), buckets, strict=True):
            total += number
            lines.append(f'{full}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{full}_sum {self._sums[name]:g}", f"{full}_count {total}"]


def _head(name: str, kind: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {MEANING[name]}.", f"# TYPE {PREFIX}{name} {kind}"]
