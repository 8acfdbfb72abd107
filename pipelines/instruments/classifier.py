"""Text classifiers: the probability that a document is like one set of documents rather than like another.

A team trains its own on documents that it has: good prose against junk, or polite against toxic. Hashed n-grams and
logistic regression, as fastText's classifiers in GPT-3 (Brown et al. 2020, app. A) and DCLM (Li et al. 2024, sec. 4.4)
are linear models over n-grams; here every number is the same in each run on a machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from pipelines import doc_ids
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import rows_digest
from pipelines.samples import sampled

if TYPE_CHECKING:
    from pipelines.instruments.classifier_kernel import Features

VERSION = "1"
WEIGHTS = "weights.arrow"
WEIGHTS_SCHEMA = pa.schema([("bucket", pa.int32()), ("weight", pa.float32())])  # those that are not 0, by bucket
FOLDS, HELD_OUT, CALIBRATION = 10, 0, 1  # of ten folds, one is measured and one calibrates; eight are learned from
TOLERANCE = 1e-4
DIGITS = 6  # of a metric in the facts

Floats = NDArray[np.float64]


class ClassifierRecipe(Recipe):
    """What a classifier sees of a text, and how closely it follows its examples."""

    classifier_positive: list[str] = Field(
        default=[], description="names of the positive sources; all other inputs are negative"
    )
    classifier_word_ngrams: int = Field(default=2, ge=0, le=5, description="words of the longest n-gram; 0: no words")
    classifier_char_ngram: int = Field(
        default=0, ge=0, le=10, description="characters of an n-gram, for scripts without spaces; 0: none"
    )
    classifier_bits: int = Field(default=20, ge=8, le=26, description="n-grams are hashed to 2^bits buckets")
    classifier_cost: float = Field(
        default=1.0, gt=0, le=1e4, description="weight of an example against that of small weights (C of LIBLINEAR)"
    )
    classifier_epochs: int = Field(default=30, ge=1, le=1000, description="most passes over the features")
    classifier_sample_bytes: int = Field(
        default=64_000_000, ge=1, description="text to learn from on each side: the documents with the lowest doc_ids"
    )

    @model_validator(mode="after")
    def _sees_something(self) -> Self:
        if not self.classifier_word_ngrams and not self.classifier_char_ngram:
            raise ValueError("a classifier needs n-grams of words or of characters; both are 0")
        return self


def train_classifier(
    positive: Sequence[Artifact], negative: Sequence[Artifact], recipe: ClassifierRecipe, draft: Draft
) -> Artifact:
    """Learn to tell the documents of ``positive`` from those of ``negative`` (raw or clean documents).

    The hash of a document's id puts it into one of ten folds: one is held out and measured, one gives the two numbers
    of Platt's calibration (Platt 1999), eight are learned from. The probability is that of a document drawn from both
    sets together, in the proportion that they have here.

    Raises:
        ValueError: if a side has no document in one of the folds, or a document stands on both sides.
    """
    from pipelines.instruments.classifier_kernel import fitted, margins

    ids, labels, rows = _examples(positive, negative, recipe)
    order, fold = doc_ids.order(ids), _folds(ids)
    _check(ids[order], labels, fold)
    learned_from = order[fold[order] > CALIBRATION]
    weights, bias, epochs = fitted(
        *rows, labels, learned_from, recipe.classifier_cost, 1 << recipe.classifier_bits,
        recipe.classifier_epochs, TOLERANCE,
    )  # fmt: skip
    used = np.flatnonzero(weights.astype(np.float32)).astype(np.int32)
    table = pa.table([used, weights[used].astype(np.float32)], schema=WEIGHTS_SCHEMA)
    draft.write(WEIGHTS, table)
    margin = margins(*rows, weights.astype(np.float32), bias)
    calibrating, measured = order[fold[order] == CALIBRATION], order[fold[order] == HELD_OUT]
    slope, intercept = platt(margin[calibrating], labels[calibrating] > 0)
    probability = _sigmoid(slope * margin[measured] + intercept)
    return draft.seal(
        counts={"docs": len(ids), "positive": int((labels > 0).sum()), "weights": len(used), "epochs": epochs},
        facts={
            "bias": bias,
            "slope": slope,
            "intercept": intercept,
            "heldout": measures(probability, labels[measured] > 0),
        },
        rows=rows_digest([table]),
    )


class Classifier(NamedTuple):
    """A trained classifier, ready to score."""

    recipe: ClassifierRecipe
    weights: NDArray[np.float32]  # [buckets]
    bias: float
    slope: float
    intercept: float

    @classmethod
    def load(cls, artifact: Artifact) -> Classifier:
        recipe = ClassifierRecipe.model_validate(artifact.manifest.recipe)
        table, facts = artifact.table(WEIGHTS), artifact.facts
        weights = np.zeros(1 << recipe.classifier_bits, np.float32)
        weights[np.asarray(table["bucket"])] = np.asarray(table["weight"])
        return cls(recipe, weights, facts["bias"], facts["slope"], facts["intercept"])

    def scores(self, texts: pa.Array | pa.ChunkedArray) -> Floats:
        """Probability that each text is like the positive documents: float64 [docs]."""
        from pipelines.instruments.classifier_kernel import margins
        from pipelines.words import pieces

        found = [margins(*_features(piece, self.recipe), self.weights, self.bias) for piece in pieces(texts)]
        margin = np.concatenate([np.zeros(0), *found])
        return _sigmoid(self.slope * margin + self.intercept)


def platt(margin: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept by which a margin becomes a probability (Platt 1999, targets of his eq. 14; Newton)."""
    high, low = (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2)
    target = np.where(positive, high, low)

    def loss(slope: float, intercept: float) -> float:
        z = slope * margin + intercept
        return float((np.logaddexp(0, z) - target * z).sum())

    slope, intercept = 0.0, float(np.log(positive.sum() + 1) - np.log((~positive).sum() + 1))
    for _ in range(100):
        share = _sigmoid(slope * margin + intercept)
        error, spread = share - target, share * (1 - share)
        gradient = np.array([(error * margin).sum(), error.sum()])
        a, b, c = (spread * margin**2).sum() + 1e-9, (spread * margin).sum(), spread.sum() + 1e-9
        step = np.array([c * gradient[0] - b * gradient[1], a * gradient[1] - b * gradient[0]]) / (a * c - b * b)
        size, before = 1.0, loss(slope, intercept)
        while size > 1e-6 and loss(slope - size * step[0], intercept - size * step[1]) > before:
            size /= 2
        slope, intercept = float(slope - size * step[0]), float(intercept - size * step[1])
        if np.abs(size * step).max() < 1e-10:
            break
    return slope, intercept


