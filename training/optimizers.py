"""AdamW, and its state under flat names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.recipes import OptimisationRecipe

MOMENTS = ("exp_avg", "exp_avg_sq")


def adamw(model: nn.Module, recipe: OptimisationRecipe) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) with weight decay on matrices only.

    Gains of norms are vectors: pulling them to zero shrinks the activations instead of regularising anything.
    """
    weights = [parameter for _, parameter in sorted(model.named_parameters())]
    groups = [
        {"params": [w for w in weights if w.ndim >= 2], "weight_decay": recipe.weight_decay},
        {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
    ]
    # fused: one kernel instead of one a parameter; same result for one torch version, which numerics declares
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), fused=True)


def optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``exp_avg.NAME`` and ``exp_avg_sq.NAME`` for every parameter of the model."""
    state = {}
    for name, parameter in model.named_parameters():
        held = optimizer.state.get(parameter, {})
        for moment in MOMENTS:
            state[f"{moment}.{name}"] = held[moment] if moment in held else torch.zeros_like(parameter)
    return state


def restore(model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Tensor], step: int) -> None:
    """Inverse of :func:`optimizer_state`, after ``step`` steps."""
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            "step": torch.tensor(float(step), device=parameter.device),
            **{moment: state[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS},
        }
