"""Sampling: how the next token is drawn from the logits of a model, by the rules that transformers has.

Letters of shapes: B rows, V vocabulary, K candidates. Probabilities are found of [V] as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipelines.provenance.order import order_key


@dataclass(frozen=True)
class Sampling:
    """Which tokens may come, and how likely: the penalty first, the others in the order of the fields.

    Args:
        temperature: logits are divided by it; 0 takes the likeliest.
        top_k: draw among that many likeliest; 0 among all.
        top_p: draw among the fewest likeliest that have this probability together (Holtzman et al. 2020).
        min_p: leave out what is less likely than this share of the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
        repetition_penalty: logits of tokens that the text already has are divided by it, negative ones multiplied
            (Keskar et al. 2019, arXiv:1909.05858, section 4.1); 1 changes nothing.
        seed: of the draws.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = field(default=0, compare=False)  # two samplings are equal if they draw from the same distribution

    def __post_init__(self) -> None:
        sound = self.temperature >= 0 and self.top_k >= 0 and 0 < self.top_p <= 1
        if not (sound and 0 <= self.min_p <= 1 and self.repetition_penalty > 0):
            raise ValueError(
                f"temperature {self.temperature}, top_k {self.top_k}, top_p {self.top_p}, min_p {self.min_p}, "
                f"repetition_penalty {self.repetition_penalty}: expected temperature >= 0, top_k >= 0, 0 < top_p <= 1, "
                "0 <= min_p <= 1 and repetition_penalty > 0."
            )

    def draw(self, logits_BV: Tensor, numbers: Sequence[float], seen_BV: Tensor | None = None) -> Tensor:
        """The next token of each row, [B], for its number in [0, 1); ``seen_BV`` says which tokens its text has."""
        logits_BV = self._penalised(logits_BV, seen_BV)
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        found_BK, tokens_BK = self._candidates(logits_BV)
        return tokens_BK.gather(-1, place(found_BK, numbers)[:, None])[:, 0]

    def probabilities(self, logits_BV: Tensor, seen_BV: Tensor | None = None) -> Tensor:
        """Of each token; they sum to 1."""
        logits_BV = self._penalised(logits_BV, seen_BV)
        none_BV = torch.zeros_like(logits_BV)
        if self.temperature == 0:
            return none_BV.scatter_(-1, logits_BV.argmax(-1, keepdim=True), 1.0)
        found_BK, tokens_BK = self._candidates(logits_BV)
        return none_BV.scatter_(-1, tokens_BK, found_BK)

    def _penalised(self, logits_BV: Tensor, seen_BV: Tensor | None) -> Tensor:
        p = self.repetition_penalty
        if seen_BV is None or p == 1:
            return logits_BV
        return torch.where(seen_BV, torch.where(logits_BV < 0, logits_BV * p, logits_BV / p), logits_BV)

    def _candidates(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of the tokens that may come, and these tokens, in the order of the vocabulary."""
        found_BV = (logits_BV / self.temperature).softmax(-1)
        all_BV = torch.arange(found_BV.shape[-1], device=found_BV.device).expand_as(found_BV)
        if 0 < self.top_k < found_BV.shape[-1]:
            likeliest_BK, tokens_BK = found_BV.topk(self.top_k)
            tokens_BK, order_BK = tokens_BK.sort(-1)
            return self._cut(likeliest_BK).gather(-1, order_BK), tokens_BK
        if self.top_p == 1:
            return _normal(found_BV.where(found_BV >= self.min_p * found_BV.amax(-1, keepdim=True), 0.0)), all_BV
        likeliest_BV, tokens_BV = found_BV.sort(descending=True, stable=True)
        return torch.zeros_like(found_BV).scatter_(-1, tokens_BV, self._cut(likeliest_BV)), all_BV

    def _cut(self, likeliest_BK: Tensor) -> Tensor:
        """By top_p and min_p, the likeliest first. It always stays: nothing comes before it, and nothing is likelier."""
        likeliest_BK = _normal(likeliest_BK)
        before_BK = likeliest_BK.cumsum(-1) - likeliest_BK
        rare_BK = likeliest_BK < self.min_p * likeliest_BK[..., :1]
        return _normal(likeliest_BK.masked_fill((before_BK >= self.top_p) | rare_BK, 0.0))


def _normal(weights_BK: Tensor) -> Tensor:
    return weights_BK / weights_BK.sum(-1, keepdim=True)


def place(probabilities_BK: Tensor, numbers: Sequence[float]) -> Tensor:
    """Where each row's number in [0, 1) falls on its cumulated probabilities, [B]; never where one is 0."""
    sums_BK = probabilities_BK.double().cumsum(-1)  # float32 loses the rare tokens of a large vocabulary
    numbers_B1 = torch.tensor(numbers, dtype=torch.float64, device=sums_BK.device)[:, None]
    return torch.searchsorted(sums_BK, numbers_B1 * sums_BK[:, -1:], right=True)[:, 0]


def number(seed: int, choice: int, place: int) -> float:
    """In [0, 1), for one token of one text; it depends on no other text nor on how many there are."""
    return (order_key("token", seed, choice, place) >> 12) * 2.0**-52
