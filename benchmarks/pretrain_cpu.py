"""Pretraining on a CPU: the real loop with lineage and metrics on, beside nanoGPT's model and HF Trainer.

All train GPT-2's shape (6 blocks of 384, 16 sequences of 256, 8,192 tokens, fused AdamW, gradients clipped) on one thread
each, in turns; seconds are of the processor, the least of the rounds. nanoGPT's model.py is taken from a checkout
(``--nanogpt DIR``); without one a clean-room network of the same shape takes its place, and the result says so. ``bare``
is our network in a loop that keeps no records: what lineage and metrics cost. The first losses are compared.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.peer import Peer, python_with
from benchmarks.report import report, versions
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.tables import write_table
from pipelines.shard_reader import ShardReader
from training.batches import Batches, ShardSource
from training.loop import Run, _State
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.objectives import NextToken
from training.recipes import OptimisationRecipe

ACCELERATE = "accelerate==1.13.0"
SHAPE = {"layers": 6, "width": 384, "heads": 6, "length": 256, "batch": 16, "vocab": 8192}
STEPS_OF_PLAN = 4000


class Corpus:
    """A task of the loop: next tokens of one shard, judged on nothing."""

    def __init__(self, shard: Path, recipe: GPTRecipe) -> None:
        network = GPT(recipe)
        initialise(network, recipe.layers, 1)
        self.objective = NextToken(network)
        reader = ShardReader([shard])
        slots = STEPS_OF_PLAN * SHAPE["batch"]
        plan = Plan(
            seed=1, sequence_length=SHAPE["length"], phases=[PlanPhase(slots=[slots])],
            parts=[PlanPart(name="p", num_sequences=reader.num_sequences(SHAPE["length"]))],
            segments=[Segment(first_step=1, first_slot=0, batch_size=SHAPE["batch"])],
        )  # fmt: skip
        self.batches = Batches(plan, ShardSource(plan, {"p": reader}))

    def evaluate(self, *, last: bool) -> dict[str, Any]:
        del last
        return {}

    def finish(self, folder: Path) -> None:
        """Nothing."""


class Ours:
    """The loop of training/loop.py, some steps at a time."""

    def __init__(self, shard: Path, blocks: str, dtype: str, compile_mode: str) -> None:
        mlp = 4 * SHAPE["width"] if blocks == "gpt2" else 8 * SHAPE["width"] // 3
        network = GPTRecipe.model_validate({
            "vocab_size": SHAPE["vocab"], "sequence_length": SHAPE["length"], "layers": SHAPE["layers"],
            "width": SHAPE["width"], "heads": SHAPE["heads"], "kv_heads": SHAPE["heads"], "mlp_width": mlp, "blocks": blocks,
        })  # fmt: skip
        recipe = OptimisationRecipe.model_validate(
            {"learning_rate": 1e-3, "dtype": dtype, "compile": compile_mode, "checkpoint_every": 10**6}
        )
        directory = Path(tempfile.mkdtemp(dir=shard.parent))
        task = Corpus(shard, network)
        self.state = _State(Run(task, recipe, directory, {}, "benchmark", say=lambda line: None))
        self.batches = iter(task.batches.steps(1, STEPS_OF_PLAN))
        self.state.started()
        self.losses: list[float] = []

    def take(self, steps: int) -> float:
        began = time.process_time()
        for _ in range(steps):
            self.state.take(next(self.batches))
            self.state.keep_records(STEPS_OF_PLAN)
        self.state.drain()
        seconds = time.process_time() - began
        self.losses = [row.loss for row in self.state.rows]
        return seconds


class Bare(Ours):
    """The same network, data ready in memory, nothing written down."""

    def take(self, steps: int) -> float:
        state, batch = self.state, self.state.run.task.batches.batch(1)
        began = time.process_time()
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=state.recipe.dtype == "bf16"):
                loss = state.forward(*batch.inputs.tensors()) / batch.total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), state.recipe.clip)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
        return time.process_time() - began


def write_shard(folder: Path) -> Path:
    """Half a million tokens of a Zipf law in documents of a thousand, as a shard and as nanoGPT's flat file."""
    draw = np.random.default_rng(0)
    tokens = np.minimum(draw.zipf(1.3, 500_000) - 1, SHAPE["vocab"] - 1).astype(np.uint16)
    ids = pa.array([number.to_bytes(16, "big") for number in range(500)], pa.binary(16))
    offsets = pa.array(np.arange(501, dtype=np.int64) * 1000)
    lists = pa.LargeListArray.from_arrays(offsets, pa.array(tokens))
    write_table(folder / "shard-00000.arrow", pa.table({"doc_id": ids, "tokens": lists}))
    tokens.tofile(folder / "train.bin")
    return folder / "shard-00000.arrow"


