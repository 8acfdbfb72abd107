"""nanoGPT's model in its loop, or HF Trainer: one JSON question a line, one answer a line.

Run by ``benchmarks/pretrain_cpu.py`` in an environment of its own that takes torch and transformers from ours; imports
nothing of Stemma. Arguments: that site-packages, who, and a checkout of nanoGPT.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path

sys.path.append(sys.argv[1])
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import nn

torch.set_num_threads(1)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (y.view(b, t, self.heads, -1).transpose(1, 2) for y in self.qkv(self.ln_1(x)).split(d, 2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d)
        x = x + self.out(mixed)
        return x + self.down(F.gelu(self.up(self.ln_2(x))))


class CleanRoom(nn.Module):
    """GPT-2 in plain torch, written for this comparison."""

    def __init__(self, shape: dict) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape["vocab"], shape["width"])
        self.positions = nn.Embedding(shape["length"], shape["width"])
        self.blocks = nn.ModuleList(Block(shape["width"], shape["heads"]) for _ in range(shape["layers"]))
        self.norm = nn.LayerNorm(shape["width"])
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                scale = 1 / math.sqrt(2 * shape["layers"]) if name.endswith(("out.weight", "down.weight")) else 1.0
                nn.init.normal_(weight, 0.0, 0.02 * scale)

    def forward(self, x, y):
        h = self.tokens(x) + self.positions(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h)
        logits = F.linear(self.norm(h), self.tokens.weight)
        return logits, F.cross_entropy(logits.view(-1, logits.shape[-1]), y.reshape(-1))


class NanoGPT:
    """The loop of its train.py: random windows of a memmap, autocast, clip, step, the loss read every tenth time."""

    def __init__(self, asked: dict, checkout: str) -> None:
        shape, torch_seed = asked["shape"], 1
        torch.manual_seed(torch_seed)
        self.shape, self.dtype, self.count = shape, asked["dtype"], 0
        if checkout:
            sys.path.insert(0, checkout)
            from model import GPT, GPTConfig

            sys.stdout, kept = sys.stderr, sys.stdout  # it prints
            self.model = GPT(
                GPTConfig(shape["length"], shape["vocab"], shape["layers"], shape["heads"], shape["width"])
            )
            sys.stdout = kept
            self.name = "nanoGPT's model.py"
        else:
            self.model, self.name = CleanRoom(shape), "a clean-room network of the same shape"
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        kept_ = [p for p in self.model.parameters() if p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": 0.1}, {"params": kept_, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.called = torch.compile(self.model) if asked["compile"] == "on" else self.model
        self.path = Path(asked["folder"]) / "train.bin"

    def batch(self):
        data, length = np.memmap(self.path, dtype=np.uint16, mode="r"), self.shape["length"]
        starts = torch.randint(len(data) - length, (self.shape["batch"],)).tolist()
        x = torch.stack([torch.from_numpy(data[i : i + length].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + length].astype(np.int64)) for i in starts])
        return x, y

    def take(self, steps: int) -> dict:
        losses, began = [], time.process_time()
        for _ in range(steps):
            x, y = self.batch()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bf16"):
                _, loss = self.called(x, y)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if self.count % 10 == 0:
                losses.append(loss.item())
            self.count += 1
        return {"seconds": time.process_time() - began, "losses": losses or [loss.item()], "is": self.name}


class HfTrainer:
    """transformers' Trainer on its GPT-2; a step before those that count warms it up."""

    def __init__(self, asked: dict) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        shape = asked["shape"]
        torch.manual_seed(1)
        config = GPT2Config(
            vocab_size=shape["vocab"], n_positions=shape["length"], n_embd=shape["width"], n_layer=shape["layers"],
            n_head=shape["heads"], resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        self.asked, self.model = asked, GPT2LMHeadModel(config)

    def take(self, steps: int) -> dict:
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
        from transformers.utils import logging

        logging.set_verbosity_error()
        shape, times, folder = self.asked["shape"], [], Path(self.asked["folder"])
        data = np.memmap(folder / "train.bin", dtype=np.uint16, mode="r")
        rows = np.asarray(data[: len(data) // shape["length"] * shape["length"]]).reshape(-1, shape["length"])

        class Rows(torch.utils.data.Dataset):
            def __len__(self):
                return len(rows)

            def __getitem__(self, index):
                ids = torch.from_numpy(rows[index].astype(np.int64))
                return {"input_ids": ids, "labels": ids}

        class Clock(TrainerCallback):
            def on_step_end(self, *_, **__):
                times.append(time.process_time())

        arguments = TrainingArguments(
            output_dir=str(folder / "hf"), per_device_train_batch_size=shape["batch"], max_steps=steps + 1,
            learning_rate=1e-3, adam_beta2=0.95, weight_decay=0.1, max_grad_norm=1.0, optim="adamw_torch_fused",
            use_cpu=True, bf16=self.asked["dtype"] == "bf16", save_strategy="no", logging_steps=1, report_to=[],
            disable_tqdm=True, dataloader_num_workers=0, seed=1,
        )  # fmt: skip
        trainer = Trainer(model=self.model, args=arguments, train_dataset=Rows(), callbacks=[Clock()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {"seconds": times[-1] - times[0], "losses": losses, "is": "transformers' Trainer"}


def main() -> None:
    contestant = None
    for line in sys.stdin:
        asked = json.loads(line)
        if contestant is None:
            trainer = sys.argv[2] == "trainer"
            contestant = HfTrainer(asked) if trainer else NanoGPT(asked, sys.argv[3] if len(sys.argv) > 3 else "")
        sys.stdout.write(json.dumps(contestant.take(asked["steps"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
