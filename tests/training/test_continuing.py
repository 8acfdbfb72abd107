"""Runs that begin from the weights of another run, of one of its milestones, or of a model from elsewhere."""

from __future__ import annotations

import math

import pytest
import torch
from jobs import ONE_THREAD, launch_in_process, small_model, small_recipe

import training.pretrain
from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import ancestors, bases, milestone
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build, rematerialize
from training.continuing import begin_from, check
from training.export import export
from training.importing import IMPORT_VERSION, ImportRecipe, files_digest, import_model
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.pretrain import PRETRAIN_VERSION, job_of, sized
from training.pretraining import objective
from training.replay import replay
from training.weights import load_weights, save_weights, weights_metadata


@pytest.fixture(scope="module")
def model(world):
    return small_model(world, "first", launch=launch_in_process, milestone_every=6)


def continued(world, base, name="second", **fields):
    mixture = world.mixture(name, steps=4)
    recipe = small_recipe(**{"warmup_steps": 0, "learning_rate": 1e-3, **fields})

    def make(draft):
        return training.pretrain.pretrain(
            mixture, recipe, draft, base=base, numerics=ONE_THREAD, launch=launch_in_process, say=lambda line: None
        )

    key = Key("pretrained_model", name)
    return build(world.store, key, PRETRAIN_VERSION, recipe, [mixture, base], make, numerics=ONE_THREAD)


def begun(mixture, base):
    """The network of a run that begins from a base, before its first step."""
    recipe = small_recipe()
    return objective(job_of(mixture, recipe, "x", ONE_THREAD, base), recipe).network


def test_a_run_begins_with_the_weights_of_its_base(world, model):
    weights, held = load_weights(model.local("model.safetensors")), begun(world.mixture("second", steps=4), model)
    assert all(torch.equal(weight, held.state_dict()[name]) for name, weight in weights.items())


def test_a_run_goes_on_learning_where_its_base_ended(world, model):
    second = continued(world, model).artifact
    assert second.facts["heldout_bpb"] < model.facts["heldout_bpb"]
    losses = [artifact.table("losses.arrow")["loss"].to_pylist() for artifact in (model, second)]
    assert math.isclose(losses[1][0], losses[0][-1], rel_tol=0.1)
    assert losses[1][0] < losses[0][0] - 0.5


def test_the_base_is_an_input_and_stands_in_the_weight_file(world, model):
    second = continued(world, model).artifact
    assert list(bases(second)) == [model]
    assert model.digest in {artifact.digest for artifact in ancestors(second)}
    assert weights_metadata(second.local("model.safetensors"))["base"] == model.digest


def test_another_base_is_another_model_and_the_same_gives_the_same_bytes(world, model):
    last, middle = continued(world, model), continued(world, milestone(model, 6))
    assert last.artifact.content != middle.artifact.content
    assert continued(world, model).artifact.content == last.artifact.content
    second = last.artifact
    mixture, recipe = world.mixture("second", steps=4), small_recipe(warmup_steps=0, learning_rate=1e-3)
    again = rematerialize(
        second,
        lambda draft: training.pretrain.pretrain(
            mixture, recipe, draft, base=model, numerics=ONE_THREAD, launch=launch_in_process, say=lambda line: None
        ),
    )
    assert again.identical


def test_a_step_of_it_can_be_taken_again(world, model):
    second = continued(world, model).artifact
    found = replay(second, 3, say=lambda line: None)
    assert math.isclose(found["recorded"]["loss"], found["replayed"]["loss"], rel_tol=1e-4)


def test_a_milestone_that_was_not_kept_is_named_with_those_that_were(model):
    with pytest.raises(StoreError, match=r"no checkpoint of step 5; milestones: 6"):
        milestone(model, 5)


