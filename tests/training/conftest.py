from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: `import small_world` from the tests beside it


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """One small world for all tests of the room; nobody changes it."""
    from small_world import small_world

    return small_world(tmp_path_factory.mktemp("world") / "store")


@pytest.fixture
def own_world(tmp_path):
    """A small world that a test may damage."""
    from small_world import small_world

    return small_world(tmp_path / "store")


@pytest.fixture(autouse=True)
def _arithmetic_as_found():
    """The trainer in process sets threads and determinism for the whole process; other tests keep theirs."""
    import torch

    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(strict)
