"""Boilerplate: lines or paragraphs that stand in many documents of a corpus, cut out of all of them but the first.

Two lines are the same if they have the same words (``words.py``): case, punctuation and blanks do not count. The
documents are looked at in the order of the sources, then of their doc_ids, whichever of several duplicates the
recipe keeps. A document of which too few words are left is dropped; one whose text has become another's is merged.

Memory: 32 bytes a document and 24 a unit that many documents have; what all units hash to waits on disk, and is
looked at in 64 runs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines import doc_ids
from pipelines.clean import SPANS_SCHEMA
from pipelines.cuts import CUTS_SCHEMA, Cut, Span
from pipelines.documents import DOCUMENTS, TEXTS
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.tables import read_batches
from pipelines.survival import as_words, first_of_equals

I64, U64 = NDArray[np.int64], NDArray[np.uint64]
RUNS = 64  # in which the hashes of a corpus are counted, by their upper bits
RULES = {"lines": "repeated_line", "paragraphs": "repeated_paragraph"}
TWIN = "exact_after_cut"  # method by which a document goes whose text became another's


class BoilerplateRecipe(Recipe):
    """What is cut because many documents have it."""

    unit: Literal["off", "lines", "paragraphs"] = Field(
        default="off", description="what is compared across documents; a paragraph ends at a blank line"
    )
    min_documents: int = Field(
        default=10, ge=2, le=1_000_000_000,
        description="documents that must have a unit for it to be cut. From 2 on, FineWeb's trials lost most of the "
        "tokens and the scores fell (Penedo et al. 2024); what ten have is the frame of a page, not its content",
    )  # fmt: skip
    min_unit_words: int = Field(
        default=10, ge=1, le=1_000_000, description="units of fewer words are never cut (FineWeb's line trial: 10)"
    )
    cut: Literal["repeats", "all"] = Field(
        default="repeats", description="repeats: the first document keeps the unit. all: no document does"
    )
    min_words_left: int = Field(
        default=20, ge=0, le=1_000_000, description="a document with fewer words left after a cut is dropped"
    )


@dataclass
class PartCuts:
    """What goes of the documents of one source, and which of them go for it."""

    rows: I64  # of the documents that are cut, ascending
    begins: I64  # [cut + 1]: where the spans of each begin
    spans: I64  # [spans, 4]: start and stop in bytes, start and length in characters
    words: I64  # [cut]: that go
    words_left: I64  # [cut]
    sha256: NDArray[np.bytes_]  # [cut] of the text that is left, S32
    short: I64  # rows of documents that are dropped
    twins: I64  # rows of documents that are merged
    survivors: doc_ids.Ids  # [twins]: for whom

    def cut(self, number: int, text: str, rule: int = 0) -> Cut:
        """What is left of the text of a cut document, given by its place in ``rows``."""
        data, kept, at, found = text.encode(), [], 0, []
        for start, stop, first, length in self.spans[self.begins[number] : self.begins[number + 1]].tolist():
            kept.append(data[at:start])
            found.append(Span(rule, first, length))
            at = stop
        left = b"".join([*kept, data[at:]]).decode()
        return Cut(left, found, int(self.words[number]), int(self.words_left[number]))


class _Source(NamedTuple):
    """A source with the documents of it that stay so far."""

    clean: Artifact
    number: I64  # by row: place in the order of the corpus, -1 where the document has gone already


class _Units(NamedTuple):
    """The units of some texts."""

    rows: I64  # [texts] of their documents
    data: NDArray[np.uint8]
    offsets: I64  # [texts + 1] in data
    bounds: I64  # [units + 1] in data
    whose: I64  # [units]: place of the text
    keys: U64  # [units, 2]: 128 bits over the words
    num_words: I64  # [units]


def found(
    cleans: Sequence[Artifact], stays: Sequence[NDArray[np.bool_]], recipe: BoilerplateRecipe, scratch: Path
) -> list[PartCuts]:
    """By source, in their order: what goes of its documents.

    Args:
        cleans: the sources in the order in which a first document is looked for.
        stays: by row of each, whether the document is still there.
        recipe: what is compared.
        scratch: where hashes wait.
    """
    sources, first = [], 0
    for clean, here in zip(cleans, stays, strict=True):
        number = np.full(len(here), -1, np.int64)
        order = doc_ids.order(doc_ids.as_numpy(clean.table(DOCUMENTS, ["doc_id"])["doc_id"]))
        order = order[here[order]]
        number[order] = np.arange(first, first + len(order))
        sources.append(_Source(clean, number))
        first += len(order)
    keys, firsts = _repeated(sources, recipe, scratch)
    cut = [_cut(source, keys, firsts, recipe) for source in sources]
    _find_twins(sources, cut, first)
    return cut


def _units(source: _Source, recipe: BoilerplateRecipe) -> Iterator[_Units]:
    """The units of the documents of a source, a bounded number of bytes at a time."""
    from pipelines import boilerplate_kernel as kernel
    from pipelines import words

    start = 0
    for batch in read_batches(source.clean.local(TEXTS), ["text"]):
        for texts in words.pieces(batch["text"]):
            data, offsets = words.text_buffers(texts)
            bounds, whose = kernel.units(data, offsets, recipe.unit == "paragraphs")
            column = pa.LargeStringArray.from_buffers(len(whose), pa.py_buffer(bounds), pa.py_buffer(data))
            hashes, places = words.word_hashes(column)
            both = np.frombuffer(words.fingerprints(hashes, places).buffers()[1], np.uint64).reshape(-1, 2)
            rows = np.arange(start, start + len(texts))
            start += len(texts)
            yield _Units(rows, data, offsets, bounds, whose, both[: len(whose)], np.diff(places))


def _repeated(sources: Sequence[_Source], recipe: BoilerplateRecipe, scratch: Path) -> tuple[U64, I64]:
    """Units that enough documents have, as keys [n, 2], and the number of the first document that has each."""
    keys, firsts = [np.zeros((0, 2), np.uint64)], [np.zeros(0, np.int64)]
    with tempfile.TemporaryFile(prefix="units-", dir=scratch) as file:
        sizes = [_spilled(units, source, recipe, file) for source in sources for units in _units(source, recipe)]
        begins = np.cumsum([0, *(row for size in sizes for row in size.tolist())])
        for run in range(RUNS):
            pieces = [_piece(file, begins, index * RUNS + run) for index in range(len(sizes))]
            some = np.concatenate([np.zeros((0, 3), np.uint64), *pieces])
            some = some[np.lexsort((some[:, 2], some[:, 1], some[:, 0]))]
            fresh = np.ones(len(some), bool)
            fresh[1:] = (some[1:] != some[:-1]).any(axis=1)
            some = some[fresh]  # each document once a unit
            begin = np.ones(len(some), bool)
            begin[1:] = (some[1:, :2] != some[:-1, :2]).any(axis=1)
            starts = np.flatnonzero(begin)
            often = starts[np.diff(np.append(starts, len(some))) >= recipe.min_documents]
            keys.append(some[often, :2])
            firsts.append(some[often, 2].astype(np.int64))
    return np.ascontiguousarray(np.concatenate(keys)), np.concatenate(firsts)


def _spilled(units: _Units, source: _Source, recipe: BoilerplateRecipe, file: IO[bytes]) -> I64:
    """Write key and document of the units that may be cut, run after run; returns how many each run has."""
    number = source.number[units.rows[units.whose]]
    wanted = (units.num_words >= recipe.min_unit_words) & (number >= 0)
    run = (units.keys[wanted, 0] // np.uint64(2**64 // RUNS)).astype(np.int64)
    order = np.argsort(run, kind="stable")
    rows = np.column_stack([units.keys[wanted], number[wanted].astype(np.uint64)])
    file.write(np.ascontiguousarray(rows[order]).tobytes())
    return np.bincount(run, minlength=RUNS)


def _piece(file: IO[bytes], begins: I64, index: int) -> U64:
    file.seek(24 * int(begins[index]))
    return np.frombuffer(file.read(24 * int(begins[index + 1] - begins[index])), np.uint64).reshape(-1, 3)


def _cut(source: _Source, keys: U64, firsts: I64, recipe: BoilerplateRecipe) -> PartCuts:
    """What goes of the documents of one source; twins are found when all sources are known."""
    from pipelines import boilerplate_kernel as kernel

    size = 1 << max(4, int(2 * len(keys)).bit_length())
    slots = kernel.hash_table(keys, size)
    rows, counts, spans, digests = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros((0, 4), np.int64)], []
    words, left = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for units in _units(source, recipe):
        number = source.number[units.rows[units.whose]]
        known = kernel.looked_up(units.keys, keys, slots)
        goes = (known >= 0) & (number >= 0)
        if recipe.cut == "repeats":
            goes &= firsts[known] != number if len(firsts) else False
        if not goes.any():
            continue
        made = kernel.spans(units.data, units.offsets, units.bounds, units.whose, goes)
        texts, begins = np.unique(made[:, 0], return_index=True)
        total = np.bincount(units.whose, units.num_words, len(units.rows)).astype(np.int64)
        gone = np.bincount(units.whose[goes], units.num_words[goes], len(units.rows)).astype(np.int64)
        rows.append(units.rows[texts])
        counts.append(np.diff(np.append(begins, len(made))))
        spans.append(made[:, 1:])
        words.append(gone[texts])
        left.append((total - gone)[texts])
        digests += _digests(units, made, texts, begins)
    cut_rows, words_left = np.concatenate(rows), np.concatenate(left)
    return PartCuts(
        cut_rows, np.cumsum(np.concatenate([[0], *counts])), np.concatenate(spans), np.concatenate(words), words_left,
        np.frombuffer(b"".join(digests), "S32"), cut_rows[words_left < recipe.min_words_left],
        np.zeros(0, np.int64), np.zeros(0, "S16"),
    )  # fmt: skip


def _digests(units: _Units, made: I64, texts: I64, begins: I64) -> list[bytes]:
    """SHA-256 of what is left of each text."""
    found, ends = [], np.append(begins, len(made))
    for place, text in enumerate(texts.tolist()):
        start, stop = units.offsets[text : text + 2].tolist()
        hasher, at = hashlib.sha256(), start
        for _, first, last, _, _ in made[ends[place] : ends[place + 1]].tolist():
            hasher.update(units.data[at : start + first].tobytes())
            at = start + last
        hasher.update(units.data[at:stop].tobytes())
        found.append(hasher.digest())
    return found


def _find_twins(sources: Sequence[_Source], cuts: Sequence[PartCuts], num_docs: int) -> None:
    """Name the documents whose text is that of an earlier one, now that their lines are gone."""
    if not any(len(cut.rows) for cut in cuts):
        return
    digests, ids, there = np.zeros((num_docs, 4), np.uint64), np.zeros(num_docs, "S16"), np.ones(num_docs, bool)
    for source, cut in zip(sources, cuts, strict=True):
        documents = source.clean.table(DOCUMENTS, ["doc_id", "sha256_out"])
        words = as_words(documents["sha256_out"], 4)
        words[cut.rows] = np.frombuffer(cut.sha256.tobytes(), np.uint64).reshape(-1, 4)
        here = source.number >= 0
        digests[source.number[here]] = words[here]
        ids[source.number[here]] = doc_ids.as_numpy(documents["doc_id"])[here]
        there[source.number[cut.short]] = False
    numbers = np.flatnonzero(there)
    first = np.arange(num_docs)
    first[numbers] = numbers[first_of_equals(digests[numbers])]
    for source, cut in zip(sources, cuts, strict=True):
        here = np.flatnonzero(source.number >= 0)
        cut.twins = here[first[source.number[here]] != source.number[here]]
        cut.survivors = ids[first[source.number[cut.twins]]]


def tables(clean: Artifact, cut: PartCuts, unit: str) -> tuple[pa.Table, pa.Table]:
    """What was cut, of CUTS_SCHEMA and SPANS_SCHEMA, in the order of the documents."""
    documents = clean.table(DOCUMENTS, ["doc_id", "sha256_out"]).take(pa.array(cut.rows))
    out = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(cut.rows), [None, pa.py_buffer(cut.sha256.tobytes())])  # type: ignore[list-item]
    about = pa.table([documents["doc_id"], cut.words, cut.words_left, documents["sha256_out"], out], schema=CUTS_SCHEMA)
    whose = documents["doc_id"].take(pa.array(np.repeat(np.arange(len(cut.rows)), np.diff(cut.begins))))
    rule = pa.repeat(pa.scalar(RULES[unit], pa.string()), len(cut.spans))
    return about, pa.table([whose, rule, cut.spans[:, 2], cut.spans[:, 3]], schema=SPANS_SCHEMA)
