"""Looking ahead: beside the next token a run learns the ones behind it, in modules that no export has.

Multi-token prediction in the form of DeepSeek-V3 (DeepSeek-AI 2024, arXiv:2412.19437, section 2.2): module k joins the
state of a token with the embedding of the token k places on, has one block of its own, and says through the model's
own head what comes k + 1 places on. The modules are one chain, and a position sees no more of the text than the
states it is given.

Letters of shapes: B sequences, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.models.blocks import Angles, Block, norm
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.models.sight import Mask
from training.objectives import NextToken

PREFIX = "ahead."  # of the names of their weights


class Module(nn.Module):
    """One token further."""

    def __init__(self, recipe: GPTRecipe, number: int) -> None:
        super().__init__()
        self.state_norm, self.token_norm, self.norm = norm(recipe), norm(recipe), norm(recipe)
        self.joined = nn.Linear(2 * recipe.width, recipe.width, bias=False)
        self.block = Block(recipe, recipe.layers + number)

    def forward(self, x_BTD: Tensor, tokens_BTD: Tensor, angles: Angles | None, mask: Mask) -> tuple[Tensor, Tensor]:
        """The next state, and the same for the head."""
        both = torch.cat([self.state_norm(x_BTD), self.token_norm(tokens_BTD)], dim=-1)
        x_BTD = self.block(self.joined(both).float(), angles, None, mask)
        return x_BTD, self.norm(x_BTD)


class Ahead(nn.Module):
    """As many of them as tokens behind the next one are learnt."""

    def __init__(self, recipe: GPTRecipe, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Module(recipe, number) for number in range(depth))


class TokensAhead(NextToken):
    """The next token, and ``weight`` times the mean loss of those behind it.

    Args:
        network: decoder; the modules become part of it, so that they are trained and kept with it.
        depth: tokens behind the next one.
        weight: λ; DeepSeek-V3 has 0.3, and 0.1 at the end (section 4.2).
        seed: of the modules' weights.
        label_smoothing, z_loss: as :class:`NextToken` has them, for all tokens alike.
    """

    def __init__(
        self, network: GPT, depth: int, weight: float, seed: int, label_smoothing: float = 0.0, z_loss: float = 0.0
    ) -> None:
        super().__init__(network, label_smoothing, z_loss)
        self.weight = weight / depth
        self.ahead = Ahead(network.recipe, depth)
        initialise(self.ahead, network.recipe.layers + depth, seed)
        network.add_module(PREFIX.rstrip("."), self.ahead)

    def forward(
        self, tokens_BT: Tensor, weights_BT: Tensor | None = None, labels_B: Tensor | None = None,
        ends_B: Tensor | None = None, places_BK: Tensor | None = None, truths_BK: Tensor | None = None,
        documents_BT: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        del labels_B, ends_B, places_BK, truths_BK
        trunk, inputs_BT, targets_BT = self.network.model, tokens_BT[:, :-1], tokens_BT[:, 1:]
        documents_BT = None if documents_BT is None else documents_BT[:, 1:]
        weights_BT = torch.ones_like(targets_BT, dtype=torch.float32) if weights_BT is None else weights_BT
        angles, mask = trunk.sight(inputs_BT, documents_BT)
        embedded_BTD = trunk.embed_tokens(inputs_BT).float()
        x_BTD = trunk(inputs_BT, documents_BT=documents_BT)
        total = (self._costs(x_BTD, targets_BT) * weights_BT).sum()
        for number, module in enumerate(self.ahead.layers, 1):
            x_BTD, said_BTD = self._further(module, x_BTD, moved(embedded_BTD, number), angles, mask)
            costs_BT = self._costs(said_BTD, moved(targets_BT, number))
            counted_BT = moved(weights_BT, number)
            if documents_BT is not None:  # what another document goes on with is nothing that this one could say
                counted_BT = counted_BT * (moved(documents_BT, number) == documents_BT)
            total = total + self.weight * (costs_BT * counted_BT).sum()
        return total

    def _further(self, module: nn.Module, *inputs: Tensor | Angles | Mask) -> tuple[Tensor, Tensor]:
        if self.network.model.recomputed and self.training:
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)

    def _costs(self, x_BTD: Tensor, targets_BT: Tensor) -> Tensor:
        logits_NV = self.network.head(x_BTD).flatten(0, 1).float()
        return self.costs(logits_NV, targets_BT.flatten()).view(targets_BT.shape)


def moved(x_BT: Tensor, places: int) -> Tensor:
    """What stands so many places further on in each row, [B, T] or [B, T, D]; 0 behind its end."""
    places = min(places, x_BT.shape[1])
    return F.pad(x_BT[:, places:], (0, 0) * (x_BT.ndim - 2) + (0, places))


def apart(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of a model, and those of the modules that look ahead."""
    model = {name: weight for name, weight in weights.items() if not name.startswith(PREFIX)}
    return model, {name: weight for name, weight in weights.items() if name.startswith(PREFIX)}
