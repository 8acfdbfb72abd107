"""The launcher of the trainer: its command and environment through Dagster Pipes, its failure told, its death assured."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import dagster as dg
import psutil
import pytest

from assets import trainer
from assets.trainer import die_with_parent, pipes_launcher

CHECKOUT = Path(__file__).resolve().parents[2]


def launched(command, env):
    """A step that starts a command as the trainer is started; its result."""

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipes_launcher(context)(command, env)
        return dg.MaterializeResult()

    return dg.materialize([model], raise_on_error=False)


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    """As under `stemma run`: this process is no step of its own and asks the kernel for nothing."""
    monkeypatch.setenv("STEMMA_IN_PROCESS", "1")


def test_the_command_runs_with_the_extra_environment_over_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "kept")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = (
        "import os, sys; open(sys.argv[1], 'w').write(' '.join(os.environ.get(n, '-') "
        "for n in ('OURS', 'OMP_NUM_THREADS', 'THEIRS')))"
    )
    result = launched([sys.executable, "-c", code, str(tmp_path / "said")], {"OMP_NUM_THREADS": "1", "THEIRS": "new"})
    assert result.success
    assert (tmp_path / "said").read_text() == "kept 1 new"


def test_the_trainer_finds_pipes_and_its_messages_reach_the_step(tmp_path):
    """Rank 0 opens dagster_pipes lazily; what it reports lands in the event log of the step."""
    script = tmp_path / "speaks.py"
    script.write_text(
        "from dagster_pipes import open_dagster_pipes\n"
        "with open_dagster_pipes() as pipes:\n"
        "    pipes.log.info('step 120, loss 3.211')\n"
    )

    @dg.asset
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        pipes_launcher(context)([sys.executable, str(script)], {})
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([model], instance=instance)
        said = [entry.user_message for entry in instance.all_logs(result.run_id)]
    assert "step 120, loss 3.211" in said


@pytest.mark.parametrize("code", [1, 3])
def test_a_trainer_that_fails_fails_the_step_with_its_exit_code(code):
    result = launched([sys.executable, "-c", f"raise SystemExit({code})"], {})
    assert not result.success
    (event,) = (event for event in result.all_events if event.is_step_failure)
    error = event.step_failure_data.error
    told = [error.message, *([error.cause.message] if error.cause else [])]
    assert any(f"code {code}" in message for message in told), told


def test_a_command_that_does_not_exist_fails_the_step():
    assert not launched(["/no/such/trainer"], {}).success


def test_workers_get_more_time_to_end_than_torchrun_gives_them(monkeypatch):
    """torchrun waits 30 s for its workers; a shorter grace would kill it before them and leave them behind."""
    seen = {}

    class Client:
        def __init__(self, **options):
            seen.update(options)

        def run(self, **options):
            seen.update(options)

    monkeypatch.setattr(dg, "PipesSubprocessClient", Client)
    assert launched(["train", "--job", "job.json"], {"A": "1"}).success
    assert seen["termination_timeout_seconds"] > 30
    assert seen["command"] == ["train", "--job", "job.json"]
    assert seen["env"]["A"] == "1"


def test_in_process_nothing_is_asked_of_the_kernel(monkeypatch):
    """Our parent is the person's shell there, and a closed terminal is no reason to stop."""
    monkeypatch.setattr(trainer.ctypes, "CDLL", lambda *a, **o: pytest.fail("prctl was called"))
    die_with_parent()


def test_on_other_systems_nothing_is_asked_either(monkeypatch):
    monkeypatch.delenv("STEMMA_IN_PROCESS")
    monkeypatch.setattr(trainer.sys, "platform", "darwin")
    monkeypatch.setattr(trainer.ctypes, "CDLL", lambda *a, **o: pytest.fail("prctl was called"))
    die_with_parent()


STEP = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a shell in the background may leave it
from assets.trainer import die_with_parent
die_with_parent()
print("asked", flush=True)
time.sleep(600)
"""
WORKER = """
import subprocess, sys
step = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(step.pid, step.stdout.readline().strip(), flush=True)
step.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is Linux's")
def test_a_step_ends_when_the_run_worker_above_it_is_killed():
    environment = {name: value for name, value in os.environ.items() if name != "STEMMA_IN_PROCESS"}
    environment["PYTHONPATH"] = str(CHECKOUT)
    command = [sys.executable, "-c", WORKER, STEP]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        pid, said = worker.stdout.readline().split()
        assert said == "asked"
        step = psutil.Process(int(pid))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        _, alive = psutil.wait_procs([step], timeout=30)
    assert alive == []
