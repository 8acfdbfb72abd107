"""Sweeps: a table that stands for a ladder of runs; the runs through the graph; the law, in the command's words."""

from __future__ import annotations

import json

import pytest

from assets.blueprint import BLUEPRINTS
from assets.builder import build_key
from assets.metadata import described
from assets.partitions import wanted
from evals.scaling import num_parameters
from pipelines.provenance.manifest import Key
from pipelines.provenance.verify import verify_artifact
from pipelines.spec import Spec, SpecError
from pipelines.sweeps import proportioned, shortened
from training.models.recipe import GPTRecipe

SWEEP = """
[sweeps.ladder]
base = "demo"
tokens = [512, 256, 1024]
held_back = "w32"
[sweeps.ladder.law]
replicates = 20
[sweeps.ladder.sizes]
w8 = { layers = 1, width = 8 }
w16 = { layers = 1, width = 16, learning_rate = 0.01 }
w24 = { layers = 2, width = 24, heads = 2, kv_heads = 2 }
w32 = { layers = 2, width = 32 }
"""


def with_sweep(place, text: str = SWEEP) -> Spec:
    return Spec(place.spec_path.read_text() + text, place.spec_path)


def test_a_sweep_stands_for_runs_of_the_base(blank):
    spec = with_sweep(blank)
    runs = [run for run in spec.document.runs if spec.is_swept(run)]
    assert runs[:3] == ["ladder/w8-256", "ladder/w8-512", "ladder/w8-1024"]
    assert [run for run in runs if "w32" in run] == ["ladder/w32-1024"]  # held back: the largest budget alone
    recipe = BLUEPRINTS["pretrained_model"](spec, "ladder/w16-512").recipe
    assert (recipe.width, recipe.layers, recipe.learning_rate, recipe.warmup_steps) == (16, 1, 0.01, 5)
    mixed = BLUEPRINTS["mixture"](spec, "ladder/w16-512").recipe
    assert (mixed.steps, mixed.batch_size, mixed.sequence_length) == (8, 4, 16)
    assert "ladder/w8-256" in wanted(spec)["run"]
    assert "ladder/w8-256" not in wanted(spec)["checkpoint"]
    assert wanted(spec)["sweep"] == ["ladder"]


def test_a_width_alone_gets_the_usual_proportions():
    assert proportioned({"width": 128}) == {"width": 128, "heads": 4, "kv_heads": 4, "mlp_width": 352}  # nano's
    assert proportioned({"width": 128, "heads": 2})["heads"] == 2
    assert proportioned({"width": 64, "blocks": "gpt2"})["mlp_width"] == 256
    assert proportioned({"preset": "350m"}) == {"preset": "350m"}
    assert [shortened(number) for number in (256, 250_000, 2_000_000, 10**9)] == ["256", "250k", "2M", "1B"]


