"""fp8: matrix products of the blocks in 8 bits, scaled tensor by tensor as they come (Micikevicius et al. 2022,
arXiv:2209.05433), by torchao. Weights, moments and everything else are as with bf16.

A weight keeps its name and its float32 values, so checkpoints and exports know nothing of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

LEAST_CAPABILITY = (8, 9)  # Ada and Hopper, the first with fp8 in their tensor cores


class UnsupportedError(RuntimeError):
    """The machine cannot multiply in fp8."""


def convert(network: nn.Module, device: torch.device, *, emulated: bool = False) -> None:
    """Let the linear layers of the blocks multiply in fp8, in place.

    Args:
        network: with ``model.layers``.
        device: that it will train on.
        emulated: round to fp8 and multiply in float32, which any device can; for tests.

    Raises:
        UnsupportedError: if torchao is not installed, or the device has no fp8.
    """
    if not emulated:
        _check(device)
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError:
        raise UnsupportedError("dtype = 'fp8' needs torchao: pip install -e '.[fp8]'.") from None
    blocks: Any = network.get_submodule("model.layers")
    convert_to_float8_training(blocks, config=Float8LinearConfig(emulate=emulated))


def _check(device: torch.device) -> None:
    if device.type != "cuda":
        raise UnsupportedError(
            f'dtype = "fp8" needs a GPU of compute capability {_told(LEAST_CAPABILITY)} or more; this run is on the '
            f'{device.type}. Set dtype = "auto", which takes what is fast here.'
        )
    found = torch.cuda.get_device_capability(device)
    if found < LEAST_CAPABILITY:
        raise UnsupportedError(
            f'dtype = "fp8" needs a GPU of compute capability {_told(LEAST_CAPABILITY)} or more, '
            f'{torch.cuda.get_device_name(device)} has {_told(found)}. Set dtype = "bf16" or "fp16".'
        )


def _told(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
