"""Checkpoints: everything a run needs to go on, in a directory that is complete or not there.

Written beside its final name, synced and renamed; ``state.json`` names the size and blake3 of every other file and
carries its own digest. A directory that is torn all the same (a lost disk block, a hand) is passed over in favour of
the one before, and said so.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.provenance.manifest import file_entry
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.tables import read_table, write_table

if TYPE_CHECKING:  # a stage opens checkpoints without torch
    from torch import Tensor

MODEL, OPTIMIZER, LOSSES, STATE = "model.safetensors", "optimizer.safetensors", "losses.arrow", "state.json"
KEEP = 2  # rolling ones: the newest may be torn, the one before it is then not far
FORMAT = 1


class CheckpointError(RuntimeError):
    """A checkpoint does not belong to the run that wants to go on from it."""


@dataclass(frozen=True)
class Checkpoint:
    """One complete checkpoint on disk."""

    path: Path
    state: dict[str, Any]  # step, consumption, identity, evaluations

    @property
    def step(self) -> int:
        return self.state["step"]

    def model(self) -> dict[str, Tensor]:
        from training.weights import load_weights

        return load_weights(self.path / MODEL)

    def optimizer(self) -> dict[str, Tensor]:
        from training.weights import load_weights

        return load_weights(self.path / OPTIMIZER)

    def losses(self) -> pa.Table:
        return self.table(LOSSES)

    def table(self, name: str) -> pa.Table:
        return read_table(self.path / name)


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def save(
    root: Path,
    state: Mapping[str, Any],
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Tensor],
    losses: pa.Table,
    header: Mapping[str, str],
    finish: Callable[[Path], None] | None = None,
) -> Checkpoint:
    """Write one checkpoint atomically.

    Args:
        root: directory of the checkpoints.
        state: at least ``step``; everything else that is no tensor.
        model: weights by name.
        optimizer: moments by flat name.
        losses: one row a step so far.
        header: what the weight files say of themselves.
        finish: writes further files beside these.
    """
    from training.weights import save_weights

    step = int(state["step"])
    root.mkdir(parents=True, exist_ok=True)
    target, folder = root / name_of(step), root / f".writing-{name_of(step)}"
    for stale in (target, folder):
        shutil.rmtree(stale, ignore_errors=True)
    with _whole_or_gone(folder):
        metadata = {**header, "step": str(step)}
        save_weights(folder / MODEL, model, metadata)
        save_weights(folder / OPTIMIZER, optimizer, metadata)
        write_table(folder / LOSSES, losses)
        if finish:
            finish(folder)
        files = [file_entry(folder, path.name) for path in sorted(folder.iterdir())]
        body = {"format": FORMAT, **state, "files": {f.path: [f.bytes, f.blake3] for f in files}}
        (folder / STATE).write_bytes(canonical_json({**body, "digest": digest(canonical_json(body))}))
        for path in [*folder.iterdir(), folder]:
            _sync(path)
    folder.rename(target)
    _sync(root)
    return Checkpoint(target, body)


@contextmanager
def _whole_or_gone(folder: Path) -> Iterator[None]:
    """Make a directory and fill it; where there is no room, what was written does not stay to take it."""
    folder.mkdir()
    try:
        yield
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def opened(path: Path) -> Checkpoint:
    """A checkpoint of which every byte is the one that was written.

    Raises:
        CheckpointError: telling what is wrong with it.
    """
    try:
        state = json.loads((path / STATE).read_bytes())
        claimed = state.pop("digest")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path.name}: {STATE} cannot be read ({error}).") from None
    if digest(canonical_json(state)) != claimed or state.get("format") != FORMAT:
        raise CheckpointError(f"{path.name}: {STATE} was changed after it was written.")
    for name, (size, expected) in sorted(state["files"].items()):
        file = path / name
        if not file.exists() or file.stat().st_size != size:
            found = file.stat().st_size if file.exists() else "no"
            raise CheckpointError(f"{path.name}: {name} has {found} bytes, {size} were written.")
        if file_entry(path, name).blake3 != expected:
            raise CheckpointError(f"{path.name}: {name} has other bytes than were written.")
    return Checkpoint(path, state)


def latest(root: Path, say: Callable[[str], None] = print) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None."""
    for path in sorted(root.glob("step-*"), reverse=True):
        try:
            return opened(path)
        except CheckpointError as error:
            say(f"passed over a torn checkpoint: {error}")
    return None


def prune(root: Path, keep: int = KEEP) -> None:
    """Remove all but the newest."""
    for path in [*sorted(root.glob("step-*"))[:-keep], *root.glob(".writing-*")]:
        shutil.rmtree(path, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
