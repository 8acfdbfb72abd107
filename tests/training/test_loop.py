from __future__ import annotations

import json
import math
import os

import pytest
import torch
from jobs import Interrupted, in_process, small_job, stopping

from pipelines.consumption import recompute_consumption
from pipelines.shard_reader import ShardReader
from training import numerics
from training.checkpoints import CheckpointError, latest
from training.guard import NonFiniteLossError
from training.job import DataError
from training.loop import Run
from training.recipes import PretrainRecipe
from training.run import _run, train


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"microbatch": 3},
        {"dropout": 0.2, "microbatch": 2},
        {"qk_norm": True, "eval_every": 4, "milestone_every": 6},
        {"dtype": "bf16"},
    ],
    ids=lambda fields: ",".join(fields) or "plain",
)
@pytest.mark.parametrize("step", [3, 5, 11])
def test_interrupted_and_resumed_ends_with_the_bytes_of_the_uninterrupted(world, tmp_path, fields, step):
    if fields.get("dtype") == "bf16" and not numerics.bf16_is_fast("cpu"):
        pytest.skip("this processor has no bf16 instructions")
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    job = small_job(world, tmp_path / "halved", **fields)
    job.write()
    with pytest.raises(Interrupted), stopping(after=step):
        train(job)
    assert in_process(job).state["files"] == whole.state["files"]
    assert latest(job.directory / "rolling").state == whole.state


@pytest.mark.parametrize("beside", [-1, 0, 1])
def test_an_interruption_at_the_edge_of_an_epoch_changes_no_byte(world, tmp_path, beside):
    fields = {"steps": 85, "dropout": 0.1, "microbatch": 3}
    job = small_job(world, tmp_path / "cut", **fields)
    edge = first_rereading(job.plan)
    assert 1 < edge < 84
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    with pytest.raises(Interrupted), stopping(after=edge + beside):
        in_process(job)
    assert in_process(job).state["files"] == whole.state["files"]


def first_rereading(plan):
    """The first step that reads a sequence again."""
    seen = set()
    for step in range(1, plan.num_steps + 1):
        read = {*zip(*(found.tolist() for found in plan.sequences(plan.slots(step))), strict=True)}
        if read & seen:
            return step
        seen |= read
    raise AssertionError("every sequence is read once")


def test_dropout_is_really_on_and_accumulation_changes_no_data(world, tmp_path):
    plain = in_process(small_job(world, tmp_path / "a"))
    dropped = in_process(small_job(world, tmp_path / "b", dropout=0.2))
    halves = in_process(small_job(world, tmp_path / "c", microbatch=3))
    assert dropped.state["files"] != plain.state["files"]
    assert dropped.state["consumption"] == halves.state["consumption"] == plain.state["consumption"]
    for a, b in zip(plain.losses()["loss"].to_pylist(), halves.losses()["loss"].to_pylist(), strict=True):
        assert a == pytest.approx(b, abs=1e-5)


def test_the_consumption_digest_is_what_an_audit_recomputes_from_the_shards(world, tmp_path):
    job = small_job(world, tmp_path)
    readers = {part.key.part: ShardReader.open(part) for part in world.token_shards.parts()}
    assert in_process(job).state["consumption"] == recompute_consumption(job.plan, readers, 12)
    assert recompute_consumption(job.plan, readers, 11) != recompute_consumption(job.plan, readers, 12)


def test_every_step_leaves_its_loss_rate_and_norm(world, tmp_path):
    losses = in_process(small_job(world, tmp_path, eval_every=4)).losses()
    assert losses["step"].to_pylist() == list(range(1, 13))
    assert losses["loss"][0].as_py() == pytest.approx(math.log(320), rel=0.02)
    assert losses["loss"][11].as_py() < losses["loss"][0].as_py() - 0.5
    assert losses["lr"][2].as_py() == 1e-2
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 12
    assert lines[-1]["tokens_per_second"] > 0


