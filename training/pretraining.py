"""Pretraining as a task of the loop: next or hidden tokens of shards, judged on held-out documents."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.ahead import TokensAhead
from training.batches import Batch, Batches, Inputs, ShardSource
from training.continuing import begin_from
from training.contrast import AlikeTwice, figures
from training.distillation import distilled
from training.heldout import document_losses, load_documents, piece_losses, pieces, scores, scores_by_part
from training.job import Job
from training.masking import Masker, word_edges
from training.models.encoder import Encoder
from training.models.gpt import GPT, initialise
from training.objectives import HiddenTokens, NextToken, Objective
from training.pruning import keep_zeros
from training.recipes import PretrainRecipe
from training.sentence_order import SentenceOrder


class Pretraining:
    """See :class:`training.loop.Task`."""

    def __init__(self, job: Job, recipe: PretrainRecipe, device: torch.device, rank: int, world_size: int) -> None:
        self.job, self.recipe, self.device, self.rank, self.world_size = job, recipe, device, rank, world_size
        self.objective = objective(job, recipe)
        apart = recipe.attend == "document"
        readers = {part.name: part.stream() for part in job.parts}
        self.source = ShardSource(job.plan, readers, apart or bool(recipe.sentence_order))
        self.batches = Batches(job.plan, self.source, rank, world_size)
        self.order = sentence_order(job, recipe)
        if recipe.objective == "masked":
            self.batches = MaskedBatches(job.plan, self.source, rank, world_size)
            self.batches.masker, self.batches.order, self.batches.apart = masker(job, recipe), self.order, apart
        self.documents = load_documents(job.heldout)

    def evaluate(self, *, last: bool) -> dict[str, Any]:
        # within a part documents lie in the order of their ids, which are hashes: every n-th is a fair sample
        documents = self.documents if last else _sample(self.documents, self.recipe.eval_documents)
        cut = pieces(documents, self.job.model.sequence_length, self.job.eos_id)
        nats = piece_losses(self.objective.network, cut, self.device, self.rank, self.world_size)
        losses = document_losses(documents, cut, nats)
        found = scores(documents, losses, self.recipe.clean_overlap)
        texts = [document.tokens for document in documents]
        asked = (self.objective.network, texts, self.job.model.sequence_length, self.device)
        if self.order:
            found["order_accuracy"] = self.order.accuracy(*asked)
        if self.recipe.contrast:
            found |= figures(*asked)
        return {**found, "by_part": scores_by_part(documents, losses)}

    def finish(self, folder: Path) -> None:
        """Nothing but weights and records."""


def objective(job: Job, recipe: PretrainRecipe) -> Objective[Any]:
    """The network at its start, with its loss."""
    if recipe.objective == "masked":
        assert job.mask_id is not None
        network: Encoder | GPT = Encoder(job.model, job.mask_id)
        _begin(network, job, recipe)
        return AlikeTwice(network, recipe.contrast) if recipe.contrast else HiddenTokens(network)
    network = GPT(job.model)
    _begin(network, job, recipe)
    if job.teacher is not None:
        return distilled(network, job, recipe)
    if recipe.mtp_depth:
        return TokensAhead(
            network, recipe.mtp_depth, recipe.mtp_weight, recipe.seed + 1, recipe.label_smoothing, recipe.z_loss
        )
    return NextToken(network, recipe.label_smoothing, recipe.z_loss)


def _begin(network: Encoder | GPT, job: Job, recipe: PretrainRecipe) -> None:
    initialise(network, job.model.layers, recipe.seed)
    if job.base is not None:
        begin_from(network, job.base.path)
    if job.keep_zeros:
        keep_zeros(network)


def masker(job: Job, recipe: PretrainRecipe) -> Masker:
    assert job.mask_id is not None
    edges = None
    if recipe.whole_words:
        assert job.tokenizer is not None
        edges = word_edges(json.loads(job.tokenizer.path.read_bytes()), job.model.padded_vocab_size)
    return Masker(recipe.mask_ratio, job.mask_id, job.num_tokens, recipe.seed, edges)


def sentence_order(job: Job, recipe: PretrainRecipe) -> SentenceOrder | None:
    """The question for the order of two halves, if it is asked."""
    if not recipe.sentence_order:
        return None
    assert job.mask_id is not None
    return SentenceOrder(recipe.sentence_order, job.mask_id, job.eos_id, job.pad_id, recipe.seed)


class MaskedBatches(Batches):
    """Batches for an encoder: some tokens hidden, whose weights are what the loss is divided by.

    The last token of a sequence, the first of the next one in its part, is not read twice: it is left out.
    """

    masker: Masker
    order: SentenceOrder | None = None
    apart: bool = False  # documents do not see each other

    def _cut(self, first: int, sizes: np.ndarray, parts: np.ndarray, sequences: np.ndarray) -> list[Batch]:
        batches = super()._cut(first, sizes, parts, sequences)
        return [self._masked(batch, size) for batch, size in zip(batches, sizes.tolist(), strict=True)]

    def _masked(self, batch: Batch, size: int) -> Batch:
        tokens_BT, documents_BT = batch.inputs.tokens_BT[:, :-1].numpy(), batch.inputs.documents_BT
        documents_BT = None if documents_BT is None else documents_BT[:, :-1]
        asked = None
        if self.order:
            assert documents_BT is not None
            asked = self.order.asked(tokens_BT, documents_BT.numpy(), batch.step, batch.first)
            tokens_BT = asked.tokens_BT
        hidden = self.masker.hide(tokens_BT, batch.step, batch.first)
        total = float(size * hidden.places_BK.shape[1])
        if self.order and asked:
            hidden = self.order.joined(hidden, asked)
        inputs = Inputs(
            torch.from_numpy(hidden.tokens_BT),
            torch.from_numpy(hidden.weights_BK),
            places_BK=torch.from_numpy(hidden.places_BK),
            truths_BK=torch.from_numpy(hidden.truths_BK),
            documents_BT=documents_BT if self.apart else None,
        )
        return dataclasses.replace(batch, inputs=inputs, total=total)


def _sample(documents: list[Any], size: int) -> list[Any]:
    """Every so many-th document, so that all parts take part."""
    return documents[:: -(-len(documents) // size)] if documents else []
