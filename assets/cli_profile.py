"""stemma show source_profile: a profile as tables, or its page as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from assets.cli import WrongUseError, console, show_json, table
from pipelines.provenance.artifact import Artifact

ASSET = "source_profile"
_TITLES = {
    "fate": "what became of the documents",
    "reason": "why they went",
    "length_in": "words a document, as they came in",
    "length": "words a document, of those kept",
    "language": "languages, of those kept",
    "licence": "licences, of those kept",
    "masked": "places masked",
    "cut": "places cut",
    "domain": "domains of most documents, of those kept",
}
_SUMS = ("docs", "num_bytes", "num_words", "places")


def show_profiles(artifacts: list[Artifact], limit: int, as_json: bool, out: Path | None) -> None:
    """Tables of every profile, its rows as JSON, or the page of one.

    Raises:
        WrongUseError: if a page is asked for and there are several.
    """
    from pipelines.profile.measure import PAGE, read_profile

    if out is not None:
        if len(artifacts) > 1:
            sources = ", ".join(artifact.key.partition for artifact in artifacts)
            raise WrongUseError(f"--out writes the page of one source; name it, of {sources}.")
        out.write_bytes(artifacts[0].local(PAGE).read_bytes())
        console.print(
            f"{out}: open it in a browser; it needs no network", markup=False, highlight=False, soft_wrap=True
        )
        return
    if as_json:
        show_json([row for artifact in artifacts for row in read_profile(artifact)[0].to_pylist()])
        return
    for artifact in artifacts:
        _show(artifact, limit)


def _show(artifact: Artifact, limit: int) -> None:
    from pipelines.profile.measure import DIMENSIONS, names_of, read_profile
    from pipelines.profile.plots import plain

    rows, _ = read_profile(artifact)
    console.rule(escape(artifact.key.partition), align="left")
    for dimension in DIMENSIONS:
        sums: dict[str, dict[str, int]] = {column: names_of(rows, dimension, column) for column in _SUMS}
        names = list(sums["docs"])
        if not dimension.startswith("length"):
            names.sort(key=lambda name: (-sums["docs"][name], name))
        columns = _SUMS if dimension in ("masked", "cut") else _SUMS[:-1]
        cells: list[list[Any]] = [
            [plain(name, 80) or "(none)", *(sums[column][name] for column in columns)] for name in names
        ]
        if cells:
            heads = ["name", *(f"#{column.removeprefix('num_')}" for column in columns)]
            console.print(
                table(_TITLES[dimension], *heads, rows=cells if dimension.startswith("length") else cells[:limit])
            )
            if len(cells) > limit and not dimension.startswith("length"):
                console.print(f"  … {len(cells) - limit:,} more; -n {len(cells)} shows them", highlight=False)
