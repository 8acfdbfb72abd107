"""The process pool: the same digests as in one process, errors and waiting told, no worker left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from assets.builder import build_key
from assets.pool import build_side_by_side
from pipelines.provenance.manifest import Key

CHECKOUT = Path(__file__).resolve().parents[2]
RAW = [Key("raw_documents", "poems/1"), Key("raw_documents", "letters/1")]


def never(message):
    pytest.fail(f"waited: {message}")


def test_every_key_is_yielded_once_and_published_with_the_digest_of_one_process(blank, tmp_path):
    alone = blank.copy(tmp_path / "alone")
    wanted = {key: build_key(alone.spec, alone.store, key).artifact.digest for key in RAW}
    done = list(build_side_by_side(blank.spec_path, str(blank.url), RAW, never, workers=2))
    assert sorted(done) == sorted(RAW)
    assert {key: blank.store.get(key).digest for key in RAW} == wanted


def test_one_worker_gives_what_two_give(library, tmp_path):
    """And a stage that runs kernels, whose threads the pool sets to one."""
    place = library.copy(tmp_path / "again")
    keys = [Key("clean_documents", key.partition) for key in RAW]
    wanted = {key: place.store.get(key).digest for key in keys}
    for key in keys:
        place.store.files.remove(f"refs/{key.asset}/{key.partition.replace('/', '%2F')}")
        place.store.files.remove(f"artifacts/{key.asset}/{key.partition.replace('/', '%2F')}")
    assert [place.store.get(key) for key in keys] == [None, None]
    assert set(build_side_by_side(place.spec_path, str(place.url), keys, never, workers=1)) == set(keys)
    assert {key: place.store.get(key).digest for key in keys} == wanted


def test_what_fails_in_a_worker_is_told_here_in_its_own_words(blank):
    (blank.folder / "letters.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match=r"source letters/1: 1 files, but no record in them"):
        list(build_side_by_side(blank.spec_path, str(blank.url), RAW, never, workers=1))
    assert blank.store.get(RAW[1]) is None


def test_who_waits_in_a_worker_is_heard_here(blank):
    heard = []
    with blank.store.lease(RAW[0]):
        found = build_side_by_side(blank.spec_path, str(blank.url), RAW, heard.append, workers=2)
        assert next(found) == RAW[1], "the other source does not wait"
        deadline = time.monotonic() + 60
        while not heard:
            assert time.monotonic() < deadline, "nobody said that it waits"
            time.sleep(0.02)
    assert next(found) == RAW[0]
    assert list(found) == []
    assert heard[0].startswith("raw_documents[poems/1]: waiting for the lease of ")
    assert f"pid {os.getpid()}" in heard[0]


def test_no_worker_is_left_when_the_caller_stops_listening(blank):
    before = set(multiprocessing.active_children())
    found = build_side_by_side(blank.spec_path, str(blank.url), RAW, never, workers=2)
    next(found)
    found.close()
    assert set(multiprocessing.active_children()) == before


PARENT = """
import sys
from pathlib import Path
from assets.pool import build_side_by_side
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

if __name__ == "__main__":
    keys = [Key("raw_documents", name) for name in ("poems/1", "letters/1")]
    with Store(sys.argv[2]).lease(keys[0]), Store(sys.argv[2]).lease(keys[1]):
        list(build_side_by_side(Path(sys.argv[1]), sys.argv[2], keys, lambda m: print("waits", flush=True), workers=2))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_workers_end_with_a_parent_that_is_killed(blank, tmp_path):
    """A killed `stemma run` must not leave workers that go on to write into the store."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, str(script), str(blank.spec_path), str(blank.url)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().strip() == "waits"
        workers = psutil.Process(parent.pid).children(recursive=True)
        assert workers
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    assert blank.store.keys() == []
