"""Metrics over records: each with its number of items and a standard error, and each as a paired difference.

A metric is a sum over items divided by another sum over items (a mean divides by the number of items, bits per byte
by the number of bytes), so that one clustered error serves them all; macro-F1 is the exception and is bootstrapped.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evals.records import METRIC, WEIGHT, EvaluationError, TaskRecords
from evals.statistics import Estimate, bootstrap, cluster_codes, ratio

Floats = NDArray[np.float64]

ACCURACIES = ("acc", "acc_bytes", "acc_norm")
PER_UNIT = {"bits_per_byte": "bits", "byte_perplexity": "exp", "word_perplexity": "exp", "perplexity": "exp"}
GOLD_BPB, CHOICE_PROB, MACRO_F1, ACCURACY, ROUGE_L = "gold_bpb", "choice_prob", "macro_f1", "accuracy", "rouge_l"
LOWER_IS_BETTER = {*PER_UNIT, GOLD_BPB}
# what a person looks at first, and what the gate compares: one number for each kind of task
HEADLINES = {
    "multiple_choice": "acc_bytes",
    "loglikelihood": "acc",
    "loglikelihood_rolling": "bits_per_byte",
    "generate_until": "exact_match",
    "classification": MACRO_F1,
    "generation": ROUGE_L,
}
# aggregations of lm-eval that a sum over a sum can express
AGGREGATIONS = {"mean", "perplexity", "weighted_perplexity", "bits_per_byte", "nanmean"}


@dataclass(frozen=True)
class Score:
    """One metric of one task."""

    task: str
    metric: str
    estimate: Estimate
    higher_is_better: bool
    baseline: float | None  # what guessing scores


def headline(task: TaskRecords) -> str:
    """The metric by which a task is reported first; the first measured one where the usual one is absent."""
    names = metric_names(task)
    usual = HEADLINES.get(task.output, "")
    return usual if usual in names else names[0]


def metric_names(task: TaskRecords) -> list[str]:
    """All metrics of a task, in a fixed order."""
    if task.output == "classification":
        return [ACCURACY, MACRO_F1]
    if task.output == "generation":
        return [ROUGE_L]
    derived = {"multiple_choice": [CHOICE_PROB, GOLD_BPB], "loglikelihood": [GOLD_BPB]}
    return [*task.measured(), *derived.get(task.output, [])]


def scores(task: TaskRecords, seed: int = 0) -> list[Score]:
    """Every metric of a task.

    Raises:
        EvaluationError: if one cannot be computed. A metric that failed has no value; it is not 0.
    """
    found = []
    for name in metric_names(task):
        try:
            value = estimate(task, name, seed)
        except ValueError as error:
            raise EvaluationError(f"task {task.task}, metric {name}: {error}") from error
        found.append(Score(task.task, name, value, higher_is_better(task, name), baseline(task, name)))
    return found


def higher_is_better(task: TaskRecords, metric: str) -> bool:
    return task.facts.get("higher_is_better", {}).get(metric, metric not in LOWER_IS_BETTER)


def estimate(task: TaskRecords, metric: str, seed: int = 0) -> Estimate:
    """The value of a metric with its clustered standard error."""
    codes = cluster_codes(task.strings("cluster"))
    if metric == MACRO_F1:
        return _macro_f1(task, codes, seed)
    found = ratio(*_terms(task, metric), codes)
    return _exponential(found) if PER_UNIT.get(metric) == "exp" else found


def difference(candidate: TaskRecords, incumbent: TaskRecords, metric: str, seed: int = 0) -> Estimate:
    """Candidate minus incumbent on the same items, paired and clustered. Perplexities differ on the log scale.

    Raises:
        ValueError: if the two do not weigh the items alike.
    """
    codes = cluster_codes(candidate.strings("cluster"))
    if metric == MACRO_F1:
        columns = ("answer", "reference")
        classes = sorted({name for task in (candidate, incumbent) for c in columns for name in task.strings(c)})
        both = np.hstack([_class_counts(task, classes, codes) for task in (candidate, incumbent)])
        half = both.shape[1] // 2
        return bootstrap(
            lambda c: macro_f1_of_counts(c[:, :half]) - macro_f1_of_counts(c[:, half:]), both, len(candidate), seed
        )
    top, weights = _terms(candidate, metric)
    other_top, other_weights = _terms(incumbent, metric)
    if not np.array_equal(weights, other_weights):
        raise ValueError(f"{candidate.task}, {metric}: the same items have different sizes in the two evaluations.")
    return ratio(top - other_top, weights, codes)


def baseline(task: TaskRecords, metric: str) -> float | None:
    """What guessing would score: evenly among the choices or classes, or evenly among the 256 bytes."""
    if task.output == "multiple_choice" and metric in {*ACCURACIES, CHOICE_PROB}:
        return math.fsum(1 / len(choices) for choices in task.lists("logliks")) / len(task)
    if metric == ACCURACY:
        return 1 / len(set(task.strings("reference")))
    return 8.0 if metric in {"bits_per_byte", GOLD_BPB} else None


# -- numerator and denominator of every metric but macro-F1 ----------------------------------------------------


def _terms(task: TaskRecords, metric: str) -> tuple[Floats, Floats]:
    ones = np.ones(len(task))
    if metric == GOLD_BPB:
        return _gold_bits(task)
    if metric == CHOICE_PROB:
        return _choice_probability(task), ones
    if metric == ACCURACY:
        return np.array(
            [a == b for a, b in zip(task.strings("answer"), task.strings("reference"), strict=True)], np.float64
        ), ones
    if metric == ROUGE_L:
        return rouge_l(task.strings("answer"), task.strings("reference")), ones
    values = task.floats(METRIC + metric)
    if metric not in PER_UNIT:
        return values, ones
    weights = task.floats(WEIGHT + metric) if metric in task.measured(WEIGHT) else ones
    return (-values / math.log(2) if PER_UNIT[metric] == "bits" else -values), weights


def _gold_bits(task: TaskRecords) -> tuple[Floats, Floats]:
    gold = [index or 0 for index in task.table["gold"].to_pylist()]
    bits = [-row[i] / math.log(2) for row, i in zip(task.lists("logliks"), gold, strict=True)]
    return np.array(bits, np.float64), np.array(
        [r[i] for r, i in zip(task.lists("num_bytes"), gold, strict=True)], np.float64
    )


def _choice_probability(task: TaskRecords) -> Floats:
    """Probability of the right choice among the choices: smooth where accuracy of a small model is noise."""
    found = []
    for logliks, gold in zip(task.lists("logliks"), task.table["gold"].to_pylist(), strict=True):
        shifted = np.exp(np.array(logliks) - max(logliks))
        found.append(shifted[gold] / math.fsum(shifted))
    return np.array(found, np.float64)


def _exponential(estimate: Estimate) -> Estimate:
    """The exponential of an estimate with the delta method's error; the largest float in place of an overflow."""
    value = math.exp(min(estimate.value, math.log(sys.float_info.max)))
    stderr = None if estimate.stderr is None else min(value * estimate.stderr, sys.float_info.max)
    return Estimate(value, stderr, estimate.num_items, estimate.num_clusters)


