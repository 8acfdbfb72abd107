"""Cells: the smallest groups of documents that a mixture treats alike: those of one source that match the same entries."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS
from pipelines.layouts import segments_table
from pipelines.mixture_entries import SOURCE, Selector
from pipelines.packing import cut_docs, packed
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.lineage import ancestors
from pipelines.shard_reader import ShardReader

SIGNALS = "signals.arrow"
NOT_COLUMNS = ("doc_id", "key", "uri", "file", "sha256", "sha256_in", "sha256_out")
Bools = NDArray[np.bool_]


class Cell(NamedTuple):
    """Some documents of one source, and how they lie in sequences."""

    part: str  # of the shards
    held: frozenset[Selector]  # of the selectors that were asked for, those that hold
    value: str  # of the column over which a temperature is taken
    docs: int
    tokens: int
    chosen: Bools | None  # documents of the part; None: all of them
    sequences: int
    segments: pa.Table | None = None  # None: the part as it lies
    filled: int = 0  # tokens that only fill sequences up
    cut: tuple[int, int] | None = None  # documents cut, and how many concatenate-and-cut would have cut

    @property
    def name(self) -> str:
        """Of the part of the plan; the key of its order."""
        if self.chosen is None:
            return self.part
        told = [f"{self.value}"] * bool(self.value) + sorted(str(s) for s in self.held if s.column != SOURCE)
        return f"{self.part}[{','.join(told)}]"

    def matches(self, selector: Selector) -> bool:
        return matches_source(self.part, selector.value) if selector.column == SOURCE else selector in self.held


def matches_source(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or name.rpartition("/")[0] == pattern


class Corpus:
    """What is known of the documents of token shards, column by column.

    Args:
        token_shards: with the training documents that they were made from.
    """

    def __init__(self, token_shards: Artifact) -> None:
        self.token_shards = token_shards
        self._cleans: dict[str, Artifact] | None = None

    def reader(self, part: str) -> ShardReader:
        return ShardReader.open(self.token_shards.part(part))

    def column(self, part: str, name: str) -> pa.Array:
        """A column of the documents of a part, in the order of its shards.

        Raises:
            ValueError: if neither documents nor signals have it.
        """
        documents = self.token_shards.input("training_documents").part(part)
        known = documents.table(DOCUMENTS)
        if name in known.column_names and name not in NOT_COLUMNS:
            return known[name].combine_chunks()
        signals = self._signals(part)
        if signals is not None and name in signals.column_names and name not in NOT_COLUMNS:
            ids = doc_ids.as_numpy(signals["doc_id"])
            order = doc_ids.order(ids)
            at = doc_ids.positions(ids[order], doc_ids.as_numpy(known["doc_id"]))
            rows = pa.array(np.where(at < 0, 0, order[np.maximum(at, 0)]), mask=at < 0)
            return signals[name].combine_chunks().take(rows)
        there = [n for t in (known, signals) if t is not None for n in t.column_names if n not in NOT_COLUMNS]
        raise ValueError(f"documents have no column {name!r}; there are {', '.join(sorted(set(there)))}.")

    def _signals(self, part: str) -> pa.Table | None:
        if self._cleans is None:
            found = ancestors(self.token_shards)
            self._cleans = {a.key.partition: a for a in found if a.key.asset == "clean_documents" and not a.key.part}
        clean = self._cleans.get(part)
        return clean.table(SIGNALS) if clean is not None and SIGNALS in clean.names() else None


def holds(column: pa.Array, selector: Selector) -> Bools:
    """Which documents a selector is about; one that has no value matches nothing.

    Raises:
        ValueError: if words are compared with a number.
    """
    if selector.relation == ":":
        told = pc.dictionary_encode(column)
        chosen = [v is not None and fnmatchcase(_said(v), selector.value) for v in told.dictionary.to_pylist()]
        codes = told.indices.fill_null(len(chosen)).to_numpy(zero_copy_only=False)
        return np.array([*chosen, False], bool)[codes]
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"{selector}: column {selector.column!r} holds {column.type}, no numbers to compare.")
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False)  # null becomes NaN, which is neither
    return values >= float(selector.value) if selector.relation == ">=" else values < float(selector.value)


def _said(value: Any) -> str:
    return value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)


def cells(token_shards: Artifact, selectors: Sequence[Selector], by: str, length: int, *, best_fit: bool) -> list[Cell]:
    """The corpus in cells, by source and then by what holds; their sequences of ``length`` targets.

    Args:
        token_shards: whole, with parts.
        selectors: of all entries.
        by: column whose values are told apart even if no entry names them; SOURCE for none.
        length: targets of a sequence.
        best_fit: pack instead of concatenating and cutting.

    Raises:
        ValueError: for a column that documents do not have.
    """
    corpus, asked = Corpus(token_shards), [s for s in dict.fromkeys(selectors) if s.column != SOURCE]
    found = []
    for part in token_shards.parts():
        name = part.key.part
        for held, value, chosen in _groups(corpus, name, asked, by):
            whole = Cell(name, held, value, part.counts["docs"], part.counts["tokens"], chosen, 0)
            found.append(_laid(corpus, whole, length, best_fit=best_fit))
    return found


def _groups(
    corpus: Corpus, part: str, asked: Sequence[Selector], by: str
) -> list[tuple[frozenset[Selector], str, Bools | None]]:
    """(what holds, value of ``by``, which documents) of every group of a part."""
    if not asked and by == SOURCE:
        return [(frozenset(), "", None)]
    masks = [holds(corpus.column(part, s.column), s) for s in asked]
    names, codes = _coded(corpus.column(part, by)) if by != SOURCE else ([""], np.zeros(len(masks[0]), np.int64))
    keys = codes
    for mask in masks:
        keys = np.unique(keys * 2 + mask, return_inverse=True)[1].reshape(-1)
    kinds, firsts = np.unique(keys, return_index=True)
    if not len(codes):
        return [(frozenset(), "", None)]
    groups = []
    for kind, first in zip(kinds.tolist(), firsts.tolist(), strict=True):
        held = frozenset(s for s, mask in zip(asked, masks, strict=True) if mask[first])
        groups.append((held, names[codes[first]], keys == kind if len(kinds) > 1 else None))
    return sorted(groups, key=lambda group: (group[1], sorted(map(str, group[0]))))


def _coded(column: pa.Array) -> tuple[list[str], NDArray[np.int64]]:
    """Distinct values, none as an empty one, and of each document which it has."""
    told = pc.dictionary_encode(column)
    names = [*(_said(value) for value in told.dictionary.to_pylist()), ""]
    return names, told.indices.fill_null(names.index("")).to_numpy(zero_copy_only=False).astype(np.int64)


def _laid(corpus: Corpus, cell: Cell, length: int, *, best_fit: bool) -> Cell:
    """A cell with its tokens, its sequences and where they lie."""
    if cell.chosen is None and not best_fit:
        return cell._replace(sequences=max(0, cell.tokens - 1) // length)
    boundaries = corpus.reader(cell.part).boundaries()
    starts, sizes = boundaries[:-1], np.diff(boundaries)
    if cell.chosen is not None:
        starts, sizes = starts[cell.chosen], sizes[cell.chosen]
    cell = cell._replace(docs=len(sizes), tokens=int(sizes.sum()))
    if not best_fit:
        return cell._replace(sequences=max(0, cell.tokens - 1) // length, segments=segments_table(starts, sizes))
    found = packed(starts, sizes, length)
    cut = int((sizes > length + 1).sum()), cut_docs(sizes, length)
    segments = segments_table(found.starts, found.lengths)
    return cell._replace(sequences=found.num_sequences, segments=segments, filled=found.num_filled, cut=cut)
