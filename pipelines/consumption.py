"""Consumption: a digest chain over every sequence that a run has read, in the order in which it read them.

    c_0 = blake3("stemma-consumption/1")
    c_(i+1) = blake3(c_i || blake3(tokens of slot i as little-endian uint32))

The trainer extends it with what it really fed to the model and seals the last link with the checkpoint; an audit
recomputes it from the shards and the plan, without torch. Equal ends mean equal tokens in equal order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from pipelines.provenance.plan import Plan

START = blake3(b"stemma-consumption/1").digest()
STEPS_AT_ONCE = 64  # drawing thousands of positions together costs 8 us each, a batch of 16 alone 131 us


class TokenReader(Protocol):
    """The part of a shard reader that is needed here."""

    def rows(self, starts: NDArray[np.int64], length: int) -> np.ndarray:
        """[len(starts), length] tokens of the part's stream."""
        ...


def sequence_hash(tokens: np.ndarray) -> bytes:
    return blake3(np.ascontiguousarray(tokens, dtype="<u4").view(np.uint8).data).digest()


def extended(state: bytes, hashes: Iterable[bytes]) -> bytes:
    """The chain after some more sequences, given by their hashes in slot order."""
    for each in hashes:
        state = blake3(state + each).digest()
    return state


def planned_rows(
    plan: Plan, readers: Mapping[str, TokenReader], parts: np.ndarray, sequences: np.ndarray
) -> NDArray[np.uint32]:
    """Tokens of (part, sequence) pairs, [n, T + 1], in their order."""
    length = plan.sequence_length
    rows_BT = np.empty((len(parts), length + 1), np.uint32)
    for part in np.unique(parts):
        chosen = np.flatnonzero(parts == part)
        reader = readers[plan.parts[int(part)].name]
        rows_BT[chosen] = reader.rows(sequences[chosen].astype(np.int64) * length, length + 1)
    return rows_BT


def steps_slots(plan: Plan, steps: Sequence[int]) -> NDArray[np.int64]:
    """The slots of several steps, one after another."""
    return np.concatenate([np.asarray(plan.slots(step), np.int64) for step in steps])


def recompute_consumption(plan: Plan, readers: Mapping[str, TokenReader], steps: int) -> str:
    """The chain after ``steps`` steps, as 64 hexadecimal digits, from shards and plan alone.

    ``readers`` are needed for every part of the plan, by its name.
    """
    state = START
    for first in range(1, steps + 1, STEPS_AT_ONCE):
        chosen = range(first, min(first + STEPS_AT_ONCE, steps + 1))
        parts, sequences = plan.sequences(steps_slots(plan, chosen))
        state = extended(state, (sequence_hash(row) for row in planned_rows(plan, readers, parts, sequences)))
    return state.hex()
