"""Leases: one builder at a time; the next one waits, is told for whom, and outlives a killed one."""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

import pytest
from workshop import LoudRecipe, RawRecipe, Workshop, write_loud, write_raw

from pipelines.provenance import leases
from pipelines.provenance.files import StoreError
from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store

KEY = Key("raw", "a/1")
HOLDER = """
import sys, time
from pathlib import Path
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
import os
with Store(sys.argv[1]).lease(Key("raw", "a/1")):
    if sys.argv[3] == "fork" and os.fork() == 0:
        Path(sys.argv[2] + ".child").write_text(str(os.getpid()))
        time.sleep(60)
    Path(sys.argv[2]).touch()
    time.sleep(60)
"""


@pytest.fixture
def holder(store, tmp_path, subprocess_env):
    """Starts another process that holds the lease; returns it."""
    started = []

    def start(how: str = "alone") -> subprocess.Popen:
        ready = tmp_path / "ready"
        process = subprocess.Popen([sys.executable, "-c", HOLDER, store.url, str(ready), how], env=subprocess_env)
        started.append(process)
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.01)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
    if (child := tmp_path / "ready.child").exists():
        os.kill(int(child.read_text()), signal.SIGKILL)


def wait_in_thread(store: Store) -> tuple[threading.Thread, list[str], threading.Event]:
    told: list[str] = []
    heard, got = threading.Event(), threading.Event()

    def waiting(holder: str) -> None:
        told.append(holder)
        heard.set()

    def work() -> None:
        with store.lease(KEY, waiting):
            got.set()

    thread = threading.Thread(target=work)
    thread.start()
    assert heard.wait(20)
    return thread, told, got


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_second_builder_is_told_who_builds_and_goes_on_when_that_one_is_killed(store, holder, how):
    """Even if the one that is killed has forked workers that live on."""
    process = holder(how)
    thread, told, got = wait_in_thread(store)
    assert not got.is_set()
    wanted = rf"{re.escape(getpass.getuser())}@{re.escape(os.uname().nodename)} \(pid {process.pid}\) since 20\d\d-"
    assert re.fullmatch(wanted + r"\d\d-\d\d \d\d:\d\d:\d\d", told[0])
    process.send_signal(signal.SIGKILL)
    thread.join(20)
    assert got.is_set()
    assert len(told) == 1


def test_whoever_waits_too_long_is_told_for_whom(store, holder):
    process = holder()
    with (
        pytest.raises(StoreError, match=rf"lease _ is held by .*\(pid {process.pid}\)"),
        store.lease(KEY, timeout_seconds=0.1),
    ):
        pass


def test_other_keys_do_not_wait(store, holder):
    holder()
    with store.lease(Key("raw", "b/1"), timeout_seconds=0.1), store.lease(Key("loud", "a/1"), timeout_seconds=0.1):
        pass


def test_who_waited_for_the_same_artifact_computes_nothing(store):
    first, second = Workshop(store), Workshop(Store(store.url))
    inside, go_on = threading.Event(), threading.Event()

    def slow(draft):
        inside.set()
        assert go_on.wait(20)
        return write_raw(draft, "one")

    built = []
    threads = [threading.Thread(target=lambda: built.append(build(store, KEY, "1", RawRecipe(text="one"), [], slow)))]
    threads[0].start()
    assert inside.wait(20)
    threads.append(threading.Thread(target=lambda: built.append(
        second.raw("a/1", "one", waiting=lambda holder: go_on.set()))))  # fmt: skip
    threads[1].start()
    for thread in threads:
        thread.join(30)
    assert [b.computed for b in built] == [True, False]
    assert first.computed == second.computed == []


def test_a_lease_ends_with_its_block_whatever_happens(any_store):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), any_store.lease(KEY, timeout_seconds=5):
            1 // 0  # noqa: B018
    with any_store.lease(KEY, timeout_seconds=5):
        pass


def test_garbage_is_not_collected_while_something_is_built(store):
    """The parts and inputs of what is being built look like garbage until it is published."""
    workshop = Workshop(store)
    texts = {"a/1": workshop.raw("a/1").artifact}
    refused = []

    def make(draft):
        part = draft.part("a/1", LoudRecipe(), [texts["a/1"]], lambda d: write_loud(d, texts["a/1"], 1))
        garbage = find_garbage(store)
        assert [item.key.part for item in garbage] == ["a/1"]  # sealed, and nothing leads to it yet
        with pytest.raises(StoreError, match=r"lease \.collector is held by"):
            collect(Store(store.url), garbage)
        refused.append(garbage)
        return draft.seal(parts=[part])

    build(store, Key("book", "all"), "1", RawRecipe(), list(texts.values()), make)
    assert collect(store, refused[0]) == 0  # meanwhile a published artifact leads to it
    assert store.open("book", "all").part("a/1").local("loud.txt").exists()


def test_a_builder_waits_for_the_collector(store):
    told: list[str] = []
    collector = leases.collector(store.files.local_root / "leases")
    with collector, pytest.raises(StoreError, match="is held by"), store.lease(KEY, told.append, timeout_seconds=0.15):
        pass
    assert f"(pid {os.getpid()})" in told[0]
    with store.lease(KEY, timeout_seconds=0.1):
        pass


# -- leases of an object store -----------------------------------------------------------------------------------


@pytest.fixture
def remote(monkeypatch) -> Store:
    monkeypatch.setattr(leases, "REMOTE_POLL_SECONDS", 0.02)
    monkeypatch.setattr(leases, "LEASE_SECONDS", 0.4)
    return Store(f"memory://{uuid.uuid4().hex}")


def test_a_remote_lease_is_renewed_for_as_long_as_it_is_held(remote):
    with remote.lease(KEY):
        told: list[str] = []
        with pytest.raises(StoreError, match="is still held"), remote.lease(KEY, told.append, timeout_seconds=1.0):
            pass
        assert f"(pid {os.getpid()})" in told[0]
    with remote.lease(KEY, timeout_seconds=1.0):
        pass
    assert remote.files.names("leases/raw/a%2F1/_") == ["2.held", "2.released"]


def test_the_remote_lease_of_a_dead_process_lapses(remote):
    remote.files.create("leases/raw/a%2F1/_/1.held", b"{}")
    told: list[str] = []
    start = time.monotonic()
    with remote.lease(KEY, told.append, timeout_seconds=5.0):
        assert 0.4 < time.monotonic() - start < 3
    assert told == ["another process"]


def test_of_many_who_want_a_remote_lease_one_has_it_at_a_time(remote):
    inside, most = [], []

    def work() -> None:
        with remote.lease(KEY, timeout_seconds=20):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 5


def test_whoever_waits_is_told_once_however_often_it_looks(store, monkeypatch):
    monkeypatch.setattr(leases, "POLL_SECONDS", 0.001)
    told: list[str] = []
    with (
        store.lease(KEY),
        pytest.raises(StoreError, match="is held by"),
        store.lease(KEY, told.append, timeout_seconds=0.05),
    ):
        pass
    assert len(told) == 1
