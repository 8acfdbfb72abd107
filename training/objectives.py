"""Objectives: what a batch costs. Each holds its network and returns a sum, which the loop divides by the weight of
the whole global batch; so accumulation and several processes give the mean over exactly the same targets.

All are called with the tensors of :class:`training.batches.Inputs`, in their order, and take what they need.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn

from training.models.classifier import GPTClassifier
from training.models.encoder import Encoder
from training.models.gpt import GPT

N = TypeVar("N", bound=nn.Module)


class Objective(nn.Module, Generic[N]):
    """A network with its loss."""

    network: N  # the one whose weights are trained, saved and exported


class NextToken(Objective[GPT]):
    """Negative log-likelihood of every token that counts, given those before it.

    Args:
        network: decoder.
        label_smoothing: probability that is taken from the target and spread over the vocabulary (Szegedy et al.
            2016, arXiv:1512.00567, section 7).
        z_loss: factor of log² Z, which keeps logits from drifting (Chowdhery et al. 2022, arXiv:2204.02311, section 5).
    """

    def __init__(self, network: GPT, label_smoothing: float = 0.0, z_loss: float = 0.0) -> None:
        super().__init__()
        self.network, self.label_smoothing, self.z_loss = network, label_smoothing, z_loss

    def forward(
        self, tokens_BT: Tensor, weights_BT: Tensor | None = None, labels_B: Tensor | None = None,
        ends_B: Tensor | None = None, places_BK: Tensor | None = None, truths_BK: Tensor | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        del labels_B, ends_B, places_BK, truths_BK
        # a token belongs to the document of its target: the end of one document is the beginning of the next, which is
        # read behind it as held-out documents and prompts are
        documents_BT = None if documents_BT is None else documents_BT[:, 1:]
        if not (self.label_smoothing or self.z_loss):
            return self.network.loss(tokens_BT, weights_BT, documents_BT)
        logits_BTV, targets_BT = self.network(tokens_BT[:, :-1], documents_BT=documents_BT), tokens_BT[:, 1:]
        logits_NV = logits_BTV.flatten(0, 1).float()
        costs_BT = self.costs(logits_NV, targets_BT.flatten()).view(targets_BT.shape)
        return (costs_BT * (1.0 if weights_BT is None else weights_BT)).sum()

    def costs(self, logits_NV: Tensor, targets_N: Tensor) -> Tensor:
        """Cross-entropy, its targets smoothed, and the price of large logits; nats, [N] for N targets."""
        costs_N = F.cross_entropy(logits_NV, targets_N, reduction="none", label_smoothing=self.label_smoothing)
        return costs_N + self.z_loss * logits_NV.logsumexp(-1).square() if self.z_loss else costs_N


class HiddenTokens(Objective[Encoder]):
    """Negative log-likelihood of the tokens that are hidden, given all others."""

    def __init__(self, network: Encoder) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, tokens_BT: Tensor, weights_BK: Tensor, labels_B: Tensor | None, ends_B: Tensor | None,
        places_BK: Tensor, truths_BK: Tensor, documents_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        del labels_B, ends_B
        return (self.network.hidden_losses(tokens_BT, places_BK, truths_BK, documents_BT) * weights_BK).sum()


class WeightedClass(Objective[GPTClassifier]):
    """Cross-entropy of the class of a passage, each class weighing the same in total.

    Args:
        network: decoder with a head on the last token.
        class_weights_C: by class, N / (classes · its examples).
    """

    def __init__(self, network: GPTClassifier, class_weights_C: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("class_weights", class_weights_C, persistent=False)

    def forward(
        self, tokens_BT: Tensor, weights_BT: Tensor | None, labels_B: Tensor | None, ends_B: Tensor | None,
        places_BK: Tensor | None = None, truths_BK: Tensor | None = None, documents_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        del weights_BT, places_BK, truths_BK, documents_BT
        logits_BC = self.network(tokens_BT, ends_B)
        return F.cross_entropy(logits_BC.float(), labels_B, self.get_buffer("class_weights"), reduction="sum")  # type: ignore[arg-type]
