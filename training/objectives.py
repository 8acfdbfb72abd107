"""Objectives: what a batch costs. Each holds its network and returns a sum, which the loop divides by the weight of
the whole global batch; so accumulation and several processes give the mean over exactly the same targets.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn

from training.models.classifier import GPTClassifier
from training.models.gpt import GPT

N = TypeVar("N", bound=nn.Module)


class Objective(nn.Module, Generic[N]):
    """A network with its loss."""

    network: N  # the one whose weights are trained, saved and exported


class NextToken(Objective[GPT]):
    """Negative log-likelihood of every token that counts, given those before it."""

    def __init__(self, network: GPT) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, tokens_BT: Tensor, weights_BT: Tensor | None, labels_B: Tensor | None, ends_B: Tensor | None
    ) -> Tensor:
        del labels_B, ends_B
        return self.network.loss(tokens_BT, weights_BT)


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
        self, tokens_BT: Tensor, weights_BT: Tensor | None, labels_B: Tensor | None, ends_B: Tensor | None
    ) -> Tensor:
        del weights_BT
        logits_BC = self.network(tokens_BT, ends_B)
        return F.cross_entropy(logits_BC.float(), labels_B, self.get_buffer("class_weights"), reduction="sum")  # type: ignore[arg-type]
