"""Tasks: the work of a stage, cut into pieces that are done side by side, each once, whatever is killed in between.

A task writes the files of its piece into a folder. The folder gets its name only when it is whole, so that a stage
that was killed at 90 % finds nine pieces of ten and does the last. What the pieces hold depends on how the stage cuts
its work, never on how many workers there are.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")
THREADS = ("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")
PIECE_BYTES = 8 << 20  # of input: a second of cleaning; what a killed stage loses, and at most waits for, per worker
UNFINISHED = ".unfinished"


class Task(NamedTuple):
    """A piece of work: the name of its folder and the arguments that follow the folder."""

    name: str
    arguments: tuple[Any, ...]


class TaskError(RuntimeError):
    """A worker went away without a word."""


def run_tasks(
    work: Callable[..., None],
    tasks: Sequence[Task],
    folder: Path,
    *,
    workers: int = 0,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Do what has not been done yet; returns the folders of all pieces in the order of the tasks.

    Args:
        work: a function of a module, called as ``work(folder, *arguments)``; it writes its files into the folder.
        tasks: by name; two tasks of one name are one.
        folder: where the pieces lie, the same for every attempt at the same work.
        workers: processes; 0: one a core. One task, or one worker, needs no process of its own.
        tell: called with the numbers of finished and of all tasks.

    Raises:
        TaskError: if a worker is killed (most often because memory ran out); finished pieces stay.
    """
    folder /= str(PIECE_BYTES)  # pieces of another cut, by another release, are none of ours
    folder.mkdir(parents=True, exist_ok=True)
    for torn in folder.glob(f"*{UNFINISHED}"):
        shutil.rmtree(torn)
    due = [task for task in tasks if not (folder / task.name).is_dir()]
    done = len(tasks) - len(due)
    tell(done, len(tasks))
    workers = min(workers or cores(), len(due))
    if workers > 1:
        _side_by_side(work, due, folder, workers, lambda count: tell(done + count, len(tasks)))
    else:
        for count, task in enumerate(due, 1):
            do(work, folder, task)
            tell(done + count, len(tasks))
    return [folder / task.name for task in tasks]


def do(work: Callable[..., None], folder: Path, task: Task) -> None:
    """One task in this process: whole under its name, or not at all."""
    unfinished = folder / f"{task.name}{UNFINISHED}"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    work(unfinished, *task.arguments)
    with ThreadPoolExecutor() as threads:  # side by side, since a disk syncs five files as fast as two
        list(threads.map(_sync, unfinished.iterdir()))
    unfinished.rename(folder / task.name)


def _sync(path: Path) -> None:
    """The name of a piece must not outlive its bytes when the power fails."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def grouped(items: Iterable[tuple[Item, int]], max_bytes: int = 0) -> list[list[Item]]:
    """Items with their sizes, cut into runs of at most ``max_bytes`` (0: ``PIECE_BYTES``) or of one larger item."""
    groups: list[list[Item]] = []
    max_bytes = max_bytes or PIECE_BYTES
    filled = 0
    for item, num_bytes in items:
        if not groups or filled + num_bytes > max_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(item)
        filled += num_bytes
    return groups


def cores() -> int:
    """Cores that this process may use; STEMMA_WORKERS says otherwise."""
    if said := os.environ.get("STEMMA_WORKERS", ""):
        return max(1, int(said))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def begin_worker(workers: int = 1) -> None:
    """In every worker process: one thread, so many workers of its own (1: none), and an end with its parent."""
    for name in THREADS:
        os.environ.setdefault(name, "1")
    os.environ["STEMMA_WORKERS"] = str(workers)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _side_by_side(
    work: Callable[..., None], tasks: Sequence[Task], folder: Path, workers: int, tell: Callable[[int], None]
) -> None:
    context = multiprocessing.get_context("spawn")  # polars and numba do not survive a fork of a threaded parent
    with ProcessPoolExecutor(workers, context, initializer=begin_worker) as pool:
        running = {pool.submit(do, work, folder, task): task for task in tasks}
        pending, count = set(running), 0
        try:
            while pending:
                finished, pending = wait(pending, timeout=1.0, return_when=FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                count += len(finished)
                tell(count)
        except BrokenProcessPool:
            raise TaskError(
                f"a worker was killed, most often because memory ran out; {count} of {len(tasks)} pieces are done and "
                "stay. Run again with fewer workers (STEMMA_WORKERS=1)."
            ) from None
        finally:
            for future in pending:
                future.cancel()
