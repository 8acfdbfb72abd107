"""The trainer as a stage sees it: hand over a job, wait, get the last checkpoint or the reason why there is none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.checkpoints import Checkpoint, latest
from training.curves import METRICS, speeds
from training.job import Job
from training.launch import command
from training.tracking import chosen
from training.trouble import KILLED, memory_advice

ROOT = Path(__file__).resolve().parents[1]
LAST_LINES = 30  # of the trainer's output that an error shows
Launch = Callable[[list[str], dict[str, str]], None]  # command and extra environment; returns when it has ended
Say = Callable[[str], None]
Progress = Callable[[dict[str, Any]], None]  # one line of metrics.jsonl


class TrainingError(RuntimeError):
    """The trainer ended without the checkpoint that was wanted."""


def placed(job: Job, scratch: Path) -> Job:
    """The job in a directory named by its identity: the next build of the same thing goes on from what lies there."""
    tracking = scratch.parent / "reports" / "tracking"  # which outlives the directory
    return job.model_copy(update={"directory": scratch / "training" / job.identity[:24], "tracking": tracking})


def run_job(job: Job, launch: Launch | None, say: Say, progress: Progress | None = None) -> dict[str, Any]:
    """Run the trainer on a job; circumstances of it come back (seconds, device, speeds).

    Raises:
        TrainingError: with what the trainer said last.
        TrackerError: if a tracker is not installed; nothing was started.
    """
    chosen(job.track)
    path = job.write()
    failure, times = job.directory / "failure.json", job.directory / "times.json"
    for stale in (failure, times):
        stale.unlink(missing_ok=True)
    run = command(job.numerics["world_size"], ["--job", str(path)], os.getpid())
    try:
        with followed(job.directory / METRICS, progress):
            (launch or (lambda c, e: _launch(c, e, say)))(run, environment(job))
    except Exception as error:  # noqa: BLE001 (raised again, with the trainer's words)
        # who shows the root of a failure shows what the trainer said of it, and not that a process ended
        raise TrainingError(_reason(job, failure, str(error))) from (None if failure.exists() else error)
    if not times.exists():
        raise TrainingError(_reason(job, failure, "it ended without saying why"))
    return {**json.loads(times.read_text()), "speeds": speeds(job.directory / METRICS)}


def last_checkpoint(job: Job, say: Say) -> Checkpoint:
    """The checkpoint of the plan's last step, or the best one of a run with patience.

    Raises:
        TrainingError: if the trainer has left no whole one.
    """
    chosen = latest(job.directory / "final", say)
    found = chosen or latest(job.directory / "rolling", say)
    ended = found is not None and (chosen is not None or found.step == job.plan.num_steps)
    if found is None or not ended or found.state["identity"] != job.identity:
        raise TrainingError(
            f"training of {job.run} ended, but {job.directory} holds no whole checkpoint of step {job.plan.num_steps}. "
            "Run again; if it happens again, look at the disk."
        )
    return found


def environment(job: Job) -> dict[str, str]:
    """What the trainer needs beside the environment that it inherits."""
    path = os.pathsep.join(p for p in (str(ROOT), os.environ.get("PYTHONPATH", "")) if p)
    return {
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(job.numerics["threads"]),
        # OpenMP threads that wait give their core away after some 50 us instead of milliseconds: on two busy cores (load
        # 4) a demo step went from 1.6-3 to 5-7 thousand tokens a second, on idle ones it stayed at 22 thousand
        "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "20000"),
        "TOKENIZERS_PARALLELISM": "false",
    }


def _launch(run: list[str], extra: dict[str, str], say: Say) -> None:
    """Start it as a child, pass its output on, end it if we are interrupted."""
    lines: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        run, env=os.environ | extra, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                say(line.rstrip())
            code = process.wait()
        except BaseException:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    if code != 0:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise TrainingError(f"the trainer {how}. Its last lines:\n" + "\n".join(lines))


def _reason(job: Job, failure: Path, otherwise: str) -> str:
    again = f"Run again to go on from the last checkpoint in {job.directory}."
    if not failure.exists():
        if re.search(r"signal 9\b|code -9\b", otherwise):  # nobody was left to say why
            otherwise += f"\n{KILLED} {memory_advice(job.recipe, job.numerics)}"
        return f"training of {job.run} failed: {otherwise}\n{again}"
    told = json.loads(failure.read_text())
    return f"training of {job.run} failed: {told['kind']}: {told['message']}\n{told['trace']}\n{again}"


@contextmanager
def followed(path: Path, progress: Progress | None) -> Iterator[None]:
    """Call ``progress`` with every line that is added to a JSONL file meanwhile."""
    if progress is None:
        yield
        return
    stop = threading.Event()
    start = path.stat().st_size if path.exists() else 0

    def follow() -> None:
        position, ended = start, False
        while not ended:
            ended = stop.wait(0.2)
            if path.exists():
                position = _new_lines(path, position, progress)

    thread = threading.Thread(target=follow, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _new_lines(path: Path, position: int, progress: Progress) -> int:
    with path.open("rb") as file:
        file.seek(position)
        for line in file:
            if not line.endswith(b"\n"):
                break  # still being written
            position += len(line)
            progress(json.loads(line))
    return position
