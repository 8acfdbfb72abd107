"""AdamW: its formula by hand, torch's plain implementation, and what decays."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from training.models.gpt import GPT
from training.optimizers import adamw, optimizer, optimizer_state, restore
from training.recipes import OptimisationRecipe

RECIPE = OptimisationRecipe(learning_rate=0.1, weight_decay=0.2, beta1=0.8, beta2=0.9)


class Pair(nn.Module):
    """A matrix and a vector, declared in an order that is not that of their names."""

    def __init__(self) -> None:
        super().__init__()
        self.zeta = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 4.0]]))
        self.alpha = nn.Parameter(torch.tensor([1.0, 3.0]))


def stepped(model, optimizer, gradients):
    """One step for each pair of gradients (of the matrix, of the vector)."""
    for matrix, vector in gradients:
        model.zeta.grad, model.alpha.grad = matrix.clone(), vector.clone()
        optimizer.step()
    return model


def gradients(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(2, 2, generator=draw), torch.randn(2, generator=draw)) for _ in range(count)]


def test_the_first_step_by_hand():
    """After bias correction the mean is g and the variance g², so that the step is lr * sign(g), beside the decay."""
    model = Pair()
    stepped(model, adamw(model, RECIPE), [(torch.tensor([[2.0, -3.0], [0.5, 1.0]]), torch.tensor([5.0, -0.1]))])
    decayed = [v * (1 - 0.1 * 0.2) for v in (1.0, -2.0, 0.5, 4.0)]
    wanted = [v - 0.1 * s for v, s in zip(decayed, (1, -1, 1, 1), strict=True)]
    assert model.zeta.flatten().tolist() == pytest.approx(wanted, rel=1e-6)
    assert model.alpha.tolist() == pytest.approx([1.0 - 0.1, 3.0 + 0.1], rel=1e-6)  # a vector does not decay


def test_several_steps_are_the_formula_of_the_paper():
    """Loshchilov & Hutter 2019, algorithm 2, with the decay decoupled from the gradient; one scalar, three steps."""
    model, found = Pair(), 1.0
    optimizer = adamw(model, RECIPE)
    mean = variance = 0.0
    for step, gradient in enumerate((0.5, -1.0, 2.0), 1):
        mean, variance = 0.8 * mean + 0.2 * gradient, 0.9 * variance + 0.1 * gradient**2
        unbiased = mean / (1 - 0.8**step), variance / (1 - 0.9**step)
        found = found * (1 - 0.1 * 0.2) - 0.1 * unbiased[0] / (math.sqrt(unbiased[1]) + 1e-8)
        stepped(model, optimizer, [(torch.full((2, 2), gradient), torch.zeros(2))])
        assert model.zeta[0, 0].item() == pytest.approx(found, rel=1e-5)


def test_it_is_torchs_plain_adamw_of_two_groups():
    """The fused kernel against the loop over single tensors, in double precision for the reference."""
    ours, theirs = Pair(), Pair().double()
    groups = [{"params": [theirs.zeta], "weight_decay": 0.2}, {"params": [theirs.alpha], "weight_decay": 0.0}]
    plain = torch.optim.AdamW(groups, lr=0.1, betas=(0.8, 0.9), foreach=False, fused=False)
    steps = gradients(20)
    stepped(ours, adamw(ours, RECIPE), steps)
    stepped(theirs, plain, [(a.double(), b.double()) for a, b in steps])
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(one.double(), other, atol=1e-6)


def test_without_a_gradient_a_matrix_shrinks_and_a_vector_stays():
    model = Pair()
    stepped(model, adamw(model, RECIPE), [(torch.zeros(2, 2), torch.zeros(2))] * 3)
    assert torch.allclose(model.zeta, Pair().zeta * 0.98**3, rtol=1e-6)
    assert torch.equal(model.alpha, Pair().alpha)


def test_no_decay_leaves_a_matrix_without_gradient_as_it_is():
    model = Pair()
    plain = RECIPE.model_copy(update={"weight_decay": 0.0})
    stepped(model, adamw(model, plain), [(torch.zeros(2, 2), torch.zeros(2))] * 3)
    assert torch.equal(model.zeta, Pair().zeta)


def test_parameters_stand_in_the_order_of_their_names_however_a_network_declares_them():
    class Turned(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.beta = nn.Parameter(torch.ones(1, 1))

    model = Turned()
    matrices, vectors = adamw(model, RECIPE).param_groups
    assert [id(p) for p in matrices["params"]] == [id(model.beta), id(model.zeta)]
    assert [id(p) for p in vectors["params"]] == [id(model.alpha)]


def test_the_state_of_a_new_run_is_zeros_of_every_shape():
    model = Pair()
    state = optimizer_state(model, adamw(model, RECIPE))
    assert sorted(state) == ["exp_avg.alpha", "exp_avg.zeta", "exp_avg_sq.alpha", "exp_avg_sq.zeta"]
    assert all(not tensor.any() for tensor in state.values())
    assert state["exp_avg.zeta"].shape == (2, 2)


def test_the_state_holds_the_moments_of_the_formula():
    model = Pair()
    optimizer = adamw(model, RECIPE)
    stepped(model, optimizer, [(torch.full((2, 2), 2.0), torch.zeros(2)), (torch.full((2, 2), -1.0), torch.zeros(2))])
    state = optimizer_state(model, optimizer)
    assert state["exp_avg.zeta"][0, 0].item() == pytest.approx(0.8 * (0.2 * 2.0) + 0.2 * -1.0, rel=1e-6)
    assert state["exp_avg_sq.zeta"][0, 0].item() == pytest.approx(0.9 * (0.1 * 4.0) + 0.1 * 1.0, rel=1e-6)


def interrupted(at, told):
    """Ten steps, taken by two optimizers: the second goes on after step ``at`` and is told that it is ``told``."""
    first, second = Pair(), Pair()
    before = adamw(first, RECIPE)
    stepped(first, before, gradients(10)[:at])
    second.load_state_dict(first.state_dict())
    after = adamw(second, RECIPE)
    restore(second, after, {k: v.clone() for k, v in optimizer_state(first, before).items()}, told)
    return stepped(second, after, gradients(10)[at:])


@pytest.mark.parametrize("at", [0, 1, 4, 9])
def test_an_optimizer_that_is_put_back_goes_on_to_the_bit(at):
    whole = Pair()
    stepped(whole, adamw(whole, RECIPE), gradients(10))
    again = interrupted(at, at)
    assert torch.equal(whole.zeta, again.zeta)
    assert torch.equal(whole.alpha, again.alpha)


def test_the_number_of_the_step_is_part_of_the_state():
    """The bias correction hangs on it: an optimizer that believes it is at its first step goes elsewhere."""
    assert not torch.equal(interrupted(4, 0).zeta, interrupted(4, 4).zeta)


def test_a_state_that_lacks_a_parameter_is_an_error():
    model = Pair()
    state = optimizer_state(model, adamw(model, RECIPE))
    del state["exp_avg_sq.zeta"]
    with pytest.raises(KeyError, match=r"exp_avg_sq\.zeta"):
        restore(model, adamw(model, RECIPE), state, 1)


# -- Muon, and what decays -------------------------------------------------------------------------------------


def small_network():
    from training.models.gpt import initialise
    from training.models.recipe import GPTRecipe

    network = GPT(GPTRecipe(vocab_size=64, sequence_length=8, layers=2, width=16, heads=2, kv_heads=1, mlp_width=24))
    initialise(network, 2, 0)
    return network


def test_muon_moves_the_matrices_of_the_blocks_and_adamw_everything_else():
    network = small_network()
    both = optimizer(network, OptimisationRecipe(optimizer="muon", weight_decay=0.2, momentum=0.9))
    names = {id(p): name for name, p in network.named_parameters()}
    muon, decayed, kept = ({names[id(p)] for p in group["params"]} for group in both.param_groups)
    assert all(".layers." in name and "proj" in name for name in muon)
    assert len(muon) == 2 * 7
    assert decayed == {"model.embed_tokens.weight"}
    assert all("norm" in name for name in kept)
    assert [group["weight_decay"] for group in both.param_groups] == [0.2, 0.2, 0.0]
    assert both.param_groups[0]["momentum"] == 0.9


def test_a_step_of_muon_turns_the_singular_values_of_the_update_to_about_one():
    """The update is orthogonal, and as large as AdamW's: 0.2 sqrt(largest side) a row (arXiv:2502.16982, eq. 4)."""
    network = small_network()
    recipe = OptimisationRecipe(optimizer="muon", learning_rate=0.1, weight_decay=0.0)
    both = optimizer(network, recipe)
    weight = network.model.layers[0].mlp.up_proj.weight
    before = weight.detach().clone()
    network.loss(torch.arange(18).view(2, 9)).backward()
    both.step()
    values = torch.linalg.svdvals((weight.detach() - before) / (0.1 * 0.2 * 24**0.5))
    assert 0.7 < values.median() < values.max() < 1.3  # but where the gradient had next to nothing


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_moments_of_either_come_back_and_the_next_step_is_the_same(kind):
    recipe, rows = OptimisationRecipe(learning_rate=0.01, optimizer=kind), torch.arange(18).view(2, 9)
    one, two = small_network(), small_network()
    first, second = optimizer(one, recipe), optimizer(two, recipe)

    def step(model, moved):
        moved.zero_grad(set_to_none=True)
        model.loss(rows).backward()
        moved.step()

    for _ in range(3):
        step(one, first)
    two.load_state_dict(one.state_dict())
    restore(two, second, {k: v.clone() for k, v in optimizer_state(one, first).items()}, 3)
    step(one, first)
    step(two, second)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_embeddings_decay_only_if_the_recipe_says_so():
    from training.models.recipe import GPTRecipe

    shape = GPTRecipe(vocab_size=64, sequence_length=8, layers=1, width=16, heads=2, kv_heads=2, mlp_width=24,
                      blocks="gpt2", tied=False)  # fmt: skip
    network = GPT(shape)
    decayed = adamw(network, OptimisationRecipe(decay_embeddings=False)).param_groups[0]["params"]
    names = {name for name, p in network.named_parameters() if any(p is each for each in decayed)}
    assert "lm_head.weight" in names
    assert not [name for name in names if "embed" in name]
    assert len(adamw(network, OptimisationRecipe()).param_groups[0]["params"]) == len(names) + 2
