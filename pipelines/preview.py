"""Preview: the funnel that other thresholds would give, from the signals that cleaning stored. Nothing is recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from pipelines.clean import SIGNALS
from pipelines.clean_recipe import CleanRecipe
from pipelines.judgement import active_rules, broken_rule, measured_alike, thresholds
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import KEPT
from pipelines.provenance.tables import read_batches

if TYPE_CHECKING:
    import polars as pl


class Example(NamedTuple):
    """A document beside the line: where it would stand, and how far from the bound that was moved."""

    artifact: Artifact
    doc_id: bytes
    reason: str  # empty: it would be kept
    value: float | None
    before: str  # reason as things stand; empty: it is kept
    distance: float


class Preview(NamedTuple):
    """Documents by reason (``kept`` first), as things stand and as they would stand; examples of both sides."""

    now: dict[str, int]
    then: dict[str, int]
    going: list[Example]
    staying: list[Example]


def changed_recipe(artifact: Artifact, changes: dict[str, Any]) -> CleanRecipe:
    """The recipe that an artifact was made with, with some fields set anew.

    Raises:
        ValueError: for a field that there is not, a value out of bounds, or a field that changes what is measured.
    """
    before = CleanRecipe.model_validate(artifact.manifest.recipe)
    try:
        after = CleanRecipe.model_validate({**before.model_dump(), **changes})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"])
        raise ValueError(f"{name}: {first['msg']}. Fields that can be previewed: {', '.join(thresholds())}.") from None
    if other := measured_alike(before, after):
        raise ValueError(
            f"{', '.join(other)}: changes the text or what is measured of it, so the stored signals cannot answer. "
            f"Change it in stemma.toml and run. Fields that can be previewed: {', '.join(thresholds())}."
        )
    return after


def preview(artifacts: Sequence[Artifact], changes: dict[str, Any], examples: int = 10) -> Preview:
    """What cleaning would keep and drop of some sources if these fields of their recipes changed.

    Examples are those that change sides first, then those that are nearest to the bounds that were moved.

    Raises:
        ValueError: as :func:`changed_recipe`.
    """
    now: dict[str, int] = {KEPT: 0}
    then: dict[str, int] = {KEPT: 0}
    sides: dict[bool, list[Example]] = {True: [], False: []}
    for artifact in artifacts:
        before, after = CleanRecipe.model_validate(artifact.manifest.recipe), changed_recipe(artifact, changes)
        for table in read_batches(artifact.local(SIGNALS)):
            frame = _judged(table, before, after, set(changes))
            for counts, column in ((now, "before"), (then, "after")):
                for reason, number in frame[column].value_counts().iter_rows():
                    counts[reason or KEPT] = counts.get(reason or KEPT, 0) + number
            for is_kept, side in sides.items():
                side.extend(_nearest(artifact, frame, is_kept, examples))
    for side in sides.values():
        side.sort(key=_rank)
    return Preview(now, then, sides[False][:examples], sides[True][:examples])


def _judged(table: Any, before: CleanRecipe, after: CleanRecipe, changed: set[str]) -> pl.DataFrame:
    """doc_id, reasons before and after (empty: kept), the value after, and the distance from a bound that moved."""
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(table))
    moved = [rule for rule in active_rules(after) if rule.bound in changed]
    distances = [(pl.col(rule.signal).cast(pl.Float64) - rule.limit(after)).abs() for rule in moved]
    return frame.select(
        "doc_id",
        broken_rule(before).struct.field("reason").fill_null("").alias("before"),
        broken_rule(after).struct.field("reason").fill_null("").alias("after"),
        broken_rule(after).struct.field("value").alias("value"),
        (pl.min_horizontal(distances) if distances else pl.lit(0.0)).alias("distance"),
    )


def _nearest(artifact: Artifact, frame: pl.DataFrame, is_kept: bool, most: int) -> list[Example]:
    """Of the documents on one side: those that changed sides, then the nearest."""
    import polars as pl

    side = frame.filter(pl.col("after") == "" if is_kept else pl.col("after") != "")
    unchanged = (pl.col("before") == "") == (pl.col("after") == "")
    first = side.sort(unchanged, "distance", "doc_id").head(most)
    return [
        Example(artifact, row["doc_id"], row["after"], row["value"], row["before"], row["distance"])
        for row in first.iter_rows(named=True)
    ]


def _rank(example: Example) -> tuple[bool, float, bytes]:
    return (not example.reason) == (not example.before), example.distance, example.doc_id
