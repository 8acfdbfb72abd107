"""Checkpoints: everything a run needs to go on, in a directory that is complete or not there.

Written beside its final name, synced and renamed; ``state.json`` names the size and blake3 of every other file and
carries its own digest. A directory that is torn all the same (a lost disk block, a hand) is passed over in favour of
the one before, and said so.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.provenance.manifest import FileEntry, file_entry
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.tables import read_table, write_table

if TYPE_CHECKING:  # a stage opens checkpoints without torch
    from torch import Tensor

MODEL, OPTIMIZER, LOSSES, STATE = "model.safetensors", "optimizer.safetensors", "losses.arrow", "state.json"
WRITING = ".writing-"
GONE = "-gone"
AHEAD = "ahead.safetensors"  # of a run that learns further tokens (see ahead.py)
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

    @property
    def is_sharded(self) -> bool:
        """Whether each process wrote its part (see sharded.py), so that there is no file of the model."""
        return not (self.path / MODEL).exists()

    def model(self) -> dict[str, Tensor]:
        from training.weights import load_weights

        return load_weights(self.path / MODEL)

    def ahead(self) -> dict[str, Tensor]:
        """The modules that look ahead, if there are any."""
        from training.weights import load_weights

        return load_weights(self.path / AHEAD) if (self.path / AHEAD).exists() else {}

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

    folder = begun(root, int(state["step"]))
    with whole_or_gone(folder):
        metadata = {**header, "step": str(state["step"])}
        save_weights(folder / MODEL, model, metadata)
        save_weights(folder / OPTIMIZER, optimizer, metadata)
        write_table(folder / LOSSES, losses)
        if finish:
            finish(folder)
        return published(folder, state)


def begun(root: Path, step: int) -> Path:
    """An empty directory for the checkpoint of a step; what was there of it before is removed."""
    root.mkdir(parents=True, exist_ok=True)
    target, folder = root / name_of(step), root / f"{WRITING}{name_of(step)}"
    for stale in (target, folder):
        shutil.rmtree(stale, ignore_errors=True)
    folder.mkdir()
    return folder


@contextmanager
def whole_or_gone(folder: Path) -> Iterator[None]:
    """Fill a directory; where that fails, what was written does not stay to take room.

    It loses its name at once, which tells every process that fills it: its removal fails where one of them makes a file.
    """
    try:
        yield
    except BaseException:
        gone = folder.with_name(f"{folder.name}{GONE}")
        with contextlib.suppress(OSError):  # another process was first
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        raise


def published(folder: Path, state: Mapping[str, Any], known: Sequence[FileEntry] = ()) -> Checkpoint:
    """Give a directory that :func:`begun` made its name, as the checkpoint of all files in it.

    Args:
        folder: the directory.
        state: at least ``step``.
        known: files that are on disk and hashed already.
    """
    found = {entry.path: entry for entry in known}
    new = [path for path in sorted(folder.iterdir()) if path.name not in found]
    found |= {path.name: file_entry(folder, path.name) for path in new}
    body = {"format": FORMAT, **state, "files": {name: [f.bytes, f.blake3] for name, f in sorted(found.items())}}
    (folder / STATE).write_bytes(canonical_json({**body, "digest": digest(canonical_json(body))}))
    for path in [*new, folder / STATE, folder]:
        sync(path)
    target = folder.with_name(folder.name.removeprefix(WRITING))
    folder.rename(target)
    sync(folder.parent)
    return Checkpoint(target, body)


def opened(path: Path, part: int = 0, parts: int = 1) -> Checkpoint:
    """A checkpoint of which every byte is the one that was written.

    With several parts, every so-manieth file alone is looked at: processes that share a checkpoint share the work.

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
    for name, (size, expected) in sorted(state["files"].items())[part::parts]:
        file = path / name
        if not file.exists() or file.stat().st_size != size:
            found = file.stat().st_size if file.exists() else "no"
            raise CheckpointError(f"{path.name}: {name} has {found} bytes, {size} were written.")
        if file_entry(path, name).blake3 != expected:
            raise CheckpointError(f"{path.name}: {name} has other bytes than were written.")
    return Checkpoint(path, state)


def latest(root: Path, say: Callable[[str], None] = print) -> Checkpoint | None:
    """The newest checkpoint that is whole, or None."""
    return first_whole(newest_first(root), say)


def newest_first(root: Path) -> list[Path]:
    return sorted(root.glob("step-*"), reverse=True)


def first_whole(
    paths: Sequence[Path], say: Callable[[str], None] = print, look: Callable[[Path], Checkpoint] = opened
) -> Checkpoint | None:
    """The first of some checkpoints that is whole, or None; ``look`` opens one or raises."""
    for path in paths:
        try:
            return look(path)
        except CheckpointError as error:
            say(f"passed over a torn checkpoint: {error}")
    return None


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What a checkpoint and a run were made of where that is not the same, as a sentence."""
    names = [name for name in sorted({*there, *here}) if there.get(name, ...) != here.get(name, ...)]
    told = [f"{name} is {there.get(name, 'not set')!r} there and {here.get(name, 'not set')!r} here" for name in names]
    return f"What differs: {'; '.join(told)}." if there and told else "It does not say what it was made of."


def prune(root: Path, keep: int = KEEP) -> None:
    """Remove all but the newest."""
    for path in sorted(root.glob("step-*"))[:-keep]:
        shutil.rmtree(path, ignore_errors=True)
    sweep(root)


def sweep(root: Path) -> None:
    """Remove what nobody has finished."""
    for path in root.glob(f"{WRITING}*"):
        shutil.rmtree(path, ignore_errors=True)


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
