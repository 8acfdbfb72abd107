"""A writer that is killed at any moment leaves a sound store, and whoever runs again heals what it left."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from workshop import DEEP
from writer import build_everything

from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_store

KILLS = 100 if DEEP else 8


def started(root: Path, barrier: Path, turn: int, env: dict[str, str]) -> subprocess.Popen:
    barrier.unlink(missing_ok=True)
    script = Path(__file__).with_name("writer.py")
    process = subprocess.Popen([sys.executable, script, root, barrier, str(turn)], env=env)
    while not barrier.exists():
        assert process.poll() is None
        time.sleep(0.005)
    return process


@pytest.mark.slow
def test_a_store_whose_writers_were_killed_verifies_and_a_run_heals_it(tmp_path, subprocess_env):
    root, dice = tmp_path / "store", random.Random(11)
    killed = 0
    for turn in range(KILLS):
        process = started(root, tmp_path / "ready", turn, subprocess_env)
        time.sleep(dice.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        report = verify_store(Store(root))
        assert report.sound, (turn, report.problems)
    assert killed > KILLS / 2
    build_everything(str(root), "last")
    assert verify_store(Store(root)).sound
    store = Store(root)
    collect(store, find_garbage(store))
    report = verify_store(store)
    assert (report.problems, report.unfinished) == ([], [])
    assert store.open("book", "all").part("b/1").local("loud.txt").read_text() == "FOUR FIVE LAST 5!"


@pytest.fixture(scope="module")
def once(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("once") / "store"
    build_everything(str(root), "first", 2)
    return root


@pytest.fixture
def finished(once, tmp_path) -> Path:
    return Path(shutil.copytree(once, tmp_path / "store"))


STOPS = ("circumstances/", "ledger/", "refs/", "pending/", "manifest", "upload")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("stop", STOPS)
def test_a_writer_that_dies_at_a_named_point_leaves_a_sound_store(finished, stop, number, after):
    """Each write of each kind in turn is the last thing that a forked writer did, or did not get to do."""
    root = finished
    child = os.fork()
    if child == 0:
        die_at(stop, number, after)
        build_everything(str(root), "second", 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    report = verify_store(Store(root))
    assert report.sound, report.problems
    build_everything(str(root), "second", 2)
    healed = verify_store(Store(root))
    assert healed.sound, healed.problems
    assert not any("refs/" in line for line in healed.unfinished)
    store = Store(root)
    collect(store, find_garbage(store))
    report = verify_store(store)
    assert (report.problems, report.unfinished) == ([], [])


def die_at(stop: str, number: int, after: bool) -> None:
    """Make this process die at the n-th write of one kind."""
    from pipelines.provenance.files import LocalFiles

    create, upload, left = LocalFiles.create, LocalFiles.upload, [number]

    def counted(hit: bool) -> bool:
        left[0] -= hit
        return hit and left[0] < 0

    def dying_create(self, path: str, data: bytes, **options) -> bool:
        hit = counted(path.endswith(".manifest.json") if stop == "manifest" else path.startswith(stop))
        made = not (hit and not after) and create(self, path, data, **options)
        return os._exit(9) if hit else made

    def dying_upload(self, source: Path, path: str) -> None:
        if hit := counted(stop == "upload") and not after:
            os._exit(9)
        upload(self, source, path)
        if hit:
            os._exit(9)

    LocalFiles.create, LocalFiles.upload = dying_create, dying_upload
    if stop == "upload" and after:

        def dying_after(self, source: Path, path: str) -> None:
            upload(self, source, path)
            if counted(True):
                os._exit(9)

        LocalFiles.upload = dying_after


def test_a_kill_between_ledger_and_ref_is_named_as_unfinished(finished):
    root = finished
    child = os.fork()
    if child == 0:
        die_at("refs/", 0, after=False)
        build_everything(str(root), "second", 2)
        os._exit(0)
    os.waitpid(child, 0)
    report = verify_store(Store(root))
    assert report.sound
    assert any(line.startswith("refs/") and "run again" in line for line in report.unfinished)


def test_a_collector_that_is_killed_half_way_leaves_nothing_that_looks_complete(finished):
    root = finished
    build_everything(str(root), "second", 2)
    child = os.fork()
    if child == 0:
        store, left = Store(root), [3]
        remove = type(store.files).remove

        def dying(self, path: str) -> None:
            left[0] -= 1
            remove(self, path) if left[0] else os._exit(9)

        type(store.files).remove = dying
        collect(store, find_garbage(store))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    report = verify_store(Store(root))
    assert report.sound, report.problems
    store = Store(root)
    assert collect(store, find_garbage(store)) > 0
    report = verify_store(store)
    assert (report.problems, report.unfinished) == ([], [])
    assert find_garbage(store) == []
