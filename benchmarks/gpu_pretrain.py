"""Pretraining on one GPU: speed, MFU, compile time, data wait, memory beside the estimate, and nanoGPT on the same card.

The real loop on 124M, 350M and 1.3B parameters in bf16, compiled, with lineage and metrics on, on tokens of a Zipf law.
Wall seconds: the median of the steps after warm-up, each waited for. ``deterministic`` is what a run of the graph uses;
``free`` lets kernels choose. nanoGPT's model.py is taken from a checkout (``--nanogpt DIR``). Where there is no GPU it
says so, measures nothing and saves nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.report import report, versions
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.tables import write_table
from pipelines.shard_reader import ShardReader
from training import flops
from training.batches import Batches, ShardSource
from training.estimate import memory
from training.loop import Run, _State
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.objectives import NextToken
from training.recipes import OptimisationRecipe
from training.shapes import network as shape_of

LENGTH = 1024
BATCHES = {"gpt2_124m": 64, "350m": 32, "1b": 16}  # sequences of a step, as one microbatch
WARM_UP, COUNTED = 5, 20
TARGETS = {"gpt2_124m": 0.50, "350m": 0.52, "1b": 0.56}


class Corpus:
    """A task of the loop: next tokens of one shard."""

    def __init__(self, shard: Path, recipe: GPTRecipe, batch: int) -> None:
        model = GPT(recipe)
        initialise(model, recipe.layers, 1)
        self.objective = NextToken(model)
        reader = ShardReader([shard])
        plan = Plan(
            seed=1, sequence_length=LENGTH, phases=[PlanPhase(slots=[batch * 10_000])],
            parts=[PlanPart(name="p", num_sequences=reader.num_sequences(LENGTH))],
            segments=[Segment(first_step=1, first_slot=0, batch_size=batch)],
        )  # fmt: skip
        self.batches = Batches(plan, ShardSource(plan, {"p": reader}))

    def evaluate(self, *, last: bool) -> dict[str, Any]:
        del last
        return {}

    def finish(self, folder: Path) -> None:
        """Nothing."""


os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what deterministic matrix products need


def write_shard(path: Path) -> Path:
    draw = np.random.default_rng(0)
    tokens = np.minimum(draw.zipf(1.3, 4_000_000) - 1, 50_256).astype(np.uint16)
    ids = pa.array([number.to_bytes(16, "big") for number in range(4000)], pa.binary(16))
    lists = pa.LargeListArray.from_arrays(pa.array(np.arange(4001, dtype=np.int64) * 1000), pa.array(tokens))
    write_table(path, pa.table({"doc_id": ids, "tokens": lists}))
    return path


def ours(shard: Path, recipe: GPTRecipe, batch: int, folder: Path) -> dict[str, float]:
    torch.cuda.reset_peak_memory_stats()
    optimisation = OptimisationRecipe.model_validate(
        {"learning_rate": 3e-4, "dtype": "bf16", "compile": "on", "checkpoint_every": 10**6}
    )
    task = Corpus(shard, recipe, batch)
    device = torch.device("cuda", 0)
    state = _State(Run(task, optimisation, folder, {}, "benchmark", device, say=lambda line: None))
    state.started()
    batches = iter(task.batches.steps(1, 10_000))
    times, waits, compile_seconds = [], [], 0.0
    for number in range(WARM_UP + COUNTED):
        began = time.perf_counter()
        one = next(batches)
        waited = time.perf_counter() - began
        state.take(one, waited)
        state.keep_records(10_000)
        torch.cuda.synchronize()
        seconds = time.perf_counter() - began
        compile_seconds = seconds if number == 0 else compile_seconds
        if number >= WARM_UP:
            times.append(seconds)
            waits.append(waited)
    step = statistics.median(times)
    speed = batch * LENGTH / step
    return {
        "tokens_per_second": round(speed),
        "mfu": round(flops.utilisation(recipe, speed, torch.cuda.get_device_name()) or 0.0, 4),
        "data_wait_ratio": round(sum(waits) / sum(times), 5),
        "compile_seconds": round(compile_seconds, 1),
        "memory": torch.cuda.max_memory_allocated(),
        "memory_estimated": round(memory(recipe, 1)[1][0].total(batch)),
    }


def nanogpt(checkout: str, batch: int) -> float:
    """Tokens a second of its model in its loop, 124M, compiled, bf16."""
    sys.path.insert(0, checkout)
    import model as theirs  # pyright: ignore[reportMissingImports]

    network = theirs.GPT(theirs.GPTConfig(block_size=LENGTH, vocab_size=50304)).cuda()
    model: Any = torch.compile(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, fused=True)
    tokens = torch.randint(0, 50_257, (batch, LENGTH + 1)).pin_memory()
    times = []
    for number in range(WARM_UP + COUNTED):
        began = time.perf_counter()
        rows = tokens.to("cuda", non_blocking=True)
        with torch.autocast("cuda", torch.bfloat16):
            _, loss = model(rows[:, :-1], rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        if number >= WARM_UP:
            times.append(time.perf_counter() - began)
    return batch * LENGTH / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="124M alone")
    parser.add_argument("--nanogpt", default="", metavar="DIR", help="a checkout of karpathy/nanoGPT")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.stdout.write("no GPU here: nothing was measured\n")
        return
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        shard = write_shard(Path(scratch) / "shard-00000.arrow")
        for name in ("gpt2_124m",) if options.quick else BATCHES:
            recipe = shape_of(name, sequence_length=LENGTH, vocab_size=50_257)
            for kind in ("free", "deterministic"):
                torch.use_deterministic_algorithms(kind == "deterministic")
                folder = Path(scratch) / f"{name}-{kind}"
                folder.mkdir()
                found[f"{name}, {kind}"] = ours(shard, recipe, BATCHES[name], folder)
                torch.cuda.empty_cache()
    torch.use_deterministic_algorithms(mode=False)
    theirs = nanogpt(options.nanogpt, BATCHES["gpt2_124m"]) if options.nanogpt else 0.0
    rows = [[name, f"{f['tokens_per_second']:,}", f"{f['mfu']:.1%}", f"{f['data_wait_ratio']:.3%}", f["compile_seconds"],
             f"{f['memory'] / 1e9:.1f} ({f['memory_estimated'] / 1e9:.1f})"] for name, f in found.items()]  # fmt: skip
    ratio = found["gpt2_124m, free"]["tokens_per_second"] / theirs if theirs else None
    report(
        "gpu_pretrain", rows, ("shape", "tokens/s", "MFU", "data wait", "compile s", "memory GB (estimated)"),
        ratios={"nanogpt": round(ratio, 3) if ratio else "not measured"}, figures=found, targets=TARGETS,
        device=torch.cuda.get_device_name(), versions=versions("torch"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
