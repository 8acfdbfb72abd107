"""Suites: named, frozen sets of benchmark items. Cut from held-out documents, or a person's own benchmark files.

A suite holds for each task what lm-eval reads (``<task>.yaml`` and its data), and in ``items.arrow`` the text that
later training data must not contain. Paths inside a suite are relative; :func:`unpacked` makes them absolute for
the time of one evaluation.
"""

from __future__ import annotations

import contextlib
import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import Field, field_validator

from evals import passages
from evals.benchmarks import OwnItem, files_digest, own_tasks, read_config, write_tasks
from evals.passages import Item, Passage, Split
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, canonical_json
from pipelines.provenance.tables import read_batches

PROMPTS_VERSION = "2"
TASK_VERSION = "1"  # of the tasks that are cut here: scores of one version can be compared
ITEMS, SUITE = "items.arrow", "suite.json"
POOL = 4  # distractors are drawn from the continuations of this many times the items asked for

TASKS = ("continuation", "lastword", "bpb")

ITEM_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("task", pa.string()),
        ("text", pa.large_string()),
        ("doc_id", pa.binary(16)),  # the held-out document; null for a person's own benchmark
        ("cluster", pa.string()),  # the file that it stands in: items of one file are alike
        ("answer_start", pa.int64()),  # character at which the answer begins; null where the text is one piece
    ]
)

T = TypeVar("T")


class SuiteRecipe(Recipe):
    """What a suite asks. The defaults suit models that read 256 tokens."""

    tasks: list[str] = Field(
        default=["continuation", "lastword", "bpb"], description="Tasks cut from held-out documents"
    )
    max_items: int = Field(
        default=200, ge=1, le=100_000, description="Items of each task; fewer where documents are few"
    )
    choices: int = Field(default=4, ge=2, le=16, description="Continuations to choose from, the true one included")
    min_words: int = Field(default=40, ge=8, description="Shorter held-out documents are not used")
    context_words: int = Field(default=64, ge=4, description="Words of context, at most")
    continuation_words: int = Field(default=16, ge=2, le=200, description="Words of every continuation")
    passage_words: int = Field(default=400, ge=8, description="Where a passage for bits per byte is cut")
    min_letters: int = Field(default=4, ge=1, description="Shortest last word: function words are shorter")
    seed: int = Field(default=0, ge=0, description="Another seed draws other documents")
    files_digest: str = Field(
        default="",
        pattern=r"^([0-9a-f]{64})?$",
        description="blake3 of a benchmark of one's own (`files_digest` in evals/benchmarks.py)",
    )

    @field_validator("tasks")
    @classmethod
    def _known(cls, tasks: list[str]) -> list[str]:
        wrong = [name for name in tasks if name not in TASKS or tasks.count(name) > 1]
        if wrong:
            raise ValueError(f"task {wrong[0]!r} is unknown or named twice; there are {', '.join(TASKS)}.")
        return tasks


def make_prompts(
    heldout: Artifact | None, recipe: SuiteRecipe, draft: Draft, *, files: list[Path] | None = None
) -> Artifact:
    """Cut the tasks of a suite, or take in a benchmark of one's own.

    Args:
        heldout: held-out documents; not needed if ``recipe.tasks`` is empty.
        recipe: what to ask.
        draft: of benchmark_prompts[suite].
        files: folders with lm-eval YAML and data; their digest must be ``recipe.files_digest``.

    Raises:
        ValueError: if a task would have no items, or the files are not those of the recipe.
    """
    _check_files(recipe, files or [])
    tasks: dict[str, dict[str, Any]] = {}
    rows: list[dict[str, Any]] = []
    if recipe.tasks:
        if heldout is None:
            raise ValueError(f"tasks {', '.join(recipe.tasks)} are cut from held-out documents; none were given.")
        for name in recipe.tasks:
            items = list(_MAKERS[name](heldout, recipe))
            tasks[name] = _write_task(name, items, recipe, draft)
            rows += [_row(item.item_id, name, item.text, item.passage.doc_id, item.passage.cluster) for item in items]
    for own in own_tasks(files or []):
        if own.name in tasks:
            raise ValueError(f"the benchmark's task {own.name} has the name of one of ours; rename it.")
        own.copy_to(draft.directory)
        tasks[own.name] = own.facts
        rows += [_own_row(own.name, item) for item in own.items]
    if not tasks:
        raise ValueError("the suite has neither tasks nor files; name at least one.")
    draft.write(ITEMS, pa.Table.from_pylist(rows, schema=ITEM_SCHEMA))
    draft.write_json(SUITE, {"tasks": tasks})
    counts = {"tasks": len(tasks), "items": len(rows)}
    return draft.seal(counts=counts, facts={"tasks": {name: tasks[name]["n"] for name in sorted(tasks)}})


def _check_files(recipe: SuiteRecipe, files: list[Path]) -> None:
    found = files_digest(files) if files else ""
    if found != recipe.files_digest:
        raise ValueError(
            f"the benchmark files have digest {found[:12] or 'none'}, the recipe says "
            f"{recipe.files_digest[:12] or 'none'}: set files_digest to {found or 'the empty string'!r}."
        )


def _row(item_id: str, task: str, text: str, doc_id: bytes | None, cluster: str) -> dict[str, Any]:
    return {"item_id": item_id, "task": task, "text": text, "doc_id": doc_id, "cluster": cluster, "answer_start": None}


def _own_row(task: str, item: OwnItem) -> dict[str, Any]:
    row = _row(f"{task}-{item.position:06d}", task, item.text, None, item.cluster)
    return row | {"answer_start": item.answer_start}


