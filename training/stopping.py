"""Stopping: ends of a run before the end of its plan, because it learns no more or because somebody asks.

A scheduler that wants its machine back sends SIGTERM, which Dagster hands down as SIGINT; a terminal's Ctrl-C is that as
well. The run takes the step that it is in to its end, writes a checkpoint and exits with 0, and the next start goes on
from there.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

MEASURE = "bpb"


class Stopped(Exception):  # noqa: N818 (no error: it was asked for)
    """The run was asked to stop and has written a checkpoint."""


def best(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The one with the fewest held-out bits per byte, the first of equals.

    Raises:
        ValueError: if one has none, because nothing was held out.
    """
    if any(each.get(MEASURE) is None for each in evaluations):
        raise ValueError("patience needs held-out documents, and there are none: hold out a share of the corpus.")
    return min(evaluations, key=lambda each: each[MEASURE])


def is_over(evaluations: Sequence[dict[str, Any]], patience: int) -> bool:
    """Whether the last ``patience`` evaluations were no better than one before them."""
    if not patience or not evaluations:
        return False
    return len(evaluations) - 1 - list(evaluations).index(best(evaluations)) >= patience


@contextmanager
def on_request() -> Iterator[Callable[[], bool]]:
    """Whether the process was asked to stop meanwhile, by SIGTERM or SIGINT; a second SIGINT ends it at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        del frame
        asked.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