def measures(probability: Floats, positive: NDArray[np.bool_]) -> dict[str, Any]:
    """Accuracy and confusion at 0.5, area under the ROC curve (ties count half) and Brier score."""
    _, rank_of, counts = np.unique(probability, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[rank_of]
    ones, zeros = int(positive.sum()), int((~positive).sum())
    said = probability >= 0.5
    return {
        "docs": len(positive),
        "accuracy": round(float((said == positive).mean()), DIGITS),
        "auc": round(float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros)), DIGITS),
        "brier": round(float(((probability - positive) ** 2).mean()), DIGITS),
        "true_positive": int((said & positive).sum()),
        "false_positive": int((said & ~positive).sum()),
        "true_negative": int((~said & ~positive).sum()),
        "false_negative": int((~said & positive).sum()),
    }


def _sigmoid(z: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -z))


def _features(texts: pa.Array, recipe: ClassifierRecipe) -> Features:
    from pipelines.instruments.classifier_kernel import features

    return features(texts, recipe.classifier_word_ngrams, recipe.classifier_char_ngram, recipe.classifier_bits)


def _examples(
    positive: Sequence[Artifact], negative: Sequence[Artifact], recipe: ClassifierRecipe
) -> tuple[doc_ids.Ids, Floats, Features]:
    """Ids, labels (+1, -1) and features of the documents of both samples."""
    from pipelines.instruments.classifier_kernel import Features
    from pipelines.words import pieces

    ids, labels, found = [np.zeros(0, "S16")], [np.zeros(0)], []
    for side, label in ((positive, 1.0), (negative, -1.0)):
        for some, texts in sampled(side, recipe.classifier_sample_bytes):
            ids.append(some)
            labels.append(np.full(len(some), label))
            found += [_features(piece, recipe) for piece in pieces(texts)]
    ends = np.concatenate([np.zeros(1, np.int64), *(np.diff(rows.offsets) for rows in found)])
    buckets = np.concatenate([np.zeros(0, np.int32), *(rows.buckets for rows in found)])
    values = np.concatenate([np.zeros(0, np.float32), *(rows.values for rows in found)])
    return np.concatenate(ids), np.concatenate(labels), Features(buckets, values, np.cumsum(ends))


def _folds(ids: doc_ids.Ids) -> NDArray[np.int64]:
    """Which of the ten folds each document belongs to: by its id alone, whatever else there is."""
    halves = np.ascontiguousarray(ids).view("<u8").reshape(-1, 2)
    mixed = (halves[:, 0] ^ (halves[:, 1] >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed >> np.uint64(32)) % np.uint64(FOLDS)).astype(np.int64)


def _check(in_order: doc_ids.Ids, labels: Floats, fold: NDArray[np.int64]) -> None:
    if len(in_order) and (twice := int((in_order[1:] == in_order[:-1]).sum())):
        raise ValueError(
            f"{twice} documents are given twice; a source is positive or negative, with one snapshot that has the document."
        )
    for name, side in (("positive", labels > 0), ("negative", labels < 0)):
        counts = [int((side & chosen).sum()) for chosen in (fold > CALIBRATION, fold == CALIBRATION, fold == HELD_OUT)]
        if not all(counts):
            raise ValueError(
                f"the {name} side has {counts[0]} documents to learn from, {counts[1]} to calibrate on and {counts[2]} "
                "to be measured on; each needs at least one: give it more documents, 100 or more, or a larger sample."
            )
