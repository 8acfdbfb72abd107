"""Encoder: every token sees all others; it says which tokens stand at hidden places (EuroBERT, arXiv:2503.05500).

Letters of shapes: B sequences, T tokens, K hidden places of each sequence, D width, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor

from training.models.gpt import TokenModel
from training.models.recipe import GPTRecipe

PASSES = 7  # over a held-out text, each hiding every seventh token: about the 15 % that training hides


class Encoder(TokenModel):
    """Trunk with a head for hidden tokens.

    Args:
        recipe: with ``objective`` masked.
        mask_id: the token that stands where one is hidden.
    """

    def __init__(self, recipe: GPTRecipe, mask_id: int) -> None:
        super().__init__(recipe)
        self.mask_id = mask_id

    def forward(self, tokens_BT: Tensor, lengths_B: Tensor | None = None, documents_BT: Tensor | None = None) -> Tensor:
        """Logits for the token at each place, [B, T, V]; rows of V beyond the vocabulary are padding."""
        return self.head(self.model(tokens_BT, lengths_B=lengths_B, documents_BT=documents_BT))

    def hidden_losses(
        self, tokens_BT: Tensor, places_BK: Tensor, truths_BK: Tensor, documents_BT: Tensor | None = None
    ) -> Tensor:
        """Negative log-likelihood of what stands at hidden places, float32 [B, K].

        Logits are computed only there: at 15 % hidden the head would otherwise be most of a small model's work.
        """
        return self.losses_at(self.model(tokens_BT, documents_BT=documents_BT), places_BK, truths_BK)

    def losses_at(self, x_BTD: Tensor, places_BK: Tensor, truths_BK: Tensor) -> Tensor:
        """The same from the states of a pass."""
        x_BKD = x_BTD.gather(1, places_BK[..., None].expand(-1, -1, x_BTD.shape[-1]))
        logits = self.head(x_BKD).flatten(0, 1).float()
        return F.cross_entropy(logits, truths_BK.flatten(), reduction="none").view(truths_BK.shape)

    def losses(self, tokens_BT: Tensor, lengths_B: Tensor | None = None) -> Tensor:
        """Negative log-likelihood of each target given all others but every seventh, float32 [B, T].

        Pseudo-likelihood (Salazar et al. 2020, arXiv:1910.14659) in seven passes instead of one a token. Targets are
        tokens 1… of [B, T + 1], as for a decoder: what begins a text is not asked for.
        """
        targets_BT = tokens_BT[:, 1:]
        found_BT = torch.zeros(targets_BT.shape, dtype=torch.float32, device=tokens_BT.device)
        rest_B = None if lengths_B is None else lengths_B - 1
        for first in range(min(PASSES, targets_BT.shape[1])):
            hidden_BT = targets_BT.clone()
            hidden_BT[:, first::PASSES] = self.mask_id
            x_BKD = self.model(hidden_BT, lengths_B=rest_B)[:, first::PASSES]
            truths_BK = targets_BT[:, first::PASSES]
            flat = F.cross_entropy(self.head(x_BKD).flatten(0, 1).float(), truths_BK.flatten(), reduction="none")
            found_BT[:, first::PASSES] = flat.view(truths_BK.shape)
        return found_BT
