from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.models.gpt import GPT
from training.models.recipe import GPTRecipe
from training.optimizers import adamw, optimizer_state, restore
from training.recipes import OptimisationRecipe
from training.schedules import learning_rate, warmup_cosine


def test_the_rate_rises_to_the_peak_and_ends_at_its_share():
    rates = [warmup_cosine(step, 110, 1.0, 10, 0.1) for step in range(1, 111)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[4] == pytest.approx(0.5)
    assert rates[9] == 1.0
    assert rates[59] == pytest.approx(0.55)  # half way down: the mean of peak and end
    assert rates[-1] == pytest.approx(0.1)


@given(st.integers(1, 500), st.integers(0, 600), st.floats(0, 1))
def test_the_rate_stays_between_nothing_and_the_peak(num_steps, warmup, ratio):
    rates = [warmup_cosine(step, num_steps, 2.0, warmup, ratio) for step in range(1, num_steps + 1)]
    assert all(0 < rate <= 2.0 + 1e-12 for rate in rates) or ratio == 0
    falling = rates[warmup:]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(falling))


def network() -> GPT:
    return GPT(GPTRecipe(vocab_size=64, sequence_length=8, layers=1, width=16, heads=2, kv_heads=1, mlp_width=16))


def test_only_matrices_decay():
    model = network()
    decayed, kept = adamw(model, OptimisationRecipe(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in kept["params"]} == {1}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


def test_moments_come_back_from_flat_names_and_the_next_step_is_the_same():
    def step(model, optimizer, rows):
        optimizer.zero_grad()
        model.loss(rows).backward()
        optimizer.step()

    recipe, rows = OptimisationRecipe(learning_rate=0.01), torch.arange(18).view(2, 9)
    one = network()
    first = adamw(one, recipe)
    for _ in range(3):
        step(one, first, rows)
    two = network()
    two.load_state_dict(one.state_dict())
    second = adamw(two, recipe)
    restore(two, second, {k: v.clone() for k, v in optimizer_state(one, first).items()}, 3)
    step(one, first, rows + 1)
    step(two, second, rows + 1)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_warm_up_longer_than_the_run_never_reaches_the_peak():
    rates = [warmup_cosine(step, 5, 1.0, 20, 0.1) for step in range(1, 6)]
    assert rates == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.25])


def test_a_warm_up_as_long_as_the_run_ends_at_the_peak():
    assert warmup_cosine(5, 5, 0.3, 5, 0.1) == 0.3


def test_without_a_warm_up_the_first_step_is_already_on_its_way_down():
    rates = [warmup_cosine(step, 4, 1.0, 0, 0.0) for step in range(1, 5)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * k / 4)) / 2 for k in (1, 2, 3, 4)])
    assert rates[-1] == pytest.approx(0.0, abs=1e-12)


def test_a_run_of_one_step_has_a_rate_of_its_own():
    assert warmup_cosine(1, 1, 1.0, 0, 0.25) == pytest.approx(0.25)  # first and last at once: the end
    assert warmup_cosine(1, 1, 1.0, 1, 0.25) == 1.0


def test_an_end_at_the_peak_is_a_constant_rate():
    assert {warmup_cosine(step, 50, 0.02, 10, 1.0) for step in range(10, 51)} == {0.02}


def test_steps_behind_the_end_stay_at_the_end():
    assert warmup_cosine(99, 50, 1.0, 10, 0.1) == pytest.approx(warmup_cosine(50, 50, 1.0, 10, 0.1))


def test_after_the_warm_up_it_is_torchs_cosine():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.2)
    for step in range(10, 51):  # the peak is step 10, the end step 50
        assert warmup_cosine(step, 50, 2.0, 10, 0.1) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-6)
        optimizer.step()
        theirs.step()


# -- the other ways to the end ---------------------------------------------------------------------------------


def rates(num_steps, **fields):
    recipe = OptimisationRecipe(learning_rate=1.0, **fields)
    return [learning_rate(step, num_steps, recipe) for step in range(1, num_steps + 1)]


def test_the_default_is_the_cosine():
    wanted = [warmup_cosine(step, 100, 1.0, 30, 0.05) for step in range(1, 101)]
    assert rates(100) == wanted


def test_wsd_is_stable_and_then_comes_straight_down():
    found = rates(100, schedule="wsd", warmup_steps=10, decay_ratio=0.2, min_lr_ratio=0.1)
    assert found[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert set(found[10:80]) == {1.0}
    assert found[89] == pytest.approx(0.55)
    assert found[99] == pytest.approx(0.1)


def test_linear_comes_down_from_the_warm_up_on_and_constant_never():
    found = rates(110, schedule="linear", warmup_steps=10, min_lr_ratio=0.0)
    assert (found[9], found[59], found[109]) == pytest.approx((1.0, 0.5, 0.0))
    assert set(rates(50, schedule="constant", warmup_steps=10)[9:]) == {1.0}


@given(st.sampled_from(["cosine", "wsd", "linear", "constant"]), st.integers(1, 300), st.integers(0, 400),
       st.floats(0, 1), st.floats(0.01, 1))  # fmt: skip
def test_no_schedule_leaves_its_bounds_or_rises_again(schedule, num_steps, warmup, ratio, decay):
    fields = {"schedule": schedule, "warmup_steps": warmup, "min_lr_ratio": ratio, "decay_ratio": decay}
    found = rates(num_steps, **fields)
    assert all(-1e-12 <= rate <= 1 + 1e-12 for rate in found)
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(found[warmup:]))
    if schedule != "constant" and num_steps > warmup + 1:
        assert found[-1] == pytest.approx(ratio, abs=1e-9)
