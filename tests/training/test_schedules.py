from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.models.gpt import GPT
from training.models.recipe import GPTRecipe
from training.optimizers import adamw, optimizer_state, restore
from training.recipes import OptimisationRecipe
from training.schedules import warmup_cosine


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
