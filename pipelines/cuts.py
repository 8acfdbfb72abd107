"""Cuts: benchmark items taken out of documents, with the spans that went.

From the first word of an item to the next word that stays, everything goes, the marks and blanks between included;
what stands before the first word stays. So no two words that stay grow together, and the words of the text that is
left are those that were not cut. Words that become neighbours may show an item anew: the text is looked at again until
it shows none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from pipelines.item_index import ItemIndex
    from pipelines.overlap import OverlapIndex

CUTS = "cuts.arrow"
CUTS_SCHEMA = pa.schema([
    ("doc_id", pa.binary(16)),
    ("words", pa.int64()),  # that were cut
    ("words_left", pa.int64()),
    ("sha256_in", pa.binary(32)),  # of the text as it was
    ("sha256_out", pa.binary(32)),  # of the text that is left
])  # fmt: skip


class Span(NamedTuple):
    """A run of characters that was cut."""

    item: int
    start: int  # in characters of the text as it was
    length: int


class Cut(NamedTuple):
    """What is left of a text."""

    text: str
    spans: list[Span]
    words: int  # that were cut
    words_left: int

    def row(self, doc_id: bytes, before: str) -> dict[str, object]:
        """Of :data:`CUTS_SCHEMA`."""
        sha256_in, sha256_out = (hashlib.sha256(text.encode()).digest() for text in (before, self.text))
        return {"doc_id": doc_id, "words": self.words, "words_left": self.words_left,
                "sha256_in": sha256_in, "sha256_out": sha256_out}  # fmt: skip


def cut(text: str, index: OverlapIndex | ItemIndex, coverage: float) -> Cut:
    """Take out of a text what it shows of items of which it shows at least this share."""
    from pipelines.words import word_hashes, word_places

    hashes, _ = word_hashes(pa.array([text], pa.large_string()), unspaced=index.unspaced)
    item_of = np.full(len(hashes), -1, np.int64)
    left = np.arange(len(hashes))
    while (shown := index.shown(hashes[left], coverage)).max(initial=-1) >= 0:
        item_of[left] = shown
        left = left[shown < 0]
    places = word_places(text, unspaced=index.unspaced)
    assert len(places) == len(hashes), "the pattern and the kernel must see the same words"
    spans = _spans(item_of, places, len(text))
    kept, at = [], 0
    for span in spans:
        kept.append(text[at : span.start])
        at = span.start + span.length
    return Cut("".join([*kept, text[at:]]), spans, len(hashes) - len(left), len(left))


def _spans(item_of: np.ndarray, places: list[tuple[int, int]], size: int) -> list[Span]:
    """Longest runs of words that go, each named by the item of its first word."""
    gone = np.concatenate([[False], item_of >= 0, [False]])
    begins, ends = np.flatnonzero(~gone[:-1] & gone[1:]), np.flatnonzero(gone[:-1] & ~gone[1:])
    found = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        start = places[begin][0]
        stop = places[end][0] if end < len(places) else size
        found.append(Span(int(item_of[begin]), start, stop - start))
    return found


def with_cuts(documents: pa.Table, texts: pa.Table, cuts: Mapping[bytes, Cut]) -> tuple[pa.Table, pa.Table]:
    """Documents and texts (of CLEAN_SCHEMA and TEXTS_SCHEMA) with what is left of those that were cut.

    ``sha256_in`` stays what the raw text was; :data:`CUTS` says what the text was before the cut.
    """
    here = documents["doc_id"].to_pylist()
    rows = [row for row, doc_id in enumerate(here) if doc_id in cuts]
    if not rows:
        return documents, texts
    of = [cuts[here[row]] for row in rows]
    data = [one.text.encode() for one in of]
    changed = {
        "num_bytes": [len(text) for text in data],
        "num_words": [one.words_left for one in of],
        "sha256_out": [hashlib.sha256(text).digest() for text in data],
    }
    for name, values in changed.items():
        documents = _replaced(documents, name, rows, values)
    return documents, _replaced(texts, "text", rows, [one.text for one in of])


def _replaced(table: pa.Table, name: str, rows: list[int], values: list) -> pa.Table:
    column = pa.concat_arrays(table[name].chunks)
    place = np.arange(len(column))
    place[rows] = len(column) + np.arange(len(rows))
    whole = pa.concat_arrays([column, pa.array(values, column.type)]).take(pa.array(place))
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), whole)
