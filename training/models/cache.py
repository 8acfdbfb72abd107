"""The cache of a decoder: keys and values of what its rows have read, so that no token is read twice.

Letters of shapes: B rows, T new tokens, S tokens of the longest row, K key heads, C channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor


@dataclass
class KVCache:
    """Keys and values by block, [B, K, room, C]; the first ``length`` places are taken.

    Room doubles when it is full: a token is written where it stays, and all is copied once in as many tokens as there are.

    Args:
        starts_B: for rows of unequal length padded on the left: where each one begins.
    """

    starts_B: Tensor | None = None
    length: int = 0
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Append new tokens of one block; everything of that block comes back."""
        end = self.length + keys_BKTC.shape[2]
        for kept, new_BKTC in ((self.keys, keys_BKTC), (self.values, values_BKTC)):
            if layer == len(kept):
                kept.append(new_BKTC)
                continue
            room = kept[layer].shape[2]
            if end > room:
                kept[layer] = F.pad(kept[layer], (0, 0, 0, max(end, 2 * room) - room))
            kept[layer].narrow(2, self.length, end - self.length).copy_(new_BKTC)
        return self.keys[layer].narrow(2, 0, end), self.values[layer].narrow(2, 0, end)

    def lengths(self) -> list[int]:
        """Tokens that each row has read."""
        if self.starts_B is None:
            return [self.length] * len(self.keys[0])
        return (self.length - self.starts_B).tolist()

    def keep(self, rows: list[int]) -> None:
        """Only these rows, in this order, and no place on the left where none of them has a token."""
        lengths = [self.lengths()[row] for row in rows]
        unused = self.length - max(lengths)
        for kept in (self.keys, self.values):
            kept[:] = [each[rows, :, unused : self.length] for each in kept]
        self.length -= unused
        self.starts_B = starts(lengths, self.keys[0].device)

    def join(self, other: KVCache) -> None:
        """More rows behind these; the shorter ones are padded on the left.

        Positions count from a row's beginning, so that keys stay as they are, wherever they lie.
        """
        length = max(self.length, other.length)
        self.starts_B = starts(self.lengths() + other.lengths(), self.keys[0].device)
        for mine, theirs in ((self.keys, other.keys), (self.values, other.values)):
            mine[:] = [
                torch.cat([_widened(a, self.length, length), _widened(b, other.length, length)])
                for a, b in zip(mine, theirs, strict=True)
            ]
        self.length = length


def starts(lengths: list[int], device: torch.device) -> Tensor | None:
    """Where rows of these lengths begin that end at the same place; None: all at the first."""
    longest = max(lengths)
    return None if min(lengths) == longest else torch.tensor([longest - n for n in lengths], device=device)


def _widened(kept_BKSC: Tensor, length: int, wanted: int) -> Tensor:
    return F.pad(kept_BKSC[:, :, :length], (0, 0, wanted - length, 0))
