"""Several processes: the same data in the same order, whole checkpoints, and another number of processes goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jobs import Interrupted, in_process, small_job, stopping

from training import numerics
from training.checkpoints import latest, opened
from training.launch import command
from training.trainer import environment, last_checkpoint

ROOT = Path(__file__).parents[2]
ASKED = """
import contextlib, pathlib
from training import run, stopping
from training.job import Job
with contextlib.suppress(stopping.Stopped):
    run.train(Job.read(pathlib.Path({path!r})), lambda: True)  # several processes agree at every tenth step
"""
FULL = """
import pathlib
from training import run, sharded
write = sharded.save_weights
def full(path, tensors, header):
    write(path, tensors, header)
    if header["step"] == "10" and path.name.startswith("shard-00002"):
        raise OSError(28, "No space left on device")
sharded.save_weights = full
run.main(["--job", {path!r}])
"""
LOST = """
import os, pathlib, signal
from training import run, sharded
write, sharded.GRACE = sharded.save_weights, 1
def lost(path, tensors, header):
    if header["step"] == "10" and path.name.startswith("shard-00002"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, tensors, header)
sharded.save_weights = lost
run.main(["--job", {path!r}])
"""
NO_ROOM_FOR_A_MILESTONE = """
import pathlib
from training import run, weights
write = weights.save_weights
def full(path, tensors, header):
    write(path, tensors, header)
    if header["step"] == "10" and "milestones" in path.parts:
        raise OSError(28, "No space left on device")
weights.save_weights = full
run.main(["--job", {path!r}])
"""
KILLED_BEFORE_THE_RESULT = """
import pathlib
from training import loop, run
write = loop._State._write
def killed(state, root, *, ended=False):
    if root.name == "final":
        raise SystemExit(3)
    return write(state, root, ended=ended)
