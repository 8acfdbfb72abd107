"""Trackers: the figures of a run in TensorBoard, MLflow or Weights & Biases as well, for those who look there.

``[runs.NAME.compute] track = "tensorboard"`` or ``STEMMA_TRACK=tensorboard,mlflow``; part of no recipe. What they write
lies under ``reports/tracking`` of the store unless MLFLOW_TRACKING_URI or WANDB_MODE send it elsewhere: without these
nothing leaves the machine. A thread of its own writes, so that no step waits for a disk or a network, and a tracker that
fails says so once and is left alone: the run goes on.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.curves import Track, curves

VARIABLE = "STEMMA_TRACK"
PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
WAITING = 1000  # reports of ten steps that may wait for a slow tracker; what comes then is left out
LAST_SECONDS = 20.0  # that a tracker has at the end to write what waits


class TrackerError(ValueError):
    """A tracker that was asked for does not exist or is not installed."""


@dataclass(frozen=True)
class Told:
    """What a tracker is told of the run, once."""

    run: str
    identity: str  # the same when the run goes on after a stop
    folder: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)


Write = Callable[[int, dict[str, float]], None]  # step, figures by name
Close = Callable[[bool], None]  # told whether the run came to its end


def named(said: str) -> list[str]:
    """The trackers of a list that is parted by commas.

    Raises:
        TrackerError: for one that does not exist.
    """
    names = [name for name in re.split(r"[,\s]+", said) if name]
    for name in names:
        if name not in PACKAGES:
            raise TrackerError(f"{name!r}: no such tracker. There are {', '.join(PACKAGES)}")
    return names


def chosen(said: str) -> list[str]:
    """The trackers that the spec names, else those of the environment.

    Raises:
        TrackerError: for one that does not exist or is not installed.
    """
    names = named(said or os.environ.get(VARIABLE, ""))
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise TrackerError(
                f"track = {name!r} needs the package {PACKAGES[name]}, which is not installed. Install it "
                "(pip install -c requirements.lock -e '.[tracking]' brings all three), or leave track out: metrics.jsonl, "
                "the UI and `stemma report` need none of them."
            )
    return names


@contextmanager
def tracked(names: list[str], told: Told, say: Callable[[str], None]) -> Iterator[Track]:
    """Something to hand lines of metrics and evaluations to while a run goes on."""
    trackers = [_Tracker(name, told, say) for name in names]

    def track(lines: list[dict[str, Any]]) -> None:
        for tracker in trackers:
            tracker.take(lines)

    for tracker in trackers:
        tracker.start()
    is_whole = False
    try:
        yield track
        is_whole = True
    finally:
        for tracker in trackers:
            tracker.end(is_whole=is_whole)


class _Tracker(threading.Thread):
    """One tracker, written to by a thread of its own."""

    def __init__(self, name: str, told: Told, say: Callable[[str], None]) -> None:
        super().__init__(name=f"tracker {name}", daemon=True)
        self.tracker, self.told, self.say = name, told, say
        self.lines: queue.Queue[list[dict[str, Any]] | bool] = queue.Queue(WAITING)  # at the end: is the run whole?
        self.has_failed = False

    def take(self, lines: list[dict[str, Any]] | bool) -> None:
        try:
            if not self.has_failed:
                self.lines.put_nowait(lines)
        except queue.Full:
            self._fail(f"it is too slow: {WAITING} reports wait for it")

    def end(self, *, is_whole: bool) -> None:
        self.take(is_whole)
        self.join(min(1.0, LAST_SECONDS) if self.has_failed else LAST_SECONDS)
        if self.is_alive():
            self._fail(f"it did not end within {LAST_SECONDS:.0f} s")

    def run(self) -> None:
        try:
            ended = self.lines.get()
            if isinstance(ended, bool):
                return
            # not opened before: where a run goes on is known from its first line
            write, close = TRACKERS[self.tracker](self.told, ended[0]["step"])
            while not isinstance(ended, bool):
                for line in ended:
                    write(line["step"], curves(line))
                ended = self.lines.get()
            close(ended)
        except Exception as error:  # noqa: BLE001 (whatever it is, training is worth more)
            self._fail(without_credentials(f"{type(error).__name__}: {error}"))

    def _fail(self, why: str) -> None:
        if not self.has_failed:
            self.has_failed = True
            self.say(f"{self.tracker} tracks this run no longer ({why}); training goes on, and so does metrics.jsonl")


def _tensorboard(told: Told, first: int) -> tuple[Write, Close]:
    from torch.utils.tensorboard import SummaryWriter

    # what an earlier attempt wrote from this step on is hidden
    folder = told.folder / "tensorboard" / f"{_plain(told.run)}-{told.identity[:8]}"
    writer = SummaryWriter(str(folder), purge_step=first, flush_secs=10)

    def write(step: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    return write, lambda is_whole: writer.close()


def _mlflow(told: Told, first: int) -> tuple[Write, Close]:
    del first
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports] (of an extra)
    from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

    told.folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{told.folder / 'mlflow.db'}")
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "stemma")
    experiment = client.get_experiment_by_name(name)
    number = experiment.experiment_id if experiment else client.create_experiment(name)
    found = client.search_runs([number], f"tags.`stemma.identity` = '{told.identity}'")
    tags = {"stemma.identity": told.identity}
    key = (found[0] if found else client.create_run(number, run_name=told.run, tags=tags)).info.run_id
    client.update_run(key, "RUNNING")
    client.log_batch(key, params=[Param(name, str(value)) for name, value in told.parameters.items()])

    def write(step: int, figures: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        client.log_batch(key, [Metric(_plain(name), value, now, step) for name, value in figures.items()])

    return write, lambda is_whole: client.set_terminated(key, "FINISHED" if is_whole else "KILLED")


def _wandb(told: Told, first: int) -> tuple[Write, Close]:
    del first
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb  # pyright: ignore[reportMissingImports]

    told.folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", "stemma"), name=told.run, id=told.identity[:32], resume="allow",
        dir=str(told.folder), config=dict(told.parameters), settings=wandb.Settings(console="off"),
    )  # fmt: skip
    return lambda step, figures: run.log(figures, step=step), lambda is_whole: run.finish(0 if is_whole else 1)


def without_credentials(said: str) -> str:
    """An error without the user and password that the address of a server may hold, such as MLFLOW_TRACKING_URI."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", said)


def _plain(name: str) -> str:
    """Letters that file names and MLflow's names of metrics may have."""
    return re.sub(r"[^\w./ -]", "-", name)


TRACKERS: dict[str, Callable[[Told, int], tuple[Write, Close]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}
