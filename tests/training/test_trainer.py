"""The trainer as a stage sees it: what it is told when the trainer dies, fails, or leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import sys

import pyarrow as pa
import pytest
import torch
from small_world import SPECIALS

from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from training import checkpoints, trainer
from training.job import Job
from training.models.recipe import GPTRecipe
from training.trainer import TrainingError, environment, followed, last_checkpoint, placed, run_job


@pytest.fixture
def job(tmp_path):
    """A job of three steps that names no file."""
    return Job(
        kind="pretrain", version="1", run="demo", directory=tmp_path / "job", model=GPTRecipe(vocab_size=64),
        recipe={"seed": 1}, numerics={"world_size": 1, "threads": 3}, header={}, eos_id=0, pad_id=SPECIALS["<|pad|>"],
        plan=Plan(
            seed=1, sequence_length=8, parts=[PlanPart(name="p", num_sequences=9)], phases=[PlanPhase(slots=[6])],
            segments=[Segment(first_step=1, first_slot=0, batch_size=2)],
        ),
    )  # fmt: skip


def quiet(line):
    del line


def finishing(job, **told):
    """A launcher of a trainer that ends well."""
    return lambda command, variables: (job.directory / "times.json").write_text(json.dumps(told))


# -- a trainer that ends ---------------------------------------------------------------------------------------


def test_what_the_trainer_measured_comes_back(job):
    assert run_job(job, finishing(job, seconds=1.5), quiet) == {"seconds": 1.5, "speeds": {}}


def test_it_is_started_on_the_job_that_was_written(job):
    seen = {}

    def launch(command, variables):
        seen.update(command=command, variables=variables)
        finishing(job)(command, variables)

    run_job(job, launch, quiet)
    assert seen["command"][:3] == [sys.executable, "-m", "training.launch"]
    assert seen["command"][-2:] == ["--job", str(job.directory / "job.json")]
    assert str(os.getpid()) in seen["command"]
    assert Job.read(job.directory / "job.json") == job
    assert seen["variables"]["OMP_NUM_THREADS"] == "3"


def test_a_failure_is_told_with_kind_message_and_trace(job):
    def launch(command, variables):
        told = {"kind": "DataError", "message": "shard-00000: changed", "trace": "line 7 in loop.py"}
        (job.directory / "failure.json").write_text(json.dumps(told))
        raise TrainingError("the trainer ended with exit code 1")

    with pytest.raises(TrainingError) as error:
        run_job(job, launch, quiet)
    told = str(error.value)
    assert "training of demo failed: DataError: shard-00000: changed" in told
    assert "line 7 in loop.py" in told
    assert error.value.__cause__ is None  # that a process ended is not the root of it
    assert f"Run again to go on from the last checkpoint in {job.directory}" in told


def test_without_a_word_of_its_own_the_launcher_is_quoted(job):
    def launch(command, variables):
        raise RuntimeError("no such machine")

    with pytest.raises(TrainingError, match="training of demo failed: no such machine"):
        run_job(job, launch, quiet)


def test_what_an_earlier_run_left_is_not_taken_for_this_ones(job):
    job.directory.mkdir()
    (job.directory / "failure.json").write_text('{"kind": "Old", "message": "old", "trace": ""}')
    (job.directory / "times.json").write_text('{"seconds": 99}')
    with pytest.raises(TrainingError, match="it ended without saying why"):
        run_job(job, lambda command, variables: None, quiet)
    assert not (job.directory / "failure.json").exists()


# -- a child process -------------------------------------------------------------------------------------------


def launched(code, said=None):
    trainer._launch([sys.executable, "-c", code], {"WORD": "hello"}, (said if said is not None else []).append)


def test_every_line_is_passed_on_and_the_environment_is_added():
    said = []
    launched("import os, sys; print(os.environ['WORD']); print('é', file=sys.stderr); print('end', end='')", said)
    assert sorted(said) == ["end", "hello", "é"]


def test_an_exit_code_is_an_error_with_the_last_lines():
    with pytest.raises(TrainingError) as error:
        launched("import sys; [print(f'line {i}.') for i in range(100)]; sys.exit(3)")
    told = str(error.value)
    assert "ended with exit code 3. Its last lines:" in told
    assert "line 99." in told
    assert "line 70." in told
    assert "line 69." not in told  # thirty lines


def test_a_signal_is_named():
    with pytest.raises(TrainingError, match=f"was killed by signal {int(signal.SIGKILL)}"):
        launched("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")


def test_output_that_is_no_text_stops_nothing():
    said = []
    launched(r"import sys; sys.stdout.buffer.write(b'\xff\xfe torn\n')", said)
    assert said[0].endswith(" torn")


def test_an_interrupted_stage_ends_the_trainer_and_says_so_itself():
    """The listener gives up at the first line; the child would have gone on for a minute."""

    class Stop(BaseException):
        pass

    def give_up(line):
        raise Stop(line)

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.raises(Stop) as error:
        trainer._launch([sys.executable, "-c", code], {}, give_up)
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(error.value)), 0)


# -- the last checkpoint ---------------------------------------------------------------------------------------


def kept(job, step, identity=None):
    state = {"step": step, "identity": identity or job.identity, "consumption": "", "evaluations": []}
    weights = {"w": torch.ones(2)}
    return checkpoints.save(job.directory / "rolling", state, weights, weights, pa.table({"step": [step]}), {})


def test_the_checkpoint_of_the_last_step_is_what_is_sealed(job):
    kept(job, 2)
    last = kept(job, 3)
    assert (last_checkpoint(job, quiet).path, last_checkpoint(job, quiet).step) == (last.path, 3)


@pytest.mark.parametrize("planted", ["nothing", "an earlier step", "another run's", "a torn one"])
def test_anything_else_is_not_sealed(job, planted):
    job.directory.mkdir()
    if planted == "an earlier step":
        kept(job, 2)
    elif planted == "another run's":
        kept(job, 3, identity="f" * 64)
    elif planted == "a torn one":
        (kept(job, 3).path / "model.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"training of demo ended, but .* holds no whole checkpoint of step 3"):
        last_checkpoint(job, quiet)


# -- where and how ---------------------------------------------------------------------------------------------


def test_scratch_is_named_by_the_identity(job, tmp_path):
    found = placed(job, tmp_path)
    assert found.directory == tmp_path / "training" / job.identity[:24]
    assert found.identity == job.identity
    assert placed(found, tmp_path / "elsewhere").directory.name == found.directory.name


def test_the_environment_finds_the_checkout_before_what_was_there(job, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    assert environment(job)["PYTHONPATH"] == f"{trainer.ROOT}{os.pathsep}/somewhere"
    monkeypatch.delenv("PYTHONPATH")
    assert environment(job)["PYTHONPATH"] == str(trainer.ROOT)


def test_a_spin_count_of_ones_own_is_kept(job, monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert environment(job)["GOMP_SPINCOUNT"] == "20000"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert environment(job)["GOMP_SPINCOUNT"] == "7"


# -- progress --------------------------------------------------------------------------------------------------


def test_nobody_who_listens_is_no_reason_to_follow(tmp_path):
    with followed(tmp_path / "nowhere" / "metrics.jsonl", None):
        pass


def test_lines_that_were_there_before_are_not_told_again(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    path.write_text('{"step": 1}\n{"step": 2}\n')
    with followed(path, seen.append), path.open("a") as file:
        file.write('{"step": 3}\n')
    assert seen == [{"step": 3}]


def test_a_line_that_is_still_being_written_waits_for_its_end(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    path.write_bytes(b'{"step": 1}\n{"st')
    position = trainer._new_lines(path, 0, seen.append)
    assert (seen, position) == ([{"step": 1}], 12)
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    assert trainer._new_lines(path, position, seen.append) == 24
    assert seen == [{"step": 1}, {"step": 2}]


def test_a_file_that_appears_late_is_followed_from_its_beginning(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []
    with followed(path, seen.append):
        path.write_text('{"step": 1}\n')
    assert seen == [{"step": 1}]
