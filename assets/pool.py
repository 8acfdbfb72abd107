"""Sources side by side: a process pool that fills the memo, so that the Dagster runs that follow only record."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.queues import SimpleQueue
from pathlib import Path

from pipelines.provenance.manifest import Key
from pipelines.tasks import begin_worker, cores

_messages: SimpleQueue | None = None  # in a worker: to the terminal of `stemma run`
PAYS_FROM = 4  # a worker costs about 1.5 s of imports: fewer sources than this are faster in process


def build_side_by_side(
    spec: Path, store: str, keys: Sequence[Key], waiting: Callable[[str], None], workers: int = 0
) -> Iterator[Key]:
    """Build keys that do not depend on one another; yields each as it is finished.

    Digests do not depend on the number of workers: every key is one task, with one thread. ``waiting`` is told what
    a worker waits for.
    """
    context = multiprocessing.get_context("spawn")  # polars and numba do not survive a fork of a threaded parent
    workers = workers or min(len(keys), cores())
    each = max(1, cores() // workers)
    messages = context.SimpleQueue()
    teller = threading.Thread(target=lambda: [waiting(message) for message in iter(messages.get, None)], daemon=True)
    teller.start()
    with ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(messages, each)) as pool:
        tasks = {pool.submit(_build, str(spec), store, key): key for key in keys}
        try:
            for task in as_completed(tasks):
                task.result()
                yield tasks[task]
        finally:
            for task in tasks:
                task.cancel()
            messages.put(None)
            teller.join()


def _begin(messages: SimpleQueue, workers: int) -> None:
    """In every worker: a thread, a way to speak, its share of the cores, and an end when the parent is killed."""
    global _messages  # noqa: PLW0603 - one queue for the life of a worker
    _messages = messages
    begin_worker(workers)


def _build(spec: str, store: str, key: Key) -> None:
    from assets.builder import build_key
    from pipelines.provenance.store import Store
    from pipelines.spec import Spec

    def waiting(holder: str) -> None:
        if _messages is not None:
            _messages.put(f"{key}: waiting for the lease of {holder}")

    build_key(Spec.load(Path(spec)), Store(store), key, waiting=waiting)