loop._State._write = killed
run.main(["--job", {path!r}])
"""
WAYS = {"ddp": {}, "fsdp-recomputed": {"sharding": "fsdp", "recompute": True}}


def job_of(world, directory, processes, steps=12, sharding="ddp", *, recompute=False, **fields):
    job = small_job(world, directory, steps=steps, **fields)
    declared = numerics.numerics("off", processes, 1, sharding, recompute=recompute)
    return job.model_copy(update={"numerics": declared})


def run(job):
    """The trainer in processes of its own."""
    done = subprocess.run(
        command(job.numerics["world_size"], ["--job", str(job.write())], os.getpid()),
        cwd=ROOT, env=os.environ | environment(job), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return last_checkpoint(job, print), done.stdout


def scripted(job, text):
    """Two processes of a script that is told where the job lies."""
    job.directory.mkdir(parents=True, exist_ok=True)
    script = job.directory / "script.py"
    script.write_text(text.format(path=str(job.write())))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    return subprocess.run(torchrun, cwd=ROOT, env=os.environ | environment(job), capture_output=True, text=True,
                          check=False, timeout=300)  # fmt: skip


def stopped_at_ten(job):
    """Its last checkpoint, after two processes were asked to stop."""
    done = scripted(job, ASKED)
    assert done.returncode == 0, done.stderr
    kept = latest(job.directory / "rolling")
    assert kept is not None
    assert kept.step == 10
    return kept


def shards_of(checkpoint):
    return sorted(name for name in checkpoint.state["files"] if name.startswith("shard-"))


def losses(checkpoint):
    return checkpoint.losses()["loss"].to_pylist()


@pytest.fixture(scope="module")
def alone(world, tmp_path_factory):
    return in_process(small_job(world, tmp_path_factory.mktemp("alone"), microbatch=2, eval_every=6))


@pytest.mark.parametrize("way", ["ddp", "fsdp-recomputed"])
def test_two_processes_read_the_same_and_learn_the_same_to_rounding(world, tmp_path, alone, way):
    both, _ = run(job_of(world, tmp_path, 2, microbatch=2, eval_every=6, **WAYS[way]))
    assert both.state["consumption"] == alone.state["consumption"]
    assert losses(both) == pytest.approx(losses(alone), abs=1e-5)
    assert set(both.model()) == set(alone.model())  # whole, under the same names
    for name, weight in both.model().items():
        assert torch.allclose(weight, alone.model()[name], atol=1e-3), name
    for name, moment in both.optimizer().items():
        assert moment.shape == alone.optimizer()[name].shape
    judged = [each["bpb"] for each in both.state["evaluations"]]
    assert judged == pytest.approx([each["bpb"] for each in alone.state["evaluations"]], abs=1e-4)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_that_are_interrupted_end_with_the_bytes_of_the_uninterrupted(world, tmp_path, sharding):
    fields = {"dropout": 0.1, "microbatch": 2, "sharding": sharding}
    whole, _ = run(job_of(world, tmp_path / "whole", 2, **fields))
    job = job_of(world, tmp_path / "halved", 2, **fields)
    kept = stopped_at_ten(job)
    assert kept.is_sharded == (sharding == "fsdp")
    resumed, told = run(job)
    assert "resumed after step 10" in told
    assert resumed.state["files"] == whole.state["files"]
    assert resumed.state["consumption"] == whole.state["consumption"]


def test_one_process_goes_on_from_what_two_have_sharded(world, tmp_path, alone):
    """Half of the way on two processes with FSDP2, the rest on one: the same data, losses within 1e-5."""
    job = job_of(world, tmp_path, 2, microbatch=2, eval_every=6, sharding="fsdp")
    kept = stopped_at_ten(job)
    assert kept.state["processes"] == [[1, 2, 1, "fsdp"]]
    assert shards_of(kept) == ["shard-00001-of-00002.safetensors", "shard-00002-of-00002.safetensors"]
    assert "model.safetensors" not in kept.state["files"]
    rest, told = run(job.model_copy(update={"numerics": numerics.numerics("off", 1, 1)}))
    assert "on other processes than before" in told
    assert rest.state["processes"] == [[1, 2, 1, "fsdp"], [11, 1, 1, "none"]]
    assert rest.state["consumption"] == alone.state["consumption"]
    assert losses(rest) == pytest.approx(losses(alone), abs=1e-5)


def test_two_processes_go_on_from_what_one_has_written_and_it_from_four(world, tmp_path, alone):
    """Whole and sharded checkpoints are read by any number of processes; shares of four processes may be empty."""
    job = job_of(world, tmp_path, 4, microbatch=1, eval_every=6, sharding="fsdp")
    with stopping(after=6), pytest.raises(Interrupted):
        in_process(job.model_copy(update={"numerics": numerics.numerics("off", 1, 1)}))
    script = job.directory / "asked_to_stop.py"
    script.write_text(ASKED.format(path=str(job.write())))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", str(script)]
    done = subprocess.run(torchrun, cwd=ROOT, env=os.environ | environment(job), capture_output=True, text=True,
                          check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = latest(job.directory / "rolling")
    assert (kept.step, len(shards_of(kept))) == (10, 4)
    rest, _ = run(job.model_copy(update={"numerics": numerics.numerics("off", 2, 1, "fsdp")}))
    assert [each[1] for each in rest.state["processes"]] == [1, 4, 2]
    assert rest.state["consumption"] == alone.state["consumption"]
    assert losses(rest) == pytest.approx(losses(alone), abs=1e-5)


def test_a_milestone_of_a_sharded_run_is_whole(world, tmp_path):
    done, _ = run(job_of(world, tmp_path, 2, sharding="fsdp", milestone_every=5))
    for step in (5, 10):
        kept = opened(tmp_path / "milestones" / f"step-{step:08d}")
        assert set(kept.model()) == set(done.model())
        assert set(kept.optimizer()) == set(done.optimizer())


def test_a_process_that_cannot_write_its_share_ends_the_run_with_the_reason(world, tmp_path):
    """Rank 1 has no room at step 10; all end with its words, and step 5 is there to go on from."""
    job = job_of(world, tmp_path / "full", 2, sharding="fsdp", steps=24)
    script = tmp_path / "full.py"
    script.write_text(FULL.format(path=str(job.write())))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    done = subprocess.run(torchrun, cwd=ROOT, env=os.environ | environment(job), capture_output=True, text=True,
                          check=False, timeout=300)  # fmt: skip
    assert done.returncode != 0
    told = json.loads((job.directory / "failure.json").read_text())
    assert told["kind"] == "FullDiskError"
    assert "the disk is full" in told["message"]
    assert [path.name for path in (job.directory / "rolling").iterdir()] == ["step-00000005"]
    resumed, said = run(job)
    assert "resumed after step 5" in said
    whole, _ = run(job_of(world, tmp_path / "whole", 2, sharding="fsdp", steps=24))
    assert resumed.state["files"] == whole.state["files"]


def test_the_first_process_waits_for_no_file_of_one_that_was_killed(world, tmp_path):
    job = job_of(world, tmp_path, 2, sharding="fsdp", steps=24)
    assert scripted(job, LOST).returncode != 0
    assert json.loads((job.directory / "failure.json").read_text())["kind"] == "LostProcessError"
    _, told = run(job)
    assert "resumed after step 5" in told
    assert not list((job.directory / "rolling").glob(".writing-*"))


def test_a_milestone_without_room_takes_the_sharded_checkpoint_of_its_step_with_it(world, tmp_path):
    job = job_of(world, tmp_path, 2, sharding="fsdp", milestone_every=5)
    assert scripted(job, NO_ROOM_FOR_A_MILESTONE).returncode != 0
    assert json.loads((job.directory / "failure.json").read_text())["kind"] == "FullDiskError"
    for folder in ("rolling", "milestones"):
        assert [path.name for path in (job.directory / folder).iterdir()] == ["step-00000005"]


def test_a_sharded_run_that_was_killed_before_it_wrote_its_best_as_the_result_writes_it_then(world, tmp_path):
    fields = {"sharding": "fsdp", "patience": 1, "eval_every": 2, "learning_rate": 0.05, "checkpoint_every": 2}
    whole, _ = run(job_of(world, tmp_path / "whole", 2, **fields))
    job = job_of(world, tmp_path / "killed", 2, **fields)
    assert scripted(job, KILLED_BEFORE_THE_RESULT).returncode != 0
    assert not (job.directory / "final").exists()
    resumed, told = run(job)
    assert "resumed after step" in told
    assert resumed.state["files"] == whole.state["files"]


def test_machines_that_meet_by_rendezvous_train_one_model(world, tmp_path):
    """Two torchrun agents, each with a process of its own, as on two machines with one store."""
    together, _ = run(job_of(world, tmp_path / "one", 2, sharding="fsdp"))
    job = job_of(world, tmp_path / "two", 2, sharding="fsdp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = f"--nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{port} --local-addr=127.0.0.1"
    here = os.environ | environment(job) | {"STEMMA_TORCHRUN": said}
    with subprocess.Popen(command(2, ["--job", str(job.write())], os.getpid()), cwd=ROOT, env=here, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:  # fmt: skip
        line = first.stdout.readline()
        assert line.startswith("waiting for the other machines; there: STEMMA_TORCHRUN='--nnodes=2")
        other = line.partition("there: ")[2].replace("python", sys.executable, 1)
        second = subprocess.run(other, shell=True, cwd=ROOT, env=os.environ | environment(job), capture_output=True,
                                text=True, check=False, timeout=300)  # fmt: skip
        told = first.stdout.read()
        assert first.wait(60) == 0, told
    assert second.returncode == 0, second.stderr
    assert last_checkpoint(job, print).state["files"] == together.state["files"]


def test_recomputed_activations_change_no_bit(world, tmp_path):
    fields = {"dropout": 0.1, "microbatch": 3}
    kept = in_process(small_job(world, tmp_path / "kept", **fields))
    again = in_process(job_of(world, tmp_path / "again", 1, recompute=True, **fields))
    assert losses(kept) == losses(again)
    one, other = kept.model(), again.model()
    assert all(torch.equal(one[name], other[name]) for name in one)
