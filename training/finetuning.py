"""Fine-tuning as tasks of the loop: a classifier and a language model that learns answers only.

Examples have unequal lengths and are padded on the right, where causal attention never looks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from pipelines.provenance.tables import read_table, write_table
from training.batches import Batches, Inputs
from training.generate import greedy
from training.job import Job
from training.models.classifier import GPTClassifier
from training.models.gpt import GPT, initialise
from training.models.names import ours
from training.objectives import NextToken, Objective, WeightedClass
from training.recipes import FinetuneRecipe
from training.weights import load_weights

WIDTH_STEP = 16  # padded lengths are multiples of it, so that few shapes occur
TEST_BATCH = 64
PREDICTIONS, GENERATED = "predictions.arrow", "generated.arrow"


class ExampleSource:
    """Examples of ``finetuning_shards``; sequence i of the plan's only part is row i.

    Args:
        table: doc_id, tokens, answer_start, label.
        pad_id: what stands behind the end of an example.
        class_weights: of a classifier; without them, answers are learnt.
    """

    def __init__(self, table: pa.Table, pad_id: int, class_weights: list[float]) -> None:
        tokens = table["tokens"].combine_chunks()
        offsets = tokens.offsets.to_numpy()
        values = tokens.values.to_numpy()
        self.tokens = [values[a:b] for a, b in itertools.pairwise(offsets)]
        self.lengths = np.diff(offsets)
        self.starts = table["answer_start"].to_numpy()
        self.labels = table["label"].to_numpy()
        self.pad_id = pad_id
        self.class_weights = np.array(class_weights, np.float32)

    def rows(self, parts: np.ndarray, sequences: np.ndarray) -> list[np.ndarray]:
        del parts
        return [self.tokens[int(index)] for index in sequences]

    def collate(self, rows: list[np.ndarray], sequences: np.ndarray, parts: np.ndarray | None = None) -> Inputs:
        del parts  # there is one
        width = -(-max(map(len, rows)) // WIDTH_STEP) * WIDTH_STEP
        tokens_BT = np.full((len(rows), width), self.pad_id, np.int64)
        for index, row in enumerate(rows):
            tokens_BT[index, : len(row)] = row
        lengths, starts = self.lengths[sequences], self.starts[sequences]
        if len(self.class_weights):
            labels = torch.from_numpy(self.labels[sequences].astype(np.int64))
            return Inputs(torch.from_numpy(tokens_BT), None, labels, torch.from_numpy(lengths - 1))
        targets = np.arange(1, width)[None]  # target t - 1 of a row is its token t
        weights_BT = (targets >= starts[:, None]) & (targets < lengths[:, None])
        return Inputs(torch.from_numpy(tokens_BT), torch.from_numpy(weights_BT.astype(np.float32)))

    def total(self, sequences: np.ndarray, parts: np.ndarray | None = None) -> float:
        del parts  # there is one
        if len(self.class_weights):
            return float(self.class_weights[self.labels[sequences]].sum(dtype=np.float64))
        return float((self.lengths[sequences] - self.starts[sequences]).sum())


@dataclass
class Finetuning:
    """See :class:`training.loop.Task`."""

    job: Job
    recipe: FinetuneRecipe
    objective: Objective[Any]
    batches: Batches
    device: torch.device

    def evaluate(self, *, last: bool) -> dict[str, Any]:
        """Nothing: what the model answers on the test examples is kept, and judged where scores are made."""
        del last
        return {}

    def finish(self, folder: Path) -> None:
        self.objective.eval()
        test = read_table(self.job.examples["test"].path)
        with torch.no_grad():
            if self.job.kind == "classifier":
                write_table(
                    folder / PREDICTIONS, predictions(self.objective.network, test, self.job.pad_id, self.device)
                )
            else:
                write_table(folder / GENERATED, self._generated(test))
        self.objective.train()

    def _generated(self, test: pa.Table) -> pa.Table:
        starts = test["answer_start"].to_pylist()
        prompts = [row[:start] for row, start in zip(test["tokens"].to_pylist(), starts, strict=True)]
        limit = min(self.recipe.max_answer_tokens, self.job.model.sequence_length - 1)
        answers = greedy(self.objective.network, prompts, limit, self.job.eos_id, self.job.num_tokens, TEST_BATCH)
        return pa.table({"doc_id": test["doc_id"], "tokens": pa.array(answers, pa.large_list(pa.uint32()))})


def finetuning(job: Job, recipe: FinetuneRecipe, device: torch.device, rank: int, world_size: int) -> Finetuning:
    """The task of a job: network from the base's weights, examples, loss."""
    assert job.base is not None
    network: nn.Module
    if job.kind == "classifier":
        network = GPTClassifier(job.model, len(job.class_weights))
        objective: Objective[Any] = WeightedClass(network, torch.tensor(job.class_weights))
    else:
        network = GPT(job.model)
        objective = NextToken(network)
    initialise(network, job.model.layers, recipe.seed)
    unknown = network.load_state_dict(ours(job.model, load_weights(job.base.path)), strict=False)
    if unknown.unexpected_keys or set(unknown.missing_keys) - {"score.weight"}:
        raise ValueError(f"{job.base.path} does not fit the model: {unknown}.")
    source = ExampleSource(read_table(job.examples["train"].path), job.pad_id, job.class_weights)
    return Finetuning(job, recipe, objective, Batches(job.plan, source, rank, world_size), device)


def predictions(network: GPTClassifier, test: pa.Table, pad_id: int, device: torch.device) -> pa.Table:
    """What the classifier says of every example, in their order; probabilities in the order of the classes."""
    source = ExampleSource(test, pad_id, [1.0])
    order = np.argsort(source.lengths, kind="stable")
    found = np.empty((len(order), network.score.out_features), np.float32)
    for start in range(0, len(order), TEST_BATCH):
        chosen = order[start : start + TEST_BATCH]
        inputs = source.collate(source.rows(chosen, chosen), chosen).to(device)
        assert inputs.ends_B is not None
        found[chosen] = network(inputs.tokens_BT, inputs.ends_B).float().softmax(-1).cpu().numpy()
    return pa.table({
        "doc_id": test["doc_id"],
        "label": test["label"],
        "predicted": pa.array(found.argmax(1), pa.int32()),
        "probabilities": pa.array(found.tolist(), pa.list_(pa.float32())),
    })  # fmt: skip
