"""GPT: the decoder, which says what comes after each token, and the start that every network gets.

Letters of shapes: B sequences, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn

from training.models.blocks import KVCache, Trunk
from training.models.recipe import GPTRecipe


class TokenModel(nn.Module):
    """A trunk with logits over the vocabulary on top, through the embedding itself if the recipe ties the two."""

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = Trunk(recipe)
        self.lm_head = None if recipe.tied else nn.Linear(recipe.width, recipe.padded_vocab_size, bias=False)

    def head(self, x_BTD: Tensor) -> Tensor:
        return F.linear(x_BTD, self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight)


class GPT(TokenModel):
    """A decoder."""

    def forward(self, tokens_BT: Tensor, cache: KVCache | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Logits for the token after each one, [B, T, V]; rows of V beyond the vocabulary are padding."""
        return self.head(self.model(tokens_BT, cache, documents_BT=documents_BT))

    def loss(self, tokens_BT: Tensor, weights_BT: Tensor | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Summed negative log-likelihood in nats of tokens 1… given those before.

        Args:
            tokens_BT: [B, T + 1], inputs and targets in one.
            weights_BT: [B, T], how much each target counts; 0 leaves it out, None counts all.
            documents_BT: [B, T], number of the document of each input; None: everyone sees all before.
        """
        return (self.losses(tokens_BT, documents_BT=documents_BT) * (1.0 if weights_BT is None else weights_BT)).sum()

    def losses(self, tokens_BT: Tensor, lengths_B: Tensor | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of each target, float32 [B, T], for tokens [B, T + 1]."""
        del lengths_B  # padding stands behind, where this one never looks
        logits_BTV = self(tokens_BT[:, :-1], documents_BT=documents_BT)
        targets_BT = tokens_BT[:, 1:]
        flat = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
        return flat.view(targets_BT.shape)


def initialise(model: nn.Module, layers: int, seed: int) -> None:
    """Normal weights of deviation 0.02, the two projections that write to the residual stream smaller by sqrt(2 L).

    GPT-2's scheme (Radford et al. 2019, section 2.3); biases are 0. One generator, parameters in the order of their
    names, on the CPU: the start is the same wherever the model is moved afterwards.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        with torch.no_grad():
            if name.endswith(".bias"):
                weight.zero_()
            elif weight.ndim >= 2:
                writes = name.endswith(("o_proj.weight", "down_proj.weight"))
                weight.normal_(0.0, 0.02 / math.sqrt(2 * layers) if writes else 0.02, generator=generator)
