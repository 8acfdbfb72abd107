"""Leases: one builder of a key at a time, and nobody while garbage is collected."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pipelines.provenance.files import Files, StoreError
from pipelines.provenance.ledger import user_name
from pipelines.provenance.recipe import canonical_json

LEASE_SECONDS = 120.0  # a remote lease that was not renewed for this long belongs to a dead process
POLL_SECONDS = 0.1
REMOTE_POLL_SECONDS = 0.5
COLLECTOR = ".collector"  # builders share this lock, the collector of garbage has it alone
_HELD: set[int] = set()  # descriptors of the locks of this process


def _let_go() -> None:
    """A forked child must not keep its parent's locks alive when the parent is killed."""
    for descriptor in _HELD:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def local_lease(root: Path, name: str, waiting: Callable[[str], None], timeout_seconds: float) -> Iterator[None]:
    """A kernel lock that dies with its process."""
    with (
        _locked(root / COLLECTOR, fcntl.LOCK_SH, waiting, timeout_seconds),
        _locked(root / name, fcntl.LOCK_EX, waiting, timeout_seconds),
    ):
        yield


@contextlib.contextmanager
def collector(root: Path) -> Iterator[None]:
    """The whole store, for whoever removes from it.

    Raises:
        StoreError: if anything is being built.
    """
    with _locked(root / COLLECTOR, fcntl.LOCK_EX, lambda _: None, 0.0):
        yield


@contextlib.contextmanager
def _locked(path: Path, mode: int, waiting: Callable[[str], None], timeout_seconds: float) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, owner = os.open(path, os.O_RDWR | os.O_CREAT, 0o666), os.getpid()
    _HELD.add(descriptor)
    try:
        _wait_for(descriptor, mode, path.name, waiting, timeout_seconds)
        if mode == fcntl.LOCK_EX:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder(), 0)
        yield
    finally:
        if os.getpid() == owner:
            _HELD.discard(descriptor)
            os.close(descriptor)


def _wait_for(descriptor: int, mode: int, name: str, waiting: Callable[[str], None], timeout_seconds: float) -> None:
    deadline, told = time.monotonic() + timeout_seconds, False
    while True:
        try:
            return fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            body = os.pread(descriptor, 4096, 0)
        if body and not told:  # the holder writes who it is right after it got the lock
            waiting(described(body))
            told = True
        if time.monotonic() >= deadline:
            raise StoreError(f"lease {name} is held by {described(body)}. Wait until that has ended.")
        time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def remote_lease(files: Files, folder: str, waiting: Callable[[str], None], timeout_seconds: float) -> Iterator[None]:
    """Lease number n is alive while ``n.beat-*`` files keep appearing, and over when ``n.released`` exists."""
    mine = _taken(files, folder, waiting, timeout_seconds)
    stop = threading.Event()

    def renew() -> None:
        beat = 0
        while not stop.wait(LEASE_SECONDS / 4):
            beat += 1
            with contextlib.suppress(OSError):  # three more beats fit before the lease lapses
                files.create(f"{folder}/{mine}.beat-{beat}", b"")

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        files.create(f"{folder}/{mine}.released", b"")


def _taken(files: Files, folder: str, waiting: Callable[[str], None], timeout_seconds: float) -> int:
    """Take the next number once the newest one is released or has lapsed, and sweep what earlier ones left."""
    start = changed = time.monotonic()
    names: list[str] = []
    told = False
    while True:
        if (found := files.names(folder)) != names:
            names, changed = found, time.monotonic()
        newest = _newest(names)
        free = newest == 0 or f"{newest}.released" in names or time.monotonic() - changed > LEASE_SECONDS
        if free and files.create(f"{folder}/{newest + 1}.held", holder()):
            if _newest(files.names(folder)) > newest + 1:  # others had this number since the look, and swept it
                files.remove(f"{folder}/{newest + 1}.held")
                continue
            for name in names:
                files.remove(f"{folder}/{name}")
            return newest + 1
        if not free and not told:
            with contextlib.suppress(FileNotFoundError):  # it may just have been released and swept
                waiting(described(files.read(f"{folder}/{newest}.held")))
                told = True
        if time.monotonic() - start > timeout_seconds:
            raise StoreError(f"lease {folder} is still held. Wait until that has ended.")
        time.sleep(REMOTE_POLL_SECONDS)


def _newest(names: list[str]) -> int:
    return max((int(name.split(".")[0]) for name in names), default=0)


def holder() -> bytes:
    """Who holds a lease, for those who wait."""
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return canonical_json({"user": user_name(), "host": os.uname().nodename, "pid": os.getpid(), "since": since})


def described(body: bytes) -> str:
    try:
        found = json.loads(body)
        return f"{found['user']}@{found['host']} (pid {found['pid']}) since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
