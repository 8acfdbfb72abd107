"""Weight files: safetensors whose bytes are the same every time.

The safetensors library writes the header's metadata in the order of a hash table, which differs from process to
process; here the header is canonical JSON and tensors lie in the order of their names. Any reader of the format
reads these files.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipelines.provenance.recipe import canonical_json
from training.pruning import dense
from training.quantisation import restored

DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64", torch.int32: "I32",
          torch.int8: "I8", torch.uint8: "U8"}  # fmt: skip
HEADER_LIMIT = 100_000_000  # bytes; the safetensors library refuses longer headers


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors by name; ``format: pt`` is added to the metadata, as transformers asks.

    Raises:
        ValueError: if a tensor is of a type that no network here has; nothing is written then.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        if tensor.dtype not in DTYPES:
            raise ValueError(f"{name} is {tensor.dtype}; expected one of {', '.join(map(str, DTYPES))}. Cast it first.")
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = canonical_json(header)
    text += b" " * (-len(text) % 8)  # the format aligns the data to 8 bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in sorted(tensors):
            tensor = tensors[name].detach().to("cpu").contiguous()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name; those of a compressed model as plain matrices.

    Raises:
        ValueError: if it is no safetensors file, or not all of one.
    """
    try:
        return dense(restored(load_file(str(path))))
    except SafetensorError as error:
        raise ValueError(
            f"{path}: no safetensors file, or not all of one ({error}). Copy or export it again."
        ) from None


def not_finite(weights: Mapping[str, Tensor]) -> str:
    """The first tensor with a NaN or an infinity, or the empty string."""
    return next((name for name in sorted(weights) if not bool(weights[name].isfinite().all())), "")


def weights_metadata(path: Path) -> dict[str, str]:
    """What a bare weight file says of itself: run, step, and the digests of plan, mixture and vocabulary.

    Raises:
        ValueError: if it is not a safetensors file.
    """
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else HEADER_LIMIT + 1
        if length > HEADER_LIMIT:
            raise ValueError(f"{path}: not a safetensors file; its header would be {length} bytes long.")
        try:
            return dict(json.loads(file.read(length)).get("__metadata__", {}))
        except (ValueError, AttributeError, TypeError):
            raise ValueError(f"{path}: not a safetensors file; its header is not a table in JSON.") from None
