"""The encoder is transformers' EuroBERT, and says how likely every token of a text is among all others."""

from __future__ import annotations

import math

import pytest
import torch

from training.models.config import from_hf_config, hf_config
from training.models.encoder import PASSES, Encoder
from training.models.gpt import initialise
from training.models.recipe import GPTRecipe
from training.objectives import HiddenTokens

MASK = 99
SMALL = GPTRecipe(
    vocab_size=100, sequence_length=24, layers=2, width=32, heads=4, kv_heads=2, mlp_width=48, objective="masked"
)  # fmt: skip


def encoder(seed=0, scale=8.0, **fields):
    recipe = SMALL.model_copy(update=fields)
    network = Encoder(recipe, MASK).eval()
    initialise(network, recipe.layers, seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if "proj" in name:
                weight.mul_(scale)  # attention is then no mere average
    return network


def tokens(rows, length, seed=0):
    return torch.randint(2, 99, (rows, length), generator=torch.Generator().manual_seed(seed))


def eurobert(network):
    from transformers import AutoConfig, AutoModelForMaskedLM

    config = hf_config(network.recipe, 0, 1, mask_id=MASK)
    theirs = AutoModelForMaskedLM.from_config(AutoConfig.for_model(**config)).eval()
    found = theirs.load_state_dict(network.state_dict(), strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["lm_head.weight"] if network.recipe.tied else [], [])
    assert type(theirs).__name__ == config["architectures"][0] == "EuroBertForMaskedLM"
    return theirs


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 4])
def test_logits_are_those_of_eurobert(tied, kv_heads):
    ours = encoder(tied=tied, kv_heads=kv_heads)
    with torch.no_grad():
        difference = eurobert(ours)(tokens(3, 24)).logits - ours(tokens(3, 24))
    assert difference.abs().max() <= 1e-5


def test_logits_are_those_of_eurobert_with_padding_too():
    ours, rows, lengths = encoder(), tokens(3, 24), torch.tensor([24, 7, 13])
    seen = torch.arange(24)[None] < lengths[:, None]
    with torch.no_grad():
        theirs = eurobert(ours)(rows, attention_mask=seen.long()).logits
        assert (theirs - ours(rows, lengths))[seen].abs().max() <= 1e-5


def test_every_token_sees_those_behind_it_and_no_padding():
    network, rows = encoder(), tokens(1, 12)
    changed = rows.clone()
    changed[0, 9] = 2 + (rows[0, 9] + 1) % 90
    with torch.no_grad():
        assert not torch.allclose(network(rows)[0, 0], network(changed)[0, 0])
        lengths = torch.tensor([9])  # now the change stands in the padding
        assert torch.equal(network(rows, lengths)[0, :9], network(changed, lengths)[0, :9])


def test_hidden_losses_are_those_of_the_whole_logits():
    network, rows = encoder(), tokens(2, 24)
    places, truths = torch.tensor([[3, 20], [0, 23]]), torch.tensor([[5, 6], [7, 8]])
    with torch.no_grad():
        wanted = -network(rows).log_softmax(-1).gather(1, places[..., None].expand(-1, -1, 128))
        wanted = wanted.gather(2, truths[..., None])[..., 0]
        assert torch.allclose(network.hidden_losses(rows, places, truths), wanted, atol=1e-5)
        weights = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
        cost = HiddenTokens(network)(rows, weights, None, None, places, truths)
        assert cost.item() == pytest.approx((wanted * weights).sum().item(), rel=1e-5)


def test_every_token_of_a_text_is_asked_for_once_while_it_is_hidden():
    network, rows = encoder(), tokens(1, 16)
    with torch.no_grad():
        found = network.losses(rows)[0]
        for place in range(15):
            hidden = rows[:, 1:].clone()
            hidden[0, place % PASSES :: PASSES] = MASK
            wanted = -network(hidden)[0, place].log_softmax(-1)[rows[0, place + 1]]
            assert found[place].item() == pytest.approx(wanted.item(), rel=1e-4)


def test_padding_does_not_change_what_a_text_costs():
    network, row = encoder(), tokens(1, 11)
    padded = torch.cat([row, torch.zeros(1, 6, dtype=torch.long)], 1)
    with torch.no_grad():
        assert torch.allclose(network.losses(padded, torch.tensor([11]))[0, :10], network.losses(row)[0], atol=1e-5)


def test_an_encoder_that_knows_nothing_pays_the_logarithm_of_the_vocabulary():
    network = Encoder(SMALL, MASK).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 2:
                weight.zero_()
        assert network.losses(tokens(2, 24)).mean().item() == pytest.approx(math.log(128), rel=1e-6)


def test_the_config_comes_back_as_the_recipe():
    recipe = SMALL.model_copy(update={"tied": False, "vocab_size": 128})
    config = hf_config(recipe, 0, 1, mask_id=MASK)
    assert (from_hf_config(config), config["mask_token_id"]) == (recipe, MASK)
    assert recipe.num_parameters == sum(p.numel() for p in Encoder(recipe, MASK).parameters())


def test_recomputed_activations_give_the_same_gradients():
    from training.parallel import recompute

    kept, again = encoder(dropout=0.2).train(), encoder(dropout=0.2).train()
    recompute(again)
    places, truths = torch.arange(4)[None], torch.arange(4)[None]
    for network in (kept, again):
        torch.manual_seed(3)
        network.hidden_losses(tokens(1, 20), places, truths).sum().backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(kept.parameters(), again.parameters(), strict=True))
