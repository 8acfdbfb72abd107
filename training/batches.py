"""Batches: what each step feeds to the model, from the plan and a source of sequences.

A batch is defined globally by the plan; each rank takes its slice, so that data do not depend on the world size.
One thread reads ahead: worker processes were slower (144 against 744 million tokens a second) and blur the order.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipelines.consumption import STEPS_AT_ONCE, TokenReader, planned_rows, sequence_hash, steps_slots
from pipelines.provenance.plan import Plan

AHEAD = 2  # batches that wait; more only hold memory


@dataclass(frozen=True)
class Inputs:
    """Some sequences as tensors; for language models the last token of each is only a target."""

    tokens_BT: Tensor  # int64
    weights_BT: Tensor | None = None  # [B, T - 1], how much each target counts; None: all the same
    labels_B: Tensor | None = None  # class of each sequence
    ends_B: Tensor | None = None  # index of the last token of each sequence

    def sliced(self, piece: slice) -> Inputs:
        return Inputs(*(None if t is None else t[piece] for t in self._tensors()))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Inputs:
        if device.type == "cpu":
            return self
        moved = (None if t is None else t.pin_memory().to(device, non_blocking=True) for t in self._tensors())
        return Inputs(*moved)  # type: ignore[arg-type]

    def _tensors(self) -> tuple[Tensor | None, ...]:
        return (self.tokens_BT, self.weights_BT, self.labels_B, self.ends_B)


@dataclass(frozen=True)
class Batch:
    """What one step feeds to one rank."""

    step: int
    inputs: Inputs
    first: int  # place of its first sequence in the global batch
    total: float  # weight of the whole global batch, which the summed loss is divided by
    hashes: tuple[bytes, ...]  # of its sequences, for the consumption chain

    def split(self, size: int) -> Iterator[tuple[int, Inputs]]:
        """Microbatches of at most ``size`` sequences (0: one), each with its place in the global batch."""
        num_rows = len(self.inputs.tokens_BT)
        for start in range(0, num_rows, size or num_rows):
            yield self.first + start, self.inputs.sliced(slice(start, start + (size or num_rows)))


class Source(Protocol):
    """Where sequences come from: token shards, or examples of a fine-tune."""

    def rows(self, parts: np.ndarray, sequences: np.ndarray) -> list[np.ndarray]:
        """Tokens of each (part, sequence), exactly as they lie in the shards."""
        ...

    def collate(self, rows: list[np.ndarray], sequences: np.ndarray) -> Inputs: ...

    def total(self, sequences: np.ndarray) -> float:
        """Summed weight of all targets of these sequences."""
        ...


@dataclass(frozen=True)
class ShardSource:
    """Fixed-length sequences of token shards; every target counts 1."""

    plan: Plan
    readers: Mapping[str, TokenReader]

    def rows(self, parts: np.ndarray, sequences: np.ndarray) -> list[np.ndarray]:
        return list(planned_rows(self.plan, self.readers, parts, sequences))

    def collate(self, rows: list[np.ndarray], sequences: np.ndarray) -> Inputs:
        del sequences
        return Inputs(torch.from_numpy(np.stack(rows).astype(np.int64)))

    def total(self, sequences: np.ndarray) -> float:
        return float(len(sequences) * self.plan.sequence_length)


class Batches:
    """The batches of one rank."""

    def __init__(self, plan: Plan, source: Source, rank: int = 0, world_size: int = 1) -> None:
        uneven = [s.batch_size for s in plan.segments if s.batch_size % world_size]
        if uneven:
            raise ValueError(f"batch size {uneven[0]} cannot be shared out evenly over {world_size} processes.")
        self.plan, self.source, self.rank, self.world_size = plan, source, rank, world_size

    def batch(self, step: int) -> Batch:
        """One step alone, for replay."""
        return next(self._read(step, step))

    def steps(self, first: int, last: int) -> Iterator[Batch]:
        """Steps ``first`` to ``last``, read ahead by one thread."""
        ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()

        def put(item: Batch | BaseException | None) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(item, timeout=0.5)
                    return

        def read() -> None:
            try:
                for batch in self._read(first, last):
                    put(batch)
                    if stop.is_set():
                        return
                put(None)
            except BaseException as error:  # noqa: BLE001 (travels to the consumer)
                put(error)

        thread = threading.Thread(target=read, daemon=True, name="batches")
        thread.start()
        try:
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def _read(self, first: int, last: int) -> Iterator[Batch]:
        for begin in range(first, last + 1, STEPS_AT_ONCE):
            steps = range(begin, min(begin + STEPS_AT_ONCE, last + 1))
            parts, sequences = self.plan.sequences(steps_slots(self.plan, steps))
            offset = 0
            for step in steps:
                size = self.plan.batch_size(step)
                yield self._cut(step, parts[offset : offset + size], sequences[offset : offset + size])
                offset += size

    def _cut(self, step: int, parts: np.ndarray, sequences: np.ndarray) -> Batch:
        share = len(parts) // self.world_size
        first = self.rank * share
        mine = slice(first, first + share)
        rows = self.source.rows(parts[mine], sequences[mine])
        hashes = tuple(sequence_hash(row) for row in rows)
        inputs = self.source.collate(rows, sequences[mine])
        return Batch(step, inputs, first, self.source.total(sequences), hashes)
