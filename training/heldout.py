"""Held-out documents: how well a model codes text that it was not trained on, in bits per byte of the text.

Bits per byte do not depend on the vocabulary, so runs with other vocabularies compare. A document is read alone,
after one <|endoftext|>, in pieces of the context length; its own <|endoftext|> is predicted and paid for too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.provenance.tables import read_table
from training.job import JobPart

if TYPE_CHECKING:
    from training.models.encoder import Encoder
    from training.models.gpt import GPT

BATCH_TOKENS = 16_384  # of one forward pass: enough to keep two cores or a GPU busy, small enough for any
WIDTH_STEP = 32  # pieces are padded to a multiple of it, so that few shapes occur
DECIMALS = 6  # of published figures: below that lies the noise of float kernels


@dataclass(frozen=True)
class HeldoutDocument:
    """One document with what its score needs."""

    part: str
    tokens: NDArray[np.int64]  # with the <|endoftext|> at its end
    num_bytes: int
    overlap: float  # share of its 13-grams of words that occur in training


@dataclass(frozen=True)
class Piece:
    """At most a context length of one document."""

    document: int
    tokens: NDArray[np.int64]  # inputs and targets in one: one token more than targets


def load_documents(parts: Iterable[JobPart]) -> list[HeldoutDocument]:
    """Every held-out document, in the order of parts and shards.

    Raises:
        ValueError: if a part's table of documents does not go with its shards.
    """
    documents = []
    for part in parts:
        if part.documents is None:
            raise ValueError(f"held-out part {part.name} has no documents.arrow; re-materialize heldout_shards.")
        reader, table = part.reader(), read_table(part.documents.path)
        spans = reader.documents(0, reader.num_tokens)
        ids, sizes, overlaps = (table[name].to_pylist() for name in ("doc_id", "num_bytes", "overlap"))
        if [span.doc_id for span in spans] != ids:
            raise ValueError(
                f"held-out part {part.name}: its shards hold {len(spans)} documents, documents.arrow lists "
                f"{len(ids)} or others; re-materialize heldout_shards."
            )
        for span, size, overlap in zip(spans, sizes, overlaps, strict=True):
            tokens = reader.tokens(span.start, span.start + span.length).astype(np.int64)
            documents.append(HeldoutDocument(part.name, tokens, size, overlap))
    return documents


def pieces(documents: Sequence[HeldoutDocument], length: int, eos_id: int) -> list[Piece]:
    """Documents cut to targets of at most ``length``; each target occurs in exactly one piece."""
    found: list[Piece] = []
    for index, document in enumerate(documents):
        stream = np.concatenate([[eos_id], document.tokens])
        starts = range(0, len(document.tokens), length)
        found += [Piece(index, stream[start : start + length + 1]) for start in starts]
    return found


def piece_losses(
    model: GPT | Encoder, cut: Sequence[Piece], device: Any, rank: int = 0, world_size: int = 1
) -> list[float]:
    """Summed loss in nats of every piece; each process computes its share of the batches and all get all."""
    import torch
    import torch.distributed as dist

    order = sorted(range(len(cut)), key=lambda i: (-len(cut[i].tokens), i))
    mine: list[tuple[int, float]] = []
    with torch.no_grad():
        batches = list(_batches(cut, order))
        for number in range(rank, -(-len(batches) // world_size) * world_size, world_size):
            # as many forward passes for everybody: a sharded model needs all processes in each of them
            chosen = batches[min(number, len(batches) - 1)]
            tokens_BT, weights_BT = _padded([cut[i].tokens for i in chosen])
            lengths_B = torch.tensor([len(cut[i].tokens) for i in chosen], device=device)
            losses_BT = model.losses(torch.from_numpy(tokens_BT).to(device), lengths_B).double().cpu()
            if number < len(batches):
                mine += zip(chosen, (losses_BT * torch.from_numpy(weights_BT)).sum(1).tolist(), strict=True)
    shares: list[Any] = [mine]
    if world_size > 1:
        shares = [None] * world_size
        dist.all_gather_object(shares, mine)
    return [loss for _, loss in sorted(pair for share in shares for pair in share)]


def document_losses(documents: Sequence[HeldoutDocument], cut: Sequence[Piece], losses: Sequence[float]) -> list[float]:
    """Loss in nats of each document, from that of its pieces."""
    found: list[list[float]] = [[] for _ in documents]
    for piece, loss in zip(cut, losses, strict=True):
        found[piece.document].append(loss)
    return [math.fsum(each) for each in found]


def bits_per_byte(losses: Iterable[float], documents: Iterable[HeldoutDocument]) -> float | None:
    """Total loss over total bytes; None without any byte. The sum is exactly rounded, whatever the order."""
    num_bytes = sum(document.num_bytes for document in documents)
    return round(math.fsum(losses) / math.log(2) / num_bytes, DECIMALS) if num_bytes else None


def scores(documents: Sequence[HeldoutDocument], losses: Sequence[float], clean_overlap: float) -> dict[str, Any]:
    """Figures for all documents and for those that share little with training."""
    clean = [i for i, document in enumerate(documents) if document.overlap < clean_overlap]
    return {
        "bpb": bits_per_byte(losses, documents),
        "bpb_clean": bits_per_byte([losses[i] for i in clean], [documents[i] for i in clean]),
        "docs": len(documents),
        "docs_clean": len(clean),
    }


def scores_by_part(documents: Sequence[HeldoutDocument], losses: Sequence[float]) -> dict[str, dict[str, Any]]:
    """The same by source, all documents; a source that a sample has nothing of is left out."""
    chosen: dict[str, list[int]] = {}
    for index, document in enumerate(documents):
        chosen.setdefault(document.part, []).append(index)
    return {
        part: {"bpb": bits_per_byte([losses[i] for i in those], [documents[i] for i in those]), "docs": len(those)}
        for part, those in sorted(chosen.items())
    }


def _batches(cut: Sequence[Piece], order: list[int]) -> Iterable[list[int]]:
    """Pieces of falling length, as many together as fit into ``BATCH_TOKENS``."""
    start = 0
    while start < len(order):
        size = max(1, BATCH_TOKENS // len(cut[order[start]].tokens))
        yield order[start : start + size]
        start += size


def _padded(rows: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    width = -(-(max(map(len, rows)) - 1) // WIDTH_STEP) * WIDTH_STEP + 1
    tokens_BT, weights_BT = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width - 1))
    for index, row in enumerate(rows):
        tokens_BT[index, : len(row)] = row
        weights_BT[index, : len(row) - 1] = 1.0
    return tokens_BT, weights_BT
