"""Pruning: the smallest weights of the projections become zero, and only the others are stored.

Magnitude pruning (Han et al. 2015, arXiv:1506.02626; Zhu & Gupta 2017, arXiv:1710.01878): within each matrix, or over
all of them. A file holds, instead of the matrix NAME, ``NAME.bits`` (a bit a weight, rows padded to bytes),
``NAME.values`` (those that are not zero, row by row) and ``NAME.columns``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def pruned(weights: Mapping[str, Tensor], names: Sequence[str], sparsity: float, scope: str) -> dict[str, Tensor]:
    """Weights with the smallest of some matrices set to zero.

    Args:
        weights: by name.
        names: of the matrices.
        sparsity: share of their weights that goes; ``round(sparsity * size)`` of them, exactly.
        scope: ``matrix``: this share of each; ``global``: of all together, so that some matrices lose more.
    """
    found = dict(weights)
    for group in [list(names)] if scope == "global" else [[name] for name in names]:
        sizes = torch.cat([weights[name].abs().flatten() for name in group])
        gone = torch.zeros(len(sizes), dtype=torch.bool)
        # of equal ones the first go: the same bytes every time
        gone[sizes.argsort(stable=True)[: round(sparsity * len(sizes))]] = True
        for name, mask in zip(group, gone.split([weights[name].numel() for name in group]), strict=True):
            found[name] = weights[name].masked_fill(mask.view_as(weights[name]), 0.0)
    return found


def sparse(weights: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
    """Some matrices as bits and values."""
    found = {name: weight for name, weight in weights.items() if name not in names}
    for name in names:
        present = weights[name] != 0
        found[f"{name}.bits"] = torch.from_numpy(np.packbits(present.numpy(), axis=1))
        found[f"{name}.values"] = weights[name][present]
        found[f"{name}.columns"] = torch.tensor([present.shape[1]])
    return found


def dense(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`sparse`."""
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(".bits"):
            matrix = name.removesuffix(".bits")
            columns, values = int(stored[f"{matrix}.columns"]), stored[f"{matrix}.values"]
            present = torch.from_numpy(np.unpackbits(tensor.numpy(), axis=1, count=columns)).bool()
            found[matrix] = torch.zeros(present.shape, dtype=values.dtype).masked_scatter_(present, values)
        elif f"{name.rpartition('.')[0]}.bits" not in stored:
            found[name] = tensor
    return found


def num_zeros(weights: Mapping[str, Tensor], names: Sequence[str]) -> int:
    return sum(int((weights[name] == 0).sum()) for name in names)


def keep_zeros(network: torch.nn.Module) -> None:
    """What is zero in a matrix stays zero in training: AdamW leaves a weight of zero whose gradients are zero."""
    for weight in network.parameters():
        if weight.ndim == 2 and bool((weight == 0).any()):
            present = (weight != 0).to(weight.dtype)
            weight.register_hook(lambda gradient, present=present: gradient * present.to(gradient.device))
