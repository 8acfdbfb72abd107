"""Comparison of two checkpoints: advantage and chance by hand and by scipy, and why two are not compared."""

import math

import numpy as np
import pytest

from evals.compare import Comparison, compare, compared, flipped
from evals.records import records, write_records
from evals.statistics import Estimate
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

FACTS = {"output": "multiple_choice", "suite": "s" * 64, "config": "c" * 64}


def task(right, clusters=None, name="choice", **facts):
    rows = [
        {"item_id": f"i{n}", "cluster": (clusters or [f"f{i}" for i in range(len(right))])[n], "prompt_hash": f"p{n}",
         "gold": 0, "num_bytes": [4, 4], "logliks": [-1.0, -2.0], "metric.acc": float(value)}
        for n, value in enumerate(right)
    ]  # fmt: skip
    return records(name, FACTS | facts, rows)


def rolling(nats, sizes=None, metric="bits_per_byte", **facts):
    rows = [
        {"item_id": f"i{n}", "cluster": f"f{n}", "prompt_hash": f"p{n}", "logliks": [-value], "num_bytes": [10],
         f"metric.{metric}": -value, f"weight.{metric}": (sizes or [10.0] * len(nats))[n]}
        for n, value in enumerate(nats)
    ]  # fmt: skip
    return records("rolling", FACTS | {"output": "loglikelihood_rolling"} | facts, rows)


# -- advantage and chance --------------------------------------------------------------------------------------


def test_advantage_by_hand():
    """Three items better, one worse, of eight: the mean of the differences, and the error of that mean."""
    found = compared("choice", task([1, 1, 1, 0, 1, 0, 1, 0]), task([0, 0, 0, 1, 1, 0, 1, 0]))
    differences = [1, 1, 1, -1, 0, 0, 0, 0]
    assert found.advantage.value == 0.25
    assert found.advantage.stderr == pytest.approx(np.std(differences, ddof=1) / math.sqrt(8))
    assert (found.metric, found.unlike, found.advantage.num_items) == ("acc", "", 8)


def test_chance_is_that_of_scipys_paired_t_test():
    from scipy.stats import ttest_rel

    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(1.0, 0.3, 40), draw.normal(1.1, 0.3, 40)
    found = compared("rolling", rolling(ours), rolling(theirs))
    assert found.p_value == pytest.approx(ttest_rel(theirs, ours, alternative="greater").pvalue, rel=1e-9)
    assert found.advantage.value == pytest.approx((theirs - ours).mean() / math.log(2) / 10)


def test_with_clusters_it_is_scipys_test_of_the_sums_by_cluster():
    """Clusters of equal size: the clustered test is the t test of the clusters' means."""
    from scipy.stats import ttest_1samp

    draw = np.random.default_rng(1)
    ours, theirs = draw.integers(0, 2, 60), draw.integers(0, 2, 60)
    clusters = [f"f{i // 5}" for i in range(60)]
    found = compared("choice", task(ours, clusters), task(theirs, clusters))
    means = (ours - theirs).reshape(12, 5).mean(axis=1)
    assert found.p_value == pytest.approx(ttest_1samp(means, 0, alternative="greater").pvalue, rel=1e-9)
    assert found.advantage.num_clusters == 12


def test_turning_the_two_round_turns_the_advantage_and_complements_the_chance():
    draw = np.random.default_rng(2)
    one, other = rolling(draw.normal(1, 0.2, 30)), rolling(draw.normal(1, 0.2, 30))
    here, there = compared("rolling", one, other), compared("rolling", other, one)
    assert here.advantage.value == pytest.approx(-there.advantage.value)
    assert here.advantage.stderr == pytest.approx(there.advantage.stderr)
    assert here.p_value + there.p_value == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("value", "stderr", "chance"),
    [(0.1, 0.0, 0.0), (-0.1, 0.0, 1.0), (0.0, 0.0, 1.0), (0.1, None, 1.0), (0.0, 0.5, 0.5)],
)
def test_chance_where_the_error_is_nothing_or_unknown(value, stderr, chance):
    clusters = 1 if stderr is None else 10
    assert Comparison("t", "acc", Estimate(value, stderr, 10, clusters)).p_value == pytest.approx(chance)