def test_a_trained_run_is_not_trained_again(world, tmp_path):
    job = small_job(world, tmp_path)
    before = in_process(job)
    stamp = before.path.stat().st_mtime_ns
    assert in_process(job).path.stat().st_mtime_ns == stamp


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(world, tmp_path, capsys):
    job = small_job(world, tmp_path / "whole")
    whole = in_process(job)
    torn = whole.path / "optimizer.safetensors"
    torn.write_bytes(torn.read_bytes()[:-100])
    assert in_process(job).state == whole.state
    told = capsys.readouterr().out
    assert "passed over a torn checkpoint: step-00000012: optimizer.safetensors" in told
    assert "resumed after step 10" in told


def test_a_checkpoint_of_another_recipe_is_not_gone_on_from(world, tmp_path):
    job = small_job(world, tmp_path)
    in_process(job)
    other = small_job(world, tmp_path, learning_rate=5e-3)
    wanted = r"belongs to another run .*What differs: recipe\.learning_rate is 0\.01 there and 0\.005 here\. Remove "
    with pytest.raises(CheckpointError, match=wanted):
        in_process(other)


def test_changed_shard_bytes_refuse_to_train_and_to_resume(own_world, tmp_path):
    job = small_job(own_world, tmp_path)
    job.write()
    with pytest.raises(Interrupted), stopping(after=6):
        train(job)
    shard = job.parts[0].shards[0].path
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=r"shard-00000\.arrow: has .* the manifest says"):
        train(job)


def test_a_loss_that_explodes_names_its_step_and_leaves_no_checkpoint(world, tmp_path):
    job = small_job(world, tmp_path, learning_rate=1.0, warmup_steps=0, clip=0.0, weight_decay=1.0)
    run = _run(job, torch.device("cpu"), 0, 1, lambda line: None)
    for weight in run.task.objective.network.parameters():
        weight.data.mul_(1e20)
    job.write()
    with pytest.raises(NonFiniteLossError, match=r"^step 1: the loss is .*Lower learning_rate"):
        run.train()
    assert latest(tmp_path / "rolling") is None


def test_only_two_rolling_checkpoints_stay_and_milestones_all(world, tmp_path):
    in_process(small_job(world, tmp_path, checkpoint_every=2, milestone_every=3))
    assert [p.name for p in sorted((tmp_path / "rolling").iterdir())] == ["step-00000010", "step-00000012"]
    assert [p.name for p in sorted((tmp_path / "milestones").iterdir())] == [f"step-0000000{n}" for n in (3, 6, 9)]


def test_a_run_planned_for_other_processes_or_threads_is_refused(world, tmp_path):
    job = small_job(world, tmp_path, world_size=2)
    with pytest.raises(numerics.NumericsError, match="planned for 2 processes, 1 were started"):
        train(job)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("STEMMA_DEEP") != "1", reason="compiling takes 25 s on an idle core (STEMMA_DEEP=1)")
def test_compiled_and_eager_learn_the_same(world, tmp_path):
    """Not the same bits, but the same losses to 1e-4: compile is a choice of speed, declared in the numerics."""
    job = small_job(world, tmp_path / "eager", steps=2)
    eager = in_process(job).losses()["loss"].to_pylist()
    run = _run(small_job(world, tmp_path / "off", steps=2), torch.device("cpu"), 0, 1, lambda line: None)
    compiled = Run(run.task, PretrainRecipe(**{**job.recipe, "compile": "on"}), tmp_path / "c", {}, "x")
    (tmp_path / "c").mkdir()
    compiled.train()
    found = latest(tmp_path / "c" / "rolling").losses()["loss"].to_pylist()
    assert found == pytest.approx(eager, abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("STEMMA_DEEP") != "1", reason="compiling takes 25 s on an idle core (STEMMA_DEEP=1)")
def test_a_compiled_run_that_is_interrupted_ends_with_the_bytes_of_the_uninterrupted(world, tmp_path):
    fields = {"compile": "on", "dropout": 0.1, "microbatch": 4}
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    job = small_job(world, tmp_path / "halved", **fields)
    job.write()
    with pytest.raises(Interrupted), stopping(after=7):
        train(job)
    torch.compiler.reset()  # as in a process of its own
    assert in_process(job).state["files"] == whole.state["files"]
    assert in_process(small_job(world, tmp_path / "again", **fields)).state["files"] == whole.state["files"]
