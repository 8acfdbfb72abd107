"""Batches that grow: small ones first, and the plan knows for every step which slots it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_mixture import SOURCES, mixed

from pipelines.batch_sizes import segments, slots_before
from pipelines.mixture import MixtureRecipe
from pipelines.provenance.plan import Plan, Segment
from pipelines.spec import Spec, SpecError


def test_batches_grow_as_the_recipe_says(corpora):
    artifact = mixed(corpora, SOURCES, steps=6, batch_warmup=["2=1", "4=2"])
    plan = Plan.model_validate(artifact.json("plan.json"))
    assert [plan.batch_size(step) for step in range(1, 7)] == [1, 1, 2, 2, 4, 4]
    assert plan.num_steps == 6
    assert plan.num_slots == artifact.counts["slots"] == 14
    read = [slot for step in range(1, 7) for slot in plan.slots(step)]
    assert read == list(range(14))
    assert [plan.step_of(slot) for slot in range(14)] == [1, 2, 3, 3, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6]


def test_without_it_all_batches_have_one_size():
    assert segments([], 4, 5) == [Segment(first_step=1, first_slot=0, batch_size=4)]
    assert slots_before(6, segments([], 4, 5)) == 20


def test_phases_begin_at_their_steps_however_large_the_batches_are(corpora):
    artifact = mixed(corpora, SOURCES, steps=6, batch_warmup=["2=1", "4=2"], phases=["0.5: a=2"])
    plan = Plan.model_validate(artifact.json("plan.json"))
    assert [sum(phase.slots) for phase in plan.phases] == [4, 10]  # steps 1 to 3 read 1 + 1 + 2 sequences
    assert plan.num_steps == 6


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), max_size=5), st.integers(1, 20), st.integers(1, 9))
def test_slots_are_the_sum_of_all_batches(stages, rest, size):
    step, entries, wanted = 0, [], 0
    for length, small in stages:
        step += length
        entries.append(f"{step}={small}")
        wanted += length * small
    recipe = MixtureRecipe(steps=step + rest, batch_size=size, batch_warmup=entries)
    assert slots_before(recipe.steps + 1, recipe.batches()) == wanted + rest * size


@pytest.mark.parametrize("wrong", ["['8']", "['0=4']", "['3=0']", "['5=2', '5=3']", "['12=2']", "['x=2']"])
def test_what_is_no_growth_is_told_with_its_line(wrong):
    text = f"[runs.r]\ncorpus = 'c'\n[runs.r.mixture]\nsteps = 12\nbatch_warmup = {wrong}\n"
    text = "[sources.'a/1']\nreader = 'text'\npath = 'a'\n[corpora.c]\nsources = ['a/1']\nvocabulary = 'v'\n" + text
    text += "[vocabularies.v]\ncorpus = 'c'\n"
    with pytest.raises(SpecError, match=r"^stemma.toml:9: batch_warmup .*expected STEP=SIZE"):
        Spec(text, Path("stemma.toml")).recipe(MixtureRecipe, ("runs", "r", "mixture"))