# -- tasks from held-out documents -----------------------------------------------------------------------------


def passages_of(heldout: Artifact, min_words: int) -> Iterator[Passage]:
    """Held-out documents of at least ``min_words`` words, part by part; memory is bounded by one record batch."""
    for part in heldout.parts():
        documents = read_batches(part.local("documents.arrow"), ["doc_id", "file", "num_words"])
        texts = read_batches(part.local("texts.arrow"), ["text"])
        for about, text in zip(documents, texts, strict=True):
            columns = (about["doc_id"], about["file"], about["num_words"], text["text"])
            for doc_id, file, num_words, body in zip(*(c.to_pylist() for c in columns), strict=True):
                if num_words >= min_words:
                    yield Passage(doc_id, part.key.part, file, body)


def drawn(found: Iterable[Passage], make: Callable[[Passage], T | None], task: str, seed: int, limit: int) -> list[T]:
    """What ``make`` gives for the documents of lowest rank, in the order of rank."""
    heap: list[tuple[int, bytes, T]] = []  # the worst of the best lies on top, hence negative ranks
    for passage in found:
        place = -int.from_bytes(passages.rank(seed, task, passage.doc_id), "big")
        if len(heap) == limit and place <= heap[0][0]:
            continue
        made = make(passage)
        if made is not None:
            entry = (place, passage.doc_id, made)
            heapq.heappush(heap, entry) if len(heap) < limit else heapq.heapreplace(heap, entry)
    return [made for _, _, made in sorted(heap, key=lambda entry: -entry[0])]


def _continuation_items(heldout: Artifact, recipe: SuiteRecipe) -> list[Item]:
    def cut(passage: Passage) -> Split | None:
        return passages.split(passage, recipe.min_words, recipe.context_words, recipe.continuation_words)

    found = passages_of(heldout, recipe.min_words)
    pool = drawn(found, cut, "continuation", recipe.seed, POOL * recipe.max_items)
    return list(passages.continuations(pool[: recipe.max_items], pool, recipe.choices, recipe.seed))


def _lastword_items(heldout: Artifact, recipe: SuiteRecipe) -> list[Item]:
    def cut(passage: Passage) -> Item | None:
        return passages.last_word(passage, recipe.min_words // 2, recipe.context_words, recipe.min_letters)

    return drawn(passages_of(heldout, recipe.min_words), cut, "lastword", recipe.seed, recipe.max_items)


def _bpb_items(heldout: Artifact, recipe: SuiteRecipe) -> list[Item]:
    def cut(passage: Passage) -> Item:
        return passages.whole_passage(passage, recipe.passage_words)

    return drawn(passages_of(heldout, recipe.min_words), cut, "bpb", recipe.seed, recipe.max_items)


_MAKERS: dict[str, Callable[[Artifact, SuiteRecipe], list[Item]]] = {
    "continuation": _continuation_items,
    "lastword": _lastword_items,
    "bpb": _bpb_items,
}

# what differs between the tasks in lm-eval's terms; columns of the data are named, so that nothing is a template
_FORMS: dict[str, dict[str, Any]] = {
    "continuation": {
        "output_type": "multiple_choice",
        "doc_to_text": "context",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "metric_list": [("acc", "mean", True), ("acc_bytes", "mean", True)],
    },
    "lastword": {
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "target",
        "metric_list": [("acc", "mean", True), ("perplexity", "perplexity", False)],
    },
    "bpb": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "text",
        "metric_list": [("bits_per_byte", "bits_per_byte", False)],
    },
}


def _write_task(name: str, items: list[Item], recipe: SuiteRecipe, draft: Draft) -> dict[str, Any]:
    if not items:
        raise ValueError(
            f"task {name} has no items: too few held-out documents have {recipe.min_words} words"
            f"{f' and {recipe.choices - 1} others to be confused with' if name == 'continuation' else ''}. "
            "Hold out more documents, lower min_words, or take the task out of the suite."
        )
    import yaml

    form = dict(_FORMS[name])
    metrics = [
        dict(zip(("metric", "aggregation", "higher_is_better"), m, strict=True)) for m in form.pop("metric_list")
    ]
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        **form,
        "target_delimiter": "",
        "num_fewshot": 0,
        "metric_list": metrics,
        "metadata": {"version": TASK_VERSION},
    }
    draft.path(f"{name}.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    lines = [canonical_json({"item_id": item.item_id, "cluster": item.passage.cluster, **item.doc}) for item in items]
    draft.path(f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return {"n": len(items), "output": form["output_type"], "version": TASK_VERSION}


# -- reading a suite -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def unpacked(suite: Artifact) -> Iterator[Path]:
    """A scratch folder with the suite's task files as lm-eval wants them: absolute paths, data beside them."""
    files = {name: suite.local(name) for name in suite.names()}
    configs = {name: read_config(files[f"{name}.yaml"]) for name in suite.json(SUITE)["tasks"]}
    with tempfile.TemporaryDirectory(prefix="stemma-suite-") as scratch:
        write_tasks(configs, files, Path(scratch))
        yield Path(scratch)


def items_of(suite: Artifact) -> dict[str, list[dict[str, Any]]]:
    """The items of every task, in the order in which lm-eval counts them."""
    found: dict[str, list[dict[str, Any]]] = {task: [] for task in sorted(suite.json(SUITE)["tasks"])}
    for row in suite.table(ITEMS, ["item_id", "task", "cluster"]).to_pylist():
        found[row["task"]].append(row)
    return found
