"""Quantisation: matrices as small integers with scales, symmetric about zero, stored plainly in safetensors.

int8: one scale a row (output channel). int4: one scale for every ``group`` inputs of a row, two numbers in a byte. Scales
and rounding are those of torchao 0.18 (symmetric, ``amax / ((high - low) / 2)``), so its kernels could serve them.

A file holds, instead of the matrix NAME, ``NAME.int8`` or ``NAME.int4`` with ``NAME.scale``. A trailing ``t`` (``.int8t``)
says that NAME is stored transposed in plain files, as GPT-2's are: rows are output channels here all the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn

INT8, INT4 = (-128, 127), (-8, 7)
QUANTISED = re.compile(r"(.+)\.(int8|int4)(t?)")


def rows_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 [out, in], scale float32 [out, 1])."""
    scale = _scale(weight.float(), INT8)
    return _rounded(weight.float(), scale, INT8), scale


def groups_int4(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """(two numbers a byte, uint8 [out, in / 2]; scale float16 [out, in / group]).

    Raises:
        ValueError: if rows cannot be cut into groups.
    """
    rows, columns = weight.shape
    if columns % group or group % 2:
        raise ValueError(f"rows of {columns} cannot be cut into groups of {group}: give an even divisor.")
    grouped = weight.float().view(rows, -1, group)
    # rounded through the type that is stored, or they would not be the scales that the numbers are read back with
    scale = _scale(grouped, INT4).half().clamp(min=torch.finfo(torch.float16).smallest_normal)
    numbers = _rounded(grouped, scale.float(), INT4).view(rows, columns)
    return packed(numbers), scale.squeeze(-1)


def packed(numbers: Tensor) -> Tensor:
    """Pairs of numbers from -8 to 7 as bytes, the first of each pair in the low half."""
    low, high = (numbers.to(torch.int16) & 15).to(torch.uint8).view(len(numbers), -1, 2).unbind(-1)
    return low | (high << 4)


def unpacked(pairs: Tensor) -> Tensor:
    """Inverse of :func:`packed`, int8."""
    halves = torch.stack([pairs & 15, pairs >> 4], -1).to(torch.int8).flatten(1)
    return torch.where(halves > 7, halves - 16, halves)


def quantised(
    weights: Mapping[str, Tensor], bits: Mapping[str, int], group: int, transposed: bool
) -> dict[str, Tensor]:
    """Weights as they are published, the matrices named in ``bits`` as integers of 8 or 4 bits.

    ``transposed``: matrices of the blocks lie as GPT-2's do, the embeddings never.
    """
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if name not in bits:
            found[name] = weight
            continue
        turn = "t" if transposed and not is_embedding(name) else ""
        matrix = weight.t() if turn else weight
        numbers, scale = rows_int8(matrix) if bits[name] == 8 else groups_int4(matrix.contiguous(), group)
        found |= {f"{name}.int{bits[name]}{turn}": numbers, f"{name}.scale": scale}
    return found


def restored(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Plain float32 weights of a file, whatever of it is quantised."""
    found: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if match := QUANTISED.fullmatch(name):
            matrix, kind, turn = match.groups()
            scale = stored[f"{matrix}.scale"].float()
            numbers = tensor if kind == "int8" else unpacked(tensor)
            weight = (numbers.float().view(len(scale), scale.shape[1], -1) * scale[:, :, None]).flatten(1)
            found[matrix] = weight.t().contiguous() if turn else weight
        elif not _is_scale(name, stored):
            found[name] = tensor
    return found


def _is_scale(name: str, stored: Mapping[str, Tensor]) -> bool:
    matrix = name.removesuffix(".scale")
    return matrix != name and any(f"{matrix}.{kind}" in stored for kind in ("int8", "int8t", "int4", "int4t"))


def is_embedding(name: str) -> bool:
    """Embeddings and an untied head, by the names that transformers gives them."""
    return name.endswith(("embed_tokens.weight", "wte.weight", "wpe.weight", "lm_head.weight"))


def _scale(values: Tensor, bounds: tuple[int, int]) -> Tensor:
    """One for each last dimension; a row of zeros has the smallest that there is."""
    half = (bounds[1] - bounds[0]) / 2
    return (values.abs().amax(-1, keepdim=True) / half).clamp(min=torch.finfo(torch.float32).smallest_normal)


def _rounded(values: Tensor, scale: Tensor, bounds: tuple[int, int]) -> Tensor:
    return (values * (1.0 / scale)).round().clamp(*bounds).to(torch.int8)


# -- activations, quantised as they come -------------------------------------------------------------------------------


class DynamicLinear(nn.Module):
    """A projection in int8 on both sides: a scale a token, found as it comes, and the rows' own.

    Letters of shapes: N tokens, I inputs, O outputs.
    """

    def __init__(self, numbers_OI: Tensor, scale_O1: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers_IO", numbers_OI.t())
        self.register_buffer("scale_O", scale_O1.squeeze(1))

    def forward(self, x: Tensor) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1]).float()
        scale_N1 = _scale(x_NI, INT8)
        numbers_NI = _rounded(x_NI, scale_N1, INT8)
        sums_NO = multiplied(numbers_NI, self.get_buffer("numbers_IO")).float()
        return (sums_NO * scale_N1 * self.get_buffer("scale_O")).view(*x.shape[:-1], -1)


def multiplied(left_NI: Tensor, right_IO: Tensor) -> Tensor:
    """Exact int32 products of int8 matrices. A GPU's kernel asks for more than 16 rows and multiples of 8."""
    if left_NI.device.type != "cuda":
        return torch.ops.aten._int_mm(left_NI, right_IO)  # noqa: SLF001 (torch has no other integer product)
    rows, inputs, outputs = len(left_NI), left_NI.shape[1], right_IO.shape[1]
    left = F.pad(left_NI, (0, -inputs % 8, 0, max(0, 17 - rows)))
    right = F.pad(right_IO, (0, -outputs % 8, 0, -inputs % 8))
    return torch.ops.aten._int_mm(left, right)[:rows, :outputs]  # noqa: SLF001


def with_dynamic_projections(network: nn.Module, stored: Mapping[str, Tensor]) -> nn.Module:
    """The network with every projection of its blocks as a :class:`DynamicLinear` of the stored integers."""
    for name, numbers in stored.items():
        if name.endswith(".weight.int8") and not is_embedding(name.removesuffix(".int8")):
            place = name.removesuffix(".weight.int8")
            parent, _, child = place.rpartition(".")
            scale = stored[f"{place}.weight.scale"]
            setattr(network.get_submodule(parent), child, DynamicLinear(numbers, scale))
    return network
