"""Arithmetic of training: operations a token, and the share of a device's peak that a speed is. No torch here."""

from __future__ import annotations

from training.models.recipe import GPTRecipe

# dense bf16, operations a second, as NVIDIA's data sheets state them without sparsity; SXM where there are several
PEAKS = {
    "B200": 2.25e15,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "V100": 125e12,
}


def per_token(recipe: GPTRecipe) -> float:
    """Operations to train on one token: 6 N + 12 L T D (Chowdhery et al. 2022, arXiv:2204.02311, appendix B).

    N counts every matrix that a token meets, the head among them and the embedding not; attention counts as if it
    looked both ways, as everybody counts it; with a window T is the window.
    """
    seen = min(recipe.window or recipe.sequence_length, recipe.sequence_length)
    attention = 12 * recipe.layers * recipe.heads * recipe.head_width * seen
    return 6.0 * recipe.num_matrix_parameters + attention


def peak(device: str) -> float | None:
    """Operations a second of a device by (a part of) its name; None if it is not in the table."""
    return next((value for name, value in PEAKS.items() if name.lower() in device.lower()), None)


def utilisation(recipe: GPTRecipe, tokens_per_second: float, device: str, world_size: int = 1) -> float | None:
    """Model FLOPs utilisation of ``world_size`` such devices together; None where the peak is unknown."""
    best = peak(device)
    return None if best is None else per_token(recipe) * tokens_per_second / (best * world_size)
