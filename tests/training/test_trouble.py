"""Bad days: too little memory, a full disk, a process that is killed. A clear word, and nothing lost that was whole."""

from __future__ import annotations

import errno
import json
import os
import signal

import psutil
import pytest
import torch
from jobs import in_process, small_job

import training.weights
from training import trouble
from training.checkpoints import latest
from training.loop import _State
from training.run import main
from training.trainer import TrainingError, run_job
from training.trouble import FullDiskError, OutOfMemoryError, explained, is_alive, memory_advice

ALONE = {"world_size": 1, "device": "cuda"}


def quiet(line):
    pass


# -- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "declared", "told", "not_told"),
    [
        ({"microbatch": 0, "dtype": "fp32"}, ALONE, ["now 0: all sequences", "recompute", "processes", "bf16"], []),
        ({"microbatch": 8, "dtype": "bf16"}, ALONE | {"recompute": True}, ["now 8 sequences"], ["recompute", "bf16"]),
        ({"microbatch": 1}, {"world_size": 4}, ["sharding = 'fsdp'"], ["microbatch", "processes and"]),
        ({"microbatch": 1}, {"world_size": 4, "sharding": "fsdp", "recompute": True}, ["a smaller model"], ["fsdp"]),
    ],
)
def test_the_advice_names_the_knobs_that_are_not_turned_yet(recipe, declared, told, not_told):
    advice = memory_advice(recipe, declared)
    assert all(words in advice for words in told)
    assert not any(words in advice for words in not_told)


def test_what_torch_says_on_a_cpu_without_memory_is_understood(tmp_path):
    with pytest.raises(OutOfMemoryError, match=r"microbatch.*recompute = true"), explained({}, ALONE, tmp_path):
        torch.empty(2**50)


def test_another_error_stays_what_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="another") as error, explained({}, ALONE, tmp_path):
        raise RuntimeError("another")
    assert type(error.value) is RuntimeError


def test_a_step_that_does_not_fit_leaves_word_of_what_to_do(world, tmp_path, monkeypatch):
    job = small_job(world, tmp_path, microbatch=4)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee documentation.")

    monkeypatch.setattr(_State, "_backward", full)
    with pytest.raises(OutOfMemoryError):
        main(["--job", str(job.write())])
    told = json.loads((tmp_path / "failure.json").read_text())
    assert told["kind"] == "OutOfMemoryError"
    assert "Tried to allocate 2.00 GiB. What saves memory: a smaller microbatch" in told["message"]


@pytest.mark.parametrize(
    "said", ["the trainer was killed by signal 9.", "External execution process failed with code -9"]
)
def test_a_trainer_that_was_killed_without_a_word_is_explained(world, tmp_path, said):
    def killed(command, environment):
        raise RuntimeError(said)

    with pytest.raises(TrainingError, match=r"kernel kills so when memory runs out.*microbatch"):
        run_job(small_job(world, tmp_path), killed, quiet)


# -- disk --------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_a_checkpoint_is_written_costs_that_checkpoint_alone(world, tmp_path, monkeypatch):
    job = small_job(world, tmp_path / "full")
    write = training.weights.save_weights

    def fill(path, tensors, metadata):
        write(path, tensors, metadata)
        if metadata["step"] == "10" and path.name == "optimizer.safetensors":
            with path.open("r+b") as file:
                file.truncate(1000)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(training.weights, "save_weights", fill)
    with pytest.raises(FullDiskError, match=r"the disk is full: [\d,]+ MiB are free in .*stemma gc"):
        main(["--job", str(job.write())])
    assert [path.name for path in (job.directory / "rolling").iterdir()] == ["step-00000005"]
    assert json.loads((job.directory / "failure.json").read_text())["kind"] == "FullDiskError"
    monkeypatch.undo()
    assert in_process(job).state == in_process(small_job(world, tmp_path / "whole")).state


def test_an_error_of_the_disk_that_is_no_lack_of_room_stays_what_it_is(tmp_path):
    with pytest.raises(PermissionError), explained({}, ALONE, tmp_path):
        raise PermissionError(errno.EACCES, "no")


# -- processes ---------------------------------------------------------------------------------------------------


def test_a_killed_process_of_several_is_named_and_takes_no_checkpoint_along(world, tmp_path):
    """Rank 1 is killed as the kernel does it; rank 0 ends with a word, and torchrun ends."""
    job = small_job(world, tmp_path, steps=4000, world_size=2)  # it does not come to its end before
    family: list[psutil.Process] = []

    def kill(line):
        if not family:
            children = psutil.Process().children(recursive=True)  # those of earlier tests among them
            family.extend(child for child in children if {"training.run", "torch.distributed.run"} & {*child.cmdline()})
            (victim,) = (process for process in family if rank_of(process) == "1")
            victim.send_signal(signal.SIGKILL)

    with pytest.raises(
        TrainingError, match=r"LostProcessError: process 1 of 2 \(pid \d+\) was killed and left no word"
    ):
        run_job(job, None, quiet, kill)
    gone, alive = psutil.wait_procs(family, timeout=30)
    assert (len(gone) >= 3, alive) == (True, [])
    kept = latest(job.directory / "rolling", quiet)
    assert kept is not None
    assert kept.step >= 5
    assert kept.state["identity"] == job.identity, "the next start goes on from it"


def rank_of(process):
    try:
        return process.environ().get("RANK") if "training.run" in process.cmdline() else None
    except psutil.Error:
        return None


def test_a_process_that_is_dead_and_not_waited_for_is_not_alive(monkeypatch):
    monkeypatch.setattr(trouble, "GONE_SECONDS", 0.0)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
    assert not is_alive(pid)
    os.waitpid(pid, 0)
    assert not is_alive(pid)
    assert is_alive(os.getpid())
    assert trouble._gone([("elsewhere", pid), (os.uname().nodename, os.getpid())], 1) is None, "not of this machine"
