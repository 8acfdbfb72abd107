from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.blocks import KVCache, RMSNorm, rotary_frequencies, rotated
from training.models.config import from_hf_config, hf_config
from training.models.gpt import GPT, initialise
from training.models.names import published
from training.models.recipe import RMS_NORM_EPS, GPTRecipe

SMALL = GPTRecipe(vocab_size=100, sequence_length=24, layers=2, width=32, heads=4, kv_heads=2, mlp_width=48)


def model(recipe: GPTRecipe = SMALL, seed: int = 0) -> GPT:
    network = GPT(recipe)
    initialise(network, recipe.layers, seed)
    return network.eval()


def tokens(rows: int, length: int, size: int = 100) -> torch.Tensor:
    return torch.arange(rows * length).mul(37).remainder(size).view(rows, length)


def test_rms_norm_is_the_formula():
    norm = RMSNorm(4, RMS_NORM_EPS)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5, 1.0]))
    x = [3.0, -4.0, 0.0, 1.0]
    scale = 1 / math.sqrt(sum(v * v for v in x) / 4 + RMS_NORM_EPS)
    wanted = [v * scale * w for v, w in zip(x, [1.0, 2.0, 0.5, 1.0], strict=True)]
    assert norm(torch.tensor([x]))[0].tolist() == pytest.approx(wanted, rel=1e-6)


def test_rotary_frequencies_fall_from_one_to_almost_theta():
    assert rotary_frequencies(8, 10_000.0).tolist() == pytest.approx([1.0, 0.1, 0.01, 0.001], rel=1e-6)


def test_rotation_turns_the_pair_of_channels_by_its_angle():
    angle = torch.tensor([[[math.pi / 2, math.pi]]])
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)  # pairs (1, 3) and (2, 4)
    assert rotated(x, angle.cos(), angle.sin()).flatten().tolist() == pytest.approx([-3.0, -2.0, 1.0, -4.0], abs=1e-6)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_logits_are_those_of_transformers_to_the_bit(kv_heads, qk_norm):
    from transformers import AutoConfig, AutoModelForCausalLM

    recipe = SMALL.model_copy(update={"kv_heads": kv_heads, "qk_norm": qk_norm, "rope_theta": 5000.0})
    ours = model(recipe)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**hf_config(recipe, 0, 1))).eval()
    found = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["lm_head.weight"], [])  # tied
    with torch.no_grad():
        assert torch.equal(theirs(tokens(3, 24)).logits, ours(tokens(3, 24)))


@pytest.mark.parametrize(
    "fields", [{}, {"qk_norm": True, "kv_heads": 1}, {"tied": False}, {"blocks": "gpt2", "kv_heads": 4}]
)
def test_gradients_are_those_of_transformers(fields):
    from transformers import AutoConfig, AutoModelForCausalLM

    recipe = SMALL.model_copy(update=fields)
    ours = model(recipe)
    theirs = AutoModelForCausalLM.from_config(AutoConfig.for_model(**hf_config(recipe, 0, 1))).eval()
    found = theirs.load_state_dict(published(recipe, ours.state_dict()), strict=False)
    assert [name for name in found.missing_keys if name != "lm_head.weight"] == []
    batch = tokens(3, 25) % 98 + 2  # transformers learns nothing of the padding token, 1, which is never read
    ours.loss(batch).backward()
    logits = theirs(batch[:, :-1]).logits
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").backward()
    here = published(recipe, {name: weight.grad for name, weight in ours.named_parameters()})
    there = {name: weight.grad for name, weight in theirs.named_parameters()}
    assert here.keys() == there.keys()
    for name, gradient in here.items():
        assert torch.allclose(gradient, there[name], atol=1e-5), name


def test_config_round_trips_and_counts_parameters():
    for qk_norm in (False, True):
        recipe = SMALL.model_copy(update={"qk_norm": qk_norm})
        assert recipe.num_parameters == sum(p.numel() for p in GPT(recipe).parameters())
        again = from_hf_config(hf_config(recipe, 0, 1))
        assert again == recipe.model_copy(update={"vocab_size": 128})


