from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest
from jobs import ONE_THREAD, launch_in_process, small_job, small_model, small_recipe

import training.pretrain
from pipelines.consumption import recompute_consumption
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import rematerialize
from pipelines.provenance.plan import Plan
from pipelines.provenance.verify import verify_artifact
from pipelines.shard_reader import ShardReader
from training.pretrain import sized
from training.trainer import TrainingError, followed, placed
from training.weights import weights_metadata

STEPS = 120
FIELDS = {"milestone_every": 50, "eval_every": 60}


@pytest.fixture(scope="module")
def model(world):
    return small_model(world, "whole", steps=STEPS, launch=launch_in_process, **FIELDS)


def test_a_model_is_sealed_with_everything_that_it_needs(world, model):
    assert model.names() == [
        "config.json", "heldout.json", "losses.arrow", "model.safetensors", "optimizer.safetensors", "plan.json",
        "tokenizer.json",
    ]  # fmt: skip
    assert verify_artifact(model) == []
    facts = model.facts
    assert (facts["step"], facts["tokens"]) == (STEPS, STEPS * 8 * 32)
    assert facts["trigram_bpb"] < facts["bigram_bpb"] < facts["unigram_bpb"]
    assert facts["heldout_bpb"] > 0
    assert facts["heldout_bpb_clean"] > 0
    assert facts["heldout_docs_clean"] < facts["heldout_docs"]
    assert [e["step"] for e in model.json("heldout.json")["evaluations"]] == [60, STEPS]
    by_part = model.json("heldout.json")["evaluations"][-1]["by_part"]
    assert sorted(by_part) == ["docs.alpha/1.0", "docs.beta/2.1"]
    assert model.table("losses.arrow").column_names == ["step", "loss", "lr", "grad_norm"]


def test_a_bare_weight_file_says_where_it_comes_from(world, model):
    mixture = model.input("mixture")
    assert weights_metadata(model.local("model.safetensors")) == {
        "format": "pt", "run": "whole", "step": str(STEPS), "mixture": mixture.digest,
        "plan": Plan.model_validate(mixture.json("plan.json")).digest, "vocabulary": world.vocabulary.digest,
    }  # fmt: skip


def test_the_audit_recomputes_what_was_fed(world, model):
    readers = {part.key.part: ShardReader.open(part) for part in world.token_shards.parts()}
    plan = Plan.model_validate(model.json("plan.json"))
    assert recompute_consumption(plan, readers, model.facts["step"]) == model.facts["consumption"]


def test_milestones_are_artifacts_that_the_run_names(world, model):
    parts = model.parts()
    assert [part.key.part for part in parts] == ["step-00000050", "step-00000100"]
    assert [part.facts["step"] for part in parts] == [50, 100]
    readers = {part.key.part: ShardReader.open(part) for part in world.token_shards.parts()}
    plan = Plan.model_validate(parts[0].json("plan.json"))
    assert parts[0].facts["consumption"] == recompute_consumption(plan, readers, 50)
    assert weights_metadata(parts[0].local("model.safetensors"))["step"] == "50"


def test_nothing_of_the_machine_or_the_clock_is_in_the_artifact(world, model):
    told = str(world.store.scratch.parent).encode()
    for name in model.names():
        assert told not in model.local(name).read_bytes()
    assert not any(part in str(model.facts) for part in ("seconds", "time", os.uname().nodename))


def test_training_again_from_the_recorded_inputs_gives_the_same_bytes(model):
    recipe = small_recipe(**FIELDS)
    again = rematerialize(model, lambda draft: training.pretrain.pretrain(
        model.input("mixture"), recipe, draft, numerics=ONE_THREAD, launch=launch_in_process, say=lambda line: None))  # fmt: skip
    assert again.identical, again.files


def test_scratch_is_cleared_once_sealed(own_world):
    small_model(own_world, steps=2, launch=launch_in_process)
    assert list((own_world.store.scratch / "training").glob("*")) == []


def test_killed_with_sigkill_and_resumed_gives_the_bytes_of_the_uninterrupted(own_world, model):
    """The trainer is a real process and the kill is a real kill; the next build of the same thing goes on."""
    directories = own_world.store.scratch / "training"

    def killed(command, environment):
        process = subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.DEVNULL)
        while not list(directories.glob("*/rolling/step-*")) and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        raise RuntimeError("the trainer was killed")

    with pytest.raises(TrainingError, match="the trainer was killed"):
        small_model(own_world, "whole", steps=STEPS, launch=killed, **FIELDS)
    assert own_world.store.get(Key("pretrained_model", "whole")) is None
    assert len(list(directories.glob("*/rolling/step-*"))) in (1, 2)
    told = []
    resumed = small_model(own_world, "whole", steps=STEPS, say=told.append, **FIELDS)
    assert any(line.startswith("resumed after step ") for line in told)
    assert resumed.digest == model.digest


def test_a_trainer_that_fails_says_why(own_world):
    shard = own_world.token_shards.parts()[0].local("shard-00001.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(TrainingError, match=r"DataError: .*shard-00001\.arrow: has ") as error:
        small_model(own_world, "broken", launch=launch_in_process)
    assert "nothing was trained on it" in str(error.value)
    assert own_world.store.get(Key("pretrained_model", "broken")) is None


def test_a_launcher_that_dies_silently_is_an_error(world):
    with pytest.raises(TrainingError, match="ended without saying why"):
        small_model(world, "silent", launch=lambda command, environment: None)


def test_what_does_not_go_together_is_refused(world):
    with pytest.raises(ValueError, match="cut into sequences of 32, the recipe's sequence_length is 64"):
        training.pretrain.job_of(world.mixture(), small_recipe(sequence_length=64), "run", {})
    with pytest.raises(ValueError, match="still holds auto"):
        training.pretrain.job_of(world.mixture(), small_recipe(dtype="auto"), "run", {})
    with pytest.raises(ValueError, match="vocab_size is 100, the vocabulary small has 320"):
        sized(small_recipe(vocab_size=100), world.vocabulary)
    assert sized(small_recipe(), world.vocabulary).vocab_size == 320
    assert sized(small_recipe(vocab_size=500), world.vocabulary).padded_vocab_size == 512


def test_scratch_is_named_by_what_is_trained_and_not_by_where_data_lie(world, own_world, tmp_path):
    jobs = [small_job(w, tmp_path / name) for w, name in ((world, "a"), (own_world, "b"))]
    assert jobs[0].parts[0].shards[0].path != jobs[1].parts[0].shards[0].path
    assert placed(jobs[0], tmp_path).directory == placed(jobs[1], tmp_path).directory
    other = small_job(world, tmp_path, learning_rate=0.5)
    assert placed(other, tmp_path).directory != placed(jobs[0], tmp_path).directory


def test_progress_is_told_line_by_line(tmp_path):
    path, seen, told = tmp_path / "metrics.jsonl", [], threading.Event()
    path.write_text('{"step": 1}\n')

    def progress(line):
        seen.append(line["step"])
        told.set()

    with followed(path, progress), path.open("a") as file:
        file.write('{"step": 2}\n{"st')
        file.flush()
        assert told.wait(5)
        file.write('ep": 3}\n')
    assert seen == [2, 3]
