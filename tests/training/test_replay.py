"""A sealed run answers for every step: what it was fed, and what came of it, to the last bit."""

from __future__ import annotations

import pytest
from jobs import launch_in_process, small_model

from training import numerics
from training.replay import nearest, replay, verified

FIELDS = {"milestone_every": 5, "dropout": 0.1, "microbatch": 3}


@pytest.fixture(scope="module")
def model(world):
    return small_model(world, "replayed", launch=launch_in_process, **FIELDS)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """The runs of these tests declare one thread."""
    monkeypatch.setattr(numerics, "num_threads", lambda world_size: 1)


def quiet(line):
    del line


@pytest.mark.parametrize(("step", "from_step"), [(1, 0), (5, 0), (6, 5), (10, 5), (12, 10)])
def test_a_step_gives_its_loss_and_gradient_again_from_the_nearest_checkpoint(model, step, from_step):
    found = replay(model, step, quiet)
    assert found["from_step"] == from_step
    assert found["same_numerics"]
    assert found["equal"]
    assert found["recorded"] == found["replayed"]
    assert found["tokens"] == 8 * 32


def test_a_run_without_milestones_is_replayed_from_its_start(world):
    model = small_model(world, "no-milestones", launch=launch_in_process, objective="masked")
    assert nearest(model, 9) is None
    assert replay(model, 9, quiet)["equal"]


def test_steps_that_were_not_taken_are_refused(model):
    with pytest.raises(ValueError, match="took steps 1 to 12, not 13"):
        replay(model, 13, quiet)


def test_a_wrong_record_is_found(model, monkeypatch):
    from training import replay as module

    honest = module._recorded(model, 6)
    monkeypatch.setattr(module, "_recorded", lambda *asked: {**honest, "loss": honest["loss"] * 1.5})
    found = replay(model, 6, quiet)
    assert not found["equal"]
    assert not found["close"]


def test_other_numerics_are_told(model, monkeypatch):
    monkeypatch.setattr(numerics, "num_threads", lambda world_size: 2)
    found = replay(model, 6, quiet)
    assert not found["same_numerics"]
    assert found["close"]


def test_the_run_and_its_milestones_were_fed_what_the_shards_hold(model):
    found = verified(model)
    assert [link["step"] for link in found] == [5, 10, 12]
    assert all(link["equal"] for link in found)
    assert len({link["sealed"] for link in found}) == 3


def test_other_shards_than_were_fed_are_found(model, monkeypatch):
    from pipelines import consumption

    honest = consumption.planned_rows
    monkeypatch.setattr(consumption, "planned_rows", lambda *asked: honest(*asked) + 1)
    assert not any(link["equal"] for link in verified(model))
