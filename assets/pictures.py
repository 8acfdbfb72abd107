"""What a source looks like, in the UI: plots, and examples of what went.

Dagster's Markdown keeps pictures whose data stand in their address. What is shorter than 1,000 characters it shows on
the page itself, anything longer behind a click. All of it is a row of the event log, so it is kept small.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.examples import examples
from assets.markdown import num_bytes
from assets.model_pictures import model_pictures
from pipelines.provenance.artifact import Artifact

if TYPE_CHECKING:
    import pyarrow as pa

INLINE = 1000  # characters, and no more, that Dagster shows without a click
PLOT_BYTES, EXAMPLE_BYTES = 20_000, 20_000


def shown(artifact: Artifact) -> dict[str, dg.MetadataValue]:
    """Pictures and examples by name, for cleaned documents, profiles and models; nothing for anything else."""
    from pipelines.clean import SIGNALS
    from pipelines.profile.measure import PAGE

    if artifact.key.asset == "scaling_law":
        return {"plot_law": dg.MetadataValue.md(_of_law(artifact)), "law": dg.MetadataValue.json(_law(artifact))}
    if PAGE in artifact.names():
        found = {name: dg.MetadataValue.md(text) for name, text in _of_profile(artifact).items()}
        return {**found, "page": dg.MetadataValue.path(f"{artifact.store.url}/{artifact.prefix}/{PAGE}")}
    if SIGNALS in artifact.names() and artifact.inputs("raw_documents"):
        return {name: dg.MetadataValue.md(text) for name, text in _of_documents(artifact).items() if text}
    return {name: dg.MetadataValue.md(text) for name, text in model_pictures(artifact).items()}


def _of_profile(artifact: Artifact) -> dict[str, str]:
    from pipelines.profile.measure import read_profile

    return _plots(*read_profile(artifact), artifact.input("clean_documents"))


def _of_documents(artifact: Artifact) -> dict[str, str]:
    from pipelines.profile.measure import Tally
    from pipelines.profile.signal_counts import bounds, counted_signals

    tally = Tally()
    tally.add_judged(artifact.input("raw_documents"), artifact)
    plots = _plots(tally.table(artifact.key.partition), counted_signals(artifact), artifact)
    return {"examples": examples(artifact, bounds(artifact), EXAMPLE_BYTES), **plots}


def _of_law(artifact: Artifact) -> str:
    from evals.scaling import PLOT
    from pipelines.profile.plots import as_markdown

    return as_markdown(artifact.local(PLOT).read_text(encoding="utf-8"), f"scaling law of {artifact.key.partition}")


def _law(artifact: Artifact) -> dict[str, Any]:
    from evals.scaling import FILE

    return artifact.json(FILE)


def _plots(table: pa.Table, signals: pa.Table, clean: Artifact) -> dict[str, str]:
    from pipelines.profile.measure import names_of
    from pipelines.profile.page import overview, signal_pictures
    from pipelines.profile.plots import as_markdown
    from pipelines.profile.signal_counts import bounds

    lines, reasons = bounds(clean), names_of(table, "reason")
    gone: dict[str, int] = {}
    for line in lines:
        gone[line.signal] = gone.get(line.signal, 0) + reasons.get(f"dropped: {line.reason}", 0)
    drawn: dict[str, str] = {}
    for rows in range(6, 2, -1):  # as many bars as leave it short enough for the page itself
        for picture in overview(table, rows):
            if len(drawn.get(f"plot_{picture.name}", "x" * INLINE)) >= INLINE:
                drawn[f"plot_{picture.name}"] = as_markdown(picture.svg, picture.title)
    histograms = sorted(signal_pictures(signals, lines), key=lambda p: -gone[p.name])  # what dropped most comes first
    told = _within((f"**{p.title}**\n\n{as_markdown(p.svg, p.title)}" for p in histograms), PLOT_BYTES)
    return {**drawn, **({"plot_signals": told} if told else {})}


def _within(texts: Iterable[str], most: int) -> str:
    """As many of the texts as there is room for."""
    taken: list[str] = []
    for text in texts:
        most -= num_bytes(text)
        if most < 0:
            break
        taken.append(text)
    return "\n\n".join(taken)
