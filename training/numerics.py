"""Numerics: what, beside recipe and data, decides the bits of a trained model.

Nothing here imports torch on the common path: the planner asks for the numerics of every run, and torch takes
seconds to import. The trainer checks what was declared against what torch says.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

from blake3 import blake3

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
# what torch asks of the processor before it uses its AVX512 and AVX2 kernels (ATen/native/DispatchStub.cpp)
AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"})
AVX2 = frozenset({"avx2", "fma"})
EXTENSIONS = ("avx512_bf16", "amx_bf16")  # oneDNN chooses other bf16 kernels, with other rounding, where these exist


class NumericsError(RuntimeError):
    """The machine does not have the numerics that were declared for a run."""


@cache
def cpu_flags() -> frozenset[str]:
    """Flags of the processor as Linux lists them; empty where it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.split(":", 1)[1].split()) for line in lines if line.startswith("flags")), frozenset())


def instruction_set() -> str:
    """The CPU kernels that torch dispatches to: AVX512, AVX2, DEFAULT or another architecture's."""
    flags = cpu_flags()
    if not flags:  # not Linux on x86: only torch itself knows
        import torch

        return torch.backends.cpu.get_cpu_capability()
    best = "AVX512" if flags >= AVX512 else "AVX2" if flags >= AVX2 else "DEFAULT"
    wished = os.environ.get("ATEN_CPU_CAPABILITY", "").upper()
    ranks = ("DEFAULT", "AVX2", "AVX512")
    return min(wished, best, key=ranks.index) if wished in ranks else best


def bf16_is_fast(device: str) -> bool:
    """On a CPU without the instructions, bf16 was 15 times slower than with them, and slower than fp32."""
    return device == "cuda" or (instruction_set() == "AVX512" and any(name in cpu_flags() for name in EXTENSIONS))


def device_kind() -> str:
    """``cuda`` if torch can have found a GPU, else ``cpu``; ``STEMMA_DEVICE`` overrides."""
    wished = os.environ.get("STEMMA_DEVICE", "")
    if wished in {"cpu", "cuda"}:
        return wished
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all") not in {"", "-1"}
    built = not version("torch").endswith("+cpu")
    return "cuda" if visible and built and Path("/proc/driver/nvidia/version").exists() else "cpu"


def num_threads(world_size: int) -> int:
    """Cores of this process's affinity mask, shared by the workers of one machine."""
    return max(1, len(os.sched_getaffinity(0)) // world_size) if hasattr(os, "sched_getaffinity") else 1


def version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def numerics(
    compile_mode: str = "off", world_size: int = 1, threads: int = 0, sharding: str = "ddp", *, recompute: bool = False
) -> dict[str, Any]:
    """The declared block that is part of a trained artifact's memo key.

    Args:
        compile_mode: of the resolved recipe.
        world_size: processes that train together.
        threads: of each process; 0 takes the cores there are.
        sharding: of several processes, ddp or fsdp.
        recompute: activations are computed again in the backward pass.
    """
    device = device_kind()
    extensions = [name for name in EXTENSIONS if name in cpu_flags()]
    block: dict[str, Any] = {
        "compile": compile_mode,
        "device": device,
        "instruction_set": " ".join([instruction_set(), *extensions]),
        "machine": platform.machine(),
        "threads": threads or num_threads(world_size),
        "torch": version("torch"),
        "world_size": world_size,
    }
    if world_size > 1 and sharding != "ddp":
        block["sharding"] = sharding
    if recompute:
        block["recompute"] = True
    if os.environ.get("ONEDNN_MAX_CPU_ISA"):
        block["onednn_max_cpu_isa"] = os.environ["ONEDNN_MAX_CPU_ISA"].upper()
    if LOCK.exists():
        block["lock"] = blake3(LOCK.read_bytes()).hexdigest()
    return block


def check(declared: dict[str, Any]) -> None:
    """Compare a declared block with this machine and with torch, from inside the trainer.

    Raises:
        NumericsError: where they differ; a model trained here would carry a false declaration.
    """
    import torch

    found = numerics(
        declared["compile"], declared["world_size"], declared["threads"], declared.get("sharding", "ddp"),
        recompute=declared.get("recompute", False),
    )  # fmt: skip
    wrong = {k: (declared.get(k), found.get(k)) for k in declared | found if declared.get(k) != found.get(k)}
    capability = torch.backends.cpu.get_cpu_capability()
    if capability != declared["instruction_set"].split()[0]:
        wrong["instruction_set"] = (declared["instruction_set"], capability)
    if declared["device"] == "cuda" and not torch.cuda.is_available():
        wrong["device"] = ("cuda", "cpu (torch finds no GPU; set STEMMA_DEVICE=cpu)")
    if wrong:
        told = "; ".join(f"{name}: declared {was}, found {now}" for name, (was, now) in sorted(wrong.items()))
        raise NumericsError(f"this machine is not the one the run was planned for: {told}. Plan the run again here.")
