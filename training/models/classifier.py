"""A classifier: the decoder with a linear head on the last token, under the names of LlamaForSequenceClassification."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.models.blocks import Trunk
from training.models.recipe import GPTRecipe


class GPTClassifier(nn.Module):
    """Shapes: B passages, T tokens, D width, C classes."""

    def __init__(self, recipe: GPTRecipe, num_classes: int) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = Trunk(recipe)
        self.score = nn.Linear(recipe.width, num_classes, bias=False)

    def forward(self, tokens_BT: Tensor, ends_B: Tensor) -> Tensor:
        """Logits [B, C], read at the last token of each passage; whatever pads it stands behind and is not seen."""
        x_BTD = self.model(tokens_BT)
        return self.score(x_BTD[torch.arange(len(ends_B), device=x_BTD.device), ends_B])