def test_a_model_from_elsewhere_is_a_base_whose_reading_is_unknown(world, model, tmp_path):
    export(model, tmp_path / "out")
    recipe = ImportRecipe(files_digest=files_digest(tmp_path / "out"))
    theirs = build(
        world.store, Key("imported_model", "theirs"), IMPORT_VERSION, recipe, [],
        lambda draft: import_model(tmp_path / "out", recipe, draft),
    ).artifact  # fmt: skip
    third = continued(world, theirs, "third").artifact
    assert [base.key for base in bases(third)] == [Key("imported_model", "theirs")]
    losses = [
        artifact.table("losses.arrow")["loss"].to_pylist() for artifact in (third, continued(world, model).artifact)
    ]
    assert losses[0] == losses[1], "the same weights under another name"


def other_tokens(world, change):
    body = world.vocabulary.json("tokenizer.json")
    change(body)

    def make(draft):
        draft.write_json("tokenizer.json", body)
        return draft.seal(facts={**world.vocabulary.facts})

    return world.made("vocabulary", "other", [], make)


def swapped(body):
    vocab = body["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.get)[300:302]
    vocab[first], vocab[second] = vocab[second], vocab[first]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (swapped, r"its token '.+', id 300, has the id 301"),
        (lambda body: body["model"]["vocab"].pop(max(body["model"]["vocab"], key=body["model"]["vocab"].get)),
         "does not exist"),
        (lambda body: body["model"]["merges"].reverse(), "it merges other pairs"),
        (lambda body: body.update(normalizer={"type": "Lowercase"}), "normalises texts in another way"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_means_something_else_is_refused(own_world, change, told):
    base = small_model(own_world, "first", launch=launch_in_process, steps=2)
    with pytest.raises(ValueError, match=told):
        check(base, other_tokens(own_world, change), 32)


def test_tokens_that_were_added_behind_begin_as_new_ones(world, model, tmp_path):
    recipe = GPTRecipe(**{**small_recipe().model_dump(include=set(GPTRecipe.model_fields)), "vocab_size": 400})
    network = GPT(recipe)
    initialise(network, recipe.layers, seed=3)
    start = network.model.embed_tokens.weight.detach().clone()
    begin_from(network, model.local("model.safetensors"))
    rows, given = network.model.embed_tokens.weight, load_weights(model.local("model.safetensors"))
    size = len(given["model.embed_tokens.weight"])
    assert torch.equal(rows[:size], given["model.embed_tokens.weight"])
    assert torch.equal(rows[size:], start[size:])
    assert 0 < size < len(rows)


def test_weights_that_do_not_fit_are_refused(model, tmp_path):
    recipe = GPTRecipe(**{**small_recipe().model_dump(include=set(GPTRecipe.model_fields)), "vocab_size": 320})
    network = GPT(recipe)
    weights = load_weights(model.local("model.safetensors"))
    save_weights(tmp_path / "x.safetensors", {**weights, "model.norm.weight": torch.ones(5)}, {})
    with pytest.raises(ValueError, match=r"holds \[5\] for model.norm.weight, the network has \[32\]"):
        begin_from(network, tmp_path / "x.safetensors")
    del weights["model.norm.weight"]
    save_weights(tmp_path / "y.safetensors", weights, {})
    with pytest.raises(ValueError, match=r"holds nothing for model\.norm\.weight"):
        begin_from(network, tmp_path / "y.safetensors")


def test_a_gpt2_lends_no_more_positions_than_it_has_learnt(own_world):
    base = small_model(own_world, "g", launch=launch_in_process, steps=2, blocks="gpt2", kv_heads=2)
    with pytest.raises(ValueError, match=r"learnt 32 positions, the mixture's sequence_length is 64"):
        check(base, own_world.vocabulary, 64)
    recipe = small_recipe(blocks="gpt2", kv_heads=2, sequence_length=16)
    network = GPT(sized(recipe, own_world.vocabulary, base))
    begin_from(network, base.local("model.safetensors"))
    given = load_weights(base.local("model.safetensors"))["transformer.wpe.weight"]
    assert torch.equal(network.state_dict()["model.embed_positions.weight"], given[:16])
