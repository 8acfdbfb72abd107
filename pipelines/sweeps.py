"""Sweeps: one table of the spec that stands for a ladder of runs, each an ordinary run of the graph.

    [sweeps.ladder]
    base = "demo"                         # corpus, mixture and training of its runs, but for what follows
    tokens = [250_000, 500_000, 1_000_000]
    held_back = "w128"                    # trained with the largest budget only, predicted and not fitted

    [sweeps.ladder.sizes]
    w32 = { width = 32, layers = 2 }
    w128 = { preset = "nano" }

gives the runs ladder/w32-250k, ladder/w32-500k, … Every run has a learning-rate schedule of its own length: the middle
of a longer run would not do (Hoffmann et al. 2022, arXiv:2203.15556, section 3.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.mixture_recipe import MixtureRecipe
from pipelines.provenance.manifest import checked_partition

HEAD_WIDTH = 32  # channels of a head where a size names its width alone, as in the preset nano
MLP_STEP = 32  # the width of its feed-forward is a multiple of this


class SweepError(ValueError):
    """A sweep that cannot be expanded."""


class SweepSpec(BaseModel):
    """A ladder of runs and the law that is fitted to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    base: str
    tokens: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    sizes: dict[Annotated[str, AfterValidator(checked_partition)], dict[str, Any]] = Field(min_length=1)
    held_back: str = ""
    law: dict[str, Any] = {}


def run_names(name: str, sweep: SweepSpec) -> dict[str, tuple[str, int]]:
    """Size and token budget of every run of a sweep, by the run's name."""
    budgets = sorted(set(sweep.tokens))
    return {
        f"{name}/{size}-{shortened(tokens)}": (size, tokens)
        for size in sweep.sizes
        for tokens in (budgets if size != sweep.held_back else budgets[-1:])
    }


def held_back(name: str, sweep: SweepSpec) -> list[str]:
    """Names of the runs that the law is not fitted to."""
    return [run for run, (size, _) in run_names(name, sweep).items() if size == sweep.held_back]


def run_tables(name: str, sweep: SweepSpec, base: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The table ``[runs.…]`` of every run, given that of the base.

    Raises:
        SweepError: if the held-back size does not exist, or the base's batches grow.
    """
    if sweep.held_back and sweep.held_back not in sweep.sizes:
        raise SweepError(f"held_back {sweep.held_back!r} is none of its sizes: {', '.join(sweep.sizes)}")
    mixture = base.get("mixture", {})
    if mixture.get("batch_warmup"):
        raise SweepError(f"its base {sweep.base!r} has batch_warmup; the runs of a sweep have batches of one size")
    batch, length = (mixture.get(n, MixtureRecipe.model_fields[n].default) for n in ("batch_size", "sequence_length"))
    found = {}
    for run, (size, tokens) in run_names(name, sweep).items():
        steps = -(-tokens // (batch * length))
        training = {**base.get("training", {}), **proportioned(sweep.sizes[size])}
        found[run] = {**base, "mixture": {**mixture, "steps": steps}, "training": training}
    return found


def proportioned(size: Mapping[str, Any]) -> dict[str, Any]:
    """A size that names its width without heads or feed-forward gets those of the usual proportions."""
    if "width" not in size:
        return dict(size)
    width = int(size["width"])
    heads = int(size.get("heads", max(1, width // HEAD_WIDTH)))
    wanted = 4 * width if size.get("blocks") == "gpt2" else 8 * width / 3
    usual = {"heads": heads, "kv_heads": heads, "mlp_width": -int(-wanted // MLP_STEP) * MLP_STEP}
    return {**usual, **size}


def shortened(number: int) -> str:
    """250000 as 250k, 1000000 as 1M; what is not round stays as it is."""
    for unit, sign in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number % unit == 0:
            return f"{number // unit}{sign}"
    return str(number)
