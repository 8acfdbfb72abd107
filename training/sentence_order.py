"""Sentence order: are two halves of a document in their order, or exchanged? (ALBERT: Lan et al. 2020,
arXiv:1909.11942, section 3.1.)

Asked once a sequence, of its longest stretch of one document: a mask token, one half, an end of text, the other half.
What stands at the mask is <|endoftext|> if the order is right and <|pad|> if not, so the answer is one more hidden token:
no head of its own, and the export stays what transformers loads. The last two tokens of the stretch make room. Halves
are exchanged by (seed, step, place in the batch). BERT's other question, whether the second half comes from another
document (arXiv:1810.04805, section 3.1), would show documents in steps that the plan does not read them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.provenance.order import order_key
from training.heldout import DECIMALS
from training.masking import Hidden

if TYPE_CHECKING:
    import torch

    from training.models.encoder import Encoder

I64 = NDArray[np.int64]
ADDED, LEAST = 2, 16  # tokens: the mask and the end of text; shorter stretches have no order worth asking for
BATCH = 32  # held-out documents of one forward pass


class Asked(NamedTuple):
    """Sequences with the question, before anything else is hidden."""

    tokens_BT: I64
    places_B: I64  # of the answer
    truths_B: I64
    is_asked_B: NDArray[np.bool_]  # not where every document is too short


@dataclass(frozen=True)
class SentenceOrder:
    """Asks the question.

    Args:
        weight: of an answer, beside the mean over the hidden tokens of a sequence.
        mask_id: stands where the answer is.
        end_id: <|endoftext|>, between the halves and as the answer that they are in order.
        pad_id: the answer that they are exchanged.
        seed: of the recipe.
    """

    weight: float
    mask_id: int
    end_id: int
    pad_id: int
    seed: int

    def asked(self, tokens_BT: I64, documents_BT: I64, step: int, first: int) -> Asked:
        """``first``: place of the first of these sequences in the global batch of the step."""
        num_rows = len(tokens_BT)
        found = Asked(
            tokens_BT.copy(), np.zeros(num_rows, np.int64), np.full(num_rows, self.end_id), np.zeros(num_rows, bool)
        )
        for row, tokens_T in enumerate(tokens_BT):
            start, stop = _longest(documents_BT[row])
            if stop - start < LEAST:
                continue
            exchanged = bool(order_key("exchanged", self.seed, step, first + row) & 1)
            found.tokens_BT[row, start:stop] = self._question(tokens_T[start : stop - ADDED], exchanged)
            found.places_B[row], found.is_asked_B[row] = start, True
            found.truths_B[row] = self.pad_id if exchanged else self.end_id
        return found

    def _question(self, tokens_T: I64, exchanged: bool) -> I64:
        halves = np.array_split(tokens_T, 2)
        one, other = halves[::-1] if exchanged else halves
        return np.concatenate([[self.mask_id], one, [self.end_id], other])

    def joined(self, hidden: Hidden, asked: Asked) -> Hidden:
        """The answer as one more hidden token behind the others; where none is asked for it weighs nothing."""
        rows = np.flatnonzero(asked.is_asked_B)
        tokens_BT, weights_BK = hidden.tokens_BT.copy(), hidden.weights_BK.copy()
        tokens_BT[rows, asked.places_B[rows]] = self.mask_id
        # the answer's own place may be among the hidden ones: there is nothing else to guess
        weights_BK[(hidden.places_BK == asked.places_B[:, None]) & asked.is_asked_B[:, None]] = 0.0
        answers_B = asked.is_asked_B * np.float32(self.weight * hidden.places_BK.shape[1])
        return Hidden(
            tokens_BT,
            np.column_stack([hidden.places_BK, asked.places_B]),
            np.column_stack([hidden.truths_BK, asked.truths_B]),
            np.column_stack([weights_BK, answers_B]).astype(np.float32),
        )

    def accuracy(self, network: Encoder, documents: Sequence[I64], length: int, device: torch.device) -> float | None:
        """Share of held-out documents whose order is told right; half of them are, by chance. None: all are too short."""
        import torch

        chosen, right = [each[:length] for each in documents if len(each) >= LEAST], 0
        for start in range(0, len(chosen), BATCH):
            rows = chosen[start : start + BATCH]
            lengths = np.array([len(row) for row in rows])
            tokens_BT = np.full((len(rows), lengths.max()), self.pad_id, np.int64)
            for index, row in enumerate(rows):
                tokens_BT[index, : len(row)] = row
            numbers_BT = np.where(np.arange(lengths.max()) < lengths[:, None], 0, -1)
            asked = self.asked(tokens_BT, numbers_BT, 0, start)
            with torch.no_grad():
                x_BTD = network.model(_on(asked.tokens_BT, device), lengths_B=_on(lengths, device))
                logits_BV = network.head(x_BTD[:, 0])
            exchanged = (logits_BV[:, self.pad_id] > logits_BV[:, self.end_id]).cpu().numpy()
            right += int((exchanged == (asked.truths_B == self.pad_id)).sum())
        return round(right / len(chosen), DECIMALS) if chosen else None


def _on(array: I64, device: torch.device) -> Any:
    import torch

    return torch.from_numpy(array).to(device)


def _longest(numbers_T: I64) -> tuple[int, int]:
    """[start, stop) of the longest stretch of one document, the first of equals; what only fills up is none."""
    borders = np.flatnonzero(np.diff(numbers_T)) + 1
    starts, stops = np.concatenate([[0], borders]), np.concatenate([borders, [len(numbers_T)]])
    lengths = np.where(numbers_T[starts] >= 0, stops - starts, 0)
    best = int(lengths.argmax())
    return int(starts[best]), int(starts[best] + lengths[best])
