"""Recipes: bounds with their names, named recipes as values, and what resolving may change."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from training.models.config import hf_config
from training.models.recipe import GPTRecipe
from training.recipes import (
    FinetuneDataRecipe,
    FinetuneRecipe,
    OptimisationRecipe,
    PretrainRecipe,
    classifier,
    resolve,
    summary,
    tiny,
)


@pytest.mark.parametrize(
    ("recipe", "field", "value", "told"),
    [
        (OptimisationRecipe, "learning_rate", 0.0, "greater than 0"),
        (OptimisationRecipe, "learning_rate", 2.0, "less than or equal to 1"),
        (OptimisationRecipe, "learning_rate", float("nan"), "greater than 0|finite"),
        (OptimisationRecipe, "warmup_steps", -1, "greater than or equal to 0"),
        (OptimisationRecipe, "min_lr_ratio", 1.1, "less than or equal to 1"),
        (OptimisationRecipe, "beta1", 1.0, "less than 1"),
        (OptimisationRecipe, "beta2", 1.0, "less than 1"),
        (OptimisationRecipe, "clip", -0.1, "greater than or equal to 0"),
        (OptimisationRecipe, "dtype", "int8", "'auto', 'fp32', 'bf16', 'fp16' or 'fp8'"),
        (OptimisationRecipe, "compile", "yes", "'auto', 'off' or 'on'"),
        (OptimisationRecipe, "checkpoint_every", 0, "greater than or equal to 1"),
        (OptimisationRecipe, "seed", 2**31, "less than 2147483648"),
        (PretrainRecipe, "clean_overlap", 0.0, "greater than 0"),
        (PretrainRecipe, "baseline_tokens", 999, "greater than or equal to 1000"),
        (PretrainRecipe, "dropout", 1.0, "less than 1"),
        (FinetuneDataRecipe, "max_tokens", 7, "greater than or equal to 8"),
        (FinetuneDataRecipe, "task", "translate", "'classifier' or 'summary'"),
        (FinetuneRecipe, "epochs", 0, "greater than or equal to 1"),
    ],
)
def test_a_value_out_of_bounds_is_told_with_its_field_and_its_bound(recipe, field, value, told):
    with pytest.raises(ValidationError, match=rf"{field}\n.*({told})"):
        recipe(**{field: value})


@pytest.mark.parametrize("recipe", [OptimisationRecipe, PretrainRecipe, FinetuneRecipe, FinetuneDataRecipe])
def test_a_misspelt_field_is_refused_and_a_recipe_does_not_change(recipe):
    with pytest.raises(ValidationError, match="learning_rates"):
        recipe(learning_rates=0.1)
    with pytest.raises(ValidationError, match="frozen"):
        recipe().seed = 3


def test_every_field_of_every_recipe_is_described():
    """The descriptions are what a person reads in the launchpad."""
    for recipe in (PretrainRecipe, FinetuneRecipe, FinetuneDataRecipe):
        assert not [name for name, field in recipe.model_fields.items() if not field.description]


def test_microbatches_fill_a_batch_at_most():
    assert FinetuneRecipe(batch_size=8, microbatch=8).microbatch == 8
    with pytest.raises(ValidationError, match=r"microbatch \(9\) is larger than batch_size \(8\)"):
        FinetuneRecipe(batch_size=8, microbatch=9)


def test_named_recipes_are_values_and_equal_whenever_they_are_asked_for():
    for recipe in (tiny, classifier, summary):
        assert recipe() == recipe()
        assert recipe().identity() == recipe().identity()


def test_resolving_touches_nothing_but_what_was_left_open():
    recipe = PretrainRecipe(learning_rate=0.01, dtype="auto", compile="auto")
    found = resolve(recipe)
    changed = {name for name in PretrainRecipe.model_fields if getattr(found, name) != getattr(recipe, name)}
    assert changed == {"dtype", "compile"}
    assert resolve(found) == found


def test_the_demo_model_has_about_a_million_parameters():
    shape = GPTRecipe(**{n: getattr(tiny(), n) for n in GPTRecipe.model_fields} | {"vocab_size": 2048})
    assert 1.0e6 <= shape.num_parameters <= 1.1e6
    assert hf_config(shape, 0, 1)["num_hidden_layers"] == 4
