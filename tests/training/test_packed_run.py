"""A run on a mixture with layouts: the trainer reads them, and a layout that was changed is refused."""

from __future__ import annotations

import pytest
from jobs import ONE_THREAD, launch_in_process, small_recipe

from pipelines import mixture
from pipelines.consumption import recompute_consumption
from pipelines.mixture import MixtureRecipe, mix
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build, rematerialize
from pipelines.provenance.trace import Tracer
from training.job import DataError, JobPart
from training.pretrain import PRETRAIN_VERSION, job_of, pretrain


def mixed(world, name="packed", **fields):
    recipe = MixtureRecipe(**{"sequence_length": 32, "batch_size": 8, "steps": 12, "packing": "best_fit", **fields})
    inputs = [world.token_shards, world.heldout_shards, world.vocabulary]
    return build(
        world.store, Key("mixture", name), mixture.VERSION, recipe, inputs,
        lambda d: mix(world.token_shards, world.heldout_shards, world.vocabulary, recipe, d),
    ).artifact  # fmt: skip


@pytest.fixture(scope="module")
def model(world):
    plan, recipe = mixed(world), small_recipe()

    def make(draft):
        return pretrain(plan, recipe, draft, numerics=ONE_THREAD, launch=launch_in_process, say=lambda line: None)

    key = Key("pretrained_model", "packed")
    return build(world.store, key, PRETRAIN_VERSION, recipe, [plan], make, numerics=ONE_THREAD), make


def test_what_was_fed_is_what_the_audit_recomputes_and_the_same_run_gives_the_same_bytes(model):
    built, make = model
    tracer = Tracer(built.artifact)
    fed = recompute_consumption(tracer.plan, tracer.readers, tracer.num_steps)
    assert built.artifact.facts["consumption"] == fed
    assert rematerialize(built.artifact, make).files == ()


def test_the_job_names_the_layout_and_reads_through_it(world):
    plan = mixed(world)
    job = job_of(plan, small_recipe(), "run", ONE_THREAD)
    names = [file.path.name for file in job.files()]
    assert names.count("00000.arrow") == names.count("00001.arrow") == 1
    tracer = Tracer(plan)
    for part in job.parts:
        ours, theirs = part.stream(), tracer.reader(part.name)
        assert ours.num_tokens == theirs.num_tokens
        assert ours.tokens(0, 99).tolist() == theirs.tokens(0, 99).tolist()
    again = job_of(mixed(world, "other", packing="concatenate"), small_recipe(), "run", ONE_THREAD)
    assert job.identity != again.identity
    assert [part.layout for part in again.parts] == [None, None]


def test_a_layout_with_a_changed_byte_is_refused_by_name(own_world):
    plan = mixed(own_world)
    part = JobPart.planned(own_world.token_shards.parts()[0], plan, Tracer(plan).plan.parts[0])
    assert part.layout is not None
    path = part.layout.path
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"00000\.arrow: has .* the manifest says"):
        part.layout.check()


def test_an_encoder_is_not_trained_on_what_only_fills_up(world):
    with pytest.raises(ValueError, match='other has packing = "best_fit", and an encoder would learn to guess'):
        job_of(mixed(world, "other"), small_recipe(objective="masked"), "run", ONE_THREAD)
