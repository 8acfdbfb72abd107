"""A sweep's runs become a scaling law, with what it predicts of the run that was held back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from evals.scaling_law import Fit, Law, Point, fitted
from evals.scaling_plot import drawn
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from training.models.config import from_hf_config
from training.models.recipe import GPTRecipe

SCALING_VERSION = "2"
FILE, PLOT = "scaling.json", "scaling.svg"
DIGITS = 6  # significant ones of what is published; behind them lies the noise of float kernels
CONSTANTS = ("E", "A", "alpha", "B", "beta")


class ScalingRecipe(Recipe):
    """How a law is fitted to the runs of a sweep."""

    count: Literal["all", "non_embedding"] = Field(
        default="all",
        description="Parameters that N counts: all (Hoffmann et al. 2022), or those outside of embedding, positions and "
        "head (Kaplan et al. 2020)",
    )
    replicates: int = Field(default=200, ge=20, le=10_000, description="Resamples of the runs behind the intervals")
    seed: int = Field(default=0, ge=0, description="Of the resamples")
    held_back: list[str] = Field(default_factory=list, description="Runs that are predicted and not fitted")


def scaling_law(models: Sequence[Artifact], recipe: ScalingRecipe, draft: Draft) -> Artifact:
    """Fit L(N, D) to pretrained models; L is bits per byte on held-out documents, whose exponents are those of nats.

    Args:
        models: of all runs of the sweep.
        recipe: which of them are held back, and how N is counted.
        draft: of ``scaling_law[sweep]``.

    Raises:
        ScalingError: if they are too few, or one has no finite loss.
    """
    rows = [_row(model, recipe) for model in models]
    fit = fitted([_point(row) for row in rows if not row["held_back"]], recipe.replicates, recipe.seed)
    for row in rows:
        low, high = fit.loss_interval(row["N"], row["D"])
        row |= {"predicted": _rounded(fit.law.loss(row["N"], row["D"])), "low": _rounded(low), "high": _rounded(high)}
    constants = {name: _constant(fit, name) for name in CONSTANTS}
    told = {"form": "L = E + A / N^alpha + B / D^beta", "count": recipe.count, "loss": "heldout_bpb",
            "constants": constants, "runs": rows}  # fmt: skip
    draft.write_json(FILE, told)
    draft.path(PLOT).write_text(drawn(rows, law_of(told), draft.key.partition), encoding="utf-8")
    facts = {name: constants[name]["value"] for name in CONSTANTS} | _missed(rows)
    return draft.seal(counts={"runs": len(rows), "fitted": sum(not row["held_back"] for row in rows)}, facts=facts)


def law_of(told: Mapping[str, Any]) -> Law:
    """The law of a ``scaling.json``."""
    return Law(**{name: told["constants"][name]["value"] for name in CONSTANTS})


def num_parameters(recipe: GPTRecipe, count: str) -> int:
    """All of them, or those that stand in the blocks and the last norm."""
    if count == "all":
        return recipe.num_parameters
    rows = recipe.padded_vocab_size * (1 if recipe.tied else 2)
    return recipe.num_parameters - (rows + (recipe.sequence_length if recipe.biases else 0)) * recipe.width


def _row(model: Artifact, recipe: ScalingRecipe) -> dict[str, Any]:
    network = from_hf_config(model.json("config.json"))
    return {
        "run": model.key.partition,
        "N": num_parameters(network, recipe.count),
        "D": model.facts["tokens"],
        "loss": model.facts["heldout_bpb"],
        "held_back": model.key.partition in recipe.held_back,
    }


def _point(row: Mapping[str, Any]) -> Point:
    return Point(row["N"], row["D"], row["loss"])


def _constant(fit: Fit, name: str) -> dict[str, float]:
    low, high = fit.interval(name)
    return {"value": _rounded(getattr(fit.law, name)), "low": _rounded(low), "high": _rounded(high)}


def _missed(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By how much the law missed what it had not seen, as a share of the loss."""
    return {f"missed_by.{row['run']}": _rounded(row["predicted"] / row["loss"] - 1) for row in rows if row["held_back"]}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS - 1}e}")