def test_parameters_are_counted_with_and_without_the_embedding():
    recipe = GPTRecipe(vocab_size=100, layers=1, width=8, heads=1, kv_heads=1, mlp_width=16)
    assert num_parameters(recipe, "all") - num_parameters(recipe, "non_embedding") == 128 * 8
    untied = recipe.model_copy(update={"tied": False})
    assert num_parameters(untied, "non_embedding") == num_parameters(recipe, "non_embedding")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('held_back = "w32"', 'held_back = "w33"', "held_back 'w33' is none of its sizes: w8, w16, w24, w32"),
        ('base = "demo"', 'base = "dmo"', "no 'dmo' in [runs]. Did you mean 'demo'?"),
        ("tokens = [512, 256, 1024]", "tokens = [0]", "greater than or equal to 1, found 0"),
        ("[sweeps.ladder.sizes]", "[sweeps.ladder.size]", "unknown key 'size'; did you mean 'sizes'?"),
        ("[sweeps.ladder]", "[sweeps.demo]", "there is a run 'demo' already"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_with_its_line(blank, before, after, told):
    with pytest.raises(SpecError) as error:
        with_sweep(blank, SWEEP.replace(before, after, 1).replace("[sweeps.ladder.", f"{after[:-1]}.") if "demo]" in after
                   else SWEEP.replace(before, after, 1))  # fmt: skip
    assert told in str(error.value)
    assert str(error.value).startswith("stemma.toml:")


def test_a_sweep_that_could_not_be_fitted_is_refused_before_it_trains(own_library, stemma):
    few = SWEEP.replace("tokens = [512, 256, 1024]", "tokens = [512, 256]")
    own_library.spec_path.write_text(own_library.spec_path.read_text() + few)
    told = stemma(own_library, "run", "ladder", "--dry-run", code=2)
    assert "3 sizes by 2 budgets of tokens to fit, needed are 3 of either" in told


def test_a_size_that_is_no_network_is_reported_where_the_sweep_stands(blank):
    spec = with_sweep(blank, SWEEP.replace("width = 8", "width = 9"))
    line = spec.text.split("\n").index("[sweeps.ladder]") + 1
    with pytest.raises(SpecError, match=f"^stemma.toml:{line}: .*width 9 must be an even multiple"):
        BLUEPRINTS["pretrained_model"](spec, "ladder/w8-256")


@pytest.fixture(scope="module")
def swept(_library, tmp_path_factory):
    """A ladder of ten runs of a few steps, trained in this process, and its law."""
    import torch

    from training.run import main

    place = _library.copy(tmp_path_factory.mktemp("swept") / "place")
    place.spec_path.write_text(place.spec_path.read_text() + SWEEP)
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    spec, store = place.spec, place.store
    law = Key("scaling_law", "ladder")
    try:
        for key in BLUEPRINTS["scaling_law"](spec, "ladder").needs:
            build_key(spec, store, Key("mixture", key.partition))
            build_key(spec, store, key, launch=lambda command, environment: main(command[command.index("--job") :]))
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(strict)
    build_key(spec, store, law)
    return place


def test_the_law_names_its_runs_and_predicts_the_one_held_back(swept):
    law = swept.store.open("scaling_law", "ladder")
    assert verify_artifact(law) == []
    assert (law.counts["runs"], law.counts["fitted"]) == (10, 9)
    told = law.json("scaling.json")
    held = [row for row in told["runs"] if row["held_back"]]
    assert [row["run"] for row in held] == ["ladder/w32-1024"]
    assert law.facts["missed_by.ladder/w32-1024"] == pytest.approx(held[0]["predicted"] / held[0]["loss"] - 1, abs=1e-5)
    for row in told["runs"]:
        model = swept.store.open("pretrained_model", row["run"])
        assert (row["N"], row["D"], row["loss"]) == (
            model.facts["parameters"], model.facts["tokens"], model.facts["heldout_bpb"]
        )  # fmt: skip
    assert [i.manifest for i in law.manifest.inputs] == [m.digest for m in law.inputs("pretrained_model")]
    assert law.local("scaling.svg").read_text().startswith("<svg")


def test_a_law_that_is_there_is_not_computed_again_and_shows_its_plot(swept):
    built = build_key(swept.spec, swept.store, Key("scaling_law", "ladder"))
    assert not built.computed
    metadata = described(built.artifact)
    assert "data:image/svg+xml" in metadata["plot_law"].value
    assert metadata["law"].value["constants"]["alpha"]["value"] == metadata["alpha"]


def test_the_command_tells_the_law_and_how_to_spend_a_budget(swept, stemma, tmp_path):
    told = stemma(swept, "scaling", "ladder", "--out", str(tmp_path / "law.svg"))
    for part in ("ladder/w32-1024", "held back", "alpha", "95 % interval", "N: all parameters"):
        assert part in told
    assert (tmp_path / "law.svg").read_bytes() == swept.store.open("scaling_law", "ladder").local(
        "scaling.svg"
    ).read_bytes()
    found = stemma.json(swept, "scaling", "ladder", "--flops", "1e12")
    assert json.loads(json.dumps(found))["constants"].keys() == {"E", "A", "alpha", "B", "beta"}
    if isinstance(found["optimum"], list):
        assert [each["flops"] for each in found["optimum"]] == [1e12]


def test_a_sweep_that_has_not_been_run_says_how(blank, stemma):
    told = stemma(blank, "scaling", "ladder", code=2)
    assert "no scaling law of 'ladder'" in told
    assert "stemma run ladder" in told


def test_what_a_sweep_would_build_is_told_beforehand(own_library, stemma):
    own_library.spec_path.write_text(own_library.spec_path.read_text() + SWEEP)
    told = stemma(own_library, "run", "ladder", "--dry-run")
    assert "ladder/w24-1024" in told
    assert "21 of " in told  # ten plans, ten models and the law
