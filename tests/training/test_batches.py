from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from blake3 import blake3
from jobs import small_job

from pipelines.consumption import START, extended, sequence_hash
from training.batches import Batches, ShardSource
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
    import threading

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
