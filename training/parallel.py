"""Several processes that train one model: alone, copied (DDP) or sharded (FSDP2).

The loop asks the same of all three. Gradients are means over the processes. What is kept for good leaves whole, and
another number of processes can go on from any checkpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from training.ahead import Ahead
from training.models.blocks import Trunk
from training.sharded import Rows

NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}  # what products are computed in


class Alone:
    """One process."""

    def __init__(self, objective: nn.Module) -> None:
        self.objective = objective
        self.module: nn.Module = objective  # what is called

    @contextlib.contextmanager
    def unsynced(self, more_to_come: bool) -> Iterator[None]:
        """Gradients stay here while more microbatches come."""
        del more_to_come
        yield

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        """The network itself can be called, apart from its objective."""
        yield


class Copied(Alone):
    """Each process has the whole model (Li et al. 2020, arXiv:2006.15704)."""

    def __init__(self, objective: nn.Module) -> None:
        super().__init__(objective)
        self.copy = DistributedDataParallel(objective, gradient_as_bucket_view=True)  # no second copy of gradients
        self.module = self.copy

    @contextlib.contextmanager
    def unsynced(self, more_to_come: bool) -> Iterator[None]:
        with self.copy.no_sync() if more_to_come else contextlib.nullcontext():
            yield


class Sharded(Alone):
    """Each process has a share of every weight, gathered block by block when it is needed (``fully_shard``)."""

    def __init__(self, objective: nn.Module, dtype: str) -> None:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        super().__init__(objective)
        # gathered in 16 bits: half the traffic; and autocast would else keep a whole copy in them on every process
        policy = MixedPrecisionPolicy()
        if dtype in NARROW:
            policy = MixedPrecisionPolicy(param_dtype=NARROW[dtype], reduce_dtype=torch.float32)
        for module in objective.modules():
            if isinstance(module, Trunk | Ahead):
                for block in module.layers:
                    fully_shard(block, mp_policy=policy)
        self.root: Any = fully_shard(objective, mp_policy=policy)

    @contextlib.contextmanager
    def unsynced(self, more_to_come: bool) -> Iterator[None]:
        self.root.set_requires_gradient_sync(not more_to_come)
        yield

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[None]:
        self.root.unshard()  # embedding and head; blocks gather themselves
        yield
        self.root.reshard()


def parallel(objective: nn.Module, world_size: int, sharding: str, dtype: str) -> Alone:
    """``sharding``: ddp or fsdp, where there are several processes; ``dtype``: of matrix products."""
    if world_size == 1:
        return Alone(objective)
    return Sharded(objective, dtype) if sharding == "fsdp" else Copied(objective)


def recompute(objective: nn.Module) -> None:
    """Keep no activations inside blocks; the backward pass computes them again (Chen et al. 2016, arXiv:1604.06174)."""
    for module in objective.modules():
        if isinstance(module, Trunk):
            module.recomputed = True


def copied(tensors: Mapping[str, Tensor], *, is_kept: bool) -> dict[str, Tensor]:
    """Copies in the host's memory, with the shares of all processes; every process must ask, in the same order.

    One tensor after another, so that no device ever holds two whole ones. ``is_kept``: here, or else nowhere.
    """
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        if is_kept:
            found[name] = whole.detach().to("cpu", copy=True)
    return found


def like(tensor: Tensor | Rows, pattern: Tensor) -> Tensor:
    """A whole tensor, where ``pattern`` lies and cut as it is cut."""
    if isinstance(tensor, Rows):
        return tensor.like(pattern)
    if isinstance(pattern, DTensor):
        return distribute_tensor(tensor.to(pattern.device), pattern.device_mesh, pattern.placements)
    return tensor.to(pattern.device)


def number(value: Tensor) -> Tensor:
    """A single number that every process may hold a share of."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def fill(network: nn.Module, weights: Mapping[str, Tensor | Rows]) -> None:
    """Load whole weights into a network that may be sharded; names are our own.

    Raises:
        KeyError: if one is missing.
    """
    with torch.no_grad():
        for name, held in network.state_dict().items():
            held.copy_(like(weights[name], held))
