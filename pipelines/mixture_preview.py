"""What a mixture would read, by source, licence and language and by phase, before anything trains on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from pipelines.cells import Cell, Corpus
from pipelines.mixture import Mixed, MixtureRecipe, mixed, packing_counts
from pipelines.provenance.artifact import Artifact

COLUMNS = ("licence", "language")


class Group(NamedTuple):
    """Some documents: what there is of them, and what the run reads."""

    name: str
    docs: int
    tokens: int
    read: list[int]  # tokens, by phase
    share: float  # of all that is read
    epochs: float  # how often each token is read, on average


class MixturePreview(NamedTuple):
    first_steps: list[int]  # of the phases
    steps: int
    read: int  # tokens
    by: dict[str, list[Group]]  # source, licence, language
    packing: dict[str, int]  # empty for concatenate-and-cut


def preview_mixture(token_shards: Artifact, recipe: MixtureRecipe) -> MixturePreview:
    """What a run with this recipe would read.

    Of a licence or language that is only a part of a source, what is read is its share of that source's tokens.

    Raises:
        ValueError: as :func:`pipelines.mixture.mixed`.
    """
    found = mixed(token_shards, recipe)
    corpus, length = Corpus(token_shards), recipe.sequence_length
    slots = np.array(found.slots, np.int64)  # [phases, cells]
    groups = {"source": _by_source(found, slots, length)}
    for column in COLUMNS:
        if rows := _by_column(corpus, found, slots * length, column):
            groups[column] = rows
    return MixturePreview(found.first_steps, recipe.steps, int(slots.sum()) * length, groups, packing_counts(found))


def _by_source(found: Mixed, slots: np.ndarray, length: int) -> list[Group]:
    names = list(dict.fromkeys(cell.part for cell in found.cells))
    rows = []
    for name in names:
        own = [index for index, cell in enumerate(found.cells) if cell.part == name]
        read = (slots[:, own].sum(axis=1) * length).tolist()
        sequences = sum(found.cells[i].sequences for i in own)
        epochs = float(slots[:, own].sum()) / sequences if sequences else 0.0
        docs, tokens = (sum(getattr(found.cells[i], what) for i in own) for what in ("docs", "tokens"))
        rows.append(Group(name, docs, tokens, read, sum(read) / max(1, int(slots.sum()) * length), epochs))
    return _ordered(rows)


def _by_column(corpus: Corpus, found: Mixed, read: np.ndarray, column: str) -> list[Group]:
    docs: dict[str, int] = {}
    tokens: dict[str, int] = {}
    shown: dict[str, np.ndarray] = {}
    for part in dict.fromkeys(cell.part for cell in found.cells):
        sizes = np.diff(corpus.reader(part).boundaries())
        try:
            values = pc.dictionary_encode(corpus.column(part, column).fill_null(""))
        except ValueError:  # documents that were made before there was such a column
            return []
        codes = values.indices.to_numpy(zero_copy_only=False)
        for index, cell in enumerate(found.cells):
            if cell.part == part:
                for code, name in enumerate(values.dictionary.to_pylist()):
                    own = _chosen(cell, codes == code)
                    held = int(sizes[own].sum())
                    docs[name], tokens[name] = docs.get(name, 0) + int(own.sum()), tokens.get(name, 0) + held
                    some = read[:, index] * held // max(1, cell.tokens)
                    shown[name] = shown.get(name, np.zeros(len(read), np.int64)) + some
    total = max(1, int(read.sum()))
    rows = [
        Group(name or "?", docs[name], tokens[name], shown[name].tolist(), int(shown[name].sum()) / total,
              int(shown[name].sum()) / max(1, tokens[name]))
        for name in docs if docs[name]
    ]  # fmt: skip
    return _ordered(rows)


def _chosen(cell: Cell, mask: np.ndarray) -> np.ndarray:
    return mask if cell.chosen is None else mask & cell.chosen


def _ordered(rows: Sequence[Group]) -> list[Group]:
    return sorted(rows, key=lambda row: (-sum(row.read), row.name))


def as_json(found: MixturePreview) -> dict[str, Any]:
    """The same as plain values."""
    return {**found._asdict(), "by": {name: [row._asdict() for row in rows] for name, rows in found.by.items()}}
