"""Checkpoints of a sharded model: how long training stands still, and how long until all is on disk.

Two processes hold GPT-2's shape (124 million parameters, FSDP2, gloo) with AdamW's moments, 1.5 GB in float32, and write
them in turns: as the trainer writes its rolling checkpoints (every process its rows, behind the training), as it writes
milestones (gathered by the first process), and with torch.distributed.checkpoint, saving in place and behind the
training. Ours are hashed on the way. Then what was written is read back. Seconds are the slowest process's; medians of
alternating rounds.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.report import report, versions

ROUNDS = 3
PROCESSES = 2
WAYS = ("sharded", "gathered", "dcp", "dcp_async")


def process(folder: Path, layers: int) -> None:
    """One of the processes; the first one prints the seconds."""
    import torch
    import torch.distributed as dist

    from training.models.gpt import GPT
    from training.objectives import NextToken
    from training.optimizers import adamw, optimizer_state
    from training.parallel import Sharded
    from training.recipes import OptimisationRecipe
    from training.shapes import network as shape

    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = GPT(shape("gpt2_124m", layers=layers))
    Sharded(NextToken(network), "fp32")
    optimizer = adamw(network, OptimisationRecipe())
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()

    def held() -> dict[str, torch.Tensor]:
        return {**network.state_dict(), **optimizer_state(network, optimizer)}

    ways = {way: make(held, folder) for way, make in zip(WAYS, (_sharded, _gathered, _dcp, _dcp_async), strict=True)}
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for number in range(ROUNDS):
        for way, (write, read) in ways.items():
            seconds = []
            dist.barrier()
            started = time.perf_counter()
            wait = write(number)
            seconds.append(_slowest(time.perf_counter() - started))
            wait()
            seconds.append(_slowest(time.perf_counter() - started))
            started = time.perf_counter()
            read(number)
            seconds.append(_slowest(time.perf_counter() - started))
            found[way].append(seconds)
            dist.barrier()
            if dist.get_rank() == 0:
                shutil.rmtree(folder / f"{way}-{number}")
    if dist.get_rank() == 0:
        num_bytes = 3 * 4 * sum(parameter.numel() for parameter in network.parameters())
        sys.stdout.write(json.dumps({"seconds": found, "bytes": num_bytes}) + "\n")
    dist.destroy_process_group()


def _slowest(seconds: float) -> float:
    import torch
    import torch.distributed as dist

    value = torch.tensor(seconds, dtype=torch.float64)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return float(value)


Write = Callable[[int], Callable[[], Any]]  # returns when training may go on, with what waits for the disk
Read = Callable[[int], Any]


def _sharded(held: Callable[[], dict[str, Any]], folder: Path) -> tuple[Write, Read]:
    import torch.distributed as dist

    from training import checkpoints, sharded
    from training.parallel import like
    from training.writing import Writer

    rank, world_size, writer = dist.get_rank(), dist.get_world_size(), Writer()

    def write(number: int) -> Callable[[], Any]:
        root = [checkpoints.begun(folder / f"sharded-{number}", 1) if rank == 0 else None]
        dist.broadcast_object_list(root)
        parts, target = sharded.shares(held(), rank), root[0]
        assert target is not None

        def work() -> None:
            sharded.write_share(target, rank, world_size, parts, {"step": "1"})
            if rank == 0:
                files = sharded.written(target, world_size, writer.is_given_up.is_set)
                checkpoints.published(target, {"step": 1}, files)

        writer.begin(work)
        return writer.wait

    def read(number: int) -> None:
        path = folder / f"sharded-{number}" / checkpoints.name_of(1)
        checkpoints.opened(path, rank, world_size)
        shards = sharded.Shards(path)
        for name, tensor in held().items():
            tensor.copy_(like(shards[name], tensor))

    return write, _without_gradients(read)


def _gathered(held: Callable[[], dict[str, Any]], folder: Path) -> tuple[Write, Read]:
    import torch.distributed as dist

    from training import checkpoints
    from training.parallel import copied, like
    from training.weights import load_weights, save_weights
    from training.writing import Writer

    is_kept, writer = dist.get_rank() == 0, Writer()

    def write(number: int) -> Callable[[], Any]:
        tensors = copied(held(), is_kept=is_kept)

        def work() -> None:
            if is_kept:
                target = checkpoints.begun(folder / f"gathered-{number}", 1)
                save_weights(target / checkpoints.MODEL, tensors, {"step": "1"})
                checkpoints.published(target, {"step": 1})

        writer.begin(work)
        return writer.wait

    def read(number: int) -> None:
        path = folder / f"gathered-{number}" / checkpoints.name_of(1)
        checkpoints.opened(path, dist.get_rank(), dist.get_world_size())
        whole = load_weights(path / checkpoints.MODEL)
        for name, tensor in held().items():
            tensor.copy_(like(whole[name], tensor))

    return write, _without_gradients(read)


def _dcp(held: Callable[[], dict[str, Any]], folder: Path) -> tuple[Write, Read]:
    from torch.distributed.checkpoint.state_dict_loader import load
    from torch.distributed.checkpoint.state_dict_saver import save

    def write(number: int) -> Callable[[], Any]:
        save(held(), checkpoint_id=str(folder / f"dcp-{number}"))
        return lambda: None

    return write, _without_gradients(lambda number: load(held(), checkpoint_id=str(folder / f"dcp-{number}")))


def _dcp_async(held: Callable[[], dict[str, Any]], folder: Path) -> tuple[Write, Read]:
    from torch.distributed.checkpoint.state_dict_loader import load
    from torch.distributed.checkpoint.state_dict_saver import async_save

    def write(number: int) -> Callable[[], Any]:
        future: Any = async_save(held(), checkpoint_id=str(folder / f"dcp_async-{number}"))
        return future.result

    return write, _without_gradients(lambda number: load(held(), checkpoint_id=str(folder / f"dcp_async-{number}")))


def _without_gradients(read: Read) -> Read:
    import torch

    return torch.no_grad()(read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 blocks instead of 12")
    parser.add_argument("--process", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.process:
        process(asked.process, 2 if asked.quick else 12)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}",
                   "-m", "benchmarks.checkpoints", *(["--quick"] if asked.quick else []), "--process", folder]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"seconds"')))
    medians = {
        way: [round(statistics.median(column), 2) for column in zip(*rounds, strict=True)]
        for way, rounds in measured["seconds"].items()
    }
    ours, theirs = medians["sharded"], medians["dcp_async"]
    report(
        "checkpoints",
        [[way, *seconds] for way, seconds in medians.items()],
        ("written", "training stands still s", "on disk after s", "read back s"),
        ratios={name: round(b / a, 2) for name, a, b in zip(("stall", "on_disk", "read"), ours, theirs, strict=True)},
        seconds=medians,
        gigabytes=round(measured["bytes"] / 1e9, 2),
        versions=versions("torch", "safetensors"),
    )


if __name__ == "__main__":
    main()
