"""Sources side by side: a process pool that fills the memo, so that the Dagster runs that follow only record."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from pipelines.provenance.manifest import Key

PAYS_FROM = 4  # a worker costs about 1.5 s of imports: fewer sources than this are faster in process


def build_side_by_side(spec: Path, store: str, keys: Sequence[Key], workers: int = 0) -> Iterator[tuple[Key, bool]]:
    """Build keys that do not depend on one another; yields each with whether it was computed, as they finish.

    Digests do not depend on the number of workers: every key is one task, with one thread.
    """
    context = multiprocessing.get_context("spawn")  # polars and numba do not survive a fork of a threaded parent
    workers = workers or min(len(keys), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        tasks = {pool.submit(_build, str(spec), store, key): key for key in keys}
        try:
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:
            for task in tasks:
                task.cancel()


def _one_thread() -> None:
    for name in ("POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _build(spec: str, store: str, key: Key) -> bool:
    from assets.builder import build_key
    from pipelines.provenance.store import Store
    from pipelines.spec import Spec

    return build_key(Spec.load(Path(spec)), Store(store), key).computed
