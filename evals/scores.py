"""Scores of a checkpoint: every metric of every task with its number of items and its error."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pydantic import Field

from evals.metrics import Score, headline, scores
from evals.records import FILE as SAMPLES_FILE
from evals.records import TaskRecords, read_records
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe

SCORES_VERSION = "2"
TABLE, FILE = "scores.arrow", "scores.json"

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("metric", pa.string()),
        ("subset", pa.string()),  # all, or clean: items that are not dirty and hardly occur in training text
        ("headline", pa.bool_()),
        ("value", pa.float64()),
        ("stderr", pa.float64()),  # clustered by file; null where a single cluster tells nothing about spread
        ("low", pa.float64()),
        ("high", pa.float64()),
        ("n", pa.int64()),
        ("clusters", pa.int64()),
        ("higher_is_better", pa.bool_()),
        ("baseline", pa.float64()),  # what guessing scores
    ]
)


class ScoreRecipe(Recipe):
    """How answers become numbers."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="Of the two-sided intervals")
    clean_coverage: float = Field(
        default=0.5, gt=0, le=1, description="Below this share of n-grams seen in training an item is clean"
    )
    bootstrap_seed: int = Field(default=0, ge=0, description="Of the replicates behind the error of macro-F1")


def score(samples: Artifact, recipe: ScoreRecipe, draft: Draft) -> Artifact:
    """Score every task of some samples.

    Raises:
        EvaluationError: if a metric cannot be computed; it does not become 0.
    """
    rows = [row for task in read_records(samples) for row in task_rows(task, recipe)]
    identity = {"checkpoint": samples.json(SAMPLES_FILE)["checkpoint"], "samples": samples.content}
    draft.write(TABLE, pa.Table.from_pylist(rows, schema=SCHEMA))
    draft.write_json(FILE, {**identity, "scores": rows})
    facts = {f"{r['task']}.{r['metric']}": r["value"] for r in rows if r["headline"] and r["subset"] == "all"}
    return draft.seal(
        counts={"tasks": len({r["task"] for r in rows}), "scores": len(rows)}, facts={**identity, **facts}
    )


def task_rows(task: TaskRecords, recipe: ScoreRecipe) -> list[dict[str, Any]]:
    """Rows of ``scores.arrow`` for one task: on all items, and on the clean ones where coverage was measured."""
    first = headline(task)
    rows = [_row(found, "all", found.metric == first, recipe) for found in scores(task, recipe.bootstrap_seed)]
    coverage = task.floats("coverage")  # NaN, not measured, is not clean
    clean = task.subset(pa.array((coverage < recipe.clean_coverage) & ~task.flags("dirty")))
    if len(clean):
        rows += [_row(found, "clean", found.metric == first, recipe) for found in scores(clean, recipe.bootstrap_seed)]
    return rows


def _row(found: Score, subset: str, is_headline: bool, recipe: ScoreRecipe) -> dict[str, Any]:
    estimate = found.estimate
    low, high = estimate.interval(recipe.confidence) or (None, None)
    return {
        "task": found.task,
        "metric": found.metric,
        "subset": subset,
        "headline": is_headline,
        "value": estimate.value,
        "stderr": estimate.stderr,
        "low": low,
        "high": high,
        "n": estimate.num_items,
        "clusters": estimate.num_clusters,
        "higher_is_better": found.higher_is_better,
        "baseline": found.baseline,
    }
