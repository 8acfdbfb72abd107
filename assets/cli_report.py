"""stemma report: what a training was, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assets.cli import StoreOption, WrongUseError, app, console, open_store
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.store import Store


@app.command()
def report(
    names: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Runs or fine-tunes that have been trained, side by side")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="PATH", help="File or directory for the page.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="What stands along the bottom: steps or tokens.")] = "steps",
    store: StoreOption = "",
) -> None:
    """Write one HTML file of loss, gradient norm, learning rate, held-out text by source, speed, data and digests.

    It runs no script and needs no network, by day and by night. Several runs share its charts: those that read other
    batch sizes compare by tokens (--by tokens).
    """
    from assets.report import report as page
    from assets.run_facts import RunFacts

    if by not in ("steps", "tokens"):
        raise WrongUseError(f"--by {by}: there are steps and tokens.")
    the_store = open_store(store)
    try:
        runs = [RunFacts.of(the_store, name) for name in dict.fromkeys(names)]
    except StoreError as error:
        raise WrongUseError(str(error)) from None
    path = default_path(the_store, [run.artifact for run in runs])
    if out is not None:
        path = out / path.name if out.is_dir() else out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(runs, "tokens" if by == "tokens" else "steps"), encoding="utf-8")
    console.print(f"{path}: open it in a browser; it needs no network", markup=False, highlight=False, soft_wrap=True)


def default_path(store: Store, artifacts: list[Artifact]) -> Path:
    """Beside the artifacts and no part of them, named by what it tells of."""
    names = "+".join(artifact.key.partition.replace("/", "-") for artifact in artifacts)
    digests = "-".join(artifact.digest[: 16 if len(artifacts) == 1 else 8] for artifact in artifacts)
    return store.scratch.parent / "reports" / names / f"report-{digests}.html"
