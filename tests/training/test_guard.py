"""Steps that would spoil a run are skipped and written down, and a run that was killed skips the same."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from jobs import Interrupted, in_process, launch_in_process, small_job, small_model, stopping
from test_step import RECIPE, Answers, poisoned

from training import batches, checkpoints, guard, loop
from training.guard import NonFiniteLossError, objection
from training.loop import Run
from training.recipes import OptimisationRecipe

FLAT = [2.0, 2.1] * 16


@pytest.mark.parametrize(
    ("loss", "norm", "before", "deviations", "reason"),
    [
        (2.0, 1.0, FLAT, 4.0, ""),
        (math.nan, 1.0, FLAT, 4.0, "not finite"),
        (2.0, math.inf, FLAT, 0.0, "not finite"),
        (2.3, 1.0, FLAT, 4.0, "spike"),  # mean 2.05, deviation 0.05
        (2.24, 1.0, FLAT, 4.0, ""),
        (9.0, 1.0, FLAT, 0.0, ""),  # nobody asked for spikes
        (9.0, 1.0, FLAT[:15], 4.0, ""),  # too early to tell
        (2.05, 1.0, [2.0] * 64, 4.0, "spike"),
        (2.03, 1.0, [2.0] * 64, 4.0, ""),  # on a flat stretch everything would be one
        (1.5, 1.0, [9.0] * 64 + FLAT * 2, 4.0, ""),
        (2.3, 1.0, [9.0] * 64 + FLAT * 2, 4.0, "spike"),  # the last 64 count
    ],
)
def test_what_is_objected_to(loss, norm, before, deviations, reason):
    assert objection(loss, norm, before, deviations) == reason


def test_spikes_without_a_number_of_skips_are_refused():
    with pytest.raises(ValueError, match=r"spike_deviations \(4.0\) needs max_skips"):
        OptimisationRecipe(spike_deviations=4.0)


class Spoilt(Answers):
    """The gradient of some steps is no number."""

    def __init__(self, *steps):
        super().__init__()
        self.step = 0
        honest = self.batches.steps

        def watched(first, last):
            for batch in honest(first, last):
                self.step = batch.step
                yield batch

        self.batches.steps = watched
        weight = self.objective.network.model.norm.weight
        weight.register_hook(lambda gradient: gradient * (math.nan if self.step in steps else 1.0))


def trained(directory, task, **fields):
    directory.mkdir(exist_ok=True)
    recipe = RECIPE.model_copy(update={"max_skips": 2, **fields})
    return Run(task, recipe, directory, {}, "i", say=lambda line: None).train()


def test_a_step_that_is_no_number_is_not_taken_and_everything_else_goes_on(tmp_path):
    final = trained(tmp_path, Spoilt(3))
    assert final.losses()["step"].to_pylist() == [1, 2, 4]
    assert all(torch.isfinite(tensor).all() for tensor in final.model().values())
    skipped = final.table(guard.SKIPPED).to_pylist()
    assert [(row["step"], row["reason"]) for row in skipped] == [(3, "not finite")]
    assert math.isfinite(skipped[0]["loss"])
    assert math.isnan(skipped[0]["grad_norm"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4]


def test_a_guard_that_objects_to_nothing_changes_no_bit(tmp_path):
    plain = trained(tmp_path / "a", Answers(), max_skips=0)
    watched = trained(tmp_path / "b", Answers(), spike_deviations=5.0)
    assert guard.SKIPPED not in watched.state["files"]
    one, other = plain.model(), watched.model()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert plain.losses().equals(watched.losses())


def test_a_run_that_was_killed_skips_the_same_and_ends_alike(tmp_path):
    whole = trained(tmp_path / "whole", Spoilt(2, 3), checkpoint_every=1)
    for after in (2, 3):
        with stopping(after), pytest.raises(Interrupted):
            trained(tmp_path / "cut", Spoilt(2, 3), checkpoint_every=1)
    cut = trained(tmp_path / "cut", Spoilt(2, 3), checkpoint_every=1)
    assert cut.losses().equals(whole.losses())
    assert [row["step"] for row in cut.table(guard.SKIPPED).to_pylist()] == [2, 3]
    for one, other in ((cut.model(), whole.model()), (cut.optimizer(), whole.optimizer())):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_spike_of_the_loss_is_skipped_and_a_killed_run_skips_it_too(world, tmp_path, monkeypatch):
    backward = loop._State._backward

    def spiking(state, batch, scale):
        loss = backward(state, batch, scale)
        return loss * 10 if batch.step == 30 else loss

    monkeypatch.setattr(loop._State, "_backward", spiking)
    fields = {"steps": 34, "max_skips": 2, "spike_deviations": 6.0}
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    (skipped,) = whole.table(guard.SKIPPED).to_pylist()
    assert (skipped["step"], skipped["reason"]) == (30, "spike")
    assert whole.losses()["step"].to_pylist() == [*range(1, 30), *range(31, 35)]
    for after in (29, 30, 31):
        job = small_job(world, tmp_path / f"{after}", **fields)
        with stopping(after), pytest.raises(Interrupted):
            in_process(job)
        assert in_process(job).state["files"] == whole.state["files"]


def test_too_many_skips_end_the_run_with_what_to_do(tmp_path):
    with pytest.raises(
        NonFiniteLossError, match=r"^step 3 skipped \(not finite\).*3 steps had to be skipped, max_skips is 2"
    ):
        trained(tmp_path, Answers(spoil=poisoned), max_skips=2)
    assert checkpoints.latest(tmp_path / "rolling", say=lambda line: None).step == 2  # the first two skips were allowed


def test_skipped_steps_are_sealed_and_told(world, monkeypatch):
    honest = batches.Batches._cut

    def cut(self, *given):
        spoilt = {7: 1e-300}  # infinite
        return [dataclasses.replace(b, total=spoilt.get(b.step, b.total)) for b in honest(self, *given)]

    monkeypatch.setattr(batches.Batches, "_cut", cut)
    model = small_model(world, "guarded", launch=launch_in_process, max_skips=1)
    assert model.facts["skipped_steps"] == [7]
    assert model.table(guard.SKIPPED)["reason"].to_pylist() == ["not finite"]
    assert 7 not in model.table("losses.arrow")["step"].to_pylist()
