"""Tasks: the work of a stage, cut into pieces that are done side by side, each once, whatever is killed in between.

A task writes the files of its piece into a folder. The folder gets its name only when it is whole, so that a stage
that was killed at 90 % finds nine pieces of ten and does the last. The process of the stage works from the first
moment; others come to its help, and each takes the next task that nobody has begun. What the pieces hold depends on
how the stage cuts its work, never on how many workers there are.
"""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

Item = TypeVar("Item")
THREADS = ("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")
PIECE_BYTES = 8 << 20  # of input: a second of cleaning; what a killed stage loses, and at most waits for, per worker
CUT = "2"  # how stages cut their work; pieces of another cut, by another release, are none of ours
UNFINISHED = ".unfinished"
STOP = UNFINISHED  # a task failed: nobody begins another; no task is called ""


class Task(NamedTuple):
    """A piece of work: the name of its folder and the arguments that follow the folder."""

    name: str
    arguments: tuple[Any, ...]


class TaskError(RuntimeError):
    """A worker went away without a word, or with one that only it understands."""


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
        workers: processes, this one among them; 0: one a core.
        tell: called with the numbers of finished and of all tasks.

    Raises:
        TaskError: if a worker is killed (most often because memory ran out); finished pieces stay.
    """
    folder /= f"{PIECE_BYTES}.{CUT}"
    folder.mkdir(parents=True, exist_ok=True)
    for torn in folder.glob(f"*{UNFINISHED}"):
        shutil.rmtree(torn)
    due = [task for task in tasks if not _is_done(folder, task)]
    teller = _Teller(tell, folder, tasks)
    teller.tell()
    if others := max(0, min(workers or cores(), len(due)) - 1):
        _side_by_side(work, due, folder, others, teller.tell_at_times)
    else:
        work_off(work, due, folder, teller.tell_at_times)
    if due:
        teller.tell()
    return [folder / task.name for task in tasks]


class _Teller:
    """Counts what is done; once a second, since a folder of a hundred thousand pieces is not looked through for each."""

    def __init__(self, tell: Callable[[int, int], None], folder: Path, tasks: Sequence[Task]) -> None:
        self._tell, self._folder, self._tasks = tell, folder, tasks
        self._next = 0.0

    def tell(self) -> None:
        start = time.monotonic()
        names = set(os.listdir(self._folder))  # one look takes a tenth of the time of one for each task
        self._tell(sum(task.name in names for task in self._tasks), len(self._tasks))
        end = time.monotonic()
        self._next = end + max(1.0, 20 * (end - start))  # a slow disk or listener costs a twentieth of the stage

    def tell_at_times(self) -> None:
        if time.monotonic() > self._next:
            self.tell()


def work_off(
    work: Callable[..., None], tasks: Sequence[Task], folder: Path, watch: Callable[[], None] = lambda: None
) -> None:
    """Do those tasks that no other process does, in order, until one fails here or elsewhere.

    ``watch`` is called before each.
    """
    try:
        for task in tasks:
            if (folder / STOP).is_dir():
                return
            if _is_ours(folder, task):
                watch()
                _do(work, folder, task)
    except BaseException:
        with contextlib.suppress(OSError):  # a full disk: the others fail as well
            (folder / STOP).mkdir(exist_ok=True)
        raise


def _is_done(folder: Path, task: Task) -> bool:
    return (folder / task.name).is_dir()


def _is_ours(folder: Path, task: Task) -> bool:
    """Whether this process is the one to do it: who makes its unfinished folder. A lock would outlive who is killed."""
    if _is_done(folder, task):
        return False
    try:
        _unfinished(folder, task).mkdir()
    except FileExistsError:
        return False
    if _is_done(folder, task):  # by another, between the look and the folder
        _unfinished(folder, task).rmdir()
        return False
    return True


def _unfinished(folder: Path, task: Task) -> Path:
    return folder / f"{task.name}{UNFINISHED}"


def _do(work: Callable[..., None], folder: Path, task: Task) -> None:
    """One task in this process: whole under its name, or not at all."""
    unfinished = _unfinished(folder, task)
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


def _help(work: Callable[..., None], tasks: Sequence[Task], folder: Path) -> None:
    """In another process: an error that cannot travel goes as one that says the same, else it reads as a kill."""
    try:
        work_off(work, tasks, folder)
    except Exception as error:
        try:
            copy.deepcopy(error)  # takes it apart and puts it together, as the way through a pipe does
        except Exception:  # noqa: BLE001  whatever that raises is its own affair
            raise TaskError(f"a worker raised {type(error).__name__}: {error}") from error
        raise


def _side_by_side(
    work: Callable[..., None], tasks: Sequence[Task], folder: Path, others: int, tell: Callable[[], None]
) -> None:
    """Work in this process and in so many others, which start meanwhile."""
    context = multiprocessing.get_context("spawn")  # polars and numba do not survive a fork of a threaded parent
    with ProcessPoolExecutor(others, context, initializer=begin_worker) as pool:
        helping: list[Future[None]] = []

        def watch() -> None:
            tell()
            for future in helping:
                if future.done():
                    future.result()

        try:
            helping.extend(pool.submit(_help, work, tasks, folder) for _ in range(others))
            work_off(work, tasks, folder, watch)
            while wait(helping, timeout=1.0, return_when=FIRST_EXCEPTION).not_done:
                watch()
            watch()
        except BrokenProcessPool:
            done = sum(_is_done(folder, task) for task in tasks)
            raise TaskError(
                f"a worker was killed, most often because memory ran out; {done} of {len(tasks)} pieces are done and "
                "stay. Run again with fewer workers (STEMMA_WORKERS=1)."
            ) from None
