"""Benchmark items as decontamination looks for them: in their own spelling, and without the marks inside words.

Whoever deletes punctuation turns "don't" into "dont" and "3.5" into "35": other words. An item whose words change so is
looked for in both spellings, and the one of which more is shown counts.

Import this module only inside functions, never where the graph is defined: its kernels are compiled.
"""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.overlap import I64, U64, Check, Matches, OverlapIndex
from pipelines.words import word_hashes

_MARKS = re.compile(r"[^\w\s]+")
_WORDS = re.compile(r"\w+")


class ItemIndex:
    """The n-grams of benchmark items.

    Args:
        questions: of the items; all of an item that is one piece.
        answers: of the items; empty where there is none.
        sizes: words of an n-gram, floor and phrase floor.
        unspaced: see :class:`OverlapIndex`.
    """

    def __init__(self, questions: list[str], answers: list[str], sizes: tuple[int, int, int], unspaced: bool) -> None:
        self.unspaced = unspaced
        bare = [i for i, text in enumerate(zip(questions, answers, strict=True)) if _joins("\n".join(text))]
        asked = questions + [_MARKS.sub("", questions[i]) for i in bare]
        answered = answers + [_MARKS.sub("", answers[i]) for i in bare]
        texts = [q + a for q, a in zip(asked, answered, strict=True)]
        counts = [np.diff(word_hashes(pa.array(t, pa.large_string()), unspaced=unspaced)[1]) for t in (texts, asked)]
        whole = pa.array(texts, pa.large_string())
        self._index = OverlapIndex(whole, *sizes, unspaced=unspaced, answers=counts[0] - counts[1])
        self._item_of = np.array([*range(len(questions)), *bare], np.int64)
        self.num_words: I64 = self._index.num_words[: len(questions)]
        self.checks: list[Check] = self._index.checks[: len(questions)]

    def matches(self, texts: pa.Array) -> Matches:
        """The items that each of these documents overlaps with."""
        found = self._index.matches(texts)
        documents, items = found.documents, self._item_of[found.items]
        order = np.lexsort((items, documents))
        documents, items = documents[order], items[order]
        fresh = np.ones(len(items), bool)
        fresh[1:] = (documents[1:] != documents[:-1]) | (items[1:] != items[:-1])
        begins = np.flatnonzero(fresh)
        if len(begins) == len(items):
            return Matches(documents, items, found.coverage[order], found.longest[order])
        most: list[NDArray] = [np.maximum.reduceat(of[order], begins) for of in (found.coverage, found.longest)]
        return Matches(documents[begins], items[begins], most[0], most[1])

    def shown(self, hashes: U64, coverage: float) -> I64:
        """See :meth:`OverlapIndex.shown`."""
        found = self._index.shown(hashes, coverage)
        return np.where(found < 0, found, self._item_of[np.maximum(found, 0)]) if len(self._item_of) else found


def _joins(text: str) -> bool:
    """Whether other words are left when the marks are deleted."""
    return _WORDS.findall(text) != _WORDS.findall(_MARKS.sub("", text))
