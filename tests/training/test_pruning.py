"""Pruning by magnitude: which weights go, how the rest is stored, and that zeros stay zero in training."""

from __future__ import annotations

import pytest
import torch

from training.pruning import dense, keep_zeros, num_zeros, pruned, sparse

SMALL = torch.tensor([[0.1, -0.4, 0.2, 0.3], [-0.05, 0.6, 0.5, 0.0]])


def test_the_smallest_go_of_each_matrix_or_of_all():
    weights = {"a": SMALL, "b": 10 * SMALL, "norm": torch.zeros(3)}
    each = pruned(weights, ["a", "b"], 0.5, "matrix")
    assert each["a"].tolist() == [[0, pytest.approx(-0.4), 0, pytest.approx(0.3)], [0, pytest.approx(0.6), 0.5, 0]]
    assert torch.equal(each["b"], 10 * each["a"])
    together = pruned(weights, ["a", "b"], 0.5, "global")
    assert num_zeros(together, ["a"]) == 7  # all but 0.6; of its 0.5 and that of b the first goes
    assert num_zeros(together, ["b"]) == 1  # the one that is zero anyway
    assert together["norm"] is weights["norm"]


@pytest.mark.parametrize("sparsity", [0.01, 0.5, 0.9, 0.999])
def test_as_many_go_as_were_asked_for(sparsity):
    weights = {"a": torch.randn(32, 48, generator=torch.Generator().manual_seed(0))}
    assert num_zeros(pruned(weights, ["a"], sparsity, "matrix"), ["a"]) == round(sparsity * 32 * 48)


def test_of_equal_weights_the_first_go():
    assert pruned({"a": torch.ones(2, 2)}, ["a"], 0.5, "matrix")["a"].tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("columns", [8, 13, 1])
def test_bits_and_values_come_back_as_the_matrix(columns):
    weights = {"a": torch.randn(5, columns, generator=torch.Generator().manual_seed(0)), "norm": torch.ones(2)}
    thin = pruned(weights, ["a"], 0.7, "matrix")
    back = dense(sparse(thin, ["a"]))
    assert back.keys() == thin.keys()
    assert torch.equal(back["a"], thin["a"])


def test_zeros_stay_zero_under_momentum_and_decay():
    layer = torch.nn.Linear(8, 8, bias=False)
    with torch.no_grad():
        layer.weight.copy_(pruned({"a": torch.randn(8, 8)}, ["a"], 0.5, "matrix")["a"])
    gone = layer.weight == 0
    keep_zeros(layer)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    before = layer.weight.detach().clone()
    for _ in range(5):
        layer(torch.randn(4, 8)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert bool((layer.weight[gone] == 0).all())
    assert bool((layer.weight[~gone] != before[~gone]).all())
