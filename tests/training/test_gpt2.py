"""The same blocks in GPT-2's shape are transformers' GPT-2, under its names."""

from __future__ import annotations

import pytest
import torch

from training.models.blocks import KVCache
from training.models.config import from_hf_config, hf_config
from training.models.gpt import GPT, initialise
from training.models.names import ours, published
from training.models.recipe import GPTRecipe

SMALL = GPTRecipe(
    vocab_size=128, sequence_length=24, layers=2, width=32, heads=4, kv_heads=4, mlp_width=80, blocks="gpt2"
)  # fmt: skip


def gpt2(seed=0, **fields):
    network = GPT(SMALL.model_copy(update=fields)).eval()
    initialise(network, 2, seed)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.endswith(".bias"):
                weight.normal_(0.0, 0.5, generator=draw)  # zeros would hide a bias in the wrong place
            elif "proj" in name:
                weight.mul_(8)
    return network


def tokens(rows, length, seed=0):
    return torch.randint(0, 128, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_gpt2(tied):
    from transformers import AutoConfig, AutoModelForCausalLM

    network = gpt2(tied=tied)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**hf_config(network.recipe, 0, 1))).eval()
    found = theirs.load_state_dict(published(network.recipe, network.state_dict()), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["lm_head.weight"] if tied else [], [])
    assert type(theirs).__name__ == "GPT2LMHeadModel"
    with torch.no_grad():
        assert (theirs(tokens(3, 24)).logits - network(tokens(3, 24))).abs().max() <= 1e-5


def test_names_go_there_and_back():
    network = gpt2(tied=False)
    weights = network.state_dict()
    there = published(network.recipe, weights)
    assert {"transformer.wte.weight", "transformer.h.1.attn.c_attn.bias", "lm_head.weight"} <= set(there)
    back = ours(network.recipe, there)
    assert set(back) == set(weights)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
    assert all(tensor.is_contiguous() for tensor in there.values())


def test_the_config_comes_back_as_the_recipe_and_parameters_are_counted():
    for recipe in (SMALL, SMALL.model_copy(update={"tied": False})):
        assert from_hf_config(hf_config(recipe, 0, 1)) == recipe
        assert recipe.num_parameters == sum(p.numel() for p in GPT(recipe).parameters())


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 7], [12]])
def test_cached_reading_gives_the_logits_of_reading_at_once(pieces):
    network, rows, cache = gpt2(), tokens(2, 12), KVCache()
    with torch.no_grad():
        found = torch.cat([network(piece, cache) for piece in rows.split(pieces, dim=1)], dim=1)
        assert torch.allclose(found, network(rows), atol=1e-4)


def test_padding_on_the_left_does_not_change_what_follows():
    network, row = gpt2(), tokens(1, 6)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), row], dim=1)
    with torch.no_grad():
        assert torch.allclose(network(padded, KVCache(torch.tensor([3])))[0, 3:], network(row)[0], atol=1e-4)


def test_every_network_starts_with_biases_of_zero():
    network = GPT(SMALL)
    initialise(network, 2, 0)
    biases = {name: p for name, p in network.named_parameters() if name.endswith(".bias")}
    assert len(biases) == 2 * 8 + 1  # q, k, v, o, up, down and two norms a block, and the last norm
    assert not any(bias.any() for bias in biases.values())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"kv_heads": 2}, r"set kv_heads to heads \(4\)"),
        ({"qk_norm": True}, "decoder without qk_norm"),
        ({"objective": "masked"}, "decoder without qk_norm"),
        ({"blocks": "llama", "objective": "masked", "qk_norm": True}, "EuroBERT"),
    ],
)
def test_a_shape_that_transformers_does_not_have_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        GPTRecipe(**{**SMALL.model_dump(), **fields})


def test_a_config_that_is_not_whole_or_not_ours_is_refused():
    config = hf_config(SMALL, 0, 1)
    with pytest.raises(ValueError, match="n_embd"):
        from_hf_config({name: value for name, value in config.items() if name != "n_embd"})
    with pytest.raises(ValueError, match="activation_function 'relu'"):
        from_hf_config(config | {"activation_function": "relu"})
