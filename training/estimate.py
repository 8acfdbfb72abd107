"""Estimates: what a run would take, from the code that builds the network, without a GPU and without its memory.

The network is made of fake tensors and run once: parameters are counted and what autograd would keep is added up.
Weights, gradients and AdamW's moments are kept in float32, matrix products are in bf16, as the trainer does it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from training import flops
from training.models.recipe import GPTRecipe

if TYPE_CHECKING:
    from torch import Tensor, nn

GB = 1e9
MEMORY = {  # bytes of one device, as NVIDIA's data sheets say
    "B200": 180 * GB, "H200": 141 * GB, "H100 PCIe": 80 * GB, "H100": 80 * GB, "A100": 80 * GB, "L40S": 48 * GB,
    "RTX 4090": 24 * GB, "V100": 32 * GB,
}  # fmt: skip
USABLE = 0.92  # of it: the CUDA context, NCCL's buffers and fragments take the rest
FP32, BF16, MOMENTS = 4, 2, 8  # bytes a parameter
LOGIT_COPIES = 2  # float32 ones that live for a moment while the loss is differentiated, beside what is kept
UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Gpus:
    """Some devices of one kind."""

    number: int
    name: str

    @classmethod
    def parse(cls, text: str) -> Gpus:
        """``8xH200``; a name alone is one of them.

        Raises:
            ValueError: for a device that is not in the table.
        """
        match = re.fullmatch(r"(?:(\d+)\s*x\s*)?(.+)", text.strip(), re.IGNORECASE)
        named = {name.lower(): name for name in MEMORY}
        if not match or match[2].lower() not in named or match[1] == "0":
            raise ValueError(f"--gpus {text!r}: expected NUMBERxNAME with one of {', '.join(MEMORY)}, such as 8xH200.")
        return cls(int(match[1] or 1), named[match[2].lower()])


def parse_count(text: str) -> int:
    """``140B`` is 140,000,000,000.

    Raises:
        ValueError: if it is no number of tokens.
    """
    match = re.fullmatch(r"([\d.,_]*\d)\s*([KMBT]?)", text.strip().upper())
    try:
        number = float(re.sub(r"[,_]", "", match[1])) if match else 0.0
    except ValueError:
        number = 0.0
    if not match or number <= 0:
        raise ValueError(f"--tokens {text!r}: expected a number with K, M, B or T behind it, such as 140B.")
    return round(number * UNITS[match[2]])


@dataclass(frozen=True)
class Activations:
    """Bytes that one sequence leaves behind for the backward pass."""

    kept: int  # everything
    recomputed: int  # where blocks are computed again: their inputs, and one block at a time
    logits: int  # for a moment, on top


def measured(recipe: GPTRecipe) -> tuple[int, int, Activations]:
    """Parameters, those of one block, and activations of one sequence, from the network itself."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    from training.models.encoder import Encoder
    from training.models.gpt import GPT
    from training.parallel import recompute

    with FakeTensorMode():
        model: Any = Encoder(recipe, 0) if recipe.objective == "masked" else GPT(recipe)
        parameters, block = _count(model), _count(model.model.layers[0])
        kept = _saved(model, recipe)
        recompute(model)
        inputs = _saved(model, recipe)
        del model.model.layers[:]
        blocks = kept - _saved(model, recipe)
        again = inputs + blocks // recipe.layers
    # on a CPU, where this is measured, attention is in float32; on a GPU in bf16
    wide = (FP32 - BF16) * 2 * (recipe.heads + recipe.kv_heads) * recipe.head_width * recipe.sequence_length
    logits = LOGIT_COPIES * FP32 * _asked(recipe) * recipe.padded_vocab_size
    return parameters, block, Activations(kept - wide * recipe.layers, again - wide, logits)


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _asked(recipe: GPTRecipe) -> int:
    """Places of a sequence for which there are logits."""
    length = recipe.sequence_length
    return max(1, round(0.15 * length)) if recipe.objective == "masked" else length


def _saved(model: Any, recipe: GPTRecipe) -> int:
    """Bytes that autograd keeps of one sequence, loss included."""
    import torch

    tokens_BT = torch.zeros(1, recipe.sequence_length + 1, dtype=torch.int64)
    places_BK = torch.zeros(1, _asked(recipe), dtype=torch.int64)
    with _Kept(model) as kept, torch.autocast("cpu", torch.bfloat16):
        if recipe.objective == "masked":
            loss = model.hidden_losses(tokens_BT[:, 1:], places_BK, places_BK).sum()
        else:
            loss = model.loss(tokens_BT)
    assert loss.requires_grad
    return kept.num_bytes


