"""Compression as a stage: a pretrained model becomes a smaller one, with what that costs on held-out text.

Quantised models keep their matrices as small integers, pruned ones as bits and values; either is restored as the file is
read, so whatever takes a checkpoint takes these. No torch here but inside functions.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import file_entry
from pipelines.provenance.plan import Plan, PlanPhase, Segment
from pipelines.provenance.recipe import Recipe
from training import numerics as declared
from training.job import Job, JobFile, JobPart
from training.models.config import from_hf_config
from training.pretrain import job_of
from training.recipes import PretrainRecipe
from training.trainer import Launch, Say, last_checkpoint, placed, run_job

if TYPE_CHECKING:
    from torch import Tensor

    from training.models.gpt import GPT

COMPRESSION_VERSION = "1"
MODEL = "model.safetensors"
PROBES = 8  # pieces of held-out documents whose logits are compared


class CompressionRecipe(Recipe):
    """How a model is made smaller."""

    method: Literal["int8", "int4", "int8_dynamic", "prune"] = Field(
        description="int8: a scale a row; int4: a scale a group; int8_dynamic: activations in int8 as well, as they come; "
        "prune: the smallest weights become zero"
    )
    group: int = Field(default=32, ge=2, le=1024, description="int4: inputs that share a scale; divides every row")
    embeddings: bool = Field(
        default=True, description="int8 and int4: embedding and head too, always in int8 with a scale a row"
    )
    sparsity: float = Field(default=0.5, gt=0, lt=1, description="prune: share of the projections' weights that goes")
    scope: Literal["matrix", "global"] = Field(
        default="matrix", description="prune: this share of every matrix, or of all together"
    )
    recovery_steps: int = Field(
        default=0, ge=0, description="prune: steps of training on the run's own mixture, the zeros kept"
    )
    recovery_learning_rate: float = Field(default=1e-3, gt=0, le=1, description="Peak of them, then a cosine down")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.recovery_steps and self.method != "prune":
            raise ValueError(
                f"recovery_steps ({self.recovery_steps}) is for method = 'prune': integers are not trained."
            )
        return self


def compress(
    base: Artifact,
    recipe: CompressionRecipe,
    draft: Draft,
    *,
    numerics: Mapping[str, Any] | None = None,
    launch: Launch | None = None,
    scratch: Path | None = None,
    say: Say = print,
) -> Artifact:
    """Compress a model and measure it against its base on the same held-out text, with the same arithmetic (fp32).

    Args:
        base: a ``pretrained_model`` that is a decoder.
        recipe: the method.
        draft: of ``compressed_model``.
        numerics: the block that the draft was opened with; default what this machine gives.
        launch: how the trainer of a recovery is started; default a child process.
        scratch: directory for its rolling checkpoints; default the store's.
        say: told every line that it prints.

    Raises:
        ValueError: for an encoder, or matrices that the method cannot take.
        TrainingError: if the recovery fails; the next build goes on from its last checkpoint.
    """
    from training.weights import load_weights

    weights = load_weights(base.local(MODEL))
    names = projections(base, weights, recipe)
    facts: dict[str, Any] = {"method": recipe.method, "step": base.facts["step"], "tokens": base.facts["tokens"],
                             "parameters": base.facts["parameters"]}  # fmt: skip
    path = draft.path(MODEL)
    _save(path, base, recipe, weights, names)
    if recipe.recovery_steps:
        job = _recovery(base, recipe, path, draft.key.partition, dict(numerics or {}))
        facts |= _recovered(placed(job, scratch or draft.store.scratch), base, recipe, draft, names, launch, say)
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(base.local(name), draft.path(name))
    facts |= _sizes(base, path) | _measured(base, path)
    if recipe.method == "prune":
        from training.pruning import num_zeros

        facts["zeros"] = num_zeros(load_weights(path), names)
        facts["sparsity"] = round(facts["zeros"] / sum(weights[name].numel() for name in names), 6)
    return draft.seal(counts={"parameters": facts["parameters"], "bytes": facts["bytes"]}, facts=facts)


def projections(base: Artifact, weights: Mapping[str, Tensor], recipe: CompressionRecipe) -> list[str]:
    """Names of the matrices of the blocks, as they are published.

    Raises:
        ValueError: if the method is not for this network.
    """
    from training.quantisation import is_embedding

    network = from_hf_config(base.json("config.json"))
    if network.objective == "masked":
        raise ValueError(f"{base.key} is an encoder; compression is for decoders (objective = 'causal').")
    if recipe.method == "int8_dynamic" and network.blocks == "gpt2":
        raise ValueError(
            f"{base.key} is a gpt2, whose projections are stored joined: int8_dynamic is for llama's shape."
        )
    return [name for name, weight in sorted(weights.items()) if weight.ndim == 2 and not is_embedding(name)]


def _save(
    path: Path, base: Artifact, recipe: CompressionRecipe, weights: Mapping[str, Tensor], names: Sequence[str]
) -> None:
    from training.networks import COMPRESSION
    from training.pruning import pruned, sparse
    from training.quantisation import is_embedding, quantised
    from training.weights import save_weights, weights_metadata

    header = weights_metadata(base.local(MODEL)) | {COMPRESSION: recipe.method, "base": base.digest}
    if recipe.method == "prune":
        stored = sparse(pruned(weights, names, recipe.sparsity, recipe.scope), names)
    else:
        bits = dict.fromkeys(names, 4 if recipe.method == "int4" else 8)
        if recipe.embeddings:
            bits |= {name: 8 for name, weight in weights.items() if is_embedding(name) and weight.ndim == 2}
        transposed = from_hf_config(base.json("config.json")).blocks == "gpt2"
        stored = quantised(weights, bits, recipe.group, transposed)
    save_weights(path, stored, header)


# -- recovery ----------------------------------------------------------------------------------------------------------


def _recovery(base: Artifact, recipe: CompressionRecipe, path: Path, name: str, numerics: dict[str, Any]) -> Job:
    """Training from pruned weights, on a short plan over the parts of the run's own."""
    fields = base.manifest.recipe | {
        "mtp_depth": 0,
        "learning_rate": recipe.recovery_learning_rate, "warmup_steps": min(10, recipe.recovery_steps // 10),
        "schedule": "cosine", "optimizer": "adamw", "compile": "off", "milestone_every": 0, "eval_every": 0, "patience": 0,
    }  # fmt: skip
    here = numerics or declared.numerics("off")
    job = job_of(base.input("mixture"), PretrainRecipe.model_validate(fields), name, here)
    plan = shortened(job.plan, recipe.recovery_steps)
    entry = file_entry(path.parent, path.name)
    started = JobFile(path=path, bytes=entry.bytes, blake3=entry.blake3)
    header = {"run": name, "base": base.digest, "plan": plan.digest, "vocabulary": job.header["vocabulary"]}
    network = from_hf_config(base.json("config.json")).model_copy(update={"dropout": base.manifest.recipe["dropout"]})
    return job.model_copy(
        update={"plan": plan, "model": network, "base": started, "keep_zeros": True, "heldout": [], "header": header,
                "version": f"recovery {COMPRESSION_VERSION}"}
    )  # fmt: skip


def shortened(plan: Plan, steps: int) -> Plan:
    """A plan of so many steps over the same parts, each in its share of the whole; it begins with an order of its own."""
    batch = plan.segments[-1].batch_size
    shares = [sum(phase.slots[part] for phase in plan.phases) for part in range(len(plan.parts))]
    edges = [batch * steps * sum(shares[: place + 1]) // sum(shares) for place in range(len(shares))]
    slots = [after - before for before, after in zip([0, *edges], edges, strict=False)]
    segment = Segment(first_step=1, first_slot=0, batch_size=batch)
    return plan.model_copy(update={"phases": [PlanPhase(slots=slots)], "segments": [segment]})


def _recovered(
    job: Job,
    base: Artifact,
    recipe: CompressionRecipe,
    draft: Draft,
    names: Sequence[str],
    launch: Launch | None,
    say: Say,
) -> dict[str, Any]:
    """Train, and put the weights in the place of those that it began with."""
    from training.pruning import sparse
    from training.weights import load_weights, save_weights, weights_metadata

    before = _measured(base, draft.path(MODEL))
    times = run_job(job, launch, say)
    last = last_checkpoint(job, say)
    draft.circumstance.update({"training": times})
    header = weights_metadata(draft.path(MODEL)) | {"recovery_steps": str(recipe.recovery_steps)}
    save_weights(draft.path(MODEL), sparse(load_weights(last.path / MODEL), names), header)
    shutil.copyfile(last.path / "losses.arrow", draft.path("losses.arrow"))
    draft.write_json("plan.json", job.plan.model_dump(mode="json"))
    shutil.rmtree(job.directory, ignore_errors=True)
    return {"unrecovered_bpb": before["heldout_bpb"], "recovery_consumption": last.state["consumption"]}


# -- what it costs -----------------------------------------------------------------------------------------------------


def _sizes(base: Artifact, path: Path) -> dict[str, Any]:
    size, whole = path.stat().st_size, base.entry(MODEL).bytes
    return {"bytes": size, "base_bytes": whole, "bytes_ratio": round(size / whole, 6)}


def _measured(base: Artifact, path: Path) -> dict[str, Any]:
    """Bits per byte on all held-out documents, of base and compressed; how far apart their logits are."""
    import torch

    from training.heldout import document_losses, load_documents, piece_losses, pieces, scores
    from training.networks import network_of

    heldout = base.input("mixture").input("heldout_shards")
    documents = load_documents([JobPart.of(p, p.key.part) for p in heldout.parts() if p.counts.get("docs", 0)])
    config = base.json("config.json")
    shape = from_hf_config(config)
    cut = pieces(documents, shape.sequence_length, config["eos_token_id"])
    overlap = float(base.manifest.recipe.get("clean_overlap", 0.5))
    networks = {"base_": network_of(shape, base.local(MODEL)), "": network_of(shape, path)}
    found: dict[str, Any] = {}
    for name, network in networks.items():
        losses = document_losses(documents, cut, piece_losses(network, cut, torch.device("cpu")))
        told = scores(documents, losses, overlap)
        found |= {f"{name}heldout_bpb": told["bpb"], f"{name}heldout_bpb_clean": told["bpb_clean"]}
    return found | _logits(networks["base_"], networks[""], [piece.tokens for piece in cut[:PROBES]])


def _logits(base: GPT, compressed: GPT, texts: Sequence[Any]) -> dict[str, float]:
    """Root mean square of the difference as a share of the logits', and how often the likeliest token is the same."""
    import torch

    off = size = same = count = 0.0
    with torch.no_grad():
        for tokens in texts:
            tokens_BT = torch.from_numpy(tokens[None, :-1])
            here, there = base(tokens_BT).double(), compressed(tokens_BT).double()
            off, size = off + float((here - there).square().sum()), size + float(here.square().sum())
            same += float((here.argmax(-1) == there.argmax(-1)).sum())
            count += tokens_BT.numel()
    return {
        "logits_error": float(f"{math.sqrt(off / size):.3e}") if size else 0.0,
        "same_top_token": round(same / max(count, 1), 4),
    }
