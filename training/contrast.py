"""Contrast: a document read twice through other dropout has nearly one embedding, other documents have others.

Unsupervised SimCSE (Gao et al. 2021, arXiv:2104.08821, section 3), trained beside the hidden tokens: of each sequence
the longest stretch of one document is read twice as it stands; its embedding is the mean of its last states, and the
negatives are all other sequences of the global batch. What is exported embeds text by mean pooling, as semantic
deduplication does.

Letters of shapes: B sequences of this process, G of all, T tokens, D width, K hidden places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor

from training.heldout import DECIMALS
from training.models.encoder import Encoder
from training.objectives import HiddenTokens

TEMPERATURE = 0.05  # the paper's, section 6.1
LEAST = 16  # tokens of a held-out document whose halves are compared
BATCH = 32  # halves of one forward pass


class AlikeTwice(HiddenTokens):
    """Hidden tokens, and ``weight`` times the contrastive loss of every sequence."""

    def __init__(self, network: Encoder, weight: float) -> None:
        super().__init__(network)
        self.weight = weight

    def forward(
        self, tokens_BT: Tensor, weights_BK: Tensor, labels_B: Tensor | None, ends_B: Tensor | None,
        places_BK: Tensor, truths_BK: Tensor, documents_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        del labels_B, ends_B
        assert documents_BT is not None
        whole_BT = restored(tokens_BT, places_BK, truths_BK, weights_BK)
        # one pass for all three: every row has dropout of its own, and a sharded model is gathered once
        x = self.network.model(torch.cat([tokens_BT, whole_BT, whole_BT]), documents_BT=documents_BT.repeat(3, 1))
        hidden_BTD, *views = x.float().chunk(3)
        seen_BT = longest(documents_BT)
        one_BD, other_BD = (pooled(view_BTD, seen_BT) for view_BTD in views)
        costs_BK = self.network.losses_at(hidden_BTD, places_BK, truths_BK) * weights_BK
        # the loop divides by the hidden tokens of the batch; the mean over its sequences is what counts ``weight``
        return costs_BK.sum() + self.weight * places_BK.shape[1] * alike(one_BD, *gathered(other_BD))


def restored(tokens_BT: Tensor, places_BK: Tensor, truths_BK: Tensor, weights_BK: Tensor) -> Tensor:
    """Sequences as they stood before tokens were hidden; what weighs nothing was not hidden."""
    length = tokens_BT.shape[1]
    places_BK = torch.where(weights_BK > 0, places_BK, length)
    return F.pad(tokens_BT, (0, 1)).scatter(1, places_BK, truths_BK)[:, :length]


def longest(documents_BT: Tensor) -> Tensor:
    """True for the tokens of each sequence's longest document, the first of equals, [B, T]."""
    sizes_BT = (documents_BT[:, :, None] == documents_BT[:, None]).sum(2)
    home_B1 = documents_BT.gather(1, sizes_BT.argmax(1, keepdim=True))
    return documents_BT == home_B1


def pooled(x_BTD: Tensor, seen_BT: Tensor) -> Tensor:
    """Mean of the states that are seen, as a unit vector, [B, D]."""
    sums_BD = (x_BTD * seen_BT[..., None]).sum(1)
    return F.normalize(sums_BD / seen_BT.sum(1, keepdim=True), dim=-1)


def alike(one_BD: Tensor, other_GD: Tensor, first: int = 0) -> Tensor:
    """Summed -log softmax of the cosines over the temperature, at the same sequence's (equation 1 of the paper).

    ``first``: place of the first of these sequences among all.
    """
    own_B = torch.arange(first, first + len(one_BD), device=one_BD.device)
    with torch.autocast(one_BD.device.type, enabled=False):  # cosines to three digits would be a temperature's worth
        return F.cross_entropy(one_BD @ other_GD.t() / TEMPERATURE, own_B, reduction="sum")


@torch.compiler.disable()
def gathered(x_BD: Tensor) -> tuple[Tensor, int]:
    """Embeddings of all processes in the order of the batch, and the place of our first one."""
    if not (dist.is_initialized() and dist.get_world_size() > 1):
        return x_BD, 0
    found = _Gathered.apply(x_BD)
    assert isinstance(found, Tensor)
    return found, dist.get_rank() * len(x_BD)


class _Gathered(torch.autograd.Function):
    """The gradient of an embedding is what the losses of all processes say of it."""

    @staticmethod
    def forward(ctx: Any, x_BD: Tensor) -> Tensor:  # type: ignore[override]
        ctx.size = len(x_BD)
        shares = [torch.empty_like(x_BD) for _ in range(dist.get_world_size())]
        dist.all_gather(shares, x_BD.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, gradient_GD: Tensor) -> Tensor:  # type: ignore[override]
        summed_GD = gradient_GD.contiguous()
        dist.all_reduce(summed_GD)
        return summed_GD[dist.get_rank() * ctx.size :][: ctx.size]


def figures(
    network: Encoder, documents: Sequence[np.ndarray], length: int, device: torch.device
) -> dict[str, float | None]:
    """How well embeddings tell held-out documents apart.

    Returns:
        ``half_accuracy``: share of first halves whose nearest second half is that of their own document;
        ``uniformity``: log of the mean of exp(-2 d²) over pairs of documents, at best -4 (Wang & Isola 2020,
        arXiv:2005.10242). None with fewer than two documents.
    """
    cut = [np.array_split(each[: 2 * length], 2) for each in documents if len(each) >= LEAST]
    if len(cut) < 2:
        return {"half_accuracy": None, "uniformity": None}
    one_ND, other_ND = (embedded(network, [halves[side] for halves in cut], device) for side in range(2))
    own_N = torch.arange(len(cut), device=device)
    right = ((one_ND @ other_ND.t()).argmax(1) == own_N).float().mean()
    uniformity = torch.pdist(one_ND).square().mul(-2).exp().mean().log()
    return {"half_accuracy": round(right.item(), DECIMALS), "uniformity": round(uniformity.item(), DECIMALS)}


@torch.no_grad()
def embedded(network: Encoder, texts: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Unit vectors of texts read alone, [N, D] in float32."""
    found = []
    for start in range(0, len(texts), BATCH):
        rows = [torch.from_numpy(np.asarray(row, np.int64)) for row in texts[start : start + BATCH]]
        lengths_B = torch.tensor([len(row) for row in rows], device=device)
        tokens_BT = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
        seen_BT = torch.arange(tokens_BT.shape[1], device=device) < lengths_B[:, None]
        found.append(pooled(network.model(tokens_BT, lengths_B=lengths_B).float(), seen_BT))
    return torch.cat(found)
