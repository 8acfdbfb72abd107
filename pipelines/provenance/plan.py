"""The plan of a run: slot -> (phase, part, sequence) and back, in closed form.

A run reads slots 0, 1, 2, …; step N (from 1) reads the slots of its batch. Each phase gives every part (source) a
number of slots. A phase is cut into ``BLOCKS`` blocks, each part's share of a block is fixed by integer division,
and inside a block a keyed permutation mixes the parts. So weights hold evenly over time and a second epoch of a
part never precedes the first by more than a block. Within an epoch a part's sequences come in a permutation keyed
by (seed, phase, part, epoch); in a plan whose epochs go on across phases by (seed, 0, part, epoch).
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from operator import not_
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.provenance.order import ALGORITHM, invert, invert_each, order_key, permute_each
from pipelines.provenance.recipe import canonical_json, digest

BLOCKS = 64


class PlanPart(BaseModel):
    """A source of sequences: its name and how many fixed-length sequences its shards hold.

    A part of the plan is a part of the shards as it lies; or some of its documents, or all in another arrangement,
    and then it has a layout of its own (see ``layouts.py``). Fields that say nothing are not written, so that plans
    that were sealed before there were layouts keep their digests.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    num_sequences: int = Field(ge=1)
    source: str = Field(default="", exclude_if=not_, description="part of the shards, if the name is another")
    layout: str = Field(default="", exclude_if=not_, description="file of the mixture that says where the tokens lie")
    stride: int = Field(
        default=0, exclude_if=not_, ge=0, description="tokens from one sequence to the next; 0: the sequence length"
    )
    fill: int = Field(
        default=0, exclude_if=not_, ge=0, description="token that fills a sequence up where a layout has no document"
    )

    @property
    def shards(self) -> str:
        """Name of the part of the shards."""
        return self.source or self.name


class PlanPhase(BaseModel):
    """How many slots of this phase go to each part, in the order of the parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    slots: list[Annotated[int, Field(ge=0)]]


class Segment(BaseModel):
    """From ``first_step`` on, steps read ``batch_size`` slots each, beginning at ``first_slot``.

    A change of batch size and a skipped range of slots (a loss spike) are both a new segment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    first_step: int = Field(ge=1)
    first_slot: int = Field(ge=0)
    batch_size: int = Field(ge=1)


