"""stemma scaling: the law of a sweep, what it predicted, and how to spend a budget by it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assets.cli import JsonOption, StoreOption, WrongUseError, app, console, open_store, show_json, table
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec

ASSET = "scaling_law"
BEYOND = (1, 10, 100)  # budgets that are told unasked, in units of what the largest run took
FLOPS_OF = "6 N D"


@app.command()
def scaling(
    sweep: Annotated[str, typer.Argument(help="A sweep of stemma.toml that has been run (`stemma run SWEEP`)")],
    flops: Annotated[
        list[float] | None,
        typer.Option("--flops", min=1, help="A budget of operations, such as 1e18, to spend best; may be repeated"),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the plot (SVG) there")] = None,
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """The scaling law that a sweep's runs were fitted to: constants, prediction against measurement, best N and D.

    L(N, D) = E + A / N^alpha + B / D^beta, with L in bits per byte of held-out text (Hoffmann et al. 2022). Intervals
    are those of 95 % over resampled runs: they tell how far the runs agree, not whether the law holds further out.
    """
    artifact = law_of_sweep(open_store(store), sweep)
    if out is not None:
        if not out.parent.is_dir():
            raise WrongUseError(f"--out {out}: there is no directory {out.parent}; make it first.")
        from evals.scaling import PLOT

        out.write_bytes(artifact.local(PLOT).read_bytes())
    found = described(artifact, flops or [])
    if json:
        show_json(found)
        return
    _show(sweep, found)
    if out is not None:
        console.print(f"plot: {out}", markup=False, highlight=False, soft_wrap=True)


def law_of_sweep(store: Store, sweep: str) -> Artifact:
    """The published law.

    Raises:
        WrongUseError: if there is none; the message says how it is made.
    """
    found = store.get(Key(ASSET, sweep))
    if found is None:
        there = sorted({key.partition for key in store.keys() if key.asset == ASSET})
        raise WrongUseError(
            f"no scaling law of {sweep!r} in {store.url}; there are: {', '.join(there) or 'none'}. "
            f"`stemma run {sweep}` makes it from the table [sweeps.{sweep}] of stemma.toml."
        )
    return found


def described(artifact: Artifact, flops: list[float]) -> dict[str, Any]:
    """What is sealed, and the best N and D of some budgets."""
    from evals.scaling import FILE, law_of
    from evals.scaling_law import FLOPS, ScalingError

    told = artifact.json(FILE)
    law = law_of(told)
    largest = FLOPS * max(row["N"] * row["D"] for row in told["runs"])
    best: list[dict[str, Any]] = []
    for budget in flops or [largest * beyond for beyond in BEYOND]:
        try:
            size, tokens = law.optimum(budget)
        except ScalingError as error:
            return {"sweep": artifact.key.partition, **told, "largest_flops": largest, "optimum": str(error)}
        best.append({"flops": budget, "N": round(size), "D": round(tokens), "loss": law.loss(size, tokens)})
    return {
        "sweep": artifact.key.partition,
        "digest": artifact.digest,
        **told,
        "largest_flops": largest,
        "optimum": best,
    }


def show_built(spec: Spec, store: Store, name: str, built: int, seconds: float, *, as_json: bool) -> None:
    """What `stemma run` says of a sweep, or of one of its runs, when it has ended."""
    if name not in spec.document.sweeps:
        found = store.open("pretrained_model", name)
        told = {
            "run": name,
            "built": built,
            "seconds": round(seconds, 1),
            "model": {"digest": found.digest, **found.facts},
        }
    else:
        told = {"run": name, "built": built, "seconds": round(seconds, 1), **described(law_of_sweep(store, name), [])}
    if as_json:
        show_json(told)
        return
    done = f"{built} steps built in {seconds:.0f} s" if built else "nothing to do, everything is as stemma.toml says"
    console.print(f"{name}: {done}.", markup=False, highlight=False)
    if "constants" in told:
        _show(name, told)
    else:
        console.print(f"held-out bits per byte: {told['model']['heldout_bpb']:.3f}", highlight=False)


def _show(sweep: str, found: dict[str, Any]) -> None:
    rows = [
        [row["run"], row["N"], row["D"], f"{row['loss']:.4f}", f"{row['predicted']:.4f}",
         f"{row['predicted'] / row['loss'] - 1:+.2%}", _interval(row), "held back" if row["held_back"] else ""]
        for row in found["runs"]
    ]  # fmt: skip
    columns = ("run", "#parameters (N)", "#tokens (D)", "#measured", "#law", "#off", "#interval of the law", "")
    console.print(table(f"{sweep}: held-out bits per byte", *columns, rows=rows))
    counted = {"all": "all parameters", "non_embedding": "parameters outside of embedding and head"}[found["count"]]
    constants = [
        [
            name,
            f"{each['value']:.4g}",
            _interval(each),
            "" if is_determined(each) else "hardly determined by these runs",
        ]
        for name, each in found["constants"].items()
    ]
    console.print(table(f"{found['form']}, N: {counted}", "constant", "#value", "#95 % interval", "", rows=constants))
    if isinstance(found["optimum"], str):
        console.print(found["optimum"], markup=False, highlight=False)
        return
    best = [
        [f"{each['flops']:.3g}", each["N"], each["D"], f"{each['D'] / each['N']:.1f}", f"{each['loss']:.4f}",
         "" if is_near(each, found["runs"]) else "far beyond the runs"]
        for each in found["optimum"]
    ]  # fmt: skip
    columns = ("#operations", "#parameters (N)", "#tokens (D)", "#D/N", "#loss", "")
    console.print(table(f"where the law has a budget of {FLOPS_OF} operations spent best", *columns, rows=best))


def is_determined(constant: dict[str, float]) -> bool:
    """Whether resamples of the runs agree on a constant within a factor of ten."""
    return 0 < constant["high"] <= 10 * constant["low"]


def is_near(best: dict[str, Any], runs: list[dict[str, Any]]) -> bool:
    """Whether a size and a number of tokens lie within ten times those of the runs."""
    return all(min(r[n] for r in runs) / 10 <= best[n] <= 10 * max(r[n] for r in runs) for n in ("N", "D"))


def _interval(each: dict[str, float]) -> str:
    return f"{each['low']:.4g} to {each['high']:.4g}"
