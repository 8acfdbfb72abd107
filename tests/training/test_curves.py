"""What a run tells of itself while it goes on, and what is kept of its speed."""

from __future__ import annotations

import json

import pytest
from jobs import in_process, small_job

from training.curves import EVALUATIONS, METRICS, SPEED_POINTS, append, curves, speeds


def metrics(step, **figures):
    line = {"step": step, "steps": 9, "loss": 2.0, "seconds": 0.5, "tokens_per_second": 100, "data_wait_seconds": 0.0,
            "mfu": "unknown"}  # fmt: skip
    return line | figures


def test_every_evaluation_is_told_by_source_while_the_run_goes_on(world, tmp_path):
    job = small_job(world, tmp_path, eval_every=6)
    kept = in_process(job).state["evaluations"]
    told = [json.loads(line) for line in (tmp_path / EVALUATIONS).read_text().splitlines()]
    assert [line.pop("steps") for line in told] == [12, 12]
    assert told == kept
    for evaluation in kept:
        parts = evaluation["by_part"]
        assert sorted(parts) == ["docs.alpha/1.0", "docs.beta/2.1"]
        assert sum(part["docs"] for part in parts.values()) == evaluation["docs"]
        low, high = sorted(part["bpb"] for part in parts.values())
        assert low <= evaluation["bpb"] <= high


def test_figures_have_the_same_names_in_every_run():
    assert curves(metrics(3, mfu=0.4, grad_norm=1.5)) == {
        "loss": 2.0, "seconds": 0.5, "tokens_per_second": 100.0, "data_wait_seconds": 0.0, "mfu": 0.4, "grad_norm": 1.5,
    }  # fmt: skip
    evaluation = {"step": 3, "bpb": 1.5, "bpb_clean": None, "docs": 9, "docs_clean": 0, "by_part": {"a/1": {"bpb": 2.0, "docs": 9}}}  # fmt: skip
    assert curves(evaluation) == {"heldout_bpb": 1.5, "heldout_bpb/a/1": 2.0}


def test_a_source_without_a_byte_has_no_point():
    assert curves({"step": 1, "bpb": 1.0, "by_part": {"a/1": {"bpb": None, "docs": 1}}}) == {"heldout_bpb": 1.0}


def test_speeds_are_the_means_of_their_stretch_and_few(tmp_path):
    append(tmp_path / METRICS, [metrics(step, seconds=float(step)) for step in range(1, 2 * SPEED_POINTS + 1)])
    found = speeds(tmp_path / METRICS)
    assert len(found["step"]) == SPEED_POINTS
    assert (found["step"][0], found["step"][-1]) == (2, 2 * SPEED_POINTS)
    assert found["seconds"][0] == pytest.approx(1.5)
    assert set(found["mfu"]) == {None}, "a device that is not in the table"


def test_a_step_that_was_taken_twice_counts_as_the_last_time(tmp_path):
    append(tmp_path / METRICS, [metrics(1), metrics(2, seconds=9.0)])
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 3, "se\n')  # cut short by a kill
    append(tmp_path / METRICS, [metrics(2), metrics(3)])
    assert speeds(tmp_path / METRICS)["step"] == [1, 2, 3]
    assert speeds(tmp_path / METRICS)["seconds"] == [0.5, 0.5, 0.5]


def test_a_run_without_metrics_has_no_speeds(tmp_path):
    assert speeds(tmp_path / METRICS) == {}
