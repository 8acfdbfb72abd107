"""Operations a token and their share of a device's peak: closed forms, and torch's own count."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from training import flops
from training.models.gpt import GPT
from training.models.recipe import GPTRecipe
from training.shapes import network


@pytest.mark.parametrize("blocks", ["llama", "gpt2"])
def test_matrix_products_are_those_that_torch_counts(blocks):
    recipe = GPTRecipe(
        vocab_size=128, sequence_length=32, layers=3, width=64, heads=4, kv_heads=4, mlp_width=96, blocks=blocks
    )  # fmt: skip
    model, rows = GPT(recipe), torch.zeros(2, 33, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.loss(rows).backward()
    counted = {str(op): n for op, n in counter.get_flop_counts()["Global"].items()}
    matrices = sum(n for op, n in counted.items() if "mm" in op)
    assert matrices == 6 * recipe.num_matrix_parameters * 64


def test_gpt2_by_hand():
    """6 N + 12 L T D with N the 123.6 M weights that a token is multiplied with."""
    shape = network("gpt2_124m")
    matrices = 12 * 12 * 768**2 + 50304 * 768
    assert flops.per_token(shape) == 6 * matrices + 12 * 12 * 768 * 1024


def test_utilisation_is_the_share_of_the_peak_of_all_devices():
    shape = network("gpt2_124m")
    speed = 0.5 * 989e12 / flops.per_token(shape)
    assert flops.utilisation(shape, speed, "NVIDIA H200") == pytest.approx(0.5)
    assert flops.utilisation(shape, 8 * speed, "NVIDIA H100 80GB HBM3", 8) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("cpu", None),
     ("NVIDIA GeForce GTX 1080", None)],
)  # fmt: skip
def test_a_device_that_is_not_in_the_table_has_no_peak(name, peak):
    assert flops.peak(name) == peak
    if peak is None:
        assert flops.utilisation(network("nano"), 1e6, name) is None
