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


def chosen(rows):
    return answered(
        "multiple_choice",
        [{"logliks": lls, "num_bytes": sizes, "gold": gold, "metric.acc": 1.0} for lls, sizes, gold in rows],
    )


def test_accuracy_is_that_of_scikit_learn():
    from sklearn.metrics import accuracy_score

    draw = np.random.default_rng(4)
    pairs = [(str(a), str(r)) for a, r in draw.integers(0, 4, (150, 2))]
    wanted = accuracy_score([r for _, r in pairs], [a for a, _ in pairs])
    found = estimate(classified(pairs), "accuracy")
    assert found.value == pytest.approx(wanted)
    # a proportion: sqrt(p (1 - p) / (n - 1))
    assert found.stderr == pytest.approx(math.sqrt(wanted * (1 - wanted) / 149))


def test_the_probability_of_a_choice_is_the_softmax_of_the_likelihoods():
    from scipy.special import softmax

    draw = np.random.default_rng(5)
    rows = [(draw.normal(-300, 5, 4).tolist(), [4] * 4, int(draw.integers(0, 4))) for _ in range(30)]
    wanted = np.mean([softmax(lls)[gold] for lls, _, gold in rows])
    assert estimate(chosen(rows), "choice_prob").value == pytest.approx(wanted, rel=1e-9)


def test_likelihoods_far_below_what_a_float_can_hold_still_have_a_probability():
    assert estimate(chosen([([-9000.0, -9001.0], [4, 4], 0)]), "choice_prob").value == pytest.approx(
        1 / (1 + math.e**-1)
    )


def test_gold_bits_weigh_long_answers_more():
    rows = [([-math.log(2), -9.0], [1, 1], 0), ([-9.0, -6 * math.log(2)], [1, 3], 1)]
    assert estimate(chosen(rows), "gold_bpb").value == pytest.approx((1 + 6) / (1 + 3))
    word = answered("loglikelihood", [{"logliks": [-4 * math.log(2)], "num_bytes": [8], "metric.acc": 0.0}])
    assert estimate(word, "gold_bpb").value == pytest.approx(0.5)


def test_word_perplexity_weighs_texts_by_their_words():
    rows = [
        {"metric.word_perplexity": -10.0, "weight.word_perplexity": 5.0},
        {"metric.word_perplexity": -90.0, "weight.word_perplexity": 15.0},
    ]
    assert estimate(answered("loglikelihood_rolling", rows), "word_perplexity").value == pytest.approx(math.exp(5.0))


def test_a_difference_is_that_of_the_values_and_turns_with_the_sides():
    draw = np.random.default_rng(6)
    one, other = (chosen([(draw.normal(-5, 1, 3).tolist(), [3, 4, 5], 1) for _ in range(25)]) for _ in range(2))
    for name in ("gold_bpb", "choice_prob"):
        here, there = difference(one, other, name), difference(other, one, name)
        if name == "choice_prob":
            assert here.value == pytest.approx(estimate(one, name).value - estimate(other, name).value)
        assert here.value == pytest.approx(-there.value)
        assert here.stderr == pytest.approx(there.stderr)


def test_pairing_shrinks_the_error_of_what_two_models_share():
    """Items differ much, the two models little: unpaired the difference would drown."""
    hard = np.random.default_rng(8).normal(-20, 5, 100)
    one, other = (chosen([([float(h) + d, -50.0], [10, 10], 0) for h in hard]) for d in (0.1, 0.0))
    paired = difference(one, other, "gold_bpb")
    unpaired = math.hypot(estimate(one, "gold_bpb").stderr, estimate(other, "gold_bpb").stderr)
    assert paired.value == pytest.approx(-0.1 / math.log(2) / 10)
    assert paired.stderr < unpaired / 1000


def test_items_of_other_sizes_are_not_the_same_items():
    one, other = (chosen([([-1.0, -2.0], [size, 4], 0)]) for size in (4, 5))
    with pytest.raises(ValueError, match="task, gold_bpb: the same items have different sizes"):
        difference(one, other, "gold_bpb")


def test_macro_f1_weighs_rare_classes_like_common_ones():
    """Ninety right of the common class and ten wrong of the rare one: accuracy 0.9, macro-F1 (0.947 + 0) / 2."""
    task = classified([("a", "a")] * 90 + [("a", "b")] * 10)
    assert estimate(task, "accuracy").value == 0.9
    assert estimate(task, "macro_f1").value == pytest.approx((2 * 90 / 190) / 2)


def test_guessing_is_known_only_where_it_means_something():
    task = chosen([([-1.0, -2.0], [4, 4], 0)])
    assert [metrics.baseline(task, name) for name in ("acc", "choice_prob", "gold_bpb", "f1")] == [0.5, 0.5, 8.0, None]
    assert metrics.baseline(classified([("a", "b")]), "macro_f1") is None


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("acc", True),
        ("macro_f1", True),
        ("rouge_l", True),
        ("bits_per_byte", False),
        ("perplexity", False),
        ("gold_bpb", False),
    ],
)
def test_which_way_is_better_where_the_task_does_not_say(metric, better):
    assert metrics.higher_is_better(chosen([([-1.0, -2.0], [4, 4], 0)]), metric) is better


def test_every_score_names_task_metric_size_and_guessing():
    found = {score.metric: score for score in scores(chosen([([-1.0, -2.0], [4, 4], 0)] * 3))}
    assert list(found) == ["acc", "choice_prob", "gold_bpb"]
    assert {score.task for score in found.values()} == {"task"}
    assert {score.estimate.num_items for score in found.values()} == {3}
    assert (found["acc"].baseline, found["gold_bpb"].higher_is_better) == (0.5, False)


def test_rouge_l_knows_no_case_and_no_punctuation_but_order():
    assert rouge_l(["The CAT, sat!"], ["the cat sat"])[0] == 1.0
    assert rouge_l(["sat cat the"], ["the cat sat"])[0] == pytest.approx(1 / 3)
    assert rouge_l(["words"], [""])[0] == 0.0
    assert rouge_l([], []).tolist() == []
