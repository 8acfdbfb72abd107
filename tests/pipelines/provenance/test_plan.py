"""The plan: every slot has one sequence and every sequence knows its slots, in closed form."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.provenance.plan import BLOCKS, Plan, PlanPart, PlanPhase, Segment


def plan(
    sizes: list[int], phases: list[list[int]], segments: list[tuple[int, int, int]] | None = None, seed: int = 7
) -> Plan:
    return Plan(
        seed=seed,
        sequence_length=64,
        parts=[PlanPart(name=f"source-{n}/1", num_sequences=size) for n, size in enumerate(sizes)],
        phases=[PlanPhase(slots=slots) for slots in phases],
        segments=[Segment(first_step=a, first_slot=b, batch_size=c) for a, b, c in segments or [(1, 0, 1)]],
    )


@st.composite
def small_plans(draw) -> Plan:
    num_parts = draw(st.integers(1, 4))
    sizes = draw(st.lists(st.integers(1, 25), min_size=num_parts, max_size=num_parts))
    shares = st.lists(st.integers(0, 70), min_size=num_parts, max_size=num_parts)
    phases = draw(st.lists(shares, min_size=1, max_size=3))
    total = sum(map(sum, phases))
    segments, step, slot = [], 1, draw(st.integers(0, min(3, total)))
    for _ in range(draw(st.integers(1, 3))):
        batch, steps = draw(st.integers(1, 9)), draw(st.integers(1, 5))
        segments.append((step, slot, batch))
        step, slot = step + steps, slot + steps * batch + draw(st.integers(0, 7))
        if slot > total:
            break
    return plan(sizes, phases, segments, draw(st.integers(0, 9)))


@settings(max_examples=30, deadline=None)
@given(small_plans())
def test_slots_and_sequences_lead_to_each_other_exhaustively(a_plan):
    parts, sequences = a_plan.sequences(range(a_plan.num_slots))
    read: dict[tuple[int, int], list[int]] = {}
    for slot, pair in enumerate(zip(parts.tolist(), sequences.tolist(), strict=True)):
        read.setdefault(pair, []).append(slot)
    for part, source in enumerate(a_plan.parts):
        for sequence in range(source.num_sequences):
            assert a_plan.slots_of(part, sequence) == read.get((part, sequence), [])
    for part in range(len(a_plan.parts)):
        assert int((parts == part).sum()) == sum(phase.slots[part] for phase in a_plan.phases)


@settings(max_examples=60, deadline=None)
@given(small_plans())
def test_steps_and_slots_lead_to_each_other_exhaustively(a_plan):
    step_of = {slot: step for step in range(1, a_plan.num_steps + 1) for slot in a_plan.slots(step)}
    assert len(step_of) == sum(a_plan.batch_size(step) for step in range(1, a_plan.num_steps + 1))  # no slot twice
    assert [a_plan.step_of(slot) for slot in range(-2, a_plan.num_slots + 2)] == [
        step_of.get(slot) for slot in range(-2, a_plan.num_slots + 2)
    ]
    for first in range(1, a_plan.num_steps + 1):
        slots, sizes = a_plan.slots_of_steps(first, a_plan.num_steps)
        steps = range(first, a_plan.num_steps + 1)
        assert slots.tolist() == [slot for step in steps for slot in a_plan.slots(step)]
        assert sizes.tolist() == [a_plan.batch_size(step) for step in steps]
    for step in (0, -1, a_plan.num_steps + 1):
        with pytest.raises(ValueError, match="outside the plan"):
            a_plan.slots(step)
        with pytest.raises(ValueError, match="outside the plan"):
            a_plan.slots_of_steps(step, step)


@settings(max_examples=30, deadline=None)
@given(small_plans(), st.lists(st.integers(0, 10**6), max_size=12))
def test_slots_are_answered_in_any_order_and_alone(a_plan, wanted):
    slots = [slot % a_plan.num_slots for slot in wanted] if a_plan.num_slots else []
    parts, sequences = a_plan.sequences(range(a_plan.num_slots))
    some_parts, some_sequences = a_plan.sequences(np.array(slots, np.int64))
    assert some_parts.tolist() == [int(parts[s]) for s in slots]
    assert some_sequences.tolist() == [int(sequences[s]) for s in slots]


def test_golden_vectors_freeze_the_plan():
    a_plan = Plan(
        seed=7, sequence_length=64,
        parts=[PlanPart(name="a/1", num_sequences=5), PlanPart(name="b/1", num_sequences=300)],
        phases=[PlanPhase(slots=[12, 200]), PlanPhase(slots=[0, 50])],
        segments=[Segment(first_step=1, first_slot=0, batch_size=8)],
    )  # fmt: skip
    parts, sequences = a_plan.sequences(range(16))
    assert parts.tolist() == [1] * 15 + [0]
    assert sequences.tolist() == [79, 252, 144, 46, 243, 186, 182, 283, 28, 274, 192, 203, 99, 148, 238, 2]
    assert a_plan.sequences(range(212, 220))[1].tolist() == [13, 104, 0, 242, 101, 178, 181, 147]
    assert a_plan.slots_of(0, 3) == [35, 175, 194]
    assert a_plan.digest == "a08d7e4345f7e322388c6484fc244471fdaf90ea73843f90628443b70f87a9ec"


def test_weights_hold_evenly_over_time():
    a_plan = plan([500, 500, 500], [[6400, 3200, 640]])
    parts, _ = a_plan.sequences(range(a_plan.num_slots))
    for block in parts.reshape(BLOCKS, -1):
        assert Counter(block.tolist()) == {0: 100, 1: 50, 2: 10}


def test_weights_that_do_not_divide_are_never_more_than_one_off_in_a_block():
    slots = [1000, 333, 7]
    a_plan = plan([50, 50, 50], [slots])
    parts, _ = a_plan.sequences(range(a_plan.num_slots))
    for end in range(1, BLOCKS + 1):
        shares = [count * end // BLOCKS for count in slots]
        assert np.bincount(parts[: sum(shares)], minlength=3).tolist() == shares


def test_a_second_epoch_never_precedes_the_first_by_more_than_a_block():
    a_plan = plan([130, 40], [[390, 500]])
    block = -(-a_plan.num_slots // BLOCKS)
    for part, source in enumerate(a_plan.parts):
        slots = [a_plan.slots_of(part, sequence) for sequence in range(source.num_sequences)]
        assert max(map(len, slots)) - min(map(len, slots)) <= 1
        for epoch in range(1, max(map(len, slots))):
            first_again = min(found[epoch] for found in slots if len(found) > epoch)
            last_before = max(found[epoch - 1] for found in slots)
            assert last_before - first_again < block


@settings(max_examples=30, deadline=None)
@given(small_plans())
def test_epochs_that_go_on_across_phases_read_everything_once_before_anything_twice(a_plan):
    """The phases change the weights, and each part is read as if it were alone and had no phases."""
    a_plan = a_plan.model_copy(update={"continued": True})
    parts, sequences = a_plan.sequences(range(a_plan.num_slots))
    read: dict[tuple[int, int], list[int]] = {}
    for slot, pair in enumerate(zip(parts.tolist(), sequences.tolist(), strict=True)):
        read.setdefault(pair, []).append(slot)
    for part, source in enumerate(a_plan.parts):
        total = sum(phase.slots[part] for phase in a_plan.phases)
        times = np.bincount(sequences[parts == part], minlength=source.num_sequences)
        assert set(times.tolist()) <= {total // source.num_sequences, -(-total // source.num_sequences)}
        for sequence in range(source.num_sequences):
            assert a_plan.slots_of(part, sequence) == read.get((part, sequence), [])


def test_a_single_phase_is_read_alike_whether_epochs_go_on_or_not():
    a_plan = plan([30, 7], [[75, 20]])
    gone_on = a_plan.model_copy(update={"continued": True})
    for one, other in zip(a_plan.sequences(range(95)), gone_on.sequences(range(95)), strict=True):
        assert one.tolist() == other.tolist()
    assert a_plan.digest != gone_on.digest


def test_golden_vectors_freeze_epochs_across_phases():
    a_plan = plan([5, 300], [[7, 200], [8, 250]]).model_copy(update={"continued": True})
    assert a_plan.sequences(range(207, 217))[1].tolist() == [251, 30, 71, 12, 187, 239, 209, 121, 116, 160]
    assert a_plan.slots_of(0, 3) == [57, 206, 335]


def test_what_a_plan_does_not_use_is_not_written():
    """Plans that were sealed before there were layouts keep their digests."""
    a_plan = plan([5], [[50]])
    told = a_plan.model_dump(mode="json")
    assert set(told) == {"algorithm", "seed", "sequence_length", "parts", "phases", "segments"}
    assert set(told["parts"][0]) == {"name", "num_sequences"}
    part = PlanPart(name="a/1[de]", num_sequences=5, source="a/1", layout="layouts/0.arrow", stride=65, fill=1)
    laid = a_plan.model_copy(update={"parts": [part], "continued": True})
    assert Plan.model_validate_json(laid.model_dump_json()) == laid
    assert (laid.stride(0), a_plan.stride(0)) == (65, 64)
    assert (part.shards, a_plan.parts[0].shards) == ("a/1", "source-0/1")


def test_epochs_and_phases_and_seeds_are_ordered_anew():
    a_plan = plan([100], [[200], [100]])
    sequences = a_plan.sequences(range(300))[1]
    epochs = [sequences[:100].tolist(), sequences[100:200].tolist(), sequences[200:].tolist()]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert plan([100], [[200], [100]], seed=8).sequences(range(100))[1].tolist() != epochs[0]


def test_a_part_keeps_its_order_when_another_part_joins():
    """Its permutation is keyed by its own name, so that comparable runs read it alike."""
    alone, beside = plan([64], [[64]]), plan([64, 64], [[64, 64]])
    order = beside.sequences(range(128))
    assert sorted(order[1][order[0] == 0].tolist()) == sorted(alone.sequences(range(64))[1].tolist())


def test_a_million_slots_come_back():
    a_plan = plan([400_000, 9], [[900_000, 100]])
    parts, sequences = a_plan.sequences(range(a_plan.num_slots))
    assert np.bincount(parts).tolist() == [900_000, 100]
    assert sorted(np.bincount(sequences[parts == 1]).tolist()) == [11] * 8 + [12]
    assert sorted(np.bincount(np.bincount(sequences[parts == 0])).tolist()) == [0, 0, 100_000, 300_000]
    for slot in (0, 1, 123_456, 900_099):
        assert slot in a_plan.slots_of(int(parts[slot]), int(sequences[slot]))


@pytest.mark.parametrize("slots", [[-1], [300], [0, 10**12]])
def test_slots_outside_the_plan_are_refused(slots):
    with pytest.raises(ValueError, match=r"slots must lie in \[0, 300\)"):
        plan([100], [[300]]).sequences(np.array(slots))


@pytest.mark.parametrize(("part", "sequence"), [(-1, 0), (1, 0), (0, -1), (0, 100)])
def test_sequences_outside_the_plan_are_refused(part, sequence):
    with pytest.raises(ValueError, match="has no part"):
        plan([100], [[300]]).slots_of(part, sequence)


@pytest.mark.parametrize(("sizes", "phases", "segments", "says"), [
    ([5], [[5, 5]], None, "one number of slots for each part"),
    ([], [], None, "one number of slots for each part"),
    ([5], [[-1]], None, "greater than or equal to 0"),
    ([0], [[5]], None, "greater than or equal to 1"),
    ([5], [[5]], [(2, 0, 1)], "starts at step 1"),
    ([5], [[9]], [(1, 0, 2), (3, 3, 1)], "begins before the one before it has ended"),
    ([5], [[9]], [(1, 0, 2), (1, 4, 1)], "begins before"),
    ([5], [[9]], [(1, 0, 2), (3, 10, 1)], "begins at slot 10 of 9"),
    ([5], [[9]], [(1, 0, 0)], "greater than or equal to 1"),
])  # fmt: skip
def test_a_plan_that_contradicts_itself_is_refused(sizes, phases, segments, says):
    with pytest.raises(ValueError, match=says):
        plan(sizes, phases, segments)


def test_two_parts_of_one_name_and_an_unknown_algorithm_are_refused():
    fields = plan([5], [[5]]).model_dump()
    with pytest.raises(ValueError, match="same name"):
        Plan.model_validate(fields | {"parts": fields["parts"] * 2, "phases": [{"slots": [5, 5]}]})
    with pytest.raises(ValueError, match="'stemma-order/9' is unknown"):
        Plan.model_validate(fields | {"algorithm": "stemma-order/9"})


def test_a_plan_survives_the_way_to_disk_and_back():
    a_plan = plan([5, 6], [[50, 60]], [(1, 0, 4), (5, 20, 8)])
    again = Plan.model_validate_json(a_plan.model_dump_json())
    assert (again, again.digest) == (a_plan, a_plan.digest)


@settings(max_examples=30, deadline=None)
@given(small_plans())
def test_each_epoch_reads_every_sequence_of_a_part_once_and_the_last_one_none_twice(a_plan):
    parts, sequences = a_plan.sequences(range(a_plan.num_slots))
    first = 0
    for phase in a_plan.phases:
        here = slice(first, first + sum(phase.slots))
        first = here.stop
        for part, source in enumerate(a_plan.parts):
            times = np.bincount(sequences[here][parts[here] == part], minlength=source.num_sequences)
            whole, rest = divmod(phase.slots[part], source.num_sequences)
            assert np.bincount(times, minlength=whole + 2)[whole : whole + 2].tolist() == [
                source.num_sequences - rest, rest,
            ]  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(small_plans())
def test_at_every_slot_each_part_has_had_its_share_but_for_a_block(a_plan):
    parts, _ = a_plan.sequences(range(a_plan.num_slots))
    first = 0
    for phase in a_plan.phases:
        total = sum(phase.slots)
        for part, share in enumerate(phase.slots):
            had = np.cumsum(parts[first : first + total] == part)
            wanted = share * np.arange(1, total + 1) / max(1, total)
            assert np.abs(had - wanted).max(initial=0) <= share / BLOCKS + total / BLOCKS + 1 + len(phase.slots)
        first += total


@settings(max_examples=30, deadline=None)
@given(small_plans())
def test_batches_and_skips_do_not_change_what_a_slot_holds(a_plan):
    """A loss spike is skipped without moving anything that comes after it."""
    plain = a_plan.model_copy(update={"segments": [Segment(first_step=1, first_slot=0, batch_size=1)]})
    for one, other in zip(
        a_plan.sequences(range(a_plan.num_slots)), plain.sequences(range(plain.num_slots)), strict=True
    ):
        assert one.tolist() == other.tolist()
    assert (a_plan.digest == plain.digest) == (a_plan.segments == plain.segments)


def test_a_skip_leaves_out_its_slots_and_nothing_else():
    whole, skipping = plan([40], [[40]], [(1, 0, 4)]), plan([40], [[40]], [(1, 0, 4), (4, 20, 4)])
    assert [list(skipping.slots(step)) for step in (3, 4, 5)] == [[8, 9, 10, 11], [20, 21, 22, 23], [24, 25, 26, 27]]
    assert [skipping.step_of(slot) for slot in (11, 12, 19, 20)] == [3, None, None, 4]
    assert (whole.num_steps, skipping.num_steps) == (10, 8)
    read = {s for step in range(1, 9) for s in skipping.sequences(skipping.slots(step))[1].tolist()}
    assert set(range(40)) - read == set(whole.sequences(range(12, 20))[1].tolist())


def test_slots_behind_the_last_whole_batch_are_read_by_nobody():
    a_plan = plan([10], [[10]], [(1, 0, 4)])
    assert a_plan.num_steps == 2
    assert [a_plan.step_of(slot) for slot in (7, 8, 9, 10)] == [2, None, None, None]
    with pytest.raises(ValueError, match="step 3 lies outside the plan, which has steps 1 to 2"):
        a_plan.slots(3)


def test_a_phase_without_slots_and_a_part_without_slots_are_nothing():
    a_plan = plan([5, 5], [[0, 0], [10, 0], [0, 0]])
    parts, sequences = a_plan.sequences(range(10))
    assert set(parts.tolist()) == {0}
    assert sorted(sequences.tolist()) == sorted([*range(5)] * 2)
    assert a_plan.slots_of(1, 0) == []
    assert [a_plan.sequences([])[0].size, plan([5], [[0]]).num_slots, plan([5], [[0]]).num_steps] == [0, 0, 0]


@pytest.mark.parametrize("change", [
    {"seed": 8}, {"sequence_length": 65}, {"parts": [PlanPart(name="source-0/1", num_sequences=6)]},
    {"parts": [PlanPart(name="source-0/2", num_sequences=5)]}, {"phases": [PlanPhase(slots=[51])]},
    {"phases": [PlanPhase(slots=[25]), PlanPhase(slots=[25])]}, {"segments": [Segment(first_step=1, first_slot=0, batch_size=3)]},
])  # fmt: skip
def test_the_digest_knows_everything_that_a_run_reads_by(change):
    a_plan = plan([5], [[50]])
    assert a_plan.model_copy(update=change).digest != a_plan.digest
