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