# -- macro-F1 --------------------------------------------------------------------------------------------------


def _macro_f1(task: TaskRecords, codes: NDArray[np.int64], seed: int) -> Estimate:
    from sklearn.metrics import f1_score

    answers, references = task.strings("answer"), task.strings("reference")
    classes = sorted({*answers, *references})
    spread = bootstrap(macro_f1_of_counts, _class_counts(task, classes, codes), len(task), seed)
    return replace(spread, value=float(f1_score(references, answers, average="macro", zero_division=0)))  # pyright: ignore[reportArgumentType]


def _class_counts(task: TaskRecords, classes: Sequence[str], codes: NDArray[np.int64]) -> Floats:
    """By cluster: hits, predictions and truths of every class, side by side, [G, 3 * classes]."""
    index = {name: i for i, name in enumerate(classes)}
    answers = np.array([index[a] for a in task.strings("answer")])
    truths = np.array([index[r] for r in task.strings("reference")])
    counts = np.zeros((int(codes.max()) + 1, 3, len(classes)))
    np.add.at(counts[:, 0], (codes[answers == truths], answers[answers == truths]), 1)
    np.add.at(counts[:, 1], (codes, answers), 1)
    np.add.at(counts[:, 2], (codes, truths), 1)
    return counts.reshape(len(counts), -1)


def macro_f1_of_counts(counts: Floats) -> Floats:
    """Macro-F1 from summed counts [R, 3 * classes]; as in scikit-learn, classes seen on neither side do not count.

    F1 of a class is 2 hits / (predictions + truths), and 0 where it was never hit.
    """
    hits, predictions, truths = np.moveaxis(counts.reshape(len(counts), 3, -1), 1, 0)
    sizes = predictions + truths
    f1 = np.divide(2 * hits, sizes, out=np.zeros_like(hits), where=sizes > 0)
    return f1.sum(axis=1) / (sizes > 0).sum(axis=1)


# -- ROUGE-L ---------------------------------------------------------------------------------------------------

# scripts without spaces between words: Thai, kana, CJK ideographs, Hangul; every character counts as a word
_TOKEN = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]|"
    r"[^\W_\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+"
)


class _Words:
    """Tokens for rouge-score: its own rule on ASCII, while other scripts are kept (its default drops them)."""

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text.lower())


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> Floats:
    """ROUGE-L F-measure of each pair (Lin 2004), without stemming."""
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=False, tokenizer=_Words())
    return np.array(
        [
            scorer.score(reference, answer)["rougeL"].fmeasure
            for answer, reference in zip(answers, references, strict=True)
        ],
        np.float64,
    )
