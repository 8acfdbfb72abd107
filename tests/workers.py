"""Two workers of pytest-xdist: each keeps to its own cores, and the long run that many tests share begins first.

The scheduler of `make test` hands out whole files in the order that is made here. The file that asks most often for
the finished run comes first, so that its worker begins to build it at once; the other worker meanwhile has the files
that need none, and the rest of those that do come last, when it is there.
"""

import os
from collections import Counter
from collections.abc import Sequence

import pytest


def own_cores(cores: Sequence[int], worker: int, workers: int) -> list[int]:
    """The share of the cores that one of the workers takes; one each where there are fewer cores than workers.

    Every library counts the cores that it may use, and the trainer declares them: equal shares, so that what one
    worker has built another one finds in the memo.
    """
    size = max(1, len(cores) // workers)
    first = worker * size % len(cores)
    return list(cores[first : first + size])


def keep_to_own_cores(config: pytest.Config) -> None:
    """In a worker: no thread of ours, nor of the processes that tests start, leaves its share."""
    given = getattr(config, "workerinput", None)
    if given is None or not hasattr(os, "sched_setaffinity"):
        return
    worker, workers = int(given["workerid"].removeprefix("gw")), given["workercount"]
    os.sched_setaffinity(0, own_cores(sorted(os.sched_getaffinity(0)), worker, workers))


def in_order(items: Sequence[pytest.Item], shared: str) -> list[pytest.Item]:
    """Tests file by file: the file with most users of the shared fixture, files without any, the other users."""
    users = Counter(str(item.path) for item in items if shared in getattr(item, "fixturenames", ()))
    first = max(users, key=lambda path: (users[path], path), default="")

    def place(item: pytest.Item) -> int:
        path = str(item.path)
        return 0 if path == first else 2 if path in users else 1

    return sorted(items, key=place)
