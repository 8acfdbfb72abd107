"""The plan of a run: slot -> (phase, part, sequence) and back, in closed form.

A run reads slots 0, 1, 2, …; step N (from 1) reads the slots of its batch. Each phase gives every part (source) a
number of slots. A phase is cut into ``BLOCKS`` blocks, each part's share of a block is fixed by integer division,
and inside a block a keyed permutation mixes the parts. So weights hold evenly over time and a second epoch of a
part never precedes the first by more than a block. Within an epoch a part's sequences come in a permutation keyed
by (seed, phase, part, epoch).
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.provenance.order import ALGORITHM, invert, order_key, permute
from pipelines.provenance.recipe import canonical_json, digest

BLOCKS = 64


class PlanPart(BaseModel):
    """A source of sequences: its name and how many fixed-length sequences its shards hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    num_sequences: int = Field(ge=1)


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

    def step_of(self, slot: int) -> int | None:
        """The step that reads a slot, or None where it was skipped or lies behind the last whole batch."""
        for segment, after in zip(self.segments, [*self.segments[1:], None], strict=True):
            if segment.first_slot <= slot < self._end(segment, after):
                return segment.first_step + (slot - segment.first_slot) // segment.batch_size
        return None

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
        found = []
        num_sequences = self.parts[part].num_sequences
        for index, phase in enumerate(self.phases):
            for epoch in range(-(-phase.slots[part] // num_sequences)):
                key = order_key(self.seed, index, self.parts[part].name, epoch)
                item = epoch * num_sequences + int(invert(np.array([sequence]), num_sequences, key)[0])
                if item < phase.slots[part]:
                    found.append(self._slot_of_item(index, part, item))
        return sorted(found)

    # -- inside one phase ------------------------------------------------------------------------------------

    @cached_property
    def _phase_ends(self) -> NDArray[np.int64]:
        return np.cumsum([sum(phase.slots) for phase in self.phases], dtype=np.int64)

    @cached_property
    def _edges(self) -> list[NDArray[np.int64]]:
        """By phase, [BLOCKS + 1, parts]: how many items of each part lie before each block."""
        steps = np.arange(BLOCKS + 1, dtype=np.int64)[:, None]
        return [steps * np.array(phase.slots, np.int64)[None, :] // BLOCKS for phase in self.phases]

    def _items(self, phase: int, local: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        edges = self._edges[phase]
        starts = edges.sum(axis=1)  # first slot of each block
        blocks = np.searchsorted(starts, local, side="right") - 1
        parts, items = np.empty(len(local), np.int64), np.empty(len(local), np.int64)
        for block in np.unique(blocks):
            chosen = np.flatnonzero(blocks == block)
            size = int(starts[block + 1] - starts[block])
            mixed = permute(local[chosen] - starts[block], size, order_key(self.seed, phase, "block", int(block)))
            ends = np.cumsum(edges[block + 1] - edges[block])
            found = np.searchsorted(ends, mixed.astype(np.int64), side="right")
            begins = ends - (edges[block + 1] - edges[block])
            parts[chosen] = found
            items[chosen] = edges[block][found] + mixed.astype(np.int64) - begins[found]
        return parts, items

    def _sequences_of_items(self, phase: int, parts: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.int64]:
        sizes = np.array([p.num_sequences for p in self.parts], np.int64)[parts]
        epochs = items // sizes
        out = np.empty(len(items), np.int64)
        order = np.lexsort((epochs, parts))
        changes = np.flatnonzero(np.diff(parts[order]) | np.diff(epochs[order])) + 1
        for chosen in np.split(order, changes) if len(order) else ():
            part, epoch = self.parts[parts[chosen[0]]], int(epochs[chosen[0]])
            key = order_key(self.seed, phase, part.name, epoch)
            out[chosen] = permute(items[chosen] % part.num_sequences, part.num_sequences, key).astype(np.int64)
        return out

    def _slot_of_item(self, phase: int, part: int, item: int) -> int:
        edges = self._edges[phase]
        block = int(np.searchsorted(edges[:, part], item, side="right")) - 1
        starts = edges.sum(axis=1)
        size = int(starts[block + 1] - starts[block])
        counts = edges[block + 1] - edges[block]
        mixed = int(counts[:part].sum()) + item - int(edges[block, part])
        local = invert(np.array([mixed]), size, order_key(self.seed, phase, "block", block))[0]
        before = int(self._phase_ends[phase - 1]) if phase else 0
        return before + int(starts[block]) + int(local)

    def _end(self, segment: Segment, after: Segment | None) -> int:
        """The slot behind the last one that a segment reads."""
        steps = (after.first_step if after else self.num_steps + 1) - segment.first_step
        return segment.first_slot + steps * segment.batch_size

    def _segment(self, step: int) -> Segment:
        return [s for s in self.segments if s.first_step <= max(step, 1)][-1]
