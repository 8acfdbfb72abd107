"""Benchmarks of one's own: official tasks by overlay, own tasks, and what is refused."""

import gzip
import json
import os
from pathlib import Path

import pytest

from evals.benchmarks import BenchmarkError, files_digest
from evals.harness import EvalRecipe, run_suite
from evals.records import EvaluationError, read_records
from evals.suites import SuiteRecipe, make_prompts
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

SHARED = Path(os.environ.get("STEMMA_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")) / "benchmarks"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no benchmark files in {SHARED} (set STEMMA_SHARED_DATA)")

OVERLAY = """include: lm_eval/tasks/{include}
task: {task}
dataset_path: json
dataset_name: null
training_split: null
{other}: null
dataset_kwargs: {{data_files: {{{split}: data.jsonl}}}}
"""
OWN = """task: colours
dataset_path: json
test_split: test
dataset_kwargs: {data_files: {test: colours.jsonl}}
output_type: generate_until
doc_to_text: question
doc_to_target: answer
generation_kwargs: {until: ["\\n"], max_gen_toks: 5}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
COLOURS = [{"question": "The sky is", "answer": "blue", "cluster": "sky"}, {"question": "Grass is", "answer": "green"}]


def folder_of(path, yaml, rows, task="colours", data="colours.jsonl"):
    path.mkdir()
    (path / f"{task}.yaml").write_text(yaml)
    (path / data).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def taken_in(store, folder, digest=None):
    recipe = SuiteRecipe(tasks=[], files_digest=files_digest([folder]) if digest is None else digest)
    draft = store.draft(Key("benchmark_prompts", "own"), "1", recipe.identity(), [])
    return make_prompts(None, recipe, draft, files=[folder])


def answered(store, model, suite, **choices):
    recipe = EvalRecipe(**choices)
    draft = store.draft(Key("benchmark_samples", "m"), "1", recipe.identity(), [model, suite])
    return {task.task: task for task in read_records(run_suite(model, [suite], recipe, draft))}


def test_an_own_task_is_taken_in_and_answered(tmp_path, make_checkpoint, no_sockets):
    store = Store(tmp_path / "store")
    suite = taken_in(store, folder_of(tmp_path / "own", OWN, COLOURS))
    rows = suite.table("items.arrow").to_pylist()
    assert [(r["item_id"], r["text"], r["cluster"], r["doc_id"]) for r in rows] == [
        ("colours-000000", "The sky is blue", "sky", None),
        ("colours-000001", "Grass is green", "", None),
    ]
    found = answered(store, make_checkpoint(store), suite)["colours"]
    assert found.strings("reference") == ["blue", "green"]
    assert set(found.floats("metric.exact_match")) <= {0.0, 1.0}
    assert all("\n" not in answer for answer in found.strings("answer"))


@needs_data
@pytest.mark.parametrize(
    ("task", "include", "data", "split", "other", "question"),
    [
        (
            "hellaswag",
            "hellaswag/hellaswag.yaml",
            "hellaswag/validation.jsonl.gz",
            "validation",
            "test_split",
            "activity_label",
        ),
        ("arc_easy", "arc/arc_easy.yaml", "arc_easy/test.jsonl", "test", "validation_split", "question"),
    ],
)
def test_an_official_task_runs_offline_with_its_own_prompts(
    tmp_path, make_checkpoint, no_sockets, task, include, data, split, other, question
):
    opened = gzip.open if data.endswith(".gz") else open
    with opened(SHARED / data, "rt", encoding="utf-8") as file:
        rows = [json.loads(next(file)) for _ in range(12)]
    yaml = OVERLAY.format(include=include, task=task, split=split, other=other)
    store = Store(tmp_path / "store")
    suite = taken_in(store, folder_of(tmp_path / "own", yaml, rows, task, "data.jsonl"))
    texts = suite.table("items.arrow")["text"].to_pylist()
    assert all(row[question] in text for row, text in zip(rows, texts, strict=True))
    found = answered(store, make_checkpoint(store), suite, max_items=10)[task]
    assert len(found) == 10
    assert found.measured() == ["acc", "acc_norm"]
    golds = [int(r["label"]) if "label" in r else r["choices"]["label"].index(r["answerKey"]) for r in rows[:10]]
    assert found.table["gold"].to_pylist() == golds
    best = [max(range(len(lls)), key=lls.__getitem__) for lls in found.lists("logliks")]
    assert found.floats("metric.acc").tolist() == [float(b == g) for b, g in zip(best, golds, strict=True)]


def test_changed_files_are_not_those_of_the_recipe(tmp_path):
    folder = folder_of(tmp_path / "own", OWN, COLOURS)
    before = files_digest([folder])
    (folder / "colours.jsonl").write_text(json.dumps(COLOURS[0]) + "\n")
    assert files_digest([folder]) != before
    with pytest.raises(ValueError, match="the benchmark files have digest"):
        taken_in(Store(tmp_path / "store"), folder, digest=before)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("task: colours", "task: shades"), "name the file shades.yaml"),
        (("task: colours\n", ""), "names no task"),
        (("doc_to_text: question", "doc_to_text: !function tricks.run"), "not plain YAML"),
        (("test: colours.jsonl", "test: ../../etc/passwd"), "must stand beside it"),
        (("test: colours.jsonl", "test: other.jsonl"), "other.jsonl is missing"),
        (("dataset_path: json", "dataset_path: someone/hub"), "must read local data"),
        (("task: colours", "include: /etc/task.yaml\ntask: colours"), "include must name a file of lm-eval"),
        (("task: colours", "include: lm_eval/tasks/no/such.yaml\ntask: colours"), "lm-eval has no"),
    ],
)
def test_what_a_benchmark_may_not_do_is_told(tmp_path, change, told):
    folder = folder_of(tmp_path / "own", OWN.replace(*change), COLOURS)
    with pytest.raises(BenchmarkError, match=told):
        taken_in(Store(tmp_path / "store"), folder)


def test_a_metric_that_cannot_be_computed_stops_before_the_model_runs(tmp_path, make_checkpoint):
    store = Store(tmp_path / "store")
    suite = taken_in(store, folder_of(tmp_path / "own", OWN.replace("aggregation: mean", "aggregation: f1"), COLOURS))
    with pytest.raises(EvaluationError, match="metric exact_match is aggregated by 'f1'"):
        answered(store, make_checkpoint(store), suite)


def test_a_folder_without_tasks_is_told(tmp_path):
    (tmp_path / "own").mkdir()
    with pytest.raises(BenchmarkError, match="no task file"):
        taken_in(Store(tmp_path / "store"), tmp_path / "own")
    with pytest.raises(BenchmarkError, match="not a folder"):
        files_digest([tmp_path / "nowhere"])
