"""Held-out loss of a network of ours beside nanoGPT's, with equal parameters, tokens, order and schedule.

Each network is trained by one plain loop on the mixture of a run that the store has (``make demo`` builds one), and
judged on all its held-out documents in bits per byte: same batches in the same order, same AdamW (decay of matrices
only), same warm-up and cosine, same clipping, bfloat16 where it is fast. Ours never has more parameters: the feed-forward
is as wide as what nanoGPT spends on its own and on learned positions allows. ``stemma, muon`` is our network with the
other optimizer. Two learning rates, the one of nanoGPT's small configurations and three times it, so that neither
network is tuned. nanoGPT's model.py is taken from a checkout (``--nanogpt DIR``, without biases, as its train.py sets
it); without one our blocks ``gpt2``, tested to be GPT-2's, take its place, and the result says so.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn

from benchmarks.report import report, versions
from pipelines.provenance.files import StoreError
from pipelines.provenance.store import Store
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.optimizers import optimizer
from training.pretrain import job_of, sized
from training.pretraining import Pretraining
from training.recipes import PretrainRecipe, resolve
from training.schedules import learning_rate

RATES = (1e-3, 3e-3)
EVALUATIONS = 8  # of each run
SHAPES = {"quick": (2, 64, 2), "full": (6, 192, 6)}  # layers, width, heads


class NanoGPT(nn.Module):
    """nanoGPT's network, asked as ours is."""

    def __init__(self, checkout: Path, recipe: GPTRecipe) -> None:
        super().__init__()
        spec = importlib.util.spec_from_file_location("nanogpt_model", checkout / "model.py")
        if spec is None or spec.loader is None or not (checkout / "model.py").exists():
            raise SystemExit(f"{checkout}: holds no model.py. Give a checkout of karpathy/nanoGPT.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        torch.manual_seed(1)
        with redirect_stdout(sys.stderr):  # it prints
            self.network = module.GPT(module.GPTConfig(
                block_size=recipe.sequence_length, vocab_size=recipe.padded_vocab_size, n_layer=recipe.layers,
                n_head=recipe.heads, n_embd=recipe.width, dropout=0.0, bias=False,
            ))  # fmt: skip

    def losses(self, tokens_BT: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        del lengths_B
        inputs_BT, targets_BT = tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous()
        logits_BTV, _ = self.network(inputs_BT, targets_BT)  # without targets it tells of the last place alone
        flat = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
        return flat.view(targets_BT.shape)


class Judged(nn.Module):
    """What :class:`Pretraining` evaluates."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def recipes(kind: str, sequence_length: int) -> tuple[PretrainRecipe, PretrainRecipe]:
    """GPT-2's shape as nanoGPT has it, and ours with at most as many parameters."""
    layers, width, heads = SHAPES[kind]
    base = {
        "sequence_length": sequence_length, "layers": layers, "width": width, "heads": heads, "kv_heads": heads,
        "warmup_steps": 50, "min_lr_ratio": 0.1, "clip": 1.0, "weight_decay": 0.1, "beta2": 0.99,
    }  # fmt: skip
    theirs = resolve(PretrainRecipe.model_validate({**base, "blocks": "gpt2", "mlp_width": 4 * width}))
    matrices = 12 * width * width * layers + sequence_length * width  # theirs but for the embedding and norms
    mlp = (matrices // layers - 4 * width * width) // (3 * width) // 8 * 8
    return theirs, resolve(PretrainRecipe.model_validate({**base, "mlp_width": mlp, "qk_norm": True}))


def trained(network: GPT | NanoGPT, recipe: PretrainRecipe, task: Pretraining) -> list[tuple[int, float]]:
    """(step, held-out bits per byte) after every eighth of the plan."""
    steps, found = task.job.plan.num_steps, []
    opt = optimizer(network, recipe)
    task.objective = Judged(network)  # type: ignore[assignment]
    marks = {steps * number // EVALUATIONS for number in range(1, EVALUATIONS + 1)}
    for batch in task.batches.steps(1, steps):
        rate = learning_rate(batch.step, steps, recipe)
        for group in opt.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.dtype == "bf16"):
            loss = network.losses(batch.inputs.tokens_BT).sum() / batch.total
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        opt.step()
        opt.zero_grad(set_to_none=True)
        if batch.step in marks:
            network.eval()
            found.append((batch.step, task.evaluate(last=True)["bpb"]))
            network.train()
            sys.stderr.write(f"\rstep {batch.step} of {steps}: {found[-1][1]:.4f} bits per byte   ")
    sys.stderr.write("\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".stemma"), help="a store with the run [default: .stemma]")
    parser.add_argument("--run", default="demo", help="whose mixture and held-out documents are taken [default: demo]")
    parser.add_argument("--nanogpt", type=Path, metavar="DIR", help="a checkout of karpathy/nanoGPT")
    parser.add_argument("--quick", action="store_true", help="small networks, one learning rate")
    options = parser.parse_args()
    kind = "quick" if options.quick else "full"
    try:
        mixture = Store(options.store).open("mixture", options.run)
    except StoreError as error:
        raise SystemExit(f"{error} `make demo` builds demo in .stemma.") from None
    theirs, ours = recipes(kind, int(mixture.json("plan.json")["sequence_length"]))
    job, vocabulary = job_of(mixture, ours, "loss", {}), mixture.input("vocabulary")

    def own(recipe: PretrainRecipe) -> GPT:
        network = GPT(sized(recipe, vocabulary))
        initialise(network, recipe.layers, 1)
        return network

    def peer() -> GPT | NanoGPT:
        return NanoGPT(options.nanogpt, sized(theirs, vocabulary)) if options.nanogpt else own(theirs)

    contestants: dict[str, tuple[Callable[[], GPT | NanoGPT], PretrainRecipe]] = {
        "nanogpt": (peer, theirs),
        "stemma": (lambda: own(ours), ours),
        "stemma, muon": (lambda: own(ours), ours.model_copy(update={"optimizer": "muon"})),
    }
    found: dict[str, dict[float, list[tuple[int, float]]]] = {}
    sizes: dict[str, int] = {}
    for name, (made, recipe) in contestants.items():
        for rate in RATES[: 1 if options.quick else None]:
            network = made()
            sizes[name] = sum(weight.numel() for weight in network.parameters())
            sys.stderr.write(f"{name}, {sizes[name]:,} parameters, learning rate {rate:g}\n")
            task = Pretraining(job, ours, torch.device("cpu"), 0, 1)
            found.setdefault(name, {})[rate] = trained(network, recipe.model_copy(update={"learning_rate": rate}), task)
    if sizes["stemma"] > sizes["nanogpt"]:
        raise SystemExit(
            f"ours has {sizes['stemma']:,} parameters, nanoGPT's {sizes['nanogpt']:,}: no fair comparison."
        )
    tell(found, sizes, job.plan, "nanoGPT's model.py, without biases" if options.nanogpt else "our blocks gpt2")


def tell(found: dict[str, dict[float, list[tuple[int, float]]]], sizes: dict[str, int], plan: Any, peer: str) -> None:
    runs = {f"{name}, {rate:g}": curve for name, by_rate in found.items() for rate, curve in by_rate.items()}
    steps = [step for step, _ in next(iter(runs.values()))]
    rows = [
        [run, f"{sizes[run.rpartition(', ')[0]]:,}", *(f"{bpb:.4f}" for _, bpb in curve)] for run, curve in runs.items()
    ]
    best = {name: min(curve[-1][1] for curve in by_rate.values()) for name, by_rate in found.items()}
    tokens = sum(segment.batch_size for segment in plan.segments[:1]) * plan.sequence_length * plan.num_steps
    report(
        "loss",
        rows,
        ("network, learning rate", "parameters", *(f"step {step}" for step in steps)),
        ratios={name: round(best[name] / best["nanogpt"], 4) for name in best if name != "nanogpt"},
        heldout_bpb={run: curve[-1][1] for run, curve in runs.items()},
        parameters=sizes, tokens=tokens, nanogpt_is=peer, versions=versions("torch"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
