"""Trouble on the machine: out of memory, a full disk, a process that was killed, each told with what to do about it.

The trainer leaves word of an error (see run.py); here such errors get the words that help. A process that the kernel
kills leaves none: those that trained with it, or the stage that waits for it, say what must have happened.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GONE_SECONDS = 5.0  # a killed process closes its connections a moment before it is seen to be dead
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "DefaultCPUAllocator")  # CUDA's, and the CPU's of torch
KILLED = "The kernel kills so when memory runs out (`dmesg` tells), and so does `kill -9`."


class OutOfMemoryError(RuntimeError):
    """The device or the machine has too little memory for a step."""


class LostProcessError(RuntimeError):
    """Another process of the run is gone and has left no word."""


class FullDiskError(OSError):
    """There is no room for what a run must write."""


def memory_advice(recipe: Mapping[str, Any], numerics: Mapping[str, Any]) -> str:
    """The knobs that save memory and are not turned yet, in the order in which they cost least."""
    micro, found = recipe.get("microbatch", 0), []
    if micro != 1:
        now = f"now {micro} sequences" if micro else "now 0: all sequences of a step at once"
        found.append(f"a smaller microbatch in the training table ({now}; the same weights to rounding)")
    if not numerics.get("recompute"):
        found.append("recompute = true in [runs.NAME.compute]: activations are computed twice, a third more work")
    if numerics.get("world_size", 1) == 1:
        found.append("processes and sharding = 'fsdp' there, where there are more GPUs: each holds a share")
    elif numerics.get("sharding", "ddp") == "ddp":
        found.append("sharding = 'fsdp' there: each process holds a share of weights and moments")
    if recipe.get("dtype") == "fp32" and numerics.get("device") == "cuda":
        found.append("dtype = 'bf16'")
    knobs = "; ".join(found) or "a smaller model, or shorter sequences"
    return f"What saves memory: {knobs}. `stemma plan` estimates it beforehand."


@contextmanager
def explained(recipe: Mapping[str, Any], numerics: Mapping[str, Any], directory: Path) -> Iterator[None]:
    """Errors of memory and disk come out with what to do.

    Raises:
        OutOfMemoryError: for torch's and Python's own.
        FullDiskError: naming the directory and the room that is left.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise OutOfMemoryError(f"{first} {memory_advice(recipe, numerics)}") from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(directory).free
        raise FullDiskError(
            error.errno,
            f"the disk is full: {free / 2**20:,.0f} MiB are free in {directory}. The checkpoints before are whole; "
            "nothing is left of the one that was being written. Make room (`stemma gc` tells what may go), then run again",
        ) from error


@contextmanager
def together(rank: int, world_size: int) -> Iterator[None]:
    """Processes that train together: if one is killed, the error of the others says so and not what it did to them.

    Raises:
        LostProcessError: naming it.
    """
    if world_size == 1:
        yield
        return
    import torch.distributed as dist

    peers: list[Any] = [None] * world_size
    dist.all_gather_object(peers, (platform.node(), os.getpid()))
    try:
        yield
    except RuntimeError as error:
        gone = _gone(peers, rank) if isinstance(error, dist.DistError) or "onnection" in str(error) else None
        if gone is None:
            raise
        raise LostProcessError(
            f"process {gone} of {world_size} (pid {peers[gone][1]}) was killed and left no word; the others ended with it. "
            f"{KILLED} The last checkpoint is whole."
        ) from error


def _gone(peers: list[tuple[str, int]], rank: int) -> int | None:
    """The rank of a process of this machine that is dead, if there is one within some seconds."""
    here, until = platform.node(), time.monotonic() + GONE_SECONDS
    others = {number: pid for number, (node, pid) in enumerate(peers) if node == here and number != rank}
    while True:
        for number, pid in others.items():
            if not is_alive(pid):
                return number
        if time.monotonic() > until:
            return None
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not waited for does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