def test_a_config_of_another_network_is_refused():
    config = hf_config(SMALL, 0, 1)
    for change in ({"model_type": "gpt2"}, {"hidden_act": "gelu"}, {"mlp_bias": True}):
        with pytest.raises(ValueError):
            from_hf_config(config | change)
    with pytest.raises(ValueError, match="vocab_size is 0"):
        hf_config(SMALL.model_copy(update={"vocab_size": 0}), 0, 1)


@pytest.mark.parametrize("fields", [{"width": 30}, {"heads": 3}, {"kv_heads": 3}])
def test_shapes_that_do_not_divide_are_refused(fields):
    with pytest.raises(ValueError, match="multiple"):
        GPTRecipe(**{**SMALL.model_dump(), **fields})


def test_loss_is_the_mean_log_likelihood_times_targets():
    network, rows = model(), tokens(2, 9)
    with torch.no_grad():
        logits = network(rows[:, :-1]).log_softmax(-1)
        wanted = -logits.gather(2, rows[:, 1:, None]).sum()
        assert network.loss(rows).item() == pytest.approx(wanted.item(), rel=1e-6)
        # random weights know nothing: every token costs about ln(128), the padded vocabulary
        assert network.loss(rows).item() / 16 == pytest.approx(math.log(128), rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.booleans(), min_size=16, max_size=16))
def test_masked_loss_counts_exactly_the_targets_that_weigh(mask):
    network, rows = model(), tokens(2, 9)
    weights = torch.tensor(mask, dtype=torch.float32).view(2, 8)
    with torch.no_grad():
        single = network.losses(rows)
        assert network.loss(rows, weights).item() == pytest.approx((single * weights).sum().item(), abs=1e-6)


def test_a_masked_target_gives_no_gradient():
    network, rows = model(), tokens(1, 9)
    weights = torch.zeros(1, 8)
    weights[0, 3] = 1.0
    network.loss(rows, weights).backward()
    alone = {n: p.grad.clone() for n, p in network.named_parameters()}
    network.zero_grad()
    network.losses(rows)[0, 3].backward()
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter.grad, alone[name], atol=1e-7)


def test_no_token_sees_its_future():
    network, rows = model(), tokens(1, 24)
    changed = rows.clone()
    changed[0, 10:] = 5
    with torch.no_grad():
        assert torch.equal(network(rows)[0, :10], network(changed)[0, :10])


@pytest.mark.parametrize("pieces", [[1] * 12, [5, 7], [4, 1, 1, 6], [12]])
def test_cached_reading_gives_the_logits_of_reading_at_once(pieces):
    network, rows, cache = model(), tokens(2, 12), KVCache()
    with torch.no_grad():
        found = torch.cat([network(piece, cache) for piece in rows.split(pieces, dim=1)], dim=1)
        assert torch.allclose(found, network(rows), atol=1e-5)


def test_padding_on_the_left_does_not_change_what_follows():
    network, rows = model(), tokens(1, 6)
    padded = torch.cat([torch.zeros(1, 3, dtype=torch.long), rows], dim=1)
    both = torch.cat([padded, tokens(1, 9)])
    with torch.no_grad():
        found = network(both, KVCache(torch.tensor([3, 0])))
        assert torch.allclose(found[0, 3:], network(rows)[0], atol=1e-5)
        assert torch.allclose(found[1], network(tokens(1, 9))[0], atol=1e-5)
        assert torch.isfinite(found).all()


def test_the_same_seed_gives_the_same_weights_and_another_gives_others():
    one, same, other = (model(seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    deviation = one["model.layers.0.mlp.down_proj.weight"].std().item()
    assert deviation == pytest.approx(0.02 / math.sqrt(4), rel=0.1)


def test_one_batch_can_be_learnt_by_heart():
    network, rows = model().train(), tokens(4, 13)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(80):
        loss = network.loss(rows) / 48
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
