"""Pretraining as a stage: a mixture and a recipe become a model.

The work is done by another process (see trainer.py); here its data are pinned, its results become an artifact, and
the n-gram baselines are scored on the same held-out text. No torch here.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.plan import Plan
from training import continuing
from training import numerics as declared
from training.checkpoints import AHEAD, LOSSES, MODEL, OPTIMIZER, Checkpoint, opened
from training.guard import SKIPPED
from training.job import Job, JobFile, JobPart
from training.masking import with_mask_token
from training.models.config import from_hf_config, hf_config
from training.models.recipe import GPTRecipe
from training.recipes import PretrainRecipe
from training.trainer import Launch, Progress, Say, last_checkpoint, placed, run_job

PRETRAIN_VERSION = "2"
STANDING_VERSIONS = ("1",)  # the same weights; heldout.json has figures by source for the last evaluation alone
NOT_ALWAYS = (SKIPPED, AHEAD)  # files that a run has which skipped a step, or learns further tokens
BASELINES = ("unigram_bpb", "bigram_bpb", "trigram_bpb")


class MilestoneRecipe(PretrainRecipe):
    """A checkpoint on the way of a run that is kept for good."""

    step: int = Field(ge=1, description="Steps that it has read")


def pretrain(
    mixture: Artifact,
    recipe: PretrainRecipe,
    draft: Draft,
    *,
    base: Artifact | None = None,
    teacher: Artifact | None = None,
    numerics: Mapping[str, Any] | None = None,
    launch: Launch | None = None,
    scratch: Path | None = None,
    progress: Progress | None = None,
    say: Say = print,
    track: str = "",
) -> Artifact:
    """Train a model on a mixture and seal it; the run is named by the draft's partition.

    Args:
        mixture: the plan; shards, held-out shards and vocabulary are those that it was made from.
        recipe: resolved (see ``recipes.resolve``).
        draft: of ``pretrained_model``.
        base: a ``pretrained_model``, a milestone of one or an ``imported_model``, whose weights the run begins from.
        teacher: a ``pretrained_model`` with the same vocabulary, which the run is to agree with.
        numerics: the block that the draft was opened with; default what this machine gives.
        launch: how the trainer is started, given its command and extra environment; default a child process.
        scratch: directory for rolling checkpoints; default the store's.
        progress: told the latest step, loss and speed about every ten steps.
        say: told every line that the trainer prints.
        track: trackers that are told as well, parted by commas.

    Raises:
        TrainingError: if the trainer fails; its rolling checkpoints stay, and the next build goes on from them.
        ValueError: if recipe, plan and vocabulary do not go together.
    """
    job = job_of(mixture, recipe, draft.key.partition, dict(numerics or {}), base, teacher)
    job = job.model_copy(update={"track": track})
    job = placed(job, scratch or draft.store.scratch)
    times = run_job(job, launch, say, progress)
    last = last_checkpoint(job, say)
    draft.circumstance.update({"training": times})
    _copy(last, draft)
    _write_companions(draft, job, mixture.input("vocabulary"))
    heldout = _heldout(job, recipe, last, mixture.input("vocabulary"), say)
    draft.write_json("heldout.json", heldout)
    artifact = draft.seal(
        counts={"steps": last.step, "tokens": _tokens(job.plan, last.step), "parameters": job.model.num_parameters},
        facts=_facts(job, last, heldout) | ({"teacher": teacher.digest} if teacher else {}),
        parts=_milestones(job, recipe, mixture, draft),
    )
    shutil.rmtree(job.directory, ignore_errors=True)
    return artifact


def sized(recipe: PretrainRecipe, vocabulary: Artifact, base: Artifact | None = None) -> GPTRecipe:
    """The network of a recipe, its embedding as large as the vocabulary asks, and no smaller than that of its base.

    Raises:
        ValueError: if the recipe's embedding is too small for it.
    """
    size = int(vocabulary.facts["size"])
    if recipe.objective == "masked":
        size = max(size, _mask_token(vocabulary)[1] + 1)
    if base is not None:
        size = max(size, int(base.json("config.json")["vocab_size"]))
        recipe = recipe.model_copy(update={"vocab_size": 0})
    if recipe.vocab_size and recipe.vocab_size < size:
        raise ValueError(
            f"vocab_size is {recipe.vocab_size}, the vocabulary {vocabulary.key.partition} has {size} tokens. "
            "Set vocab_size to 0, which takes the vocabulary's."
        )
    fields = {name: getattr(recipe, name) for name in GPTRecipe.model_fields}
    return GPTRecipe(**{**fields, "vocab_size": recipe.vocab_size or size})


def job_of(
    mixture: Artifact, recipe: PretrainRecipe, run: str, numerics: dict[str, Any], base: Artifact | None = None,
    teacher: Artifact | None = None,
) -> Job:  # fmt: skip
    """What the trainer is told, but for the directory.

    Raises:
        ValueError: if recipe, plan and vocabulary do not go together.
    """
    if "auto" in (recipe.dtype, recipe.compile):
        raise ValueError("the recipe still holds auto; call training.recipes.resolve before it is hashed.")
    plan = Plan.model_validate(mixture.json("plan.json"))
    if plan.sequence_length != recipe.sequence_length:
        raise ValueError(
            f"the mixture {mixture.key.partition} was cut into sequences of {plan.sequence_length}, the recipe's "
            f"sequence_length is {recipe.sequence_length}. Make them equal."
        )
    masked = recipe.objective == "masked"
    if masked and any(part.stride for part in plan.parts):
        raise ValueError(
            f'the mixture {mixture.key.partition} has packing = "best_fit", and an encoder would learn to guess what '
            'only fills its sequences up. Give it packing = "concatenate".'
        )
    shards, heldout, vocabulary = (mixture.input(n) for n in ("token_shards", "heldout_shards", "vocabulary"))
    header = {
        "run": run, "plan": plan.digest, "mixture": mixture.digest, "vocabulary": vocabulary.digest
    }  # fmt: skip
    if base is not None:
        continuing.check(base, vocabulary, recipe.sequence_length)
        header["base"] = base.digest
    if teacher is not None and recipe.mtp_depth:
        raise ValueError("a teacher says the next token alone: set mtp_depth to 0.")
    if teacher is not None:
        continuing.check(teacher, vocabulary, recipe.sequence_length)
        header["teacher"] = teacher.digest
    return Job(
        kind="pretrain",
        version=PRETRAIN_VERSION,
        run=run,
        model=sized(recipe, vocabulary, base),
        recipe=recipe.identity(),
        numerics=numerics or declared.numerics(recipe.compile),
        plan=plan,
        header=header,
        eos_id=vocabulary.facts["eos_id"],
        pad_id=vocabulary.facts["specials"]["<|pad|>"],
        parts=[JobPart.planned(shards.part(part.shards), mixture, part) for part in plan.parts],
        heldout=[JobPart.of(part, part.key.part) for part in heldout.parts() if part.counts.get("docs", 0)],
        base=JobFile.of(base, "model.safetensors") if base else None,
        teacher=JobFile.of(teacher, "model.safetensors") if teacher else None,
        teacher_model=from_hf_config(teacher.json("config.json")) if teacher else None,
        num_tokens=int(vocabulary.facts["size"]) if masked else 0,
        mask_id=_mask_token(vocabulary)[1] if masked else None,
        tokenizer=JobFile.of(vocabulary, "tokenizer.json") if masked and recipe.whole_words else None,
    )


def _mask_token(vocabulary: Artifact) -> tuple[dict[str, Any], int]:
    """The tokenizer of an encoder, and its token for what is hidden."""
    return with_mask_token(vocabulary.json("tokenizer.json"), int(vocabulary.facts["size"]))


def _copy(checkpoint: Checkpoint, draft: Draft) -> None:
    for name in (MODEL, OPTIMIZER, LOSSES, *NOT_ALWAYS):
        if name not in NOT_ALWAYS or (checkpoint.path / name).exists():
            shutil.copyfile(checkpoint.path / name, draft.path(name))


def _write_companions(draft: Draft, job: Job, vocabulary: Artifact) -> None:
    draft.write_json("config.json", hf_config(job.model, job.eos_id, job.pad_id, mask_id=job.mask_id))
    draft.write_json("plan.json", job.plan.model_dump(mode="json"))
    if job.mask_id is None:
        shutil.copyfile(vocabulary.local("tokenizer.json"), draft.path("tokenizer.json"))
    else:
        text = json.dumps(_mask_token(vocabulary)[0], ensure_ascii=False)
        draft.path("tokenizer.json").write_text(text, encoding="utf-8")


def _heldout(job: Job, recipe: PretrainRecipe, last: Checkpoint, vocabulary: Artifact, say: Say) -> dict[str, Any]:
    """Every evaluation of the run, each also by source, and the baselines."""
    from training.baselines import baselines
    from training.heldout import load_documents

    documents = load_documents(job.heldout)
    readers = {part.name: part.stream() for part in job.parts}
    size = int(vocabulary.facts["size"])
    found = baselines(readers, documents, size, job.eos_id, recipe.baseline_tokens, say)
    return {
        "evaluations": last.state["evaluations"],
        "baselines": found,
        "clean_overlap": recipe.clean_overlap,
    }


def _facts(job: Job, last: Checkpoint, heldout: dict[str, Any]) -> dict[str, Any]:
    score = last.state["evaluations"][-1]
    return {
        "step": last.step,
        "tokens": _tokens(job.plan, last.step),
        "parameters": job.model.num_parameters,
        "loss": last.losses()["loss"][-1].as_py(),
        "heldout_bpb": score["bpb"],
        "heldout_bpb_clean": score["bpb_clean"],
        "heldout_docs": score["docs"],
        "heldout_docs_clean": score["docs_clean"],
        **{name: heldout["baselines"][name] for name in BASELINES},
        "consumption": last.state["consumption"],
        "plan": job.plan.digest,
        **_irregular(last),
    }


def _irregular(last: Checkpoint) -> dict[str, Any]:
    """What a run that went as planned does not have: skipped steps, a change of processes on the way."""
    found: dict[str, Any] = {}
    if (last.path / SKIPPED).exists():
        found["skipped_steps"] = last.table(SKIPPED)["step"].to_pylist()
    if len(last.state["processes"]) > 1:
        found["processes"] = last.state["processes"]
    return found


def _milestones(job: Job, recipe: PretrainRecipe, mixture: Artifact, draft: Draft) -> list[Artifact]:
    """Checkpoints on the way, each an artifact of its own that the run's manifest names by digest."""
    found = []
    for path in sorted((job.directory / "milestones").glob("step-*")):
        checkpoint = opened(path)

        def make(inner: Draft, checkpoint: Checkpoint = checkpoint) -> Artifact:
            _copy(checkpoint, inner)
            _write_companions(inner, job, mixture.input("vocabulary"))
            step, tokens = checkpoint.step, _tokens(job.plan, checkpoint.step)
            facts = {"step": step, "tokens": tokens, "consumption": checkpoint.state["consumption"]}
            return inner.seal(counts={"steps": step, "tokens": tokens}, facts=facts)

        chosen = MilestoneRecipe(**recipe.identity(), step=checkpoint.step)
        found.append(draft.part(path.name, chosen, [mixture], make))
    return found


def _tokens(plan: Plan, steps: int) -> int:
    """Targets that were learnt from."""
    return sum(plan.batch_size(step) for step in range(1, steps + 1)) * plan.sequence_length