class Plan(BaseModel):
    """The whole order of a run in a few hundred bytes; sealed with the mixture and with every checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    algorithm: str = ALGORITHM
    seed: int
    sequence_length: int = Field(ge=1, description="targets of a sequence; it holds one token more")
    parts: list[PlanPart]
    phases: list[PlanPhase]
    segments: list[Segment] = Field(description="batch sizes and skips, by first step")
    continued: bool = Field(
        default=False,
        exclude_if=not_,
        description="epochs of a part go on from phase to phase: nothing is read again before all of it was read",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Plan:
        if self.algorithm != ALGORITHM:
            raise ValueError(f"order algorithm {self.algorithm!r} is unknown to this version ({ALGORITHM}).")
        if not self.parts or any(len(phase.slots) != len(self.parts) for phase in self.phases):
            raise ValueError("every phase needs one number of slots for each part.")
        if not self.segments or self.segments[0].first_step != 1:
            raise ValueError("the first segment starts at step 1.")
        if len({part.name for part in self.parts}) < len(self.parts):
            raise ValueError("two parts have the same name; they would be read in the same order.")
        for before, after in pairwise(self.segments):
            if after.first_step <= before.first_step or after.first_slot < self._end(before, after):
                raise ValueError(f"the segment at step {after.first_step} begins before the one before it has ended.")
        if self.segments[-1].first_slot > self.num_slots:
            raise ValueError(f"the last segment begins at slot {self.segments[-1].first_slot} of {self.num_slots}.")
        return self

    @property
    def digest(self) -> str:
        return digest(canonical_json(self.model_dump(mode="json")))

    @property
    def num_slots(self) -> int:
        return sum(sum(phase.slots) for phase in self.phases)

    def stride(self, part: int) -> int:
        """Tokens from the beginning of one sequence of a part to that of the next."""
        return self.parts[part].stride or self.sequence_length

    def batch_size(self, step: int) -> int:
        return self._segment(step).batch_size

    def slots(self, step: int) -> range:
        """The slots that a step (from 1) reads.

        Raises:
            ValueError: if the plan ends before that step.
        """
        segment = self._segment(step)
        first = segment.first_slot + (step - segment.first_step) * segment.batch_size
        if step < 1 or first + segment.batch_size > self.num_slots:
            raise ValueError(f"step {step} lies outside the plan, which has steps 1 to {self.num_steps}.")
        return range(first, first + segment.batch_size)

    @property
    def num_steps(self) -> int:
        last = self.segments[-1]
        return last.first_step - 1 + max(0, self.num_slots - last.first_slot) // last.batch_size

    def slots_of_steps(self, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(slots of steps ``first`` to ``last`` one after another, batch size of each step).

        Raises:
            ValueError: if the plan ends before the last, or begins after the first.
        """
        for step in (first, last):
            self.slots(step)  # or says that there is none
        steps = np.arange(first, last + 1)
        homes = np.searchsorted([segment.first_step for segment in self.segments], steps, side="right") - 1
        sizes = np.array([segment.batch_size for segment in self.segments], np.int64)[homes]
        begins = np.array([segment.first_slot for segment in self.segments], np.int64)[homes]
        begins += (steps - np.array([segment.first_step for segment in self.segments], np.int64)[homes]) * sizes
        return np.repeat(begins - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum()), sizes

    def step_of(self, slot: int) -> int | None:
        """The step that reads a slot, or None where it was skipped or lies behind the last whole batch."""
        return int(self.steps_of(np.array([slot]))[0]) or None

    def steps_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The step that reads each slot, or 0 where none does."""
        steps = np.zeros(len(slots), np.int64)
        for segment, after in zip(self.segments, [*self.segments[1:], None], strict=True):
            chosen = (slots >= segment.first_slot) & (slots < self._end(segment, after))
            steps[chosen] = segment.first_step + (slots[chosen] - segment.first_slot) // segment.batch_size
        return steps

    def sequences(self, slots: np.ndarray | range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(index of the part, index of the sequence in it) for each slot; both int64 [len(slots)].

        Raises:
            ValueError: if a slot lies outside the plan.
        """
        slots = np.asarray(slots, dtype=np.int64).reshape(-1)
        if len(slots) and (slots.min() < 0 or slots.max() >= self.num_slots):
            raise ValueError(f"slots must lie in [0, {self.num_slots}).")
        parts, sequences = np.empty(len(slots), np.int64), np.empty(len(slots), np.int64)
        phases = np.searchsorted(self._phase_ends, slots, side="right")
        for phase in np.unique(phases):
            chosen = np.flatnonzero(phases == phase)
            local = slots[chosen] - (self._phase_ends[phase - 1] if phase else 0)
            parts[chosen], items = self._items(int(phase), local)
            sequences[chosen] = self._sequences_of_items(int(phase), parts[chosen], items)
        return parts, sequences

    def slots_of(self, part: int, sequence: int) -> list[int]:
        """Every slot at which a sequence of a part is read, ascending.

        Raises:
            ValueError: if there is no such part or sequence.
        """
        if not 0 <= part < len(self.parts) or not 0 <= sequence < self.parts[part].num_sequences:
            raise ValueError(f"the plan has no part {part} with a sequence {sequence}.")
        return np.sort(self.readings(part, np.array([sequence]))[1]).tolist()

    def readings(self, part: int, sequences: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(index into ``sequences``, slot) of every reading of some sequences of a part, in no stated order."""
        size = self.parts[part].num_sequences
        which, slots = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for index, phase in enumerate(self.phases):
            begin, end = self._begins[index][part], self._begins[index][part] + phase.slots[part]
            for epoch in range(begin // size, -(-end // size)):
                items = epoch * size + invert(sequences, size, self._epoch_key(index, part, epoch)).astype(np.int64)
                chosen = np.flatnonzero((items >= begin) & (items < end))
                if len(chosen):
                    which.append(chosen)
                    slots.append(self._slots_of_items(index, part, items[chosen] - begin))
        return np.concatenate(which), np.concatenate(slots)

    # -- inside one phase ------------------------------------------------------------------------------------

    @cached_property
    def _phase_ends(self) -> NDArray[np.int64]:
        return np.cumsum([sum(phase.slots) for phase in self.phases], dtype=np.int64)

    @cached_property
    def _begins(self) -> list[list[int]]:
        """By phase and part: how many items of the part were read in earlier phases, if epochs go on across them."""
        found = [[0] * len(self.parts)]
        for phase in self.phases:
            found.append([a + b if self.continued else 0 for a, b in zip(found[-1], phase.slots, strict=True)])
        return found

    def _epoch_key(self, phase: int, part: int, epoch: int) -> int:
        return order_key(self.seed, 0 if self.continued else phase, self.parts[part].name, epoch)

    @cached_property
    def _edges(self) -> list[NDArray[np.int64]]:
        """By phase, [BLOCKS + 1, parts]: how many items of each part lie before each block."""
        steps = np.arange(BLOCKS + 1, dtype=np.int64)[:, None]
        return [steps * np.array(phase.slots, np.int64)[None, :] // BLOCKS for phase in self.phases]

    @cached_property
    def _blocks(self) -> list[tuple[NDArray[np.int64], NDArray[np.int64], list[tuple[int, int]]]]:
        """By phase: the first slot of each block; where each part of each block begins before it is mixed, one after
        another; and the permutation of each block as (size, key).
        """
        found = []
        for phase, edges in enumerate(self._edges):
            starts, shares = edges.sum(axis=1), np.diff(edges, axis=0)
            mixed = np.concatenate([[0], np.cumsum(shares.reshape(-1))])
            keys = [order_key(self.seed, phase, "block", block) for block in range(BLOCKS)]
            found.append((starts, mixed, list(zip(np.diff(starts).tolist(), keys, strict=True))))
        return found

    def _items(self, phase: int, local: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        (starts, begins, domains), edges = self._blocks[phase], self._edges[phase]
        blocks = np.searchsorted(starts, local, side="right") - 1
        used, which = np.unique(blocks, return_inverse=True)
        inner = permute_each(local - starts[blocks], [domains[block] for block in used], which).astype(np.int64)
        mixed = starts[blocks] + inner
        cells = np.searchsorted(begins, mixed, side="right") - 1  # block * parts + part
        parts = cells - blocks * len(self.parts)
        return parts, edges[blocks, parts] + mixed - begins[cells]

    def _sequences_of_items(self, phase: int, parts: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
        items = items + np.array(self._begins[phase], np.int64)[parts]
        sizes = self._sizes[parts]
        epochs = items // sizes
        _, firsts, which = np.unique(epochs * len(self.parts) + parts, return_index=True, return_inverse=True)
        pairs = zip(parts[firsts].tolist(), epochs[firsts].tolist(), strict=True)
        domains = [(self.parts[p].num_sequences, self._epoch_key(phase, p, epoch)) for p, epoch in pairs]
        return permute_each(items - epochs * sizes, domains, which).astype(np.int64)

    @cached_property
    def _sizes(self) -> NDArray[np.int64]:
        return np.array([part.num_sequences for part in self.parts], np.int64)

    def _slots_of_items(self, phase: int, part: int, items: NDArray[np.int64]) -> NDArray[np.int64]:
        (starts, begins, domains), edges = self._blocks[phase], self._edges[phase]
        blocks = np.searchsorted(edges[:, part], items, side="right") - 1
        mixed = begins[blocks * len(self.parts) + part] + items - edges[blocks, part]
        used, which = np.unique(blocks, return_inverse=True)
        local = invert_each(mixed - starts[blocks], [domains[block] for block in used], which).astype(np.int64)
        before = int(self._phase_ends[phase - 1]) if phase else 0
        return before + starts[blocks] + local

    def _end(self, segment: Segment, after: Segment | None) -> int:
        """The slot behind the last one that a segment reads."""
        steps = (after.first_step if after else self.num_steps + 1) - segment.first_step
        return segment.first_slot + steps * segment.batch_size

    def _segment(self, step: int) -> Segment:
        return [s for s in self.segments if s.first_step <= max(step, 1)][-1]
