"""Compiled kernels are those of the sources that are there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CALLER = "from numba import njit\nfrom pipelines.callee import answer\n\n@njit(cache=True)\ndef ask():\n    return answer()\n"
CALLEE = "from numba import njit\n\n@njit(cache=True)\ndef answer():\n    return {}\n"


def asked(root):
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"PYTHONPATH": str(root)}
    code = "from pipelines.caller import ask; print(ask())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_kernel_is_compiled_anew_when_a_function_of_another_file_that_it_calls_has_changed(tmp_path):
    package = tmp_path / "pipelines"
    package.mkdir()
    shutil.copy(ROOT / "pipelines" / "__init__.py", package)
    (package / "caller.py").write_text(CALLER)
    (package / "callee.py").write_text(CALLEE.format(1))
    assert asked(tmp_path) == "1"
    (package / "callee.py").write_text(CALLEE.format(2))
    assert asked(tmp_path) == "2"
