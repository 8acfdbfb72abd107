"""The job: what makes two jobs the same training, what a broken job file or a changed data file says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from training import numerics
from training.job import DataError, Job, JobFile, JobPart
from training.models.recipe import GPTRecipe
from training.recipes import PretrainRecipe
from training.run import main

ROOT = Path(__file__).parents[2]


def file_of(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return JobFile(path=path, bytes=len(data), blake3=blake3(data).hexdigest())


def plan(seed=1):
    return Plan(
        seed=seed, sequence_length=8, parts=[PlanPart(name="p", num_sequences=9)], phases=[PlanPhase(slots=[6])],
        segments=[Segment(first_step=1, first_slot=0, batch_size=2)],
    )  # fmt: skip


def job_in(folder, **fields):
    part = JobPart(name="p", shards=[file_of(folder / "shard-0.arrow", b"one"), file_of(folder / "s1", b"two")])
    heldout = JobPart(name="p", shards=[file_of(folder / "h0", b"held")], documents=file_of(folder / "d", b"docs"))
    found = {
        "kind": "pretrain", "version": "1", "run": "demo", "directory": folder / "job", "plan": plan(),
        "model": GPTRecipe(vocab_size=64), "recipe": PretrainRecipe(dtype="fp32", compile="off").identity(),
        "numerics": {"world_size": 1, "threads": 1}, "header": {"run": "demo"}, "eos_id": 0, "pad_id": 1,
        "parts": [part], "heldout": [heldout],
    }  # fmt: skip
    return Job(**{**found, **fields})


# -- identity --------------------------------------------------------------------------------------------------


def test_the_same_training_elsewhere_is_the_same_training(tmp_path):
    one, other = job_in(tmp_path / "a"), job_in(tmp_path / "b")
    assert one.parts[0].shards[0].path != other.parts[0].shards[0].path
    assert one.identity == other.identity


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "summary"},
        {"version": "2"},
        {"run": "other"},
        {"model": GPTRecipe(vocab_size=128)},
        {"recipe": {"learning_rate": 0.5}},
        {"numerics": {"world_size": 1, "threads": 1, "torch": "1.0"}},
        {"numerics": {"world_size": 1, "threads": 1, "device": "cuda"}},
        {"plan": plan(seed=2)},
        {"eos_id": 5},
        {"parts": []},
        {"class_weights": [1.0]},
        {"num_tokens": 7},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_moves_the_weights_makes_another_training(tmp_path, change):
    assert job_in(tmp_path, **change).identity != job_in(tmp_path).identity


@pytest.mark.parametrize("change", [{"world_size": 2}, {"threads": 2}, {"sharding": "fsdp"}, {"recompute": True}])
def test_more_processes_may_go_on_from_what_fewer_have_begun(tmp_path, change):
    there = {"world_size": 1, "threads": 1, **change}
    assert job_in(tmp_path, numerics=there).identity == job_in(tmp_path).identity


def test_other_bytes_make_another_training_whatever_they_are_called(tmp_path):
    one = job_in(tmp_path)
    shards = [file_of(tmp_path / "shard-0.arrow", b"ONE"), one.parts[0].shards[1]]
    assert job_in(tmp_path, parts=[JobPart(name="p", shards=shards)]).identity != one.identity
    turned = JobPart(name="p", shards=one.parts[0].shards[::-1])
    assert job_in(tmp_path, parts=[turned]).identity != one.identity  # the stream is another


# -- the file --------------------------------------------------------------------------------------------------


def test_a_job_comes_back_from_its_file(tmp_path):
    job = job_in(tmp_path, examples={"train": file_of(tmp_path / "t", b"x")}, base=file_of(tmp_path / "w", b"y"))
    assert Job.read(job.write()) == job
    assert job.write().read_bytes() == job.write().read_bytes()


def test_all_files_are_checked_the_base_and_the_examples_too(tmp_path):
    job = job_in(tmp_path, examples={"test": file_of(tmp_path / "t", b"x")}, base=file_of(tmp_path / "w", b"y"))
    assert [file.path.name for file in job.files()] == ["shard-0.arrow", "s1", "h0", "d", "t", "w"]


def edited(path, change):
    fields = json.loads(path.read_bytes())
    change(fields)
    path.write_text(json.dumps(fields))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda f: f.pop("plan"), r"plan\s+Field required"),
        (lambda f: f.update(surprise=1), r"surprise\s+Extra inputs are not permitted"),
        (lambda f: f.update(kind="guess"), r"kind\s+Input should be 'pretrain', 'classifier' or 'summary'"),
        (lambda f: f["model"].update(heads=3), r"width 128 must be an even multiple of heads \(3\)"),
        (lambda f: f["plan"].update(parts=[]), "every phase needs one number of slots for each part"),
        (lambda f: f["parts"][0]["shards"][0].pop("blake3"), r"parts\.0\.shards\.0\.blake3\s+Field required"),
    ],
)
def test_a_broken_job_file_says_which_field(tmp_path, change, told):
    path = edited(job_in(tmp_path).write(), change)
    with pytest.raises(ValidationError, match=told):
        Job.read(path)


@given(st.binary(max_size=40))
def test_bytes_that_are_no_job_are_refused(data):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.json"
        path.write_bytes(data)
        with pytest.raises(ValidationError):
            Job.read(path)


# -- changed data ----------------------------------------------------------------------------------------------


def test_a_file_as_it_was_sealed_passes(tmp_path):
    file_of(tmp_path / "x", b"tokens").check()
    file_of(tmp_path / "empty", b"").check()


@pytest.mark.parametrize("data", [b"", b"token", b"Tokens", b"tokens "])
def test_a_changed_file_is_told_with_both_digests(tmp_path, data):
    file = file_of(tmp_path / "x", b"tokens")
    file.path.write_bytes(data)
    with pytest.raises(DataError) as error:
        file.check()
    told = str(error.value)
    assert f"has {len(data)} bytes and blake3 {blake3(data).hexdigest()[:12]}" in told
    assert f"the manifest says 6 bytes and {blake3(b'tokens').hexdigest()[:12]}" in told
    assert "Re-materialize the artifact" in told


def test_a_missing_file_is_told(tmp_path):
    file = file_of(tmp_path / "x", b"tokens")
    file.path.unlink()
    with pytest.raises(DataError, match=r"x: is missing\. Re-materialize"):
        file.check()


# -- the trainer's own word ------------------------------------------------------------------------------------


def test_the_trainer_leaves_word_of_what_went_wrong(tmp_path):
    job = job_in(tmp_path, numerics=numerics.numerics("off", threads=1))
    job.parts[0].shards[0].path.write_bytes(b"other")
    path = job.write()
    with pytest.raises(DataError):
        main(["--job", str(path)])
    told = json.loads((job.directory / "failure.json").read_text())
    assert told["kind"] == "DataError"
    assert "shard-0.arrow" in told["message"]
    assert "nothing was trained on it" in told["message"]
    assert "check" in told["trace"]


def test_the_first_process_to_fail_is_the_one_that_is_quoted(tmp_path):
    job = job_in(tmp_path, numerics=numerics.numerics("off", threads=1))
    job.parts[0].shards[0].path.write_bytes(b"other")
    path = job.write()
    (job.directory / "failure.json").write_text('{"kind": "First"}')
    with pytest.raises(DataError):
        main(["--job", str(path)])
    assert json.loads((job.directory / "failure.json").read_text()) == {"kind": "First"}


def test_a_run_planned_for_another_machine_leaves_word_before_it_reads_any_data(tmp_path):
    declared = numerics.numerics("off", threads=1) | {"torch": "0.1"}
    job = job_in(tmp_path, numerics=declared)
    job.parts[0].shards[0].path.unlink()
    with pytest.raises(numerics.NumericsError, match=r"torch: declared 0\.1, found .*Plan the run again here"):
        main(["--job", str(job.write())])
    assert json.loads((job.directory / "failure.json").read_text())["kind"] == "NumericsError"


def test_the_trainer_without_a_job_says_how_it_is_called():
    found = subprocess.run(
        [sys.executable, "-m", "training.run", "--steps", "3"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    assert found.returncode == 2
    assert "the following arguments are required: --job" in found.stderr
