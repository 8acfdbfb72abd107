"""Solved examples before each item, and metrics of a benchmark of one's own, through the real lm-eval."""

import json
import sys

import pytest
import yaml

from evals.benchmarks import files_digest
from evals.compare import compared
from evals.harness import EvalRecipe, run_suite
from evals.records import EvaluationError, read_records
from evals.scores import ScoreRecipe, task_rows
from evals.suites import SuiteRecipe, make_prompts
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

SUMS = {
    "task": "sums",
    "dataset_path": "json",
    "training_split": "train",
    "test_split": "test",
    "dataset_kwargs": {"data_files": {"train": "train.jsonl", "test": "test.jsonl"}},
    "output_type": "multiple_choice",
    "doc_to_text": "{{a}} and {{b}} make",
    "doc_to_choice": ["two", "three", "four"],
    "doc_to_target": "gold",
    "target_delimiter": " ",
    "fewshot_delimiter": "\n",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
TRAIN = [{"a": "one", "b": "one", "gold": 0}, {"a": "one", "b": "two", "gold": 1}, {"a": "two", "b": "two", "gold": 2}]
TEST = [{"a": "two", "b": "one", "gold": 1}, {"a": "three", "b": "one", "gold": 2}]


def folder_of(path, config, **rows):
    path.mkdir()
    (path / f"{config['task']}.yaml").write_text(yaml.safe_dump(config))
    for name, found in rows.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    return path


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def suite_of(store, folder):
    recipe = SuiteRecipe(tasks=[], files_digest=files_digest([folder]))
    draft = store.draft(Key("benchmark_prompts", folder.name), "1", recipe.identity(), [])
    return make_prompts(None, recipe, draft, files=[folder])


def asked(store, model, suite, **choices):
    recipe = EvalRecipe(**choices)
    draft = store.draft(Key("benchmark_samples", "m"), "1", recipe.identity(), [model, suite])
    return read_records(run_suite(model, [suite], recipe, draft))[0]


@pytest.fixture
def prompts(monkeypatch):
    """Everything that a model is asked during a test."""
    from evals.language_model import StemmaLM

    seen = []
    honest = StemmaLM.loglikelihood

    def listening(self, requests):
        seen.extend(request.args for request in requests)
        return honest(self, requests)

    monkeypatch.setattr(StemmaLM, "loglikelihood", listening)
    return seen


@pytest.fixture
def sums(store, tmp_path):
    return suite_of(store, folder_of(tmp_path / "sums", SUMS, train=TRAIN, test=TEST))


def solved(row):
    return f"{row['a']} and {row['b']} make {SUMS['doc_to_choice'][row['gold']]}"


def test_without_examples_the_question_stands_alone(store, make_checkpoint, sums, prompts):
    task = asked(store, make_checkpoint(store), sums)
    assert task.facts["fewshot"] == 0
    assert [c for c, _ in prompts] == ["two and one make"] * 3 + ["three and one make"] * 3
    assert [a for _, a in prompts[:3]] == [" two", " three", " four"]


def test_examples_are_solved_ones_of_the_training_split_and_the_question_stands_last(
    store, make_checkpoint, sums, prompts
):
    task = asked(store, make_checkpoint(store), sums, num_fewshot=2)
    assert task.facts["fewshot"] == 2
    for context, _ in prompts:
        *shots, question = context.split("\n")
        assert len(shots) == 2
        assert set(shots) <= {solved(row) for row in TRAIN}
        assert question in {"two and one make", "three and one make"}


def test_the_seed_draws_the_examples_and_the_same_seed_the_same_ones(store, make_checkpoint, sums, prompts):
    model, found = make_checkpoint(store), []
    for seed in (1, 1, 2, 3):
        prompts.clear()
        task = asked(store, model, sums, num_fewshot=2, seed=seed)
        found.append(([context for context, _ in prompts], task.strings("prompt_hash")))
    assert found[0] == found[1]
    assert any(other != found[0] for other in found[2:])


def test_answers_with_other_examples_are_not_compared(store, make_checkpoint, sums):
    """One was shown an example, the other none: neither their settings nor their prompts are the same."""
    model = make_checkpoint(store)
    none, one = asked(store, model, sums), asked(store, model, sums, num_fewshot=1)
    assert none.strings("prompt_hash") != one.strings("prompt_hash")
    assert none.facts["config"] != one.facts["config"]
    assert compared("sums", one, none).unlike.startswith("the config differs")


def test_examples_that_do_not_fit_are_cut_from_the_left_and_the_question_stays(store, make_checkpoint, tmp_path):
    """Sixty examples outgrow the 96 tokens that the model reads: the answer hangs on the last 96 alone."""
    many = [TRAIN[i % 3] for i in range(64)]
    long = suite_of(store, folder_of(tmp_path / "sums", SUMS, train=many, test=TEST))
    model = make_checkpoint(store)
    task = asked(store, model, long, num_fewshot=60)
    again = asked(store, model, long, num_fewshot=62)
    assert task.facts["fewshot"] == 60
    assert all(len(row) == 3 for row in task.lists("logliks"))
    assert task.strings("prompt_hash") != again.strings("prompt_hash")


def test_the_right_choice_is_counted_by_hand(store, make_checkpoint, sums):
    task = asked(store, make_checkpoint(store), sums)
    best = [max(range(3), key=row.__getitem__) for row in task.lists("logliks")]
    assert task.floats("metric.acc").tolist() == [float(b == row["gold"]) for b, row in zip(best, TEST, strict=True)]
    assert task.table["gold"].to_pylist() == [1, 2]
    assert task.lists("num_bytes") == [[4, 6, 5]] * 2  # with the space before them
    [acc] = [row for row in task_rows(task, ScoreRecipe()) if row["metric"] == "acc"]
    assert (acc["baseline"], acc["n"], acc["clusters"]) == (pytest.approx(1 / 3), 2, 2)


@pytest.mark.parametrize("metric", ["accc", "perplexity"], ids=["misspelt", "of another kind of task"])
def test_a_metric_that_was_asked_for_and_not_measured_is_an_error_and_no_gap(
    store, make_checkpoint, tmp_path, monkeypatch, metric
):
    """lm-eval only logs it; the scores would lack what the gate was to look at."""
    monkeypatch.setitem(sys.modules, "evaluate", None)  # where lm-eval looks next, slowly
    wanted = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", metric)]
    config = {**SUMS, "metric_list": wanted}
    suite = suite_of(store, folder_of(tmp_path / "sums", config, train=TRAIN, test=TEST))
    with pytest.raises(EvaluationError, match=f"task sums: lm-eval did not measure {metric}. Correct the name"):
        asked(store, make_checkpoint(store), suite)
    assert store.sealed(Key("benchmark_samples", "m")) == []


def test_generated_answers_are_kept_with_what_they_should_have_been(store, make_checkpoint, tmp_path):
    config = {k: v for k, v in SUMS.items() if k != "doc_to_choice"} | {
        "output_type": "generate_until",
        "doc_to_target": "word",
        "generation_kwargs": {"until": [" "], "max_gen_toks": 3},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    rows = [{**row, "word": "four"} for row in TEST]
    task = asked(
        store, make_checkpoint(store), suite_of(store, folder_of(tmp_path / "sums", config, train=rows, test=rows))
    )
    assert task.strings("reference") == ["four", "four"]
    assert all(" " not in answer for answer in task.strings("answer"))
    assert task.floats("metric.exact_match").tolist() == [float(a == "four") for a in task.strings("answer")]
    assert task.lists("logliks") == [None, None]
