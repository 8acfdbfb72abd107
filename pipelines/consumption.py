"""Consumption: a digest chain over every sequence that a run has read, in the order in which it read them.

    c_0 = blake3("stemma-consumption/1")
    c_(i+1) = blake3(c_i || blake3(tokens of slot i as little-endian uint32))

The trainer extends it with what it really fed to the model and seals the last link with the checkpoint; an audit
recomputes it from the shards and the plan, without torch. Equal ends mean equal tokens in equal order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from pipelines.provenance.plan import Plan
from pipelines.shard_reader import Excerpts

START = blake3(b"stemma-consumption/1").digest()
STEPS_AT_ONCE = 64
SLOTS_AT_ONCE = 8192  # drawing thousands of slots together costs 0.4 us each, a batch of 16 alone 25
ROWS_AT_ONCE = 1024  # sequences of which the tokens are held


class TokenReader(Protocol):
    """The part of a shard reader that is needed here."""

    def rows(self, starts: NDArray[np.int64], length: int) -> np.ndarray:
        """[len(starts), length] tokens of the part's stream."""
        ...

    def excerpts(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Excerpts:
        """What documents show in each range of the part's stream."""
        ...


def sequence_hash(tokens: np.ndarray) -> bytes:
    return blake3(np.ascontiguousarray(tokens, dtype="<u4").view(np.uint8).data).digest()


def sequence_hashes(rows_BT: NDArray[np.uint32]) -> tuple[bytes, ...]:
    """:func:`sequence_hash` of each row; uint32, so that nothing is copied."""
    rows_BT = np.ascontiguousarray(rows_BT, "<u4")
    data, size = rows_BT.reshape(-1).view(np.uint8).data, rows_BT.shape[1] * 4
    return tuple([blake3(data[at : at + size]).digest() for at in range(0, len(data), size)])


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
    for part in np.flatnonzero(np.bincount(parts)).tolist():
        chosen = np.flatnonzero(parts == part)
        reader = readers[plan.parts[part].name]
        rows_BT[chosen] = reader.rows(sequences[chosen].astype(np.int64) * plan.stride(part), length + 1)
    return rows_BT


def planned_documents(
    plan: Plan, readers: Mapping[str, TokenReader], parts: np.ndarray, sequences: np.ndarray
) -> Excerpts:
    """What documents show in each of some (part, sequence) pairs, in their order."""
    found = [Excerpts.empty()]
    for part in np.flatnonzero(np.bincount(parts)).tolist():
        chosen = np.flatnonzero(parts == part)
        firsts = sequences[chosen].astype(np.int64) * plan.stride(part)
        seen = readers[plan.parts[part].name].excerpts(firsts, firsts + plan.sequence_length + 1)
        found.append(seen._replace(ranges=chosen[seen.ranges]))
    ranges, ids, starts, lengths = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(ranges, kind="stable")
    return Excerpts(ranges[order], ids[order], starts[order], lengths[order])


def together(plan: Plan, first: int, last: int) -> range:
    """Steps from ``first`` on whose slots are drawn together: a few thousand slots, if there are steps left."""
    return range(first, min(last, first + max(STEPS_AT_ONCE, SLOTS_AT_ONCE // plan.batch_size(first)) - 1) + 1)


def recompute_consumption(plan: Plan, readers: Mapping[str, TokenReader], steps: int) -> str:
    """The chain after ``steps`` steps, as 64 hexadecimal digits, from shards and plan alone.

    ``readers`` are needed for every part of the plan, by its name.
    """
    state = START
    first = 1
    while first <= steps:
        chosen = together(plan, first, steps)
        first = chosen.stop
        parts, sequences = plan.sequences(plan.slots_of_steps(chosen.start, chosen.stop - 1)[0])
        for first_row in range(0, len(parts), ROWS_AT_ONCE):
            some = slice(first_row, first_row + ROWS_AT_ONCE)
            state = extended(state, sequence_hashes(planned_rows(plan, readers, parts[some], sequences[some])))
    return state.hex()
