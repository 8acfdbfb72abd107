"""Comparison of two checkpoints on the same items: paired, clustered by file, task by task.

Unpaired errors hide real differences and errors without clusters invent them: with clusters of ten alike items
(intraclass correlation .5) a plain paired t test calls a difference in 25 % of null comparisons instead of 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from evals.metrics import difference, headline, higher_is_better
from evals.records import TaskRecords, read_records
from evals.statistics import Estimate, items_needed, t_tail
from pipelines.provenance.artifact import Artifact


@dataclass(frozen=True)
class Comparison:
    """One metric of one task: the candidate's advantage over the incumbent.

    Attributes:
        advantage: positive where the candidate is better, whichever way the metric points.
        unlike: why the two cannot be compared; empty where they can.
    """

    task: str
    metric: str
    advantage: Estimate | None
    unlike: str = ""

    @property
    def p_value(self) -> float:
        """One-sided: how easily chance alone would give such an advantage."""
        found = self.advantage
        if found is None or found.stderr is None:
            return 1.0
        if found.stderr == 0:
            return 0.0 if found.value > 0 else 1.0
        return t_tail(found.value / found.stderr, found.num_clusters - 1)

    def needed(self, margin: float) -> int | None:
        """Items that would show a difference as small as the margin (power 0.8)."""
        return items_needed(self.advantage, margin) if self.advantage else None


def compare(candidate: Artifact, incumbent: Artifact, seed: int = 0) -> list[Comparison]:
    """Every task of two artifacts of samples, by the task's headline metric."""
    theirs = {task.task: task for task in read_records(incumbent)}
    ours = {task.task: task for task in read_records(candidate)}
    return [compared(name, ours.get(name), theirs.get(name), seed) for name in sorted({*ours, *theirs})]


def compared(
    name: str, candidate: TaskRecords | None, incumbent: TaskRecords | None, seed: int = 0, metric: str = ""
) -> Comparison:
    """One task of both; not comparable unless suite, configuration and items are the same."""
    if candidate is None or incumbent is None:
        return Comparison(
            name, metric, None, f"only the {'incumbent' if candidate is None else 'candidate'} answered it"
        )
    metric = metric or headline(candidate)
    unlike = _unlike(candidate, incumbent)
    if unlike:
        return Comparison(name, metric, None, unlike)
    found = difference(candidate, incumbent, metric, seed)
    if not higher_is_better(candidate, metric):
        found = Estimate(-found.value, found.stderr, found.num_items, found.num_clusters)
    return Comparison(name, metric, found)


def _unlike(candidate: TaskRecords, incumbent: TaskRecords) -> str:
    for what in ("suite", "config"):
        ours, theirs = candidate.facts.get(what), incumbent.facts.get(what)
        if ours != theirs:
            return f"the {what} differs ({str(ours)[:12]}… and {str(theirs)[:12]}…)"
    for column in ("item_id", "cluster", "prompt_hash"):
        ours, theirs = candidate.strings(column), incumbent.strings(column)
        if ours != theirs:
            return f"the items differ in {column} ({len(ours)} and {len(theirs)} items)"
    return ""


def flipped(candidate: TaskRecords, incumbent: TaskRecords, metric: str = "acc") -> tuple[list[str], list[str]]:
    """Items that only the candidate answers rightly, and items that only the incumbent does."""
    ours, theirs = candidate.floats(f"metric.{metric}"), incumbent.floats(f"metric.{metric}")
    rows = list(zip(candidate.strings("item_id"), ours, theirs, strict=True))
    return [item for item, a, b in rows if a > b], [item for item, a, b in rows if b > a]