def test_what_is_not_compared_is_never_better_than_chance():
    found = Comparison("t", "acc", None, "the items differ")
    assert (found.p_value, found.needed(0.1)) == (1.0, None)


def test_one_file_alone_tells_nothing_about_chance():
    found = compared("choice", task([1, 1, 1, 1], ["f"] * 4), task([0, 0, 0, 0], ["f"] * 4))
    assert (found.advantage.value, found.advantage.stderr, found.p_value) == (1.0, None, 1.0)


def test_fewer_bits_are_better_and_a_task_may_say_otherwise():
    less, more = rolling([1.0, 1.2, 0.9]), rolling([2.0, 2.1, 1.7])
    assert compared("rolling", less, more).advantage.value > 0
    odd = {"higher_is_better": {"bits_per_byte": True}}
    assert compared("rolling", rolling([1.0, 1.2, 0.9], **odd), rolling([2.0, 2.1, 1.7], **odd)).advantage.value < 0


def test_perplexities_are_compared_by_their_logarithms():
    """Twice the loss of 10 words each: the difference in nats a word, whatever the exponentials are."""
    ours, theirs = rolling([10.0, 30.0], metric="word_perplexity"), rolling([20.0, 50.0], metric="word_perplexity")
    found = compared("rolling", ours, theirs, metric="word_perplexity")
    assert found.advantage.value == pytest.approx((70.0 - 40.0) / 20)


def test_a_longer_text_weighs_more():
    ours, theirs = rolling([10.0, 10.0], [10.0, 30.0]), rolling([20.0, 10.0], [10.0, 30.0])
    assert compared("rolling", ours, theirs).advantage.value == pytest.approx(10 / math.log(2) / 40)


# -- why two are not compared ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (task([1, 0], suite="t" * 64), "the suite differs (ssssssssssss… and tttttttttttt…)"),
        (task([1, 0], config="d" * 64), "the config differs (cccccccccccc… and dddddddddddd…)"),
        (task([1, 0, 1]), "the items differ in item_id (2 and 3 items)"),
        (task([1, 0], ["a", "b"]), "the items differ in cluster (2 and 2 items)"),
        (None, "only the candidate answered it"),
    ],
)
def test_what_differs_is_named(other, told):
    found = compared("choice", task([1, 0]), other)
    assert (found.unlike, found.advantage) == (told, None)


def test_the_same_items_in_another_order_are_not_paired():
    rows = task([1, 0])
    turned = rows.subset(rows.table["item_id"].is_valid())
    turned = type(rows)(turned.task, turned.facts, turned.table.take([1, 0]))
    assert compared("choice", rows, turned).unlike.startswith("the items differ in item_id")


def test_other_prompts_are_other_items():
    rows = task([1, 0])
    table = rows.table.set_column(rows.table.schema.get_field_index("prompt_hash"), "prompt_hash", [["p0", "other"]])
    assert compared("choice", rows, type(rows)(rows.task, rows.facts, table)).unlike.startswith(
        "the items differ in prompt_hash"
    )


def test_the_one_who_alone_answered_is_named():
    assert compared("t", None, task([1, 0])).unlike == "only the incumbent answered it"
    assert compared("t", task([1, 0]), None).unlike == "only the candidate answered it"


def test_all_tasks_of_both_are_compared_by_name(tmp_path):
    store = Store(tmp_path)

    def samples(name, *tasks):
        draft = store.draft(Key("benchmark_samples", name), "1", {}, [])
        write_records(draft, list(tasks), name * 64)
        return draft.seal()

    ours = samples("a", task([1, 0], name="shared"), task([1], name="ours"))
    theirs = samples("b", task([1, 1], name="shared"), task([1], name="theirs"))
    assert [(c.task, c.unlike) for c in compare(ours, theirs)] == [
        ("ours", "only the candidate answered it"),
        ("shared", ""),
        ("theirs", "only the incumbent answered it"),
    ]


# -- flipped items ---------------------------------------------------------------------------------------------


def test_items_that_only_one_answers_rightly():
    found = flipped(task([1, 1, 0, 0]), task([1, 0, 1, 0]))
    assert found == (["i1"], ["i2"])
    assert flipped(task([1, 0]), task([1, 0])) == ([], [])


def test_other_items_cannot_be_flipped():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        flipped(task([1, 1]), task([1]))
