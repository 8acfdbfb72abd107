"""The decoder from inside: who looks at whom, rotation by distance, shared heads, rows that do not mix."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.models.blocks import KVCache, rotary_frequencies, rotated
from training.models.config import from_hf_config, hf_config
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe

SMALL = GPTRecipe(vocab_size=100, sequence_length=24, layers=2, width=32, heads=4, kv_heads=2, mlp_width=48)


def model(seed=0, scale=8.0, **fields):
    """Weights larger than those of a fresh model, so that attention is no mere average."""
    recipe = SMALL.model_copy(update=fields)
    network = GPT(recipe).eval()
    initialise(network, recipe.layers, seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "proj" in name:
                weight.mul_(scale)
    return network


def tokens(rows, length, seed=0):
    return torch.randint(0, 100, (rows, length), generator=torch.Generator().manual_seed(seed))


# -- rotation --------------------------------------------------------------------------------------------------


def turned(x_C, position, theta=10_000.0):
    angles = position * rotary_frequencies(len(x_C), theta).double()
    return rotated(x_C.double().view(1, 1, 1, -1), angles.cos().view(1, 1, -1), angles.sin().view(1, 1, -1)).flatten()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 2**31))
def test_a_query_and_a_key_meet_by_their_distance_alone(one, other, shift, seed):
    """Su et al. 2021, equation 16: the product depends on the difference of the positions."""
    draw = torch.Generator().manual_seed(seed)
    query, key = torch.randn(16, generator=draw), torch.randn(16, generator=draw)
    here = turned(query, one) @ turned(key, other)
    there = turned(query, one + shift) @ turned(key, other + shift)
    assert here.item() == pytest.approx(there.item(), abs=1e-8)


def test_a_rotation_keeps_lengths_and_position_0_leaves_everything():
    x = torch.randn(16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(turned(x, 0), x.double())
    assert turned(x, 77).norm().item() == pytest.approx(x.double().norm().item(), rel=1e-9)


def test_a_larger_base_turns_more_slowly():
    slow, fast = rotary_frequencies(8, 1_000_000.0), rotary_frequencies(8, 10_000.0)
    assert slow[0] == fast[0] == 1.0
    assert (slow[1:] < fast[1:]).all()


def test_the_same_passage_later_in_the_context_is_read_alike():
    """Everything but the position is the same: with relative rotation, hidden states do not know where they are."""
    network, row = model(), tokens(1, 8)
    cache = KVCache(torch.tensor([5]))  # five padding tokens before it
    padded = torch.cat([torch.zeros(1, 5, dtype=torch.long), row], 1)
    with torch.no_grad():
        assert torch.allclose(network(padded, cache)[:, 5:], network(row), atol=1e-4)


# -- heads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_shared_key_heads_are_heads_of_their_own_with_equal_weights(kv_heads, qk_norm):
    """Grouped-query attention equals multi-head attention whose key and value weights are repeated by group."""
    shared, full = model(kv_heads=kv_heads, qk_norm=qk_norm), model(kv_heads=4, qk_norm=qk_norm)
    weights = shared.state_dict()
    for name in weights:
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            by_head = weights[name].view(kv_heads, SMALL.head_width, SMALL.width)
            weights[name] = by_head.repeat_interleave(4 // kv_heads, dim=0).reshape(-1, SMALL.width)
    full.load_state_dict(weights)
    with torch.no_grad():
        assert torch.allclose(shared(tokens(2, 20)), full(tokens(2, 20)), atol=1e-4)


def test_attention_by_the_textbook():
    """softmax(q kᵀ / sqrt(C)) v with a causal mask, one head after another, against the module."""
    network, row = model(layers=1, qk_norm=False), tokens(1, 7)
    attention = network.model.layers[0].self_attn
    with torch.no_grad():
        x = network.model.layers[0].input_layernorm(network.model.embed_tokens(row))
        angles = network.model._angles(row, None)
        found = attention(x, angles, None, None)[0]
        q, k, v = (p(x).view(1, 7, -1, SMALL.head_width).transpose(1, 2) for p in
                   (attention.q_proj, attention.k_proj, attention.v_proj))  # fmt: skip
        q, k = rotated(q, *angles), rotated(k, *angles)
        heads = []
        for head in range(4):
            scores = q[0, head] @ k[0, head // 2].T / math.sqrt(SMALL.head_width)
            scores = scores.masked_fill(torch.ones(7, 7).triu(1).bool(), -math.inf)
            heads.append(scores.softmax(-1) @ v[0, head // 2])
        assert torch.allclose(attention.o_proj(torch.cat(heads, -1)), found, atol=1e-5)


# -- who sees whom ---------------------------------------------------------------------------------------------


def test_every_token_sees_all_before_it_and_itself():
    """By the gradient: which embeddings the logits of position 5 depend on."""
    network = model()
    found = []
    network.model.embed_tokens.register_forward_hook(lambda m, i, out: found.append(out) or out.retain_grad())
    network(tokens(1, 10))[0, 5].sum().backward()
    touched = found[0].grad[0].abs().sum(-1) > 0
    assert touched.tolist() == [True] * 6 + [False] * 4


@pytest.mark.parametrize("rows", [2, 5])
def test_rows_of_a_batch_do_not_mix(rows):
    network, batch = model(), tokens(rows, 16)
    with torch.no_grad():
        together = network(batch)
        for index in range(rows):
            assert torch.allclose(network(batch[index : index + 1])[0], together[index], atol=1e-4)
        changed = batch.clone()
        changed[0] = 3
        assert torch.allclose(network(changed)[1:], together[1:], atol=1e-5)


def test_turning_the_rows_of_a_batch_turns_the_logits():
    network, batch = model(), tokens(4, 16)
    with torch.no_grad():
        assert torch.allclose(network(batch.flip(0)), network(batch).flip(0), atol=1e-4)


def test_order_matters():
    network, row = model(), tokens(1, 10)
    with torch.no_grad():
        assert not torch.allclose(network(row.flip(1))[0, -1], network(row)[0, -1], atol=1e-2)


# -- embedding and head ----------------------------------------------------------------------------------------


def test_the_head_is_the_embedding():
    network = model()
    assert not [name for name in network.state_dict() if "head" in name]
    with torch.no_grad():
        x = network.model(tokens(1, 5))
        wanted = x @ network.model.embed_tokens.weight.T
        assert torch.allclose(network(tokens(1, 5)), wanted, atol=1e-5)
        network.model.embed_tokens.weight[7].zero_()
        assert network(tokens(1, 5))[..., 7].abs().max() == 0


def test_the_embedding_learns_from_both_its_ends():
    """Token 90 is never read nor a target; it learns all the same, by being an answer that is not right."""
    network = model()
    rows = torch.tensor([[1, 2, 3, 4]])
    network.loss(rows).backward()
    gradient = network.model.embed_tokens.weight.grad
    assert gradient[90].abs().sum() > 0
    assert gradient[2].norm() > gradient[90].norm()


def test_rows_beyond_the_vocabulary_exist_and_are_never_targets():
    network = model(vocab_size=100)
    assert network(tokens(1, 4)).shape == (1, 4, 128)
    assert network.recipe.padded_vocab_size == 128
    assert [SMALL.model_copy(update={"vocab_size": size}).padded_vocab_size for size in (1, 64, 65)] == [64, 64, 128]


def test_dropout_is_off_in_evaluation_and_on_in_training():
    network, row = model(dropout=0.5), tokens(1, 12)
    with torch.no_grad():
        assert torch.equal(network(row), model()(row))  # the same weights without dropout
        network.train()
        torch.manual_seed(0)
        one, other = network(row), network(row)
        assert not torch.equal(one, other)
        torch.manual_seed(0)
        assert torch.equal(network(row), one)


# -- configurations of others ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_act": "gelu"},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}},
        {"model_type": "gemma"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_this_decoder_does_not_have_is_refused_by_name(change):
    """Each of these gives other logits from the same weights; none may be passed over in silence."""
    config = hf_config(SMALL, 0, 1)
    assert from_hf_config(config).vocab_size == 128
    with pytest.raises(ValueError, match="rope_type" if "rope_parameters" in change else next(iter(change))):
        from_hf_config(config | change)


def test_what_this_decoder_has_as_a_choice_is_taken_over():
    found = from_hf_config(hf_config(SMALL, 0, 1) | {"head_dim": 16, "rms_norm_eps": 1e-5})
    assert (found.head_width, found.eps) == (16, 1e-5)


def test_what_does_not_touch_the_logits_is_let_in():
    harmless = {"torch_dtype": "bfloat16", "use_cache": False, "initializer_range": 0.1, "transformers_version": "5"}
    assert from_hf_config(hf_config(SMALL, 0, 1) | harmless) == from_hf_config(hf_config(SMALL, 0, 1))
