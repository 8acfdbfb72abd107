"""Leases of an object store, by a clock that the test turns: renewed, lapsed, taken over, and never held twice."""

from __future__ import annotations

import uuid

import pytest

from pipelines.provenance import leases
from pipelines.provenance.files import Files, RemoteFiles, StoreError
from pipelines.provenance.leases import LEASE_SECONDS, described, holder, remote_lease

FOLDER = "leases/raw/a%2F1/_"


class Clock:
    """Time that passes only while somebody waits; ``meanwhile`` is called before each look at the lease."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.meanwhile = lambda now: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile(self.now)

    def strftime(self, form: str) -> str:
        return "2026-01-01 00:00:00"


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leases, "time", clock)
    return clock


@pytest.fixture
def files() -> Files:
    return RemoteFiles(f"memory://{uuid.uuid4().hex}")


def take(files: Files, told: list[str] | None = None, timeout_seconds: float = 1e6) -> int:
    told = [] if told is None else told
    return leases._taken(files, FOLDER, told.append, timeout_seconds)


def test_a_free_lease_is_taken_at_once_with_the_next_number(files, clock):
    before = clock.now
    for number in (1, 2, 3):
        with remote_lease(files, FOLDER, lambda _: None, 0.0):
            assert files.names(FOLDER) == [f"{number}.held"]
        assert files.names(FOLDER) == [f"{number}.held", f"{number}.released"]
    assert clock.now == before


def test_numbers_are_counted_and_not_spelt(files, clock):
    """Ten comes after nine, though "10.held" sorts before "9.held"."""
    for number in range(1, 12):
        assert take(files) == number
        files.create(f"{FOLDER}/{number}.released", b"")


def test_a_lease_that_is_not_renewed_lapses_after_its_time_and_not_before(files, clock):
    files.create(f"{FOLDER}/1.held", holder())
    start, told = clock.now, []
    assert take(files, told) == 2
    assert LEASE_SECONDS < clock.now - start <= LEASE_SECONDS + leases.REMOTE_POLL_SECONDS
    assert len(told) == 1
    assert files.names(FOLDER) == ["2.held"]


def test_a_lease_that_is_renewed_does_not_lapse(files, clock):
    """Each new beat starts the time anew; after the last one it runs out."""
    files.create(f"{FOLDER}/1.held", holder())
    beats = [1000.0 + n * LEASE_SECONDS * 0.9 for n in range(1, 6)]

    def beat(now: float) -> None:
        while beats and now >= beats[0]:
            files.create(f"{FOLDER}/1.beat-{len(beats)}", b"")
            beats.pop(0)

    clock.meanwhile = beat
    assert take(files) == 2
    assert beats == []
    assert clock.now - 1000.0 > 5 * LEASE_SECONDS * 0.9 + LEASE_SECONDS


def test_a_released_lease_is_taken_without_waiting_for_its_time(files, clock):
    files.create(f"{FOLDER}/1.held", holder())
    clock.meanwhile = lambda now: now > 1003 and files.create(f"{FOLDER}/1.released", b"")
    assert take(files) == 2
    assert clock.now < 1005


def test_whoever_waits_too_long_is_told_and_takes_nothing(files, clock):
    files.create(f"{FOLDER}/1.held", holder())
    told: list[str] = []
    with pytest.raises(StoreError, match=r"lease leases/raw/a%2F1/_ is still held\. Wait until that has ended"):
        take(files, told, timeout_seconds=10.0)
    assert clock.now == pytest.approx(1010, abs=1.0)
    assert told == [described(holder())]
    assert files.names(FOLDER) == ["1.held"]


def test_who_was_thought_dead_and_comes_back_does_not_release_the_lease_of_another(files, clock):
    """A laptop that slept: its lease lapsed and is another's now; waking up, it beats once and releases its own."""
    with remote_lease(files, FOLDER, lambda _: None, 0.0):
        assert take(files) == 2
    files.create(f"{FOLDER}/1.beat-7", b"")
    with pytest.raises(StoreError, match="is still held"):
        take(files, timeout_seconds=5.0)
    assert take(files) == 3  # when the second one has lapsed as well
    assert files.names(FOLDER) == ["3.held"]


def test_who_looked_before_others_came_and_went_does_not_get_a_lease_beside_them(files, clock, monkeypatch):
    """Between its look and its put two others took turns, and the second one holds number 3 and has swept number 2."""
    files.create(f"{FOLDER}/1.held", holder())
    files.create(f"{FOLDER}/1.released", b"")
    create, overtaken = RemoteFiles.create, []

    def slow(self, path: str, data: bytes, **options) -> bool:
        if path.endswith("2.held") and not overtaken:
            overtaken.append(path)
            assert take(self) == 2
            create(self, f"{FOLDER}/2.released", b"")
            assert take(self) == 3
        return create(self, path, data, **options)

    monkeypatch.setattr(RemoteFiles, "create", slow)
    with pytest.raises(StoreError, match="is still held"):
        take(files, timeout_seconds=LEASE_SECONDS / 2)
    assert files.names(FOLDER) == ["3.held"]
    files.create(f"{FOLDER}/3.released", b"")
    assert take(files) == 4


def test_of_two_who_see_a_lapsed_lease_one_takes_it_over(files, clock, monkeypatch):
    files.create(f"{FOLDER}/1.held", holder())
    create, others = RemoteFiles.create, []

    def raced(self, path: str, data: bytes, **options) -> bool:
        if path.endswith("2.held") and not others:
            others.append(create(self, path, holder(), **options))
        return create(self, path, data, **options)

    monkeypatch.setattr(RemoteFiles, "create", raced)
    with pytest.raises(StoreError, match="is still held"):
        take(files, timeout_seconds=LEASE_SECONDS * 1.5)
    assert others == [True]
    assert files.names(FOLDER) == ["1.held", "2.held"]  # the winner of this test died before it could sweep
    assert take(files) == 3
    assert files.names(FOLDER) == ["3.held"]


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"user":"a"}', b"{" * 9])
def test_whoever_holds_it_without_saying_so_is_another_process(body):
    assert described(body) == "another process"


def test_who_holds_it_is_told_with_host_process_and_time(clock):
    import getpass
    import os

    assert described(holder()) == (
        f"{getpass.getuser()}@{os.uname().nodename} (pid {os.getpid()}) since 2026-01-01 00:00:00"
    )
