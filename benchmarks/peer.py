"""Peers in environments of their own, under the cache directory, so that their pins never meet ours."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Self

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stemma" / "peers"


def python_with(name: str, *requirements: str, base: str = sys.executable) -> Path:
    """The interpreter of an environment that holds these exact requirements; made once and kept.

    ``base`` is another interpreter for a peer that does not run on ours.
    """
    text = "\n".join([*sorted(requirements), sys.version if base == sys.executable else base])
    folder = CACHE / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        sys.stderr.write(f"setting up {name} in {folder}\n")
        install = [str(python), "-m", "pip", "install", "-qq"]
        if base == sys.executable:
            venv.create(folder, with_pip=True, clear=True)
        else:
            subprocess.run([base, "-m", "venv", "--clear", str(folder)], check=True, env=_environment())
        subprocess.run([*install, "--upgrade", "pip"], check=True, env=_environment())
        subprocess.run([*install, *requirements], check=True, env=_environment())
        ready.write_text(text, encoding="utf-8")
    return python


def _environment() -> dict[str, str]:
    """Ours without what would show a peer our own packages."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


class Peer:
    """A script that runs in a peer's environment: one JSON line in, one JSON line out, until its input ends.

    A peer that fails ends with its own traceback on standard error, and the benchmark with it.
    """

    def __init__(self, python: Path, script: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [python, "-P", script, *arguments],  # -P: no import from the script's folder, where our tokenize.py lies
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(
                f"the peer ended with exit code {self._process.wait()} and gave no answer to {question}."
            )
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
