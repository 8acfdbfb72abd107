"""The curve while it trains: figures of a running training as observations of its asset, which the UI plots.

The trainer writes its figures into two files (training/curves.py); the step that waits for it reads along and passes on
the newest. An observation costs the event log some 20 ms of one core, so there is at most one a second, and in a long run
fewer: a day of training leaves some 2,700 of them.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

LEAST_SECONDS, MOST_SECONDS = 1.0, 60.0  # between two observations
POINTS = 300  # a curve has about so many: the pause grows with the time that has gone by
MOST_LOSSES = 2000  # that are kept for the picture of the curve
MOST_SOURCES = 20  # of which the held-out bits per byte are plotted
NAMES = {"lr": "learning_rate", "seconds": "step_seconds"}


class LiveCurves:
    """Takes lines as they are written and reports the newest figures now and then."""

    def __init__(self, report: Callable[[dict[str, Any]], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._report, self._clock = report, clock
        self._began = self._last = clock()
        self._waiting: dict[str, Any] = {}
        self._losses: list[tuple[float, float]] = []  # step, loss
        self._lock = threading.RLock()  # two files are followed

    def __call__(self, line: dict[str, Any]) -> None:
        from training.curves import curves

        figures = curves(line)
        sources = [name for name in figures if name.startswith("heldout_bpb/")]
        for name in sources[MOST_SOURCES:]:
            figures.pop(name)
        with self._lock:
            self._waiting |= {"step": line["step"], **{NAMES.get(name, name): value for name, value in figures.items()}}
            if "loss" in figures:
                self._losses.append((line["step"], figures["loss"]))
            now = self._clock()
            if now - self._last >= min(MOST_SECONDS, max(LEAST_SECONDS, (now - self._began) / POINTS)):
                self.flush()

    def flush(self) -> None:
        """Report what is waiting."""
        from assets.model_pictures import loss_picture

        with self._lock:
            self._last = self._clock()
            if not self._waiting:
                return
            self._losses = self._losses[:: 1 + len(self._losses) // MOST_LOSSES]
            if curve := loss_picture([step for step, _ in self._losses], [loss for _, loss in self._losses]):
                self._waiting["curve"] = dg.MetadataValue.md(curve)
            self._report(self._waiting)
            self._waiting = {}


@contextlib.contextmanager
def live_curves(context: dg.AssetExecutionContext, command: Sequence[str]) -> Iterator[None]:
    """Observe the asset and partition of a step with the figures of the job that a command trains."""
    from training.curves import EVALUATIONS, METRICS
    from training.trainer import followed

    if "--job" not in command:
        yield
        return
    folder = Path(command[command.index("--job") + 1]).parent
    partition = context.partition_key if context.has_partition_key else None
    curves = LiveCurves(lambda figures: _observe(context, partition, figures))
    try:
        with followed(folder / METRICS, curves), followed(folder / EVALUATIONS, curves):
            yield
    finally:
        curves.flush()


def _observe(context: dg.AssetExecutionContext, partition: str | None, figures: dict[str, Any]) -> None:
    """A log that cannot be written to (locked, full) is no reason to stop a training."""
    observation = dg.AssetObservation(asset_key=context.asset_key, partition=partition, metadata=figures)
    try:
        context.instance.report_runless_asset_event(observation)
    except Exception as error:  # noqa: BLE001
        context.log.warning("no observation of step %s: %s", figures.get("step"), error)
