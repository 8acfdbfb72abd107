"""Instruments: what a team brings to cleaning besides the text: lists, a classifier, a reference model.

Each is optional. Where one is missing its signals are null, which no rule holds against a document.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from pipelines import doc_ids
from pipelines.filters.rules import Rule
from pipelines.instruments import word_list
from pipelines.instruments.url_list import REASONS, UrlRecipe
from pipelines.instruments.word_list import BadWordsRecipe
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

if TYPE_CHECKING:
    from pipelines.instruments.classifier import Classifier
    from pipelines.instruments.ngram_model import NgramModel
    from pipelines.instruments.url_list import UrlList
    from pipelines.instruments.word_list import WordList

CLASSIFIER, REFERENCE = "text_classifier", "reference_model"  # assets
MOST_PARETO = 1000.0  # beyond any choice; a score of 1 always stays


class InstrumentRecipe(UrlRecipe, BadWordsRecipe):
    """Which instruments are used, and the bounds of what they measure."""

    classifier: str = Field(default="", description="name of a trained classifier; empty: none")
    min_classifier_score: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="least probability that the text is like the classifier's positive examples",
    )
    classifier_pareto: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="sample by the classifier: a document stays with probability (2 - score)^-this (GPT-3: 9); 0: all",
    )
    reference: str = Field(default="", description="name of a reference model; empty: none")
    max_perplexity: float = Field(
        default=1000.0,
        gt=0,
        description="greatest perplexity of a word under the reference model (CCNet cuts by its thirds)",
    )


URL_RULES = (Rule("blocked_url", "url_block", "", False),)  # the value is the number of the reason in url_list.REASONS
CLASSIFIER_RULES = (
    Rule("low_score", "classifier_score", "min_classifier_score", True),
    Rule("not_sampled", "classifier_pareto_limit", "classifier_pareto", True),
)
REFERENCE_RULES = (Rule("perplexity", "perplexity", "max_perplexity", False),)
SIGNALS = [
    pa.field("url_block", pa.int64()),  # 0: fine
    *word_list.SIGNALS,
    pa.field("classifier_score", pa.float64()),
    pa.field("classifier_pareto_limit", pa.float64()),
    pa.field("perplexity", pa.float64()),
]


class Place(NamedTuple):
    """Where an artifact is, in words that another process understands."""

    store: str
    key: Key
    manifest: str

    @classmethod
    def of(cls, artifact: Artifact) -> Place:
        return cls(artifact.store.url, artifact.key, artifact.digest)

    def open(self) -> Artifact:
        return Store(self.store).artifact(self.key, self.manifest)


class Instruments(NamedTuple):
    """What is at hand; workers open it by themselves, once a process."""

    url_list: Path | None = None
    bad_words: Path | None = None
    classifier: Place | None = None
    reference: Place | None = None

    def signals(
        self,
        texts: pa.LargeStringArray,
        urls: pa.ChunkedArray | pa.Array,
        recipe: InstrumentRecipe,
        ids: pa.ChunkedArray | pa.Array | None = None,
    ) -> dict[str, pa.Array]:
        """The columns of SIGNALS: [texts]; without ids nothing is sampled."""
        found: dict[str, pa.Array] = {field.name: pa.nulls(len(texts), field.type) for field in SIGNALS}
        if self.url_list:
            blocked = _url_list(self.url_list, recipe.url_list_digest).blocks(urls, recipe.url_min_soft_words)
            found["url_block"] = pc.index_in(blocked, pa.array(REASONS)).cast(pa.int64())
        if self.bad_words:
            found |= _word_list(self.bad_words, recipe.bad_words_digest).signals(texts)
        if self.classifier:
            scores = _classifier(self.classifier).scores(texts)
            found["classifier_score"] = pa.array(scores, pa.float64())
            if ids is not None:
                found["classifier_pareto_limit"] = pa.array(pareto_limits(scores, doc_ids.as_numpy(ids)), pa.float64())
        if self.reference:
            found["perplexity"] = pa.array(_reference(self.reference).perplexities(texts), pa.float64())
        return found


def pareto_limits(scores: NDArray[np.float64], ids: doc_ids.Ids) -> NDArray[np.float64]:
    """The greatest ``classifier_pareto`` at which each document stays: [documents].

    GPT-3 keeps a document if a draw from a Pareto distribution exceeds 1 - score (Brown et al. 2020, app. A), which
    has probability (2 - score) ** -alpha. The draw is the second half of the doc_id, which is a hash: it is the same
    in every process and snapshot, and tells nothing of the first half, by which samples of text are chosen.
    """
    halves = np.ascontiguousarray(ids).view(">u8").reshape(-1, 2)[:, 1]
    draws = (halves.astype(np.float64) + 0.5) * 2.0**-64
    with np.errstate(divide="ignore"):
        limits = np.log(draws) / -np.log(2.0 - scores)
    return np.minimum(limits, MOST_PARETO, dtype=np.float64).round(4)


@functools.lru_cache(4)
def _url_list(path: Path, expected: str) -> UrlList:
    from pipelines.instruments.url_list import UrlList

    return _unchanged(UrlList.read(path), path, expected)


@functools.lru_cache(4)
def _word_list(path: Path, expected: str) -> WordList:
    from pipelines.instruments.word_list import WordList

    return _unchanged(WordList.read(path), path, expected)


@functools.lru_cache(4)
def _classifier(place: Place) -> Classifier:
    from pipelines.instruments.classifier import Classifier

    return Classifier.load(place.open())


@functools.lru_cache(4)
def _reference(place: Place) -> NgramModel:
    from pipelines.instruments.ngram_model import NgramModel

    return NgramModel.load(place.open())


def _unchanged(found, path: Path, expected: str):  # noqa: ANN001, ANN202 - either kind of list
    if expected and found.digest != expected:
        raise ValueError(f"{path.name}: has digest {found.digest[:12]}…, the recipe says {expected[:12]}…. Run again.")
    return found
