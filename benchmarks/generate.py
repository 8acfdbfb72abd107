"""Writing text on a CPU, beside transformers' generate: the same weights, exported, one prompt and sixteen at once.

Both write 128 tokens after prompts of 16 to 32 on one thread, in turns; tokens a processor second, the best of the rounds.
Greedy continuations must be equal, token for token. ``concatenating`` is our decoder with a cache that is copied at
every token, as it was before the cache had room. transformers is the one that exports are checked with.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import report, versions
from training import decoding
from training.continuation import Continuation
from training.decoding import Decoder, written
from training.models.cache import KVCache
from training.models.config import hf_config
from training.models.gpt import GPT, initialise
from training.models.names import published
from training.models.recipe import GPTRecipe
from training.sampling import Sampling
from training.weights import save_weights

SHAPES = {
    "4 x 128, vocabulary 2,048 (the demo)": {"layers": 4, "width": 128, "heads": 4, "kv_heads": 2, "mlp_width": 352, "vocab_size": 2048},
    "6 x 384, vocabulary 8,192": {"layers": 6, "width": 384, "heads": 6, "kv_heads": 6, "mlp_width": 1024, "vocab_size": 8192},
}  # fmt: skip
CONTEXT, NEW, NEVER = 256, 128, -1
RULES = {"greedy": Sampling(0.0), "sampled": Sampling(0.8, top_k=50, top_p=0.95)}


class Concatenating(KVCache):
    """The cache without room: everything is copied at every token."""

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        for kept, new in ((self.keys, keys_BKTC), (self.values, values_BKTC)):
            if layer == len(kept):
                kept.append(new)
            else:
                kept[layer] = torch.cat([kept[layer], new], dim=2)
        return self.keys[layer], self.values[layer]


def made(shape: dict[str, int], folder: Path) -> tuple[GPT, Any]:
    """Our network of random weights, and what transformers loads of it."""
    from transformers import AutoModelForCausalLM

    recipe = GPTRecipe.model_validate({**shape, "sequence_length": CONTEXT})
    network = GPT(recipe).eval()
    initialise(network, recipe.layers, 1)
    with torch.no_grad():  # larger than at the start of a training, so that no two logits are nearly equal
        for weight in network.parameters():
            if weight.ndim == 2:
                weight.mul_(4.0)
    (folder / "config.json").write_text(json.dumps(hf_config(recipe, 0, 1)))
    save_weights(folder / "model.safetensors", published(recipe, network.state_dict()), {})
    return network, AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32).eval()


def prompts(count: int, vocabulary: int) -> list[list[int]]:
    draw = torch.Generator().manual_seed(count)
    lengths = [32 - 16 * index // count for index in range(count)]
    return [torch.randint(2, vocabulary, (length,), generator=draw).tolist() for length in lengths]


def ours(network: GPT, texts: list[list[int]], rule: Sampling, cache: type[KVCache]) -> list[list[int]]:
    decoding.KVCache = cache  # type: ignore[misc]
    rows = [Continuation(text, NEW, rule, lambda tokens: "", NEVER) for text in texts]
    for _ in written(Decoder(network, 0, network.recipe.padded_vocab_size), rows, len(rows)):
        pass
    return [row.tokens for row in rows]


def theirs(network: Any, texts: list[list[int]], rule: Sampling) -> list[list[int]]:
    width = 1 + max(map(len, texts))  # the token that begins a document stands before each
    rows_BT = torch.tensor([[1] * (width - 1 - len(text)) + [0, *text] for text in texts])
    mask_BT = torch.tensor([[0] * (width - 1 - len(text)) + [1] * (1 + len(text)) for text in texts])
    wishes: dict[str, Any] = {"do_sample": False}
    if rule.temperature:
        wishes = {"do_sample": True, "temperature": rule.temperature, "top_k": rule.top_k, "top_p": rule.top_p}
    with torch.inference_mode():
        found_BT = network.generate(
            rows_BT, attention_mask=mask_BT, max_new_tokens=NEW, eos_token_id=None, pad_token_id=1, **wishes
        )
    return found_BT[:, width:].tolist()


def measured(shape: dict[str, int], count: int, rule: Sampling, rounds: int) -> dict[str, Any]:
    """Best tokens a processor second of each, and whether they wrote the same."""
    with tempfile.TemporaryDirectory() as folder:
        network, peer = made(shape, Path(folder))
    texts = prompts(count, shape["vocab_size"])
    calls: dict[str, Callable[[], list[list[int]]]] = {
        "stemma": lambda: ours(network, texts, rule, KVCache),
        "concatenating": lambda: ours(network, texts, rule, Concatenating),
        "transformers": lambda: theirs(peer, texts, rule),
    }
    said = {name: call() for name, call in calls.items()}  # warms up, too
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            call()
            seconds[name].append(time.process_time() - began)
    assert all(len(row) == NEW for rows in said.values() for row in rows)
    same = said["stemma"] == said["transformers"] and said["stemma"] == said["concatenating"]
    return {"speed": {name: count * NEW / min(spent) for name, spent in seconds.items()}, "same": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    options = parser.parse_args()
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    rows, ratios, agree = [], {}, True
    for name, shape in SHAPES.items():
        for count in (1, 16):
            for how, rule in RULES.items():
                one = measured(shape, count, rule, 2 if options.quick else 5)
                agree = agree and (one["same"] or bool(rule.temperature))
                speed = one["speed"]
                ratio = {who: round(speed["stemma"] / speed[who], 2) for who in ("transformers", "concatenating")}
                ratios[f"{name.split(',')[0]}, {count} {how}"] = ratio
                rows.append([name, count, how, *(f"{speed[who]:,.0f}" for who in speed), *ratio.values()])
    header = (
        "network",
        "prompts",
        "how",
        "stemma",
        "concatenating",
        "transformers",
        "x transformers",
        "x concatenating",
    )
    report("generate", rows, header, ratios=ratios, agree=agree, threads=1, unit="tokens a processor second",
           versions=versions("torch", "transformers"))  # fmt: skip
    if not agree:
        raise SystemExit("greedy continuations are not those of transformers.")


if __name__ == "__main__":
    main()
