"""Records: what a checkpoint answered, item by item. One Parquet file for each task.

Everything that a score, a comparison or a second look needs stands here, so that no model is run twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.provenance.artifact import Artifact, Draft

FILE = "samples.json"
METRIC, WEIGHT = "metric.", "weight."  # columns of values, and of what they are divided by in a sum over items

COLUMNS = pa.schema(
    [
        ("checkpoint", pa.string()),  # content digest of the model that answered
        ("suite", pa.string()),  # content digest of the suite; of the model itself where it brought its own test set
        ("task", pa.string()),
        ("config", pa.string()),  # digest of the task's merged configuration
        ("item_id", pa.string()),
        ("cluster", pa.string()),  # the file that the item was cut from; empty where unknown
        ("doc_hash", pa.string()),
        ("prompt_hash", pa.string()),
        ("target_hash", pa.string()),
        ("logliks", pa.list_(pa.float64())),  # natural logarithms, one for each choice or one for the target
        ("greedy", pa.list_(pa.bool_())),  # whether greedy decoding would have said it
        ("num_bytes", pa.list_(pa.int64())),  # UTF-8 length of what was scored
        ("gold", pa.int64()),  # index of the right choice; null where there are no choices
        ("answer", pa.large_string()),  # what was generated or predicted
        ("reference", pa.large_string()),
        ("coverage", pa.float64()),  # share of the item's n-grams found in training text; null: not known
        ("dirty", pa.bool_()),  # training text shows the item, and decontamination let it stay; null: not known
    ]
)


class EvaluationError(RuntimeError):
    """The model could not be evaluated. There is no score; above all, the score is not 0."""


@dataclass(frozen=True)
class TaskRecords:
    """The records of one task with what is known about the task itself.

    Attributes:
        facts: ``output`` (kind of request), ``version``, ``config``, ``suite``, ``higher_is_better`` by metric.
    """

    task: str
    facts: dict[str, Any]
    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def output(self) -> str:
        return self.facts["output"]

    def strings(self, column: str) -> list[str]:
        return self.table[column].to_pylist()

    def floats(self, column: str) -> NDArray[np.float64]:
        return self.table[column].cast(pa.float64()).combine_chunks().to_numpy(zero_copy_only=False)

    def flags(self, column: str) -> NDArray[np.bool_]:
        """A column of truth values; unknown is false, also where the records do not have the column yet."""
        if column not in self.table.column_names:
            return np.zeros(len(self), bool)
        return self.table[column].fill_null(False).combine_chunks().to_numpy(zero_copy_only=False)

    def lists(self, column: str) -> list[list[Any]]:
        return self.table[column].to_pylist()

    def measured(self, prefix: str = METRIC) -> list[str]:
        """Names of the metrics that were measured item by item."""
        return [n.removeprefix(prefix) for n in self.table.column_names if n.startswith(prefix)]

    def subset(self, mask: pa.Array | pa.ChunkedArray) -> TaskRecords:
        return TaskRecords(self.task, self.facts, self.table.filter(mask))


def records(task: str, facts: dict[str, Any], rows: list[dict[str, Any]]) -> TaskRecords:
    """Rows in the order of the items as a table; keys ``metric.*`` and ``weight.*`` become columns of numbers.

    Raises:
        EvaluationError: if there are no rows, a log-likelihood is not finite, or rows measure different metrics.
    """
    check_finite(task, rows)
    extra = sorted({name for row in rows for name in row} - set(COLUMNS.names))
    unknown = [name for name in extra if not name.startswith((METRIC, WEIGHT))]
    assert not unknown, unknown
    uneven = [name for name in extra if any(name not in row for row in rows)]
    if not rows:
        raise EvaluationError(f"task {task}: not one item was answered, so there is nothing to score.")
    if uneven:
        raise EvaluationError(f"task {task}: {', '.join(uneven)} was measured on only some of {len(rows)} items.")
    schema = pa.schema([*COLUMNS, *((name, pa.float64()) for name in extra)])
    return TaskRecords(task, facts, pa.Table.from_pylist(rows, schema=schema))


def check_finite(task: str, rows: list[dict[str, Any]]) -> None:
    bad = [row["item_id"] for row in rows if not np.isfinite(row.get("logliks") or [0.0]).all()]
    if bad:
        raise EvaluationError(
            f"task {task}: {len(bad)} of {len(rows)} items (first: {bad[0]}) have no finite log-likelihood. "
            "The weights have diverged; look at losses.arrow of the checkpoint."
        )


def write_records(draft: Draft, found: list[TaskRecords], checkpoint: str) -> None:
    """One Parquet file for each task, and ``samples.json``."""
    tasks = {}
    for task in sorted(found, key=lambda r: r.task):
        if task.task in tasks:
            raise EvaluationError(f"two suites hold a task named {task.task}; rename one of them.")
        tasks[task.task] = {**task.facts, "n": len(task)}
        # options stand here, so that bytes repeat under one lock file whatever the defaults become
        pq.write_table(
            task.table,
            draft.path(f"{task.task}.parquet"),
            row_group_size=8192,
            version="2.6",
            compression="zstd",
            compression_level=3,
            use_dictionary=True,
            write_statistics=True,
            data_page_version="1.0",
            store_schema=True,
        )
    draft.write_json(FILE, {"checkpoint": checkpoint, "tasks": tasks})


def read_records(samples: Artifact) -> list[TaskRecords]:
    """All tasks of an artifact of samples, by name."""
    tasks = samples.json(FILE)["tasks"]
    return [
        TaskRecords(name, facts, pq.read_table(samples.local(f"{name}.parquet")))
        for name, facts in sorted(tasks.items())
    ]
