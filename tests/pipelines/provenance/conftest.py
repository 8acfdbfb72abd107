from __future__ import annotations

import io
import os
import shutil
import sys
import threading
import uuid
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: `from workshop import …` in the tests beside it

from pipelines.provenance.files import RemoteFiles
from pipelines.provenance.store import Store


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """What is flushed matters when a machine dies, and no test kills one; a flush costs up to 10 ms."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture(autouse=True)
def one_thread_at_a_time_in_memory(monkeypatch):
    """Object stores answer one request as a whole; fsspec's memory:// looks first and puts then."""
    lock = threading.RLock()

    def guarded(call):
        def answer(self, *arguments, **options):
            with lock:
                found = call(self, *arguments, **options)
                return iter(list(found)) if call.__name__ == "walk" else found

        return answer

    for name in ("read", "create", "upload", "download", "names", "walk", "remove", "size"):
        monkeypatch.setattr(RemoteFiles, name, guarded(getattr(RemoteFiles, name)))
    monkeypatch.setattr(RemoteFiles, "open", lambda self, path: io.BytesIO(self.read(path)))  # all readers share a seek


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(params=["local", "memory"])
def any_store(request, tmp_path) -> Store:
    """The same promises hold on a disk and on an object store."""
    if request.param == "local":
        return Store(tmp_path / "store")
    return Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory) -> Path:
    from workshop import make_small_world

    root = tmp_path_factory.mktemp("world") / "store"
    make_small_world(Store(root))
    return root


@pytest.fixture
def world(small_world, tmp_path) -> Store:
    """A copy of a small finished store, to be harmed."""
    shutil.copytree(small_world, tmp_path / "world")
    return Store(tmp_path / "world")


@pytest.fixture
def subprocess_env() -> dict[str, str]:
    here = Path(__file__).resolve()
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[3]), str(here.parent)])}