def measured(folder: Path, dtype: str, mode: str, rounds: int, steps: int, nanogpt: str) -> dict[str, Any]:
    """Least processor seconds of a step of each, and the losses of the first steps."""
    shard = folder / "shard-00000.arrow"
    ours = {
        "stemma": Ours(shard, "gpt2", dtype, mode),
        "bare": Bare(shard, "gpt2", dtype, mode),
        "stemma_llama": Ours(shard, "llama", dtype, mode),
    }
    python = python_with("hf-trainer", "--no-deps", ACCELERATE)
    script = Path(__file__).with_name("pretrain_cpu_peer.py")
    asked = {"folder": str(folder), "shape": SHAPE, "dtype": dtype, "compile": mode}
    seconds: dict[str, list[float]] = {}
    told: dict[str, Any] = {}
    first: dict[str, float] = {}
    site = str(Path(torch.__file__).parents[1])  # peers run on our torch: it is not what is compared
    with Peer(python, script, site, "nanogpt", nanogpt) as nano, Peer(python, script, site, "trainer") as trainer:
        peers = {"nanogpt": nano, "hf_trainer": trainer} if mode == "off" else {"nanogpt": nano}
        names = [*ours, *peers]
        for number in range(rounds + 1):
            for name in names[number % len(names) :] + names[: number % len(names)]:  # nobody always comes first
                if name in ours:
                    spent = ours[name].take(steps)
                else:
                    told[name] = peers[name].ask(**asked, steps=steps)
                    spent = told[name]["seconds"]
                seconds.setdefault(name, []).append(spent / steps)
            if number == 0:  # the first round warms up, and its losses are compared
                first = {"stemma": ours["stemma"].losses[0], **{n: t["losses"][0] for n, t in told.items()}}
                seconds = {name: [] for name in seconds}
    least = {name: min(values) for name, values in seconds.items()}
    spread = {name: [round(min(v), 3), round(max(v), 3)] for name, v in seconds.items()}
    return {"seconds": least, "spread": spread, "losses": first, "nanogpt_is": told["nanogpt"]["is"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five rounds of one step")
    parser.add_argument("--compiled", action="store_true", help="compiled networks as well")
    parser.add_argument("--nanogpt", default="", metavar="DIR", help="a checkout of karpathy/nanoGPT")
    options = parser.parse_args()
    from training.numerics import bf16_is_fast

    torch.set_num_threads(1)
    fast = "bf16" if bf16_is_fast("cpu") else "fp32"
    kinds = [(dtype, "off") for dtype in dict.fromkeys(("fp32", fast))]
    kinds += [(fast, "on")] if options.compiled else []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        write_shard(Path(scratch))
        for dtype, mode in kinds:
            rounds, steps = (5, 1) if options.quick else (10, 2)
            name = f"{dtype}{', compiled' if mode == 'on' else ''}"
            found[name] = measured(Path(scratch), dtype, mode, rounds, steps, options.nanogpt)
    tokens = SHAPE["batch"] * SHAPE["length"]
    rows = [
        [kind, who, f"{tokens / s:,.0f}", " to ".join(map(str, one["spread"][who]))]
        for kind, one in found.items()
        for who, s in one["seconds"].items()
    ]
    ratios = {kind: _ratios(one["seconds"]) for kind, one in found.items()}
    losses = [loss for one in found.values() for loss in one["losses"].values()]
    agree = all(abs(loss - math.log(SHAPE["vocab"])) < 0.3 for loss in losses)  # all begin by knowing nothing
    report(
        "pretrain_cpu", rows, ("arithmetic", "who", "tokens a processor second", "seconds a step"),
        ratios=ratios, overhead={kind: round(one["seconds"]["stemma"] / one["seconds"]["bare"] - 1, 4)
                                 for kind, one in found.items()},
        first_losses={kind: one["losses"] for kind, one in found.items()}, agree=agree,
        nanogpt_is=next(iter(found.values()))["nanogpt_is"], threads=1,
        versions={**versions("torch", "transformers"), "peer accelerate": ACCELERATE.partition("==")[2]},
    )  # fmt: skip
    if not agree:
        raise SystemExit(f"the first losses are not those of networks that know nothing: {json.dumps(losses)}")


def _ratios(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(seconds[name] / seconds["stemma"], 3) for name in ("nanogpt", "hf_trainer") if name in seconds}


if __name__ == "__main__":
    main()
