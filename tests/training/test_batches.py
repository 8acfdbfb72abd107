from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
import torch
from blake3 import blake3
from jobs import small_job

from pipelines.consumption import START, extended, sequence_hash
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from training.batches import Batches, Inputs, ShardSource
from training.finetuning import ExampleSource


@pytest.fixture(scope="module")
def job(world, tmp_path_factory):
    return small_job(world, tmp_path_factory.mktemp("job"))


def batches(job, rank=0, world_size=1):
    source = ShardSource(job.plan, {part.name: part.reader() for part in job.parts})
    return Batches(job.plan, source, rank, world_size)


def test_a_step_holds_the_tokens_that_the_plan_names(job):
    step = batches(job).batch(5)
    parts, sequences = job.plan.sequences(job.plan.slots(5))
    for row, part, sequence in zip(step.inputs.tokens_BT, parts, sequences, strict=True):
        stream = job.parts[part].reader().tokens(sequence * 32, sequence * 32 + 33)
        assert row.tolist() == stream.tolist()
    assert step.total == 8 * 32


def test_reading_ahead_gives_the_steps_in_order_and_the_same_as_alone(job):
    for step, batch in zip(range(3, 13), batches(job).steps(3, 12), strict=True):
        assert batch.step == step
        assert torch.equal(batch.inputs.tokens_BT, batches(job).batch(step).inputs.tokens_BT)


def test_leaving_early_ends_the_reading_thread(job):
    for batch in batches(job).steps(1, 12):
        if batch.step == 2:
            break
    assert "batches" not in [thread.name for thread in threading.enumerate()]


