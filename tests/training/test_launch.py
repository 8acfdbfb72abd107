from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from jobs import finished, in_process, small_job

from training import numerics
from training.checkpoints import latest
from training.launch import command, elsewhere, trainer
from training.run import device_of
from training.trainer import environment

ROOT = Path(__file__).parents[2]

# stands for the step process: starts the trainer as the stages do and waits for it
STEP = """
import os, subprocess, sys
from training.launch import command
process = subprocess.Popen(command(int(sys.argv[1]), ["--job", sys.argv[2]], os.getpid()))
print(process.pid, flush=True)
process.wait()
"""


def started(job, nproc):
    step = subprocess.Popen([sys.executable, "-c", STEP, str(nproc), str(job.write())], cwd=ROOT,
                            env=os.environ | environment(job), stdout=subprocess.PIPE, text=True)  # fmt: skip
    return step, psutil.Process(int(step.stdout.readline()))


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux")
@pytest.mark.parametrize("nproc", [1, 2])
def test_a_killed_step_leaves_no_training_process_and_the_run_goes_on(world, tmp_path, nproc):
    """With two processes also: the same data reach the same steps as with one, and losses agree to 1e-5."""
    job = small_job(world, tmp_path / "job", steps=150, world_size=nproc)
    step, launcher = started(job, nproc)
    rolling = job.directory / "rolling"
    assert wait_for(lambda: list(rolling.glob("step-*")), 90), "training did not begin"
    family = [launcher, *launcher.children(recursive=True)]
    assert len(family) >= (1 if nproc == 1 else 3)  # torchrun and two workers
    step.kill()
    step.wait()
    gone = wait_for(lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in family), 10)
    left = [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        process.kill()
    assert gone, left
    if nproc == 2:
        subprocess.run(command(2, ["--job", str(job.write())], os.getpid()), cwd=ROOT, check=True,
                       env=os.environ | environment(job), stdout=subprocess.DEVNULL)  # fmt: skip
        both, alone = finished(job), in_process(small_job(world, tmp_path / "alone", steps=150))
        assert both.state["consumption"] == alone.state["consumption"]
        pairs = zip(both.losses()["loss"].to_pylist(), alone.losses()["loss"].to_pylist(), strict=True)
        assert all(a == pytest.approx(b, abs=1e-5) for a, b in list(pairs)[:20])


def test_a_trainer_whose_parent_is_gone_does_not_begin(world, tmp_path):
    job = small_job(world, tmp_path)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    found = subprocess.run(command(1, ["--job", str(job.write())], gone.pid), cwd=ROOT, check=False,
                           capture_output=True, text=True)  # fmt: skip
    assert found.returncode == 1
    assert "not training for nobody" in found.stderr


def test_signals_that_a_server_in_the_background_ignores_end_the_trainer(world, tmp_path):
    """`dagster dev &` hands down SIGINT as ignored and takes the same for SIGTERM."""
    job = small_job(world, tmp_path, steps=4000)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a child inherits what is ignored
    try:
        process = subprocess.Popen(command(1, ["--job", str(job.write())], os.getpid()), cwd=ROOT,
                                   env=os.environ | environment(job), stdout=subprocess.DEVNULL)  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, before)
    assert wait_for((job.directory / "metrics.jsonl").exists, 60)
    process.terminate()
    assert process.wait(30) == 0  # it was asked to stop, and has: with a checkpoint
    assert json.loads((job.directory / "failure.json").read_text())["kind"] == "Stopped"
    assert latest(job.directory / "rolling", say=lambda line: None) is not None


def test_an_interrupted_trainer_keeps_the_step_that_it_has_taken(world, tmp_path):
    """Dagster hands the SIGTERM of a scheduler down as SIGINT, which a terminal's Ctrl-C is too."""
    job = small_job(world, tmp_path, steps=4000, checkpoint_every=4000)
    with subprocess.Popen(command(1, ["--job", str(job.write())], os.getpid()), cwd=ROOT,
                          env=os.environ | environment(job), stdout=subprocess.DEVNULL) as process:  # fmt: skip
        assert wait_for((job.directory / "metrics.jsonl").exists, 60)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert json.loads((job.directory / "failure.json").read_text())["kind"] == "Stopped"
    kept = latest(job.directory / "rolling", say=lambda line: None)
    assert kept is not None
    assert 0 < kept.step < 4000


def test_one_process_needs_no_torchrun(monkeypatch):
    monkeypatch.delenv("STEMMA_TORCHRUN", raising=False)
    assert trainer(1, ["--job", "x"])[1:] == ["-m", "training.run", "--job", "x"]
    assert trainer(4, ["--job", "x"])[1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", "-m", "training.run", "--job", "x"
    ]  # fmt: skip
    assert elsewhere(4, ["--job", "x"]) == ""
    monkeypatch.setenv("STEMMA_TORCHRUN", "--nnodes=2 --nproc-per-node=2")
    assert trainer(4, ["--job", "x"])[3:5] == ["--nnodes=2", "--nproc-per-node=2"]
    assert elsewhere(4, ["--job", "a b"]).endswith("python -m training.launch --nproc 4 -- --job 'a b'")
    assert trainer(1, ["--job", "x"])[1:] == ["-m", "training.run", "--job", "x"]
    assert elsewhere(1, ["--job", "x"]) == ""


def test_a_process_started_by_the_command_alone_has_what_deterministic_products_need(monkeypatch):
    """On another machine nobody hands down the environment of the stage, nor does anybody to a replay."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    device_of(numerics.numerics("off", threads=1))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
