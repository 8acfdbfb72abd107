"""Fine-tuning as a stage: a pretrained model and examples become a model for one task. No torch here."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from training import numerics as declared
from training.checkpoints import Checkpoint
from training.job import Job, JobFile
from training.models.config import from_hf_config, hf_config
from training.recipes import FinetuneRecipe
from training.trainer import Launch, Progress, Say, last_checkpoint, placed, run_job

FINETUNE_VERSION = "1"
PART = "examples"  # the plan's only part: sequence i is row i of train.arrow


def finetune(
    base: Artifact,
    shards: Artifact,
    recipe: FinetuneRecipe,
    draft: Draft,
    *,
    numerics: Mapping[str, Any] | None = None,
    launch: Launch | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    say: Say = print,
) -> Artifact:
    """Train a task on top of a pretrained model and seal it, with what it answers on the test examples.

    Args:
        base: a ``pretrained_model``.
        shards: ``finetuning_shards``, made with the vocabulary of the base.
        recipe: resolved (see ``recipes.resolve``).
        draft: of ``finetuned_model``.
        numerics: the block that the draft was opened with; default what this machine gives.
        launch: how the trainer is started, given its command and extra environment; default a child process.
        scratch: directory for rolling checkpoints; default the store's.
        progress: told the latest step, loss and speed about every ten steps.
        say: told every line that the trainer prints.

    Raises:
        TrainingError: if the trainer fails; the next build goes on from its last checkpoint.
        ValueError: if base, examples and recipe do not go together.
    """
    job = placed(_job(base, shards, recipe, draft.key.partition, dict(numerics or {})), scratch or draft.store.scratch)
    times = run_job(job, launch, say, progress)
    last = last_checkpoint(job, say)
    draft.circumstance.update({"training": times})
    for name in ("model.safetensors", "losses.arrow"):
        shutil.copyfile(last.path / name, draft.path(name))
    shutil.copyfile(base.local("tokenizer.json"), draft.path("tokenizer.json"))
    draft.write_json("config.json", _config(job, shards.facts["classes"]))
    draft.write_json("plan.json", job.plan.model_dump(mode="json"))
    _write_answers(draft, last, base, shards)
    artifact = draft.seal(
        counts={"steps": last.step, "examples": job.plan.num_slots, "test": shards.counts["test"]},
        facts={
            "task": job.kind,
            "step": last.step,
            "parameters": job.model.num_parameters + len(job.class_weights) * job.model.width,
            "classes": shards.facts["classes"],
            "left_out": shards.facts["left_out"],
            "loss": last.losses()["loss"][-1].as_py(),
            "consumption": last.state["consumption"],
            "plan": job.plan.digest,
        },
    )
    shutil.rmtree(job.directory, ignore_errors=True)
    return artifact


def plan_of(num_examples: int, recipe: FinetuneRecipe, sequence_length: int) -> Plan:
    """Every example ``epochs`` times, in whole batches, at most ``max_steps`` of them.

    Raises:
        ValueError: if there are not enough examples for one batch.
    """
    steps = num_examples * recipe.epochs // recipe.batch_size
    if recipe.max_steps:
        steps = min(steps, recipe.max_steps)
    if steps == 0:
        raise ValueError(
            f"{num_examples} examples read {recipe.epochs} times do not fill one batch of {recipe.batch_size}. "
            "Lower batch_size or raise epochs."
        )
    return Plan(
        seed=recipe.seed,
        sequence_length=sequence_length,
        parts=[PlanPart(name=PART, num_sequences=num_examples)],
        phases=[PlanPhase(slots=[steps * recipe.batch_size])],
        segments=[Segment(first_step=1, first_slot=0, batch_size=recipe.batch_size)],
    )


def _job(base: Artifact, shards: Artifact, recipe: FinetuneRecipe, run: str, numerics: dict[str, Any]) -> Job:
    if "auto" in (recipe.dtype, recipe.compile):
        raise ValueError("the recipe still holds auto; call training.recipes.resolve before it is hashed.")
    config = base.json("config.json")
    if from_hf_config(config).objective == "masked":
        raise ValueError(f"{base.key} is an encoder; fine-tunes start from a decoder (objective = 'causal').")
    model = from_hf_config(config).model_copy(update={"dropout": recipe.dropout})
    vocabulary = shards.input("vocabulary")
    tokenizer = base.entry("tokenizer.json")
    if vocabulary.entry("tokenizer.json").blake3 != tokenizer.blake3:
        raise ValueError(f"{shards.key} was made with another vocabulary than {base.key}; make it with the base's.")
    longest = max((len(row) for row in shards.table("train.arrow")["tokens"]), default=0)
    if longest > model.sequence_length:
        raise ValueError(f"examples of {longest} tokens, the model reads {model.sequence_length}: lower max_tokens.")
    plan = plan_of(shards.counts["train"], recipe, model.sequence_length)
    return Job(
        kind=shards.facts["task"],
        version=FINETUNE_VERSION,
        run=run,
        model=model,
        recipe=recipe.identity(),
        numerics=numerics or declared.numerics(recipe.compile),
        plan=plan,
        header={"run": run, "plan": plan.digest, "base": base.digest, "shards": shards.digest},
        eos_id=config["eos_token_id"],
        pad_id=config["pad_token_id"],
        base=JobFile.of(base, "model.safetensors"),
        examples={name: JobFile.of(shards, f"{name}.arrow") for name in ("train", "test")},
        class_weights=shards.facts["class_weights"],
        num_tokens=int(vocabulary.facts["size"]),
    )


def _config(job: Job, classes: list[str]) -> dict[str, Any]:
    config = hf_config(job.model, job.eos_id, job.pad_id)
    if job.kind == "classifier":
        family = {"gpt2": "GPT2", "qwen3": "Qwen3", "mistral": "Mistral"}.get(config["model_type"], "Llama")
        config |= {
            "architectures": [f"{family}ForSequenceClassification"],
            "id2label": {str(index): name for index, name in enumerate(classes)},
            "label2id": {name: index for index, name in enumerate(classes)},
            "problem_type": "single_label_classification",
        }
    return config


def _write_answers(draft: Draft, last: Checkpoint, base: Artifact, shards: Artifact) -> None:
    """``predictions.arrow``, or ``generations.arrow`` with texts for tokens."""
    if shards.facts["task"] == "classifier":
        shutil.copyfile(last.path / "predictions.arrow", draft.path("predictions.arrow"))
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.local("tokenizer.json")))
    texts = shards.table("test_texts.arrow")
    generated = last.table("generated.arrow")
    assert generated["doc_id"].equals(texts["doc_id"])
    answers = tokenizer.decode_batch(generated["tokens"].to_pylist(), skip_special_tokens=True)
    table = texts.append_column("generated", pa.array([a.strip() for a in answers], pa.large_string()))
    draft.write("generations.arrow", table)
