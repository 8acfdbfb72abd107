"""The consumption digest: a chain over every sequence that was read, and nothing else moves it."""

from __future__ import annotations

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import consumption
from pipelines.consumption import START, extended, planned_rows, recompute_consumption, sequence_hash, sequence_hashes
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment

LENGTH = 4


class Stream:
    """A part's tokens as a list."""

    def __init__(self, tokens, dtype=np.uint16):
        self.tokens = np.array(tokens, dtype)

    def rows(self, starts, length):
        return np.stack([self.tokens[start : start + length] for start in starts.tolist()])


def plan(slots=(7, 5), batch=3, seed=1, segments=None) -> Plan:
    return Plan(
        seed=seed,
        sequence_length=LENGTH,
        parts=[PlanPart(name="a/1", num_sequences=5), PlanPart(name="b/1", num_sequences=3)],
        phases=[PlanPhase(slots=list(slots))],
        segments=[Segment(first_step=f, first_slot=s, batch_size=b) for f, s, b in segments or [(1, 0, batch)]],
    )


def readers(dtype=np.uint16) -> dict[str, Stream]:
    return {"a/1": Stream(range(100, 121), dtype), "b/1": Stream(range(200, 213), dtype)}


def by_hand(a_plan: Plan, streams: dict[str, Stream], steps: int) -> str:
    """The formula of the module's docstring, slot by slot, in plain bytes."""
    link = blake3(b"stemma-consumption/1").digest()
    for step in range(1, steps + 1):
        for slot in a_plan.slots(step):
            parts, sequences = a_plan.sequences([slot])
            first = int(sequences[0]) * LENGTH
            tokens = streams[a_plan.parts[int(parts[0])].name].tokens[first : first + LENGTH + 1]
            body = b"".join(int(token).to_bytes(4, "little") for token in tokens)
            link = blake3(link + blake3(body).digest()).digest()
    return link.hex()


def test_the_chain_is_the_documented_formula():
    for steps in range(5):
        assert recompute_consumption(plan(), readers(), steps) == by_hand(plan(), readers(), steps)
    assert recompute_consumption(plan(), readers(), 0) == START.hex()


def test_golden_vectors_freeze_the_chain():
    assert START.hex() == "18b0e6d9108fc819ee1122c684a134cf70a09896c4c9e0a197b9672d7277186e"
    assert sequence_hash(np.array([0, 1, 65_535, 2**32 - 1])).hex() == (
        "5d6b0004be8fd452ae4dcf90f92dbf429dc90c98b84bafbed173f2afa605c533"
    )
    assert recompute_consumption(plan(), readers(), 4) == (
        "9694dca10a496fb832d06ac91838b3c1598ce15d182b010d970f77b8d8bf4d80"
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(0, 9), st.integers(1, 5))
def test_the_chain_does_not_know_how_many_steps_are_drawn_together(batch, seed, together):
    a_plan = plan(batch=batch, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(consumption, "STEPS_AT_ONCE", together)
        patch.setattr(consumption, "SLOTS_AT_ONCE", 0)
        patch.setattr(consumption, "ROWS_AT_ONCE", 3 * together - 2)
        found = recompute_consumption(a_plan, readers(), a_plan.num_steps)
    assert found == by_hand(a_plan, readers(), a_plan.num_steps)


def test_the_chain_does_not_know_the_batch_size_but_the_order_of_the_slots():
    """Twelve slots are twelve sequences in a row, read in steps of three, of four, or of a growing batch."""
    whole = recompute_consumption(plan(batch=3), readers(), 4)
    assert whole == recompute_consumption(plan(batch=4), readers(), 3)
    assert whole == recompute_consumption(plan(segments=[(1, 0, 1), (3, 2, 5)]), readers(), 4)
    assert whole != recompute_consumption(plan(seed=2), readers(), 4)


def test_a_prefix_is_continued_by_the_hashes_of_what_follows():
    a_plan, halves = plan(), readers()
    parts, sequences = a_plan.sequences(a_plan.slots_of_steps(3, 4)[0])
    rest = [sequence_hash(row) for row in planned_rows(a_plan, halves, parts, sequences)]
    begun = bytes.fromhex(recompute_consumption(a_plan, halves, 2))
    assert extended(begun, rest).hex() == recompute_consumption(a_plan, halves, 4)
    assert extended(begun, []) == begun


def test_shards_of_16_and_of_32_bits_with_the_same_tokens_have_one_digest():
    assert recompute_consumption(plan(), readers(np.uint32), 4) == recompute_consumption(plan(), readers(), 4)
    row = np.arange(8, dtype=np.int64)
    assert sequence_hashes(np.stack([row, row + 1]).astype(np.uint32)) == (sequence_hash(row), sequence_hash(row + 1))
    assert sequence_hash(row[::2]) == sequence_hash(row[::2].astype(np.uint16)) == sequence_hash(row[::2].copy())


@pytest.mark.parametrize("place", range(21))
def test_every_token_that_was_read_counts(place):
    """Part a/1 is read whole, and its last token is a target; a token more at the end is read by nobody."""
    changed = readers()
    changed["a/1"].tokens[place] += 1
    longer = {**readers(), "a/1": Stream([*range(100, 121), 9])}
    assert recompute_consumption(plan(), changed, 4) != recompute_consumption(plan(), readers(), 4)
    assert recompute_consumption(plan(), longer, 4) == recompute_consumption(plan(), readers(), 4)


def test_skipped_slots_are_no_part_of_the_chain():
    skipping = plan(segments=[(1, 0, 2), (2, 6, 2)])
    assert skipping.slots_of_steps(1, skipping.num_steps)[0].tolist() == [0, 1, 6, 7, 8, 9, 10, 11]
    assert recompute_consumption(skipping, readers(), 4) == by_hand(skipping, readers(), 4)


def test_rows_come_in_the_order_of_the_slots_though_parts_are_read_one_by_one():
    parts, sequences = np.array([1, 0, 1, 0]), np.array([2, 4, 0, 0])
    rows = planned_rows(plan(), readers(), parts, sequences)
    assert rows[:, 0].tolist() == [208, 116, 200, 100]
    assert rows[:, -1].tolist() == [212, 120, 204, 104]
    assert rows.dtype == np.uint32


def test_a_chain_beyond_the_plan_or_of_a_part_without_a_reader_is_refused():
    with pytest.raises(ValueError, match="step 5 lies outside the plan, which has steps 1 to 4"):
        recompute_consumption(plan(), readers(), 5)
    with pytest.raises(KeyError, match="b/1"):
        recompute_consumption(plan(), {"a/1": readers()["a/1"]}, 4)
