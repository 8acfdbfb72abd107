"""The trainer: one process of a run, started by ``training.launch`` or by torchrun on every machine.

torchrun --nproc-per-node 8 -m training.run --job job.json
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from training import numerics, stopping, tracking, trouble
from training.job import Job
from training.launch import LAUNCHER, die_with_parent
from training.loop import Run, Task
from training.pretraining import Pretraining
from training.recipes import FinetuneRecipe, PretrainRecipe

FAILURE, TIMES = "failure.json", "times.json"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__)
    parser.add_argument("--job", type=Path, required=True, help="file that training.pretrain or finetune has written")
    launcher = os.environ.get(LAUNCHER)
    die_with_parent(signal.SIGKILL, int(launcher) if launcher else None)
    job = Job.read(parser.parse_args(arguments).job)
    try:
        with stopping.on_request() as asked, trouble.explained(job.recipe, job.numerics, job.directory):
            train(job, asked)
    except stopping.Stopped as stopped:  # the exit code is 0: who asked got what was asked for
        _tell_failure(job, stopped)
        print(stopped, flush=True)
    except BaseException as error:
        _tell_failure(job, error)
        raise


def train(job: Job, is_asked_to_stop: Callable[[], bool] = lambda: False) -> None:
    """Train a job to its end, with as many processes as the environment says.

    Raises:
        Stopped: if it was asked to stop on the way.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world_size != job.numerics["world_size"]:
        raise numerics.NumericsError(
            f"the run was planned for {job.numerics['world_size']} processes, {world_size} were started."
        )
    device = device_of(job.numerics)
    if world_size > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    with trouble.together(rank, world_size), _voice(rank) as say:
        if rank == 0:
            _check_files(job, say)
        if world_size > 1:
            dist.barrier()
        run = _run(job, device, rank, world_size, say)
        run.is_asked_to_stop = is_asked_to_stop
        began, before = time.time(), time.perf_counter()
        with tracking.tracked(tracking.chosen(job.track) if rank == 0 else [], _told(job), say) as run.track:
            run.train()
        if rank == 0:
            seconds = round(time.perf_counter() - before, 3)
            _note(job.directory / TIMES, {"began": began, "seconds": seconds, "device": _named(device)})
    if world_size > 1:
        dist.destroy_process_group()


def device_of(declared: dict[str, Any]) -> torch.device:
    """Set up arithmetic as it is declared; nothing here may be left to chance.

    Raises:
        NumericsError: if this machine has other numerics.
    """
    numerics.check(declared)
    # deterministic matrix products on a GPU need it; here, so that it holds on every machine and for a replay
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(declared["threads"])
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid, slow
    if declared["device"] == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    return torch.device("cpu")


def _run(job: Job, device: torch.device, rank: int, world_size: int, say: Callable[[str], None]) -> Run:
    if job.kind == "pretrain":
        recipe = PretrainRecipe.model_validate(job.recipe)
        task: Task = Pretraining(job, recipe, device, rank, world_size)
        return Run(
            task, recipe, job.directory, job.header, job.identity, device, rank, world_size,
            recipe.eval_every, recipe.milestone_every, say, recipe.patience, **_compute(job),
        )  # fmt: skip
    from training.finetuning import finetuning

    recipe = FinetuneRecipe.model_validate(job.recipe)
    task = finetuning(job, recipe, device, rank, world_size)
    return Run(
        task, recipe, job.directory, job.header, job.identity, device, rank, world_size, say=say, **_compute(job)
    )


def _told(job: Job) -> tracking.Told:
    return tracking.Told(job.run, job.identity, job.tracking, job.recipe | job.header)


def _compute(job: Job) -> dict[str, Any]:
    sharding, recomputed = job.numerics.get("sharding", "ddp"), job.numerics.get("recompute", False)
    return {"sharding": sharding, "recomputed": recomputed, "made_of": job.made_of}


def _check_files(job: Job, say: Callable[[str], None]) -> None:
    files = list(job.files())
    for file in files:
        file.check()
    say(f"checked {len(files)} files, {sum(f.bytes for f in files):,} bytes: all as sealed")


@contextmanager
def _voice(rank: int) -> Iterator[Callable[[str], None]]:
    """Where progress goes: standard output and, under Dagster, its Pipes; rank 0 alone speaks."""
    if rank != 0:
        yield lambda _: None
    elif "DAGSTER_PIPES_CONTEXT" in os.environ:
        from dagster_pipes import open_dagster_pipes  # only where Dagster has started us

        with open_dagster_pipes() as pipes:
            yield pipes.log.info
    else:
        yield lambda line: print(line, flush=True)


def _tell_failure(job: Job, error: BaseException) -> None:
    """Leave word of what went wrong, for the stage that waits; the first process to fail is the one that knows."""
    told = {
        "kind": type(error).__name__,
        "message": str(error),
        "trace": "".join(traceback.format_exception(error)[-3:]),
    }
    path = job.directory / FAILURE
    if not path.exists():
        with contextlib.suppress(OSError):  # a full disk: the trainer's own output says it then
            _note(path, told)


def _note(path: Path, value: dict) -> None:
    written = path.with_suffix(".writing")  # whole or not there
    written.write_text(json.dumps(value))
    written.replace(path)


def _named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main()
