"""Replay: steps of a sealed run taken again, from the nearest checkpoint before them, and compared with its record.

The order is closed form, random numbers are seeded anew for each microbatch and checkpoints are exact: on a machine with
the run's own numerics, loss and gradient norm come out the same to the last bit.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines import consumption
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.lineage import bases, teacher
from training import numerics as declared
from training.checkpoints import LOSSES, MODEL, OPTIMIZER
from training.guard import SKIPPED
from training.pretrain import NOT_ALWAYS, job_of
from training.recipes import PretrainRecipe

CLOSE = 1e-2  # relative: bf16 on other kernels differs by some 1e-3 after a few steps
FILES = (MODEL, OPTIMIZER, LOSSES)


def replay(model: Artifact, step: int, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Take a step of a ``pretrained_model`` again.

    Returns:
        ``recorded`` and ``replayed`` (loss and gradient norm), ``equal`` (to the bit), ``close``, ``same_numerics``,
        ``from_step`` (of the checkpoint; 0: the run's start) and ``tokens`` of the step.

    Raises:
        ValueError: if the run has not taken the step.
    """
    recorded = _recorded(model, step)
    with tempfile.TemporaryDirectory() as scratch:
        from_step, tokens, row = _taken(model, step, Path(scratch), say)
    same = declared.numerics(model.manifest.numerics["compile"]) == model.manifest.numerics
    pairs = [(recorded[name], row[name]) for name in ("loss", "grad_norm")]
    return {
        "step": step,
        "from_step": from_step,
        "tokens": tokens,
        "recorded": recorded,
        "replayed": row,
        "equal": all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in pairs),
        "close": all(math.isclose(a, b, rel_tol=CLOSE) or (math.isnan(a) and math.isnan(b)) for a, b in pairs),
        "same_numerics": same,
    }


def _recorded(model: Artifact, step: int) -> dict[str, float]:
    tables = [model.table("losses.arrow"), *([model.table(SKIPPED)] if SKIPPED in model.names() else [])]
    for table in tables:
        for row in table.select(["step", "loss", "grad_norm"]).to_pylist():
            if row["step"] == step:
                return {"loss": row["loss"], "grad_norm": row["grad_norm"]}
    raise ValueError(f"{model.key} took steps 1 to {model.facts['step']}, not {step}.")


def _milestones(model: Artifact) -> list[Artifact]:
    return model.parts() if model.manifest.parts else []


def nearest(model: Artifact, step: int) -> Artifact | None:
    """The last milestone that a step can be taken from; None: only the start."""
    before = [part for part in _milestones(model) if part.facts["step"] < step]
    return max(before, key=lambda part: part.facts["step"], default=None)


def _taken(model: Artifact, step: int, scratch: Path, say: Callable[[str], None]) -> tuple[int, int, dict[str, float]]:
    """Steps from the nearest checkpoint to ``step``, by the loop itself, on one process."""
    import torch

    from training.checkpoints import Checkpoint
    from training.loop import Run, _State
    from training.pretraining import Pretraining
    from training.run import device_of

    recipe = PretrainRecipe.model_validate(model.manifest.recipe)
    here = declared.numerics(recipe.compile)
    job = job_of(model.input("mixture"), recipe, model.key.partition, here, next(bases(model), None), teacher(model))
    device = device_of(here)
    task = Pretraining(job, recipe, device, 0, 1)
    state = _State(Run(task, recipe, scratch, {}, job.identity, device, say=lambda line: None))
    start = nearest(model, step)
    if start is not None:
        for name in (*FILES, *(name for name in NOT_ALWAYS if name in start.names())):
            shutil.copyfile(start.local(name), scratch / name)
        facts = {"step": start.facts["step"], "consumption": start.facts["consumption"]}
        state.load(
            Checkpoint(scratch, {**facts, "evaluations": [], "processes": [[1, 1, torch.get_num_threads(), ""]]})
        )
    began = state.step
    say(f"from step {began} ({'a milestone' if start else 'the start'}), {step - began} steps to take")
    for batch in task.batches.steps(began + 1, step):
        state.take(batch)
    state.drain()
    tokens = job.plan.batch_size(step) * job.plan.sequence_length
    if state.skipped and state.skipped[-1][0] == step:
        return began, tokens, {"loss": state.skipped[-1][1], "grad_norm": state.skipped[-1][2]}
    return began, tokens, {"loss": state.rows[-1].loss, "grad_norm": state.rows[-1].grad_norm}


def verified(model: Artifact) -> list[dict[str, Any]]:
    """Of the run and each of its milestones: what the trainer fed by its own account, and by the shards and the plan.

    Raises:
        ValueError: for a fine-tune, whose steps read examples.
    """
    from pipelines.provenance.trace import Tracer

    tracer = Tracer(model)
    found = []
    for artifact in [*_milestones(model), model]:
        steps = artifact.facts["step"]
        fed = consumption.recompute_consumption(tracer.plan, tracer.readers, steps)
        found.append(
            {"step": steps, "sealed": artifact.facts["consumption"], "recomputed": fed, "manifest": artifact.digest,
             "equal": fed == artifact.facts["consumption"]}
        )  # fmt: skip
    return found
