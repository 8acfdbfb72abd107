"""Ends before the end: no better for too long, or asked to stop."""

from __future__ import annotations

import pytest
from jobs import Interrupted, finished, in_process, launch_in_process, small_job, small_model, stopping

from pipelines.consumption import recompute_consumption
from pipelines.provenance.manifest import file_entry
from pipelines.provenance.plan import Plan
from training import checkpoints
from training.checkpoints import latest
from training.stopping import Stopped, best, is_over
from training.trainer import last_checkpoint


def evaluations(*figures):
    return [{"step": 10 * n, "bpb": bpb} for n, bpb in enumerate(figures, 1)]


@pytest.mark.parametrize(
    ("figures", "patience", "over"),
    [
        ((3.0, 2.0, 1.0), 2, False),
        ((1.0, 2.0), 2, False),
        ((1.0, 2.0, 3.0), 2, True),
        ((1.0, 1.0, 1.0), 2, True),  # as good is no better
        ((1.0, 2.0, 0.9), 2, False),
        ((1.0, 2.0, 3.0), 0, False),  # no patience: to the end of the plan
        ((), 1, False),
    ],
)
def test_a_run_is_over_when_so_many_evaluations_were_no_better(figures, patience, over):
    assert is_over(evaluations(*figures), patience) == over


def test_the_best_is_the_first_of_equals():
    assert best(evaluations(2.0, 1.0, 1.0))["step"] == 20


def test_patience_without_held_out_documents_is_told():
    with pytest.raises(ValueError, match="needs held-out documents"):
        best([{"step": 1, "bpb": None}])


PATIENT = {"eval_every": 4, "patience": 2, "learning_rate": 0.6, "warmup_steps": 1, "schedule": "constant"}  # diverges


def digests(checkpoint):
    names = ("model.safetensors", "optimizer.safetensors", "losses.arrow")
    return [file_entry(checkpoint.path, name).blake3 for name in names] + [checkpoint.state["evaluations"]]


def patient(world, directory):
    job = small_job(world, directory, steps=60, **PATIENT)
    from training.run import train

    job.write()
    train(job)
    return job


def test_a_run_that_gets_no_better_ends_with_its_best_checkpoint(world, tmp_path):
    job = patient(world, tmp_path)
    found = last_checkpoint(job, print)
    judged = found.state["evaluations"]
    on_the_way = judged[:-1]
    assert found.step == best(on_the_way)["step"] < job.plan.num_steps
    assert [each["step"] for each in on_the_way[-3:]] == [found.step, found.step + 4, found.step + 8]
    assert judged[-1]["step"] == found.step  # judged again, on all documents
    assert "by_part" in judged[-1]
    assert found.losses()["step"].to_pylist() == list(range(1, found.step + 1))
    readers = {part.name: part.reader() for part in job.parts}
    assert recompute_consumption(job.plan, readers, found.step) == found.state["consumption"]


def test_a_patient_run_that_is_killed_ends_alike(world, tmp_path):
    whole = last_checkpoint(patient(world, tmp_path / "whole"), print)
    for after in (4, 9, whole.step + 4):
        with stopping(after), pytest.raises(Interrupted):
            patient(world, tmp_path / "cut")
    assert digests(last_checkpoint(patient(world, tmp_path / "cut"), print)) == digests(whole)
    again = last_checkpoint(patient(world, tmp_path / "cut"), print)  # it has ended, and stays so
    assert digests(again) == digests(whole)


def test_what_is_sealed_says_that_it_ended_early(world):
    model = small_model(world, "patient", steps=60, launch=launch_in_process, **PATIENT)
    assert model.facts["step"] < Plan.model_validate(model.json("plan.json")).num_steps
    assert model.facts["heldout_bpb"] == model.json("heldout.json")["evaluations"][-1]["bpb"]


def test_a_run_that_is_asked_to_stop_keeps_its_step_and_goes_on_to_the_same_bytes(world, tmp_path):
    from training.run import train

    whole = in_process(small_job(world, tmp_path / "whole"))
    job = small_job(world, tmp_path / "cut", checkpoint_every=1000)
    job.write()
    asked = iter([False, False, True])
    with pytest.raises(Stopped, match="step 3 is taken and kept"):
        train(job, lambda: next(asked))
    kept = latest(job.directory / "rolling")
    assert kept is not None
    assert kept.step == 3
    assert digests(in_process(job)) == digests(whole)
    assert finished(job).step == 12


def test_a_run_that_is_asked_to_stop_where_a_checkpoint_is_due_writes_it_once(world, tmp_path, monkeypatch):
    """Writing it again would begin with its removal, and who asks may not wait for the second."""
    from training.run import train

    begun, steps = checkpoints.begun, []
    monkeypatch.setattr(checkpoints, "begun", lambda root, step: (steps.append(step), begun(root, step))[1])
    job = small_job(world, tmp_path)
    job.write()
    asked = iter([False] * 4 + [True])
    with pytest.raises(Stopped, match="step 5 is taken and kept"):
        train(job, lambda: next(asked))
    assert steps == [5]
    assert latest(job.directory / "rolling").step == 5
