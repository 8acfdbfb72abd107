"""Trainings on the small world, and how tests interrupt them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import training.pretrain
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from training import loop, numerics
from training.checkpoints import Checkpoint, latest
from training.finetune import FINETUNE_VERSION, finetune
from training.finetune_data import FINETUNE_DATA_VERSION, make_finetuning_shards
from training.job import Job
from training.pretrain import PRETRAIN_VERSION
from training.recipes import FinetuneDataRecipe, FinetuneRecipe, PretrainRecipe

SMALL: dict[str, Any] = {
    "layers": 2, "width": 32, "heads": 2, "kv_heads": 1, "mlp_width": 48, "sequence_length": 32,
    "warmup_steps": 3, "checkpoint_every": 5, "dtype": "fp32", "compile": "off", "learning_rate": 1e-2,
}  # fmt: skip
ONE_THREAD = numerics.numerics("off", threads=1)


def small_recipe(**fields: Any) -> PretrainRecipe:
    return PretrainRecipe(**{**SMALL, **fields})


def small_job(world: Any, directory: Path, *, steps: int = 12, world_size: int = 1, **fields: Any) -> Job:
    mixture = world.mixture(f"steps-{steps}", steps=steps)
    declared = numerics.numerics(fields.get("compile", "off"), world_size, threads=1)
    job = training.pretrain.job_of(mixture, small_recipe(**fields), "run", declared)
    return job.model_copy(update={"directory": directory})


def small_model(world: Any, name: str = "run", *, length: int = 32, steps: int = 12, launch: Any = None,
                say: Any = lambda line: None, **fields: Any) -> Artifact:  # fmt: skip
    mixture = world.mixture(name, length=length, steps=steps)
    recipe = small_recipe(sequence_length=length, **fields)

    def make(draft: Any) -> Artifact:
        return training.pretrain.pretrain(mixture, recipe, draft, numerics=ONE_THREAD, launch=launch, say=say)

    key = Key("pretrained_model", name)
    return build(world.store, key, PRETRAIN_VERSION, recipe, [mixture], make, numerics=ONE_THREAD).artifact


def in_process(job: Job) -> Checkpoint:
    """The trainer without a process of its own."""
    from training.run import train

    job.write()
    train(job)
    return finished(job)


def launch_in_process(command: list[str], environment: dict[str, str]) -> None:
    """A launcher for the stages that saves the seconds a process takes to import torch."""
    from training.run import main

    del environment
    main(command[command.index("--job") :])


TUNE: dict[str, Any] = {"dtype": "fp32", "compile": "off", "learning_rate": 5e-3, "warmup_steps": 5, "batch_size": 32}


def shards_of(world: Any, name: str, **fields: Any) -> Artifact:
    recipe = FinetuneDataRecipe(**{"max_tokens": 64, "max_test": 30, **fields})
    train, test = (
        world.token_shards.input("training_documents"),
        world.heldout_shards.input("heldout_documents"),
    )

    def make(draft: Any) -> Artifact:
        return make_finetuning_shards(train, test, world.vocabulary, recipe, draft)

    key = Key("finetuning_shards", name)
    return build(world.store, key, FINETUNE_DATA_VERSION, recipe, [train, test, world.vocabulary], make).artifact


def tuned(world: Any, base: Artifact, shards: Artifact, name: str, launch: Any = launch_in_process,
          **fields: Any) -> Artifact:  # fmt: skip
    recipe = FinetuneRecipe(**{**TUNE, **fields})

    def make(draft: Any) -> Artifact:
        return finetune(base, shards, recipe, draft, numerics=ONE_THREAD, launch=launch, say=lambda line: None)

    key = Key("finetuned_model", name)
    return build(world.store, key, FINETUNE_VERSION, recipe, [base, shards], make, numerics=ONE_THREAD).artifact


class Interrupted(BaseException):
    """No error that anything handles, like a kill."""


@contextmanager
def stopping(after: int) -> Iterator[None]:
    """Training stops once a step has been taken and its records kept, as if the process were killed there."""
    before = loop._State.keep_records

    def keep_records(state: Any, last: int) -> Any:
        found = before(state, last)
        if state.step == after:
            raise Interrupted
        return found

    loop._State.keep_records = keep_records  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop._State.keep_records = before  # type: ignore[method-assign]


def finished(job: Job) -> Checkpoint:
    found = latest(job.directory / "rolling")
    assert found is not None
    assert found.step == job.plan.num_steps
    return found
