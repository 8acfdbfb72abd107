"""AdamW, or Muon for the matrices of the blocks and AdamW for the rest; and their state under flat names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.parallel import like
from training.recipes import OptimisationRecipe
from training.sharded import Rows

ADAMW, MUON = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)


class Together:
    """Several optimizers, each with parameters of its own, as one."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers
        self.param_groups: list[dict[str, Any]] = [group for each in optimizers for group in each.param_groups]
        self.step = self._step  # an attribute, as a torch optimizer's may be replaced

    def _step(self) -> None:
        for each in self.optimizers:
            each.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        for each in self.optimizers:
            each.zero_grad(set_to_none=set_to_none)


Optimizer = torch.optim.Optimizer | Together


def optimizer(model: nn.Module, recipe: OptimisationRecipe) -> Optimizer:
    """The one that the recipe asks for."""
    if recipe.optimizer == "adamw":
        return adamw(model, recipe)
    inner = [weight for name, weight in sorted(model.named_parameters()) if ".layers." in name and weight.ndim == 2]
    # its rate is scaled to the size of AdamW's updates (Liu et al. 2025, arXiv:2502.16982, eq. 4), so that one
    # learning rate and one weight decay serve both
    muon = torch.optim.Muon(
        inner, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, momentum=recipe.momentum,
        adjust_lr_fn="match_rms_adamw",
    )  # fmt: skip
    return Together(muon, adamw(model, recipe, without=inner))


def adamw(model: nn.Module, recipe: OptimisationRecipe, without: Iterable[Tensor] = ()) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) with weight decay on matrices only, on embeddings as the recipe says.

    Gains of norms are vectors: pulling them to zero shrinks the activations instead of regularising anything.
    """
    left_out = {id(weight) for weight in without}
    named = [(name, weight) for name, weight in sorted(model.named_parameters()) if id(weight) not in left_out]
    decays = [recipe.decay_embeddings or ".embed_" not in f".{name}" for name, _ in named]
    groups = [
        {"params": [w for (_, w), decay in zip(named, decays, strict=True) if w.ndim >= 2 and decay],
         "weight_decay": recipe.weight_decay},
        {"params": [w for (_, w), decay in zip(named, decays, strict=True) if w.ndim < 2 or not decay],
         "weight_decay": 0.0},
    ]  # fmt: skip
    # fused: one kernel instead of one a parameter; same result for one torch version, which numerics declares
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(recipe.beta1, recipe.beta2), fused=True)


def optimizer_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """``exp_avg.NAME`` and ``exp_avg_sq.NAME`` (Muon: ``momentum_buffer.NAME``) for every parameter of the model."""
    state = {}
    for name, parameter, owner in _owned(model, optimizer):
        held = owner.state.get(parameter, {})
        for moment in _moments(owner):
            state[f"{moment}.{name}"] = held[moment] if moment in held else torch.zeros_like(parameter)
    return state


def restore(model: nn.Module, optimizer: Optimizer, state: Mapping[str, Tensor | Rows], step: int) -> None:
    """Inverse of :func:`optimizer_state`, after ``step`` steps that were taken."""
    for name, parameter, owner in _owned(model, optimizer):
        held = {moment: like(state[f"{moment}.{name}"], parameter) for moment in _moments(owner)}
        if not isinstance(owner, torch.optim.Muon):
            held["step"] = torch.tensor(float(step), device=parameter.device)
        owner.state[parameter] = held


def _moments(owner: torch.optim.Optimizer) -> tuple[str, ...]:
    return MUON if isinstance(owner, torch.optim.Muon) else ADAMW


def _owned(model: nn.Module, optimizer: Optimizer) -> Iterable[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
    """Every parameter with the optimizer that moves it."""
    optimizers = optimizer.optimizers if isinstance(optimizer, Together) else (optimizer,)
    owners = {id(p): each for each in optimizers for group in each.param_groups for p in group["params"]}
    return [(name, parameter, owners[id(parameter)]) for name, parameter in model.named_parameters()]
