"""Pretraining as a task of the loop: next tokens of shards, judged on held-out documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from training.batches import Batches, ShardSource
from training.heldout import document_losses, load_documents, piece_losses, pieces, scores, scores_by_part
from training.job import Job
from training.models.gpt import GPT, initialise
from training.objectives import NextToken
from training.recipes import PretrainRecipe


class Pretraining:
    """See :class:`training.loop.Task`."""

    def __init__(self, job: Job, recipe: PretrainRecipe, device: torch.device, rank: int, world_size: int) -> None:
        self.job, self.recipe, self.device, self.rank, self.world_size = job, recipe, device, rank, world_size
        network = GPT(job.model)
        initialise(network, job.model.layers, recipe.seed)
        self.objective = NextToken(network)
        self.source = ShardSource(job.plan, {part.name: part.stream() for part in job.parts})
        self.batches = Batches(job.plan, self.source, rank, world_size)
        self.documents = load_documents(job.heldout)

    def evaluate(self, *, last: bool) -> dict[str, Any]:
        # within a part documents lie in the order of their ids, which are hashes: every n-th is a fair sample
        documents = self.documents if last else _sample(self.documents, self.recipe.eval_documents)
        cut = pieces(documents, self.job.model.sequence_length, self.job.eos_id)
        nats = piece_losses(self.objective.network, cut, self.device, self.rank, self.world_size)
        losses = document_losses(documents, cut, nats)
        found = scores(documents, losses, self.recipe.clean_overlap)
        return found | ({"by_part": scores_by_part(documents, losses)} if last else {})

    def finish(self, folder: Path) -> None:
        """Nothing but weights and records."""


def _sample(documents: list[Any], size: int) -> list[Any]:
    """Every so many-th document, so that all parts take part."""
    return documents[:: -(-len(documents) // size)] if documents else []
