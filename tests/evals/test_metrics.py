"""Metrics: known answers, what guessing scores, and refusal where there is no answer."""

import math
import sys

import numpy as np
import pytest

from evals import metrics
from evals.metrics import difference, estimate, headline, metric_names, rouge_l, scores
from evals.records import EvaluationError, records


def answered(output, rows, **facts):
    names = [{"item_id": f"i{n}", "cluster": row.get("cluster", f"c{n}"), **row} for n, row in enumerate(rows)]
    return records("task", {"output": output, **facts}, names)


def classified(pairs):
    return answered("classification", [{"answer": a, "reference": r} for a, r in pairs])


def test_macro_f1_is_that_of_scikit_learn_and_so_is_its_replica():
    from sklearn.metrics import f1_score

    draw = np.random.default_rng(0)
    pairs = [(str(a), str(r)) for a, r in zip(draw.integers(0, 5, 200), draw.integers(0, 4, 200), strict=True)]
    found = estimate(classified(pairs), "macro_f1")
    wanted = f1_score([r for _, r in pairs], [a for a, _ in pairs], average="macro")
    assert found.value == pytest.approx(wanted)
    codes = np.arange(200)
    counts = metrics._class_counts(classified(pairs), [str(i) for i in range(5)], codes).sum(axis=0)[None]
    assert metrics.macro_f1_of_counts(counts)[0] == pytest.approx(wanted)
    assert 0 < found.stderr < 0.1


def test_a_class_that_nobody_has_does_not_count():
    counts = np.array([[1.0, 0, 1, 0, 1, 0]])  # hits, predictions, truths of two classes; the second never occurs
    assert metrics.macro_f1_of_counts(counts).tolist() == [1.0]


def test_accuracy_and_what_guessing_scores():
    task = classified([("a", "a"), ("b", "a"), ("b", "b"), ("c", "c")])
    assert estimate(task, "accuracy").value == 0.75
    assert metrics.baseline(task, "accuracy") == pytest.approx(1 / 3)
    choices = answered(
        "multiple_choice",
        [
            {"logliks": [-1.0, -2.0], "num_bytes": [4, 4], "gold": 0, "metric.acc": 1.0},
            {"logliks": [-1.0, -2.0, -3.0, -4.0], "num_bytes": [4, 4, 4, 4], "gold": 1, "metric.acc": 0.0},
        ],
    )
    assert metrics.baseline(choices, "acc") == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert metrics.baseline(choices, "gold_bpb") == 8.0


def test_bits_per_byte_by_hand():
    rows = [
        {"metric.bits_per_byte": -8 * math.log(2), "weight.bits_per_byte": 8.0},
        {"metric.bits_per_byte": -48 * math.log(2), "weight.bits_per_byte": 24.0},
    ]
    assert estimate(answered("loglikelihood_rolling", rows), "bits_per_byte").value == pytest.approx(56 / 32)


def test_gold_answers_in_bits_and_in_probability_by_hand():
    rows = [{"logliks": [math.log(0.5), math.log(0.25)], "num_bytes": [1, 2], "gold": 1, "metric.acc": 0.0}]
    task = answered("multiple_choice", rows)
    assert estimate(task, "gold_bpb").value == pytest.approx(1.0)  # 2 bits over 2 bytes
    assert estimate(task, "choice_prob").value == pytest.approx(1 / 3)


def test_perplexity_is_the_exponential_of_the_mean_loss():
    task = answered(
        "loglikelihood",
        [{"logliks": [ll], "num_bytes": [3], "metric.perplexity": ll, "metric.acc": 1.0} for ll in (-1.0, -3.0)],
    )
    found = estimate(task, "perplexity")
    assert found.value == pytest.approx(math.exp(2))
    assert found.stderr == pytest.approx(math.exp(2) * 1.0)  # delta method: the mean loss is 2 ± 1


def test_a_hopeless_perplexity_saturates_and_is_still_json():
    task = answered(
        "loglikelihood", [{"logliks": [ll], "num_bytes": [3], "metric.perplexity": ll} for ll in (-800.0, -900.0)]
    )
    found = estimate(task, "perplexity")
    assert found.value == pytest.approx(sys.float_info.max)
    assert math.isfinite(found.value)
    assert math.isfinite(found.stderr)


def test_rouge_l_known_answer_and_other_scripts():
    # Lin 2004, section 3: "police killed the gunman" against "police kill the gunman": LCS 3 of 4 and 4
    assert rouge_l(["police kill the gunman"], ["police killed the gunman"])[0] == pytest.approx(0.75)
    assert rouge_l(["今天天气很好", "naïve café"], ["今天天气很好", "naïve café"]).tolist() == [1.0, 1.0]
    assert rouge_l(["今天天气很好"], ["今天下雨"])[0] == pytest.approx(2 * 2 / (6 + 4))
    assert rouge_l([""], ["words"])[0] == 0.0


def test_on_ascii_rouge_l_is_the_librarys_own():
    from rouge_score.rouge_scorer import RougeScorer

    pairs = [
        ("Returns the array_like value.", "return the array-like VALUE"),
        ("a b c", "c b a"),
        ("x1 = 2", "x1 == 2"),
    ]
    usual = RougeScorer(["rougeL"])
    assert rouge_l(*zip(*pairs, strict=True)).tolist() == [usual.score(r, a)["rougeL"].fmeasure for a, r in pairs]


def test_a_log_likelihood_that_is_not_finite_is_refused_not_scored():
    with pytest.raises(EvaluationError, match=r"1 of 2 items .*i1.* no finite log-likelihood"):
        answered("loglikelihood", [{"logliks": [-1.0]}, {"logliks": [math.nan]}])


def test_a_metric_measured_on_some_items_only_is_refused():
    with pytest.raises(EvaluationError, match=r"metric\.acc was measured on only some of 2 items"):
        answered("loglikelihood", [{"logliks": [-1.0], "metric.acc": 1.0}, {"logliks": [-1.0]}])


def test_items_without_any_bytes_raise_and_do_not_score_zero():
    task = answered("loglikelihood_rolling", [{"metric.bits_per_byte": -1.0, "weight.bits_per_byte": 0.0}])
    with pytest.raises(EvaluationError, match="bits_per_byte"):
        scores(task)


def test_a_paired_difference_is_exactly_zero_against_oneself():
    draw = np.random.default_rng(1)
    pairs = [(str(a), str(r)) for a, r in draw.integers(0, 3, (60, 2))]
    for name in ("accuracy", "macro_f1"):
        found = difference(classified(pairs), classified(pairs), name)
        assert (found.value, found.stderr) == (0.0, 0.0)


def test_paired_macro_f1_is_the_difference_of_the_two():
    truths = [str(i % 3) for i in range(60)]
    good = classified([(t, t) for t in truths])
    worse = classified([(t if i % 4 else "0", t) for i, t in enumerate(truths)])
    found = difference(good, worse, "macro_f1")
    assert found.value == pytest.approx(1 - estimate(worse, "macro_f1").value)
    assert found.stderr > 0


def test_the_headline_is_the_usual_metric_where_it_was_measured():
    row = {"logliks": [-1.0, -2.0], "num_bytes": [1, 1], "gold": 0, "metric.acc": 1.0}
    assert headline(answered("multiple_choice", [row])) == "acc"
    assert headline(answered("multiple_choice", [row | {"metric.acc_bytes": 1.0}])) == "acc_bytes"
    assert metric_names(answered("multiple_choice", [row])) == ["acc", "choice_prob", "gold_bpb"]
