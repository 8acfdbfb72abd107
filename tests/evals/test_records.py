"""Records and their scores: what was answered comes back, what is missing or torn has no score."""

import math

import pyarrow as pa
import pytest

from evals.records import COLUMNS, EvaluationError, read_records, records, write_records
from evals.scores import ScoreRecipe, score, task_rows
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

FACTS = {"output": "loglikelihood", "version": "1", "config": "c" * 64, "suite": "s" * 64}


def rows(count=6, **fields):
    return [
        {"item_id": f"i{n}", "cluster": f"f{n % 3}", "logliks": [-1.0 - n], "num_bytes": [4], "greedy": [n % 2 == 0],
         "metric.acc": float(n % 2 == 0), "coverage": n / 10, **fields}
        for n in range(count)
    ]  # fmt: skip


def task(name="words", found=None, **facts):
    return records(name, FACTS | facts, rows() if found is None else found)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def sealed(store, *tasks, checkpoint="m" * 64):
    draft = store.draft(Key("benchmark_samples", "m"), "1", {}, [])
    write_records(draft, list(tasks), checkpoint)
    return draft.seal()


# -- records ---------------------------------------------------------------------------------------------------


def test_what_was_answered_comes_back(store):
    odd = task("odd name", [{"item_id": 'é "漢字"', "answer": "a\nb", "reference": "", "logliks": [-0.0, -1e-300]}])
    samples = sealed(store, task(), odd)
    assert [found.task for found in read_records(samples)] == ["odd name", "words"]
    for found, given in zip(read_records(samples), (odd, task()), strict=True):
        assert found.table.equals(given.table)
        assert found.facts == {**given.facts, "n": len(given)}
    assert samples.json("samples.json")["checkpoint"] == "m" * 64


def test_the_same_records_are_the_same_bytes_in_whatever_order_tasks_come(store):
    one, other = sealed(store, task("a"), task("b")), sealed(store, task("b"), task("a"))
    assert one.content == other.content


def test_columns_are_the_same_for_every_kind_of_task_and_metrics_stand_behind_them():
    found = task(found=[{"item_id": "i", "metric.b": 1.0, "metric.a": 2.0, "weight.a": 3.0}])
    assert found.table.schema.names == [*COLUMNS.names, "metric.a", "metric.b", "weight.a"]
    assert (found.measured(), found.measured("weight.")) == (["a", "b"], ["a"])
    assert math.isnan(found.floats("coverage")[0])  # null is not 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_answer_that_is_no_number_is_an_error_that_counts_and_names(bad):
    found = rows(4)
    found[1]["logliks"] = found[3]["logliks"] = [-1.0, bad]
    with pytest.raises(EvaluationError, match=r"task words: 2 of 4 items \(first: i1\) have no finite log-likelihood"):
        task(found=found)


def test_no_answers_at_all_are_an_error_and_not_an_empty_score():
    with pytest.raises(EvaluationError, match="task words: not one item was answered"):
        task(found=[])


def test_two_tasks_of_one_name_are_refused(store):
    with pytest.raises(EvaluationError, match="two suites hold a task named words; rename one"):
        sealed(store, task(), task())
    assert store.sealed(Key("benchmark_samples", "m")) == []


def test_a_subset_keeps_task_facts_and_columns():
    found = task().subset(pa.array([True, False, False, True, False, False]))
    assert (found.strings("item_id"), found.facts, len(found)) == (["i0", "i3"], FACTS, 2)
    assert found.lists("logliks") == [[-1.0], [-4.0]]


# -- scores ----------------------------------------------------------------------------------------------------


def test_a_score_is_told_for_all_items_and_for_the_clean_ones():
    """Coverage 0.0, 0.1, … 0.5: below 0.3 stand the first three, of which the first and the third are right."""
    found = {(r["metric"], r["subset"]): r for r in task_rows(task(), ScoreRecipe(clean_coverage=0.3))}
    assert (found["acc", "all"]["value"], found["acc", "all"]["n"], found["acc", "all"]["clusters"]) == (0.5, 6, 3)
    assert (found["acc", "clean"]["value"], found["acc", "clean"]["n"]) == (pytest.approx(2 / 3), 3)
    assert found["acc", "all"]["headline"]
    assert not found["gold_bpb", "all"]["headline"]


@pytest.mark.parametrize("coverage", [None, 0.5, 1.0])
def test_without_a_clean_item_there_is_no_clean_score(coverage):
    found = task_rows(task(found=rows(coverage=coverage)), ScoreRecipe())
    assert {row["subset"] for row in found} == {"all"}


def test_the_interval_is_as_wide_as_was_asked_for():
    narrow, wide = (task_rows(task(found=rows(7)), ScoreRecipe(confidence=c))[0] for c in (0.8, 0.99))
    assert wide["low"] < narrow["low"] < narrow["value"] < narrow["high"] < wide["high"]
    assert narrow["stderr"] == wide["stderr"]


def test_items_of_one_file_have_a_value_and_no_interval():
    [row, *_] = task_rows(task(found=rows(cluster="f")), ScoreRecipe())
    assert (row["value"], row["stderr"], row["low"], row["high"], row["clusters"]) == (0.5, None, None, None, 1)


def test_scores_are_bound_to_the_samples_and_the_checkpoint_they_are_of(store):
    samples = sealed(store, task("a"), task("b"))
    draft = store.draft(Key("benchmark_scores", "m"), "1", {}, [samples])
    scores = score(samples, ScoreRecipe(), draft)
    told = scores.json("scores.json")
    assert (told["checkpoint"], told["samples"]) == ("m" * 64, samples.content)
    assert scores.table("scores.arrow").to_pylist() == told["scores"]
    assert scores.counts == {"tasks": 2, "scores": 8}
    assert {name: value for name, value in scores.facts.items() if "." in name} == {"a.acc": 0.5, "b.acc": 0.5}


def test_one_metric_that_cannot_be_computed_leaves_no_scores_at_all(store):
    bad = task("bad", [{"item_id": "i", "metric.bits_per_byte": -1.0, "weight.bits_per_byte": 0.0}],
               output="loglikelihood_rolling")  # fmt: skip
    samples = sealed(store, task("good"), bad)
    with pytest.raises(
        EvaluationError, match=r"task bad, metric bits_per_byte: .*at least one item with a positive weight"
    ):
        score(samples, ScoreRecipe(), store.draft(Key("benchmark_scores", "m"), "1", {}, [samples]))
    assert store.sealed(Key("benchmark_scores", "m")) == []
