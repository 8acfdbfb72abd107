"""Stretched rotary positions: the frequencies and logits of transformers, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from test_attention import SMALL, model, tokens

from training.models import rope
from training.models.blocks import rotary_frequencies
from training.models.config import from_hf_config, hf_config
from training.models.recipe import GPTRecipe

WAYS = {
    "linear": {"rope_scaling": "linear", "rope_factor": 4.0},
    "llama3": {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original_length": 64},
    "yarn": {"rope_scaling": "yarn", "rope_factor": 4.0, "rope_original_length": 1024},
}


def stretched(way, **fields):
    return GPTRecipe(**{**SMALL.model_dump(), **WAYS[way], **fields})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("width", "theta"), [(32, 1e4), (64, 5e5), (128, 1e4)])
def test_frequencies_are_those_of_transformers(way, width, theta):
    from transformers import AutoConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    recipe = stretched(way, width=width * 4, rope_theta=theta, sequence_length=256)
    theirs, factor = ROPE_INIT_FUNCTIONS[way](AutoConfig.for_model(**hf_config(recipe, 0, 1)), torch.device("cpu"))
    ours, sharpness = rope.scaled(rotary_frequencies(width, theta), recipe)
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=0)
    assert sharpness == factor


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fields", [{}, {"qk_norm": True}, {"window": 6}], ids=["llama", "qwen3", "mistral"])
def test_logits_are_those_of_transformers_and_the_config_comes_back(way, fields):
    from transformers import AutoConfig, AutoModelForCausalLM

    ours = model(**WAYS[way], **fields, rope_theta=200.0)
    config = hf_config(ours.recipe, 0, 1)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    with torch.no_grad():
        found, plain = ours(tokens(2, 24)), model(**fields, rope_theta=200.0)(tokens(2, 24))
        assert (theirs(tokens(2, 24)).logits - found).abs().max() <= 1e-5
        assert not torch.allclose(plain, found, atol=1e-2)
    assert from_hf_config(config) == ours.recipe.model_copy(update={"vocab_size": 128})


def test_logits_of_a_stretched_encoder_are_those_of_eurobert():
    from test_encoder import encoder, eurobert

    ours = encoder(**WAYS["yarn"])
    with torch.no_grad():
        assert (eurobert(ours)(tokens(2, 24)).logits - ours(tokens(2, 24))).abs().max() <= 1e-5


def test_a_network_stretched_linearly_reads_every_fourth_position_as_it_read_every_one():
    plain, found = rotary_frequencies(16, 1e4), rope.scaled(rotary_frequencies(16, 1e4), stretched("linear"))[0]
    assert torch.equal(found * 4, plain)


def test_llama3_and_yarn_keep_what_turns_fast_and_slow_down_what_turns_slowly():
    plain = rotary_frequencies(64, 1e4)
    for way, length in (("llama3", 512), ("yarn", 512)):
        recipe = stretched(way, width=256, rope_original_length=length)
        ratio = (plain / rope.scaled(plain, recipe)[0]).tolist()
        assert ratio[0] == 1.0
        assert ratio[-1] == pytest.approx(recipe.rope_factor, rel=1e-6)
        assert ratio == sorted(ratio)
    assert rope.sharpened(4.0) == pytest.approx(0.1 * math.log(4) + 1)
    assert rope.sharpened(1.0) == 1.0


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rope_scaling": "linear"}, "rope_factor 1.0: give both, or neither"),
        ({"rope_factor": 2.0}, "rope_scaling 'none' with rope_factor 2.0"),
        ({**WAYS["yarn"], "rope_original_length": 0}, "llama3 and yarn need the length"),
        ({**WAYS["linear"], "rope_original_length": 64}, "the others do not"),
        ({**WAYS["linear"], "blocks": "gpt2", "kv_heads": 4}, "learned positions"),
        ({"window": 1}, "nothing but itself"),
        ({"window": 4, "objective": "masked"}, "neither GPT-2 nor EuroBERT"),
        ({"window": 4, "blocks": "gpt2", "kv_heads": 4}, "neither GPT-2 nor EuroBERT"),
    ],
)
def test_shapes_that_nobody_could_load_are_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        GPTRecipe(**{**SMALL.model_dump(), **fields})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rope_type": "dynamic"}, "rope_type 'dynamic': not ours"),
        ({"factor": None}, "without factor"),
        ({"original_max_position_embeddings": None}, "without original_max_position_embeddings"),
        ({"beta_fast": 16.0}, "beta_fast 16.0"),
        ({"mscale": 1.0}, "mscale 1.0"),
        ({"attention_factor": 2.0}, "attention_factor 2.0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"truncate": False}, "truncate False"),
    ],
)
def test_other_stretchings_are_refused_by_name(change, told):
    config = hf_config(stretched("yarn"), 0, 1)
    config["rope_parameters"] = {**config["rope_parameters"], **change}
    with pytest.raises(ValueError, match=told):
        from_hf_config(config)
    config["rope_parameters"] = {**hf_config(stretched("yarn"), 0, 1)["rope_parameters"], "truncate": True}
    assert from_hf_config(config).rope_scaling == "yarn"