def test_an_error_while_reading_reaches_the_loop(job):
    with pytest.raises(ValueError, match="step 13 lies outside the plan"):
        list(batches(job).steps(12, 13))


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_out_the_batch_without_changing_it(job, world_size):
    whole = batches(job).batch(7)
    shares = [batches(job, rank, world_size).batch(7) for rank in range(world_size)]
    assert torch.equal(torch.cat([s.inputs.tokens_BT for s in shares]), whole.inputs.tokens_BT)
    assert [h for s in shares for h in s.hashes] == list(whole.hashes)
    assert [s.first for s in shares] == list(range(0, 8, 8 // world_size))
    assert {s.total for s in shares} == {whole.total}


def test_a_batch_that_cannot_be_shared_out_is_refused(job):
    with pytest.raises(ValueError, match="batch size 8 cannot be shared out evenly over 3"):
        batches(job, 0, 3)


def test_microbatches_keep_their_place_in_the_global_batch(job):
    share = batches(job, 1, 2).batch(1)
    pieces = list(share.split(3))
    assert [place for place, _ in pieces] == [4, 7]
    assert torch.equal(torch.cat([p.tokens_BT for _, p in pieces]), share.inputs.tokens_BT)


def test_the_chain_is_the_one_that_is_written_down():
    tokens = np.array([1, 2, 70_000], np.uint32)
    link = blake3(b"\x01\0\0\0\x02\0\0\0\x70\x11\x01\0").digest()
    assert sequence_hash(tokens) == link
    assert extended(START, [link]) == blake3(blake3(b"stemma-consumption/1").digest() + link).digest()
    assert sequence_hash(np.array([1, 2], np.uint16)) == sequence_hash(np.array([1, 2], np.int64))


def examples(label=-1):
    rows = [[2, 10, 11, 3, 20, 0], [2, 10, 3, 21, 22, 23, 0], [2, 3, 24, 0]]
    return pa.table({
        "doc_id": pa.array([bytes([i]) * 16 for i in range(3)], pa.binary(16)),
        "tokens": pa.array(rows, pa.large_list(pa.uint16())),
        "answer_start": pa.array([4, 3, 2], pa.int32()),
        "label": pa.array([label if label < 0 else i % 2 for i in range(3)], pa.int32()),
    })  # fmt: skip


def test_only_the_answer_and_its_end_count():
    source = ExampleSource(examples(), pad_id=1, class_weights=[])
    chosen = np.array([1, 0, 2])
    inputs = source.collate(source.rows(chosen, chosen), chosen)
    targets = inputs.tokens_BT[:, 1:]
    counted = [targets[i][inputs.weights_BT[i] > 0].tolist() for i in range(3)]
    assert counted == [[21, 22, 23, 0], [20, 0], [24, 0]]
    assert source.total(chosen) == inputs.weights_BT.sum() == 8


def test_a_passage_is_read_at_its_last_token_and_weighs_as_its_class():
    source = ExampleSource(examples(label=0), pad_id=1, class_weights=[0.75, 1.5])
    chosen = np.array([0, 1, 2])
    inputs = source.collate(source.rows(chosen, chosen), chosen)
    assert inputs.tokens_BT[torch.arange(3), inputs.ends_B].tolist() == [0, 0, 0]
    assert inputs.labels_B.tolist() == [0, 1, 0]
    assert source.total(chosen) == 3.0


def skipping():
    """Seventy steps of 2, then a skip of 20 slots, then steps of 4: the borders of the read-ahead lie in between."""
    return Plan(
        seed=3, sequence_length=32, parts=[PlanPart(name="examples", num_sequences=50)], phases=[PlanPhase(slots=[400])],
        segments=[
            Segment(first_step=1, first_slot=0, batch_size=2),
            Segment(first_step=71, first_slot=160, batch_size=4),
        ],
    )  # fmt: skip


class Numbers:
    """A source whose only token of a sequence is its number."""

    def rows(self, parts, sequences):
        return [np.array([sequence], np.int64) for sequence in sequences]

    def collate(self, rows, sequences, parts=None):
        assert [int(row[0]) for row in rows] == sequences.tolist()
        return Inputs(torch.from_numpy(np.stack(rows)))

    def total(self, sequences, parts):
        return float(sequences.sum())


def test_every_step_reads_its_slots_across_skips_and_changes_of_the_batch_size():
    plan = skipping()
    found = list(Batches(plan, Numbers()).steps(1, plan.num_steps))
    assert plan.num_steps == 130
    for batch in found:
        assert batch.inputs.tokens_BT[:, 0].tolist() == plan.sequences(plan.slots(batch.step))[1].tolist()
        assert len(batch.hashes) == (2 if batch.step <= 70 else 4)
        assert batch.total == plan.sequences(plan.slots(batch.step))[1].sum()


@pytest.mark.parametrize("first", [1, 2, 64, 65, 71, 130])
def test_resuming_anywhere_reads_what_was_still_to_come(first):
    plan = skipping()
    whole = [batch.hashes for batch in Batches(plan, Numbers()).steps(1, plan.num_steps)]
    assert [batch.hashes for batch in Batches(plan, Numbers()).steps(first, plan.num_steps)] == whole[first - 1 :]


def test_the_weight_of_the_whole_batch_is_known_to_every_rank():
    plan = skipping()
    shares = [Batches(plan, Numbers(), rank, 2).batch(100) for rank in range(2)]
    assert shares[0].total == shares[1].total == sum(s.inputs.tokens_BT.sum().item() for s in shares)
    assert [s.first for s in shares] == [0, 2]


def test_all_sizes_of_a_plan_must_be_shared_out():
    with pytest.raises(ValueError, match="batch size 2 cannot be shared out evenly over 4"):
        Batches(skipping(), Numbers(), 0, 4)


def test_an_error_of_the_source_is_the_loops_error_and_the_thread_ends():
    class Broken(Numbers):
        def rows(self, parts, sequences):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        next(Batches(skipping(), Broken()).steps(1, 5))
    assert "batches" not in [thread.name for thread in threading.enumerate()]


def test_slices_take_their_part_of_everything_that_is_there():
    whole = Inputs(torch.arange(12).view(4, 3), None, torch.arange(4), torch.arange(4) * 10)
    piece = whole.sliced(slice(1, 3))
    assert piece.tokens_BT.tolist() == [[3, 4, 5], [6, 7, 8]]
    assert (piece.weights_BT, piece.labels_B.tolist(), piece.ends_B.tolist()) == (None, [1, 2], [10, 20])
    assert whole.to(torch.device("cpu")) is whole
