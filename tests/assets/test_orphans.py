"""No training process outlives the step or the run worker that started it."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")


def trainers() -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if "training.run" in command or "torch.distributed.run" in command or "training.launch" in command:
            found.append(process)
    return found


def wait_for(condition, seconds):
    """What the condition gave when it first held, or what it gave last: it is looked at once a time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def mine(folder) -> list[psutil.Process]:
    """Trainers whose job lies in this test's store."""
    return [p for p in trainers() if str(folder) in " ".join(_command(p))]


def _command(process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@linux
def test_killing_stemma_run_kills_the_trainer(empty):
    empty.edit("steps = 130", "steps = 13000")
    empty.stemma("run", "--select", "mixture")
    environment = {**os.environ, "STEMMA_STORE": str(empty.url), "STEMMA_SPEC": str(empty.spec_path)}
    with subprocess.Popen(
        [sys.executable, "-m", "assets", "run", "--select", "pretrained_model"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert wait_for(lambda: mine(empty.folder), 90), "the trainer did not start"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert wait_for(lambda: not mine(empty.folder), 10), "a trainer is still alive"


@linux
@pytest.mark.parametrize("victim", ["step", "run worker"])
def test_killing_the_step_process_or_the_run_worker_kills_the_trainer(empty, victim):
    """The multiprocess executor of `dg launch`: run worker -> step process -> trainer."""
    empty.edit("steps = 130", "steps = 13000")
    empty.stemma("run", "--select", "mixture")
    environment = {
        **os.environ,
        "STEMMA_STORE": str(empty.url),
        "STEMMA_SPEC": str(empty.spec_path),
        "DAGSTER_HOME": str(empty.url / "dagster"),
    }
    environment.pop("STEMMA_IN_PROCESS", None)
    command = [
        sys.executable,
        "-m",
        "dagster",
        "asset",
        "materialize",
        "-m",
        "assets.definitions",
        "--select",
        "pretrained_model",
        "--partition",
        "demo",
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        started = wait_for(lambda: mine(empty.folder), 120)
        assert started, "the trainer did not start"
        worker = psutil.Process(process.pid)
        step = started[0]  # not looked up again: in the moment of its exec a process has no command line
        while step.ppid() != worker.pid:
            step = step.parent() or pytest.fail("the trainer does not descend from the run worker")
        (step if victim == "step" else worker).send_signal(signal.SIGKILL)
        gone = wait_for(lambda: not mine(empty.folder), 15)
        process.kill()
        process.wait()
    assert gone, "a trainer is still alive"
