"""Sharded checkpoints: every process writes the rows of each tensor that it holds, so that none ever holds them all.

One safetensors file a process, ``shard-00001-of-00008.safetensors``, with a note of its size and blake3 beside it once
it is on disk. Another number of processes reads from all files the rows that it needs. All processes must see the
same directory. (torch.distributed.checkpoint pickles its metadata; nothing here is pickled.)
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from pipelines.provenance.manifest import FileEntry, file_entry
from training.checkpoints import CheckpointError, sync, whole_or_gone
from training.weights import save_weights

NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.safetensors")
NOTE = ".written"
LOOK_EVERY = 0.05  # seconds
GRACE = 20.0  # seconds that the others have to finish when the run ends with an error; torchrun gives it 30


class GoneError(CheckpointError):
    """What was being written is gone: another process could not write its part, and knows why."""


def name_of(rank: int, world_size: int) -> str:
    return f"shard-{rank + 1:05d}-of-{world_size:05d}.safetensors"


def shares(tensors: Mapping[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Copies in the host's memory of what this process holds; of what all hold whole, the first process's."""
    found = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            found[name] = tensor.to_local().detach().to("cpu", copy=True)
        elif rank == 0:
            found[name] = tensor.detach().to("cpu", copy=True)
    return found


def write_share(
    folder: Path, rank: int, world_size: int, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> None:
    """Write the file of one process, then its note.

    Where it cannot be written the folder goes, which tells the others, and takes no room from what comes after.

    Raises:
        GoneError: if another process could not write its file.
    """
    name = name_of(rank, world_size)
    try:
        with whole_or_gone(folder):
            save_weights(folder / name, tensors, header)
            sync(folder / name)
            entry = file_entry(folder, name)
            unfinished = folder / f".{name}{NOTE}"
            unfinished.write_text(entry.model_dump_json(), encoding="utf-8")
            unfinished.rename(folder / f"{name}{NOTE}")
    except FileNotFoundError as error:  # it had lost its name before
        raise _gone(folder) from error


def written(folder: Path, world_size: int, is_given_up: Callable[[], bool]) -> list[FileEntry]:
    """The files of all processes, once they are on disk; their notes are removed.

    Raises:
        GoneError: if a process could not write its file, or has not when the run is given up.
    """
    notes = [folder / f"{name_of(rank, world_size)}{NOTE}" for rank in range(world_size)]
    waited = 0.0
    while not all(note.exists() for note in notes):
        if waited > GRACE or not folder.exists():
            raise _gone(folder)
        time.sleep(LOOK_EVERY)
        waited += LOOK_EVERY if is_given_up() else 0
    entries = [FileEntry.model_validate_json(note.read_text(encoding="utf-8")) for note in notes]
    for note in notes:
        note.unlink()
    return entries


def _gone(folder: Path) -> GoneError:
    return GoneError(f"{folder.name}: a process of the run could not write its part.")


class Rows:
    """A tensor that lies in the files of several processes, or in one of them; it is read row by row."""

    def __init__(self, slices: list) -> None:
        self._slices = slices  # in the order of the processes, which is that of the rows

    def read(self, start: int, stop: int) -> Tensor:
        """Rows from ``start`` up to ``stop``."""
        found, first = [], 0
        for piece in self._slices:
            num_rows = piece.get_shape()[0]
            if first < stop and start < first + num_rows:
                found.append(piece[max(start - first, 0) : min(stop - first, num_rows)])
            first += num_rows
        return torch.cat(found)

    def like(self, pattern: Tensor) -> Tensor:
        """The rows that ``pattern`` has here, lying where it lies."""
        if not isinstance(pattern, DTensor):
            return self.read(0, pattern.shape[0]).to(pattern.device)
        shape, offset = compute_local_shape_and_global_offset(pattern.shape, pattern.device_mesh, pattern.placements)
        local = self.read(offset[0], offset[0] + shape[0]) if shape[0] else torch.empty(shape, dtype=pattern.dtype)
        return DTensor.from_local(
            local.to(pattern.device), pattern.device_mesh, pattern.placements,
            run_check=False, shape=pattern.shape, stride=pattern.stride(),
        )  # fmt: skip


class Shards(Mapping[str, Rows]):
    """The tensors of a sharded checkpoint by name; nothing is read before it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, list[Any]] = {}  # those in which a tensor has rows
        for path in files_of(folder):
            file = safe_open(str(path), framework="pt")
            for name in file.keys():
                self._files.setdefault(name, []).append(file)

    def __getitem__(self, name: str) -> Rows:
        return Rows([file.get_slice(name) for file in self._files[name]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def files_of(folder: Path) -> list[Path]:
    """In the order of the processes; none of a checkpoint that is whole."""
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
