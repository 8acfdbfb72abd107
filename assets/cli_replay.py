"""stemma audit verify-run and stemma replay: prove what a run was fed, and take one of its steps again."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from assets.cli import (
    UNVERIFIED,
    JsonOption,
    StoreOption,
    WrongUseError,
    app,
    audit_app,
    console,
    open_store,
    show_json,
    table,
)
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import checkpoint

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run that has been trained")]


@audit_app.command("verify-run")
def verify_run(name: RunArgument = "demo", json: JsonOption = False, store: StoreOption = "") -> None:
    """Recompute the digest of every sequence that a run was fed, from the shards and the plan alone.

    The trainer chained it while it fed them; the run and each of its milestones must agree. Exit code 4 if not.
    """
    from training.replay import verified

    found = _run(name, store)
    links = verified(found)
    if json:
        show_json(
            {"run": name, "manifest": found.digest, "equal": all(e["equal"] for e in links), "checkpoints": links}
        )
    else:
        rows = [
            [e["step"], e["sealed"][:16], e["recomputed"][:16], "equal" if e["equal"] else "NOT EQUAL"] for e in links
        ]
        console.print(table(f"{name}: consumption", "#step", "as fed", "from the shards", "verdict", rows=rows))
    if not all(e["equal"] for e in links):
        raise typer.Exit(UNVERIFIED)


@app.command()
def replay(
    name: RunArgument,
    step: Annotated[int, typer.Option("--step", min=1, help="Step of the run, from 1")],
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """Take one step of a run again, from the nearest checkpoint before it, and compare loss and gradient norm.

    With the run's own numerics they are equal to the last bit; exit code 4 if they are not. Elsewhere they are equal to
    rounding.
    """
    from training.replay import replay as taken_again

    try:
        found = taken_again(
            _run(name, store), step, lambda line: None if json else console.print(line, highlight=False)
        )
    except ValueError as error:
        raise WrongUseError(str(error)) from None
    agrees = found["equal"] or (found["close"] and not found["same_numerics"])
    if json:
        show_json({"run": name, "agrees": agrees, **found})
    else:
        _show(name, found, agrees=agrees)
    if not agrees:
        raise typer.Exit(UNVERIFIED)


def _show(name: str, found: dict[str, Any], *, agrees: bool) -> None:
    rows = [[what, repr(found["recorded"][what]), repr(found["replayed"][what])] for what in ("loss", "grad_norm")]
    console.print(table(f"{name}: step {found['step']}", "what", "recorded", "replayed", rows=rows))
    how = "the run's own numerics" if found["same_numerics"] else "other numerics than the run's"
    verdict = "equal to the last bit" if found["equal"] else "equal to rounding" if agrees else "not equal"
    console.print(escape(f"{verdict}, with {how}"), highlight=False)


def _run(name: str, store: str) -> Artifact:
    the_store = open_store(store)
    try:
        found = checkpoint(the_store, name)
    except StoreError as error:
        raise WrongUseError(str(error)) from None
    if found.key.asset != "pretrained_model":
        base = found.input("pretrained_model").key.partition
        raise WrongUseError(f"{name} is a fine-tune, whose steps read examples; ask its base, {base}.")
    return found
