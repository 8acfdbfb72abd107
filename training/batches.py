"""Batches: what each step feeds to the model, from the plan and a source of sequences.

A batch is defined globally by the plan; each rank takes its slice, so that data do not depend on the world size.
One thread reads ahead: worker processes were slower (144 against 744 million tokens a second) and blur the order.
Small batches are read some steps at a time, since a call of numpy costs more than a sequence.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from pipelines.consumption import (
    TokenReader,
    planned_documents,
    planned_rows,
    sequence_hash,
    sequence_hashes,
    together,
)
from pipelines.layouts import LaidOut
from pipelines.provenance.plan import Plan
from pipelines.shard_reader import Excerpts

AHEAD = 2  # readings that wait; more only hold memory
ROWS_AT_ONCE = 256  # sequences of one reading, if a batch is not larger: a megabyte at 1,024 tokens


@dataclass(frozen=True)
class Inputs:
    """Some sequences as tensors; for language models the last token of each is only a target."""

    tokens_BT: Tensor  # int64
    weights_BT: Tensor | None = None  # [B, T - 1], how much each target counts; None: all the same
    labels_B: Tensor | None = None  # class of each sequence
    ends_B: Tensor | None = None  # index of the last token of each sequence
    places_BK: Tensor | None = None  # where tokens are hidden from an encoder; weights are then [B, K]
    truths_BK: Tensor | None = None  # and which they are
    documents_BT: Tensor | None = None  # number of each token's document in its sequence; None: nobody asks

    def sliced(self, piece: slice) -> Inputs:
        return Inputs(*(None if t is None else t[piece] for t in self.tensors()))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Inputs:
        if device.type == "cpu":
            return self
        moved = (None if t is None else t.pin_memory().to(device, non_blocking=True) for t in self.tensors())
        return Inputs(*moved)  # type: ignore[arg-type]

    def tensors(self) -> tuple[Tensor | None, ...]:
        """What an objective is called with."""
        return (self.tokens_BT, self.weights_BT, self.labels_B, self.ends_B, self.places_BK, self.truths_BK,
                self.documents_BT)  # fmt: skip


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

    def rows(self, parts: np.ndarray, sequences: np.ndarray) -> Any:
        """Tokens of each (part, sequence), exactly as they lie in the shards: uint32 [n, T + 1], or a list of arrays."""
        ...

    def collate(self, rows: Any, sequences: np.ndarray, parts: np.ndarray | None = None) -> Inputs:
        """The tensors of some rows, in their order."""
        ...

    def total(self, sequences: np.ndarray, parts: np.ndarray) -> float:
        """Summed weight of all targets of these sequences."""
        ...


@dataclass(frozen=True)
class ShardSource:
    """Fixed-length sequences of token shards; every target counts 1, and what only fills a sequence up nothing.

    ``apart``: batches say which document each token belongs to, so that none sees another one.
    """

    plan: Plan
    readers: Mapping[str, TokenReader]
    apart: bool = False

    def rows(self, parts: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        return planned_rows(self.plan, self.readers, parts, sequences)

    def collate(self, rows: np.ndarray, sequences: np.ndarray, parts: np.ndarray | None = None) -> Inputs:
        tokens_BT = torch.from_numpy(rows.astype(np.int64))
        weights_BT = documents_BT = None
        if self.packed:
            weights_BT = (tokens_BT[:, 1:] != next(iter(self.packed.values())).fill).float()
        if self.apart:
            assert parts is not None
            documents_BT = torch.from_numpy(document_numbers(self.documents(parts, sequences), *rows.shape))
        return Inputs(tokens_BT, weights_BT, documents_BT=documents_BT)

    def documents(self, parts: np.ndarray, sequences: np.ndarray) -> Excerpts:
        """What documents show in each (part, sequence): lineage, and boundaries for attention inside documents."""
        return planned_documents(self.plan, self.readers, parts, sequences)

    def total(self, sequences: np.ndarray, parts: np.ndarray) -> float:
        length, filled = self.plan.sequence_length, 0
        for part, stream in self.packed.items():
            filled += stream.num_filled(sequences[parts == part] * self.plan.stride(part), length + 1)
        return float(len(sequences) * length - filled)

    @cached_property
    def packed(self) -> dict[int, LaidOut]:
        """Parts of the plan whose sequences may be filled up; all by the same token, which no text has."""
        streams = {index: self.readers[part.name] for index, part in enumerate(self.plan.parts) if part.stride}
        return {index: stream for index, stream in streams.items() if isinstance(stream, LaidOut)}


class Batches:
    """The batches of one rank."""

    def __init__(self, plan: Plan, source: Source, rank: int = 0, world_size: int = 1) -> None:
        uneven = [s.batch_size for s in plan.segments if s.batch_size % world_size]
        if uneven:
            raise ValueError(f"batch size {uneven[0]} cannot be shared out evenly over {world_size} processes.")
        self.plan, self.source, self.rank, self.world_size = plan, source, rank, world_size

    def batch(self, step: int) -> Batch:
        """One step alone, for replay."""
        return next(self._read(step, step))[0]

    def steps(self, first: int, last: int) -> Iterator[Batch]:
        """Steps ``first`` to ``last``, read ahead by one thread."""
        ready: queue.Queue[list[Batch] | BaseException | None] = queue.Queue(AHEAD)
        stop = threading.Event()

        def put(item: list[Batch] | BaseException | None) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(item, timeout=0.5)
                    return

        def read() -> None:
            try:
                for batches in self._read(first, last):
                    put(batches)
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
                yield from item
        finally:
            stop.set()
            thread.join()

    def _read(self, first: int, last: int) -> Iterator[list[Batch]]:
        self.plan.slots(last)  # a plan that ends too early is found before anything is read
        while first <= last:
            steps = together(self.plan, first, last)
            first = steps.stop
            slots, sizes = self.plan.slots_of_steps(steps.start, steps.stop - 1)
            parts, sequences = self.plan.sequences(slots)
            ends = np.cumsum(sizes)
            for low, high in self._grouped(ends):
                piece = slice(int(ends[low] - sizes[low]), int(ends[high - 1]))
                yield self._cut(steps[low], sizes[low:high], parts[piece], sequences[piece])

    def _grouped(self, ends: np.ndarray) -> Iterator[tuple[int, int]]:
        """[low, high) of steps that are read together, given how many slots there are to the end of each."""
        low, before = 0, 0
        while low < len(ends):
            limit = before + ROWS_AT_ONCE * self.world_size
            high = max(low + 1, int(np.searchsorted(ends, limit, side="right")))
            yield low, high
            low, before = high, int(ends[high - 1])

    def _cut(self, first: int, sizes: np.ndarray, parts: np.ndarray, sequences: np.ndarray) -> list[Batch]:
        """The batches of this rank in some steps, whose (part, sequence) pairs of all ranks are given."""
        shares = sizes // self.world_size
        places = np.repeat(np.cumsum(sizes) - sizes + self.rank * shares - np.cumsum(shares) + shares, shares)
        places += np.arange(len(places))
        mine, homes = sequences[places], parts[places]
        rows = self.source.rows(homes, mine)
        hashes = sequence_hashes(rows) if isinstance(rows, np.ndarray) else tuple(sequence_hash(row) for row in rows)
        batches, read, before = [], 0, 0
        for step, (size, share) in enumerate(zip(sizes.tolist(), shares.tolist(), strict=True), first):
            some, whole = slice(read, read + share), slice(before, before + size)
            inputs = self.source.collate(rows[some], mine[some], homes[some])
            total = self.source.total(sequences[whole], parts[whole])
            batches.append(Batch(step, inputs, self.rank * share, total, hashes[some]))
            read, before = some.stop, whole.stop
        return batches


def document_numbers(seen: Excerpts, num_rows: int, width: int) -> np.ndarray:
    """int64 [num_rows, width]: in each sequence its documents numbered from 0, -1 for what only fills it up."""
    before = np.cumsum(seen.lengths) - seen.lengths
    firsts = np.searchsorted(seen.ranges, np.arange(num_rows))  # its first excerpt; every sequence has one
    numbers = np.arange(len(seen.ranges)) - firsts[seen.ranges]
    places = seen.ranges * width + before - before[firsts][seen.ranges]
    out = np.full(num_rows * width, -1, np.int64)
    out[np.repeat(places - before, seen.lengths) + np.arange(seen.lengths.sum())] = np.repeat(numbers, seen.lengths)
    return out.reshape(num_rows, width)
