from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode: `import corpora` from the tests beside it


# the first example of a test may compile a kernel, which takes seconds
settings.register_profile("kernels", deadline=None)
settings.load_profile("kernels")


@pytest.fixture
def corpora(tmp_path):
    from corpora import Corpora

    return Corpora(tmp_path / "store")


@pytest.fixture
def shared_data() -> Path:
    """The test data folder that lies beside the checkout on machines that have it."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    folder = Path(os.environ.get("STEMMA_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no shared test data at {folder} (STEMMA_SHARED_DATA)")
    return folder