class _Kept:
    """Adds up what autograd keeps; weights, and what is kept twice, count once or not at all."""

    def __init__(self, model: nn.Module) -> None:
        self._seen = {id(p.untyped_storage()): p.untyped_storage() for p in model.parameters()}
        self._weights = {p.shape for p in model.parameters()} | {p.t().shape for p in model.parameters() if p.ndim == 2}
        self._storages: list[Any] = []  # kept alive: an address must not come twice
        self.num_bytes = 0

    def __enter__(self) -> Self:
        import torch

        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata  # noqa: SLF001 (the storage itself; what wraps it in Python is made anew each time)
        if key not in self._seen and not (tensor.ndim == 2 and tensor.shape in self._weights):  # bf16 copies of weights
            self._seen[key] = storage
            self._storages.append(storage)
            self.num_bytes += storage.nbytes()
        return tensor


@dataclass(frozen=True)
class Memory:
    """Bytes of one process under one way to share the work out."""

    way: str
    weights: float  # with the bf16 copies that matrix products read, and blocks that are gathered
    gradients: float
    moments: float
    sequence: float  # activations of each sequence of a microbatch
    transient: float  # logits of one sequence

    @property
    def fixed(self) -> float:
        return self.weights + self.gradients + self.moments

    def total(self, microbatch: int) -> float:
        return self.fixed + microbatch * (self.sequence + self.transient)

    def largest_microbatch(self, memory: float) -> int:
        """Sequences that fit into a device; 0: not even one."""
        room = USABLE * memory - self.fixed
        return max(0, int(room // (self.sequence + self.transient)))


def memory(recipe: GPTRecipe, world_size: int) -> tuple[int, list[Memory]]:
    """Parameters, and the memory of a process alone, under DDP and under FSDP2, with and without recomputation."""
    parameters, block, kept = measured(recipe)
    outside = parameters - recipe.layers * block
    # DDP: each matrix once more in bf16. FSDP2: a share of everything, and gathered in bf16 what is outside the blocks
    # and two blocks (one at work, one on its way), with the gradients of one block
    copied = (FP32 * parameters + BF16 * parameters, float(FP32 * parameters), float(MOMENTS * parameters))
    cut = (
        FP32 * parameters / world_size + BF16 * (outside + 2 * block),
        FP32 * parameters / world_size + BF16 * (outside + block),
        MOMENTS * parameters / world_size,
    )
    ways = [
        Memory(f"{name}{', recomputed' if again else ''}", *fixed, kept.recomputed if again else kept.kept, kept.logits)
        for name, fixed in ((("DDP", copied), ("FSDP2", cut)) if world_size > 1 else (("one GPU", copied),))
        for again in (False, True)
    ]
    return parameters, ways


def estimate(recipe: GPTRecipe, gpus: Gpus, tokens: int, mfu: float, price: float) -> dict[str, Any]:
    """Everything that ``stemma plan`` prints, as plain values: bytes, operations, seconds, money."""
    parameters, ways = memory(recipe, gpus.number)
    device, peak = MEMORY[gpus.name], flops.peak(gpus.name)
    assert peak is not None
    total = flops.per_token(recipe) * tokens
    seconds = total / (mfu * peak * gpus.number)
    return {
        "parameters": parameters,
        "matrix_parameters": recipe.num_matrix_parameters,
        "tokens": tokens,
        "tokens_per_parameter": round(tokens / parameters, 2),
        "flops_per_token": flops.per_token(recipe),
        "flops": total,
        "gpus": {"number": gpus.number, "name": gpus.name, "bytes": device, "peak_flops": peak},
        "assumed": {"mfu": mfu, "price_per_gpu_hour": price, "usable_memory_ratio": USABLE},
        "tokens_per_second": mfu * peak * gpus.number / flops.per_token(recipe),
        "seconds": seconds,
        "gpu_hours": seconds * gpus.number / 3600,
        "cost": seconds * gpus.number / 3600 * price,
        "memory": [
            {
                "way": way.way, "weights": way.weights, "gradients": way.gradients, "moments": way.moments,
                "activations_per_sequence": way.sequence + way.transient, "total": way.total(1),
                "largest_microbatch": way.largest_microbatch(device),
            }
            for way in ways
        ],
    }  # fmt: skip
