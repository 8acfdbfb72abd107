"""Compressions in the spec: what they are made from, who scores them, and what is refused with its line."""

from __future__ import annotations

import pytest

from assets.blueprint import BLUEPRINTS
from assets.partitions import wanted
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec, SpecError

COMPRESSIONS = """
[compressions.demo-int8]
base = "demo"
method = "int8"

[compressions.demo-thin]
base = "demo"
method = "prune"
[compressions.demo-thin.recipe]
sparsity = 0.6
recovery_steps = 5
"""


def with_compressions(place, text: str = COMPRESSIONS) -> Spec:
    return Spec(place.spec_path.read_text() + text, place.spec_path)


def test_a_compression_is_made_from_its_base_and_scored_as_one_more_checkpoint(blank):
    spec = with_compressions(blank)
    made = BLUEPRINTS["compressed_model"](spec, "demo-thin")
    assert made.needs == [Key("pretrained_model", "demo")]
    assert (made.recipe.method, made.recipe.sparsity, made.recipe.recovery_steps) == ("prune", 0.6, 5)
    samples = BLUEPRINTS["benchmark_samples"](spec, "demo-int8")
    assert samples.needs == [Key("compressed_model", "demo-int8"), Key("benchmark_prompts", "quiz")]
    for asset in ("model_card", "audit_bundle"):
        assert Key("compressed_model", "demo-int8") in BLUEPRINTS[asset](spec, "demo-int8").needs
    assert "demo-int8" in wanted(spec)["checkpoint"]
    assert wanted(spec)["compression"] == ["demo-int8", "demo-thin"]


@pytest.mark.parametrize(("name", "kind"), [("demo-int8", "compression"), ("demo-source", "fine-tune")])
def test_what_is_built_with_its_base_says_so_when_it_is_run(blank, stemma, name, kind):
    blank.spec_path.write_text(blank.spec_path.read_text() + COMPRESSIONS)
    told = stemma(blank, "run", name, code=2)
    assert f"{name} is a {kind} and is built with its base: stemma run demo." in " ".join(told.split())


def test_a_run_builds_its_compressions(outline, stemma):
    outline.spec_path.write_text(outline.spec_path.read_text() + COMPRESSIONS)
    steps = stemma.json(outline, "run", "demo", "--dry-run")
    due = {(step["asset"], step["partition"]) for step in steps if step["state"] == "missing"}
    papers = ("compressed_model", "benchmark_samples", "benchmark_scores", "model_card", "audit_bundle")
    assert due == {(asset, name) for asset in papers for name in ("demo-int8", "demo-thin")}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('base = "demo"', 'base = "dem"', "no 'dem' in [runs]. Did you mean 'demo'?"),
        (
            "[compressions.demo-int8]",
            "[compressions.demo-source]",
            "'demo-source' names both a fine-tune and a compression",
        ),
        ('base = "demo"\n', "", "base: Field required"),
    ],
)
def test_a_compression_that_cannot_be_is_refused_with_its_line(blank, before, after, told):
    with pytest.raises(SpecError) as error:
        with_compressions(blank, COMPRESSIONS.replace(before, after, 1))
    assert str(error.value).startswith("stemma.toml:")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            'method = "prune"',
            'method = "int3"',
            "method: Input should be 'int8', 'int4', 'int8_dynamic' or 'prune', found 'int3'",
        ),
        ("sparsity = 0.6", "sparsity = 1.5", "sparsity: Input should be less than 1, found 1.5"),
        ("sparsity = 0.6", "sparsty = 0.6", "unknown key 'sparsty'; did you mean 'sparsity'?"),
        ('method = "prune"', 'method = "int4"', "integers are not trained"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(blank, before, after, told):
    with pytest.raises(SpecError) as error:
        BLUEPRINTS["compressed_model"](with_compressions(blank, COMPRESSIONS.replace(before, after, 1)), "demo-thin")
    assert told in str(error.value)
