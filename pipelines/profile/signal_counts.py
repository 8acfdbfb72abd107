"""Signals as histograms: how the measured values lie, of kept and of dropped documents, beside the recipe's bounds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.clean import SIGNALS, SIGNALS_SCHEMA
from pipelines.clean_recipe import CleanRecipe
from pipelines.judgement import active_rules
from pipelines.profile.alignment import side_by_side
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import FILE, KEPT
from pipelines.provenance.tables import read_batches

SIGNAL_COUNTS_SCHEMA = pa.schema(
    [
        ("signal", pa.string()),
        ("low", pa.float64()),  # values from here,
        ("high", pa.float64()),  # and below this; the last bin has no end
        ("kept", pa.int64()),
        ("dropped", pa.int64()),
    ]
)
NUM_BINS = 40


class Bound(NamedTuple):
    """Where a rule draws the line."""

    reason: str
    signal: str
    field: str  # of the recipe; empty where the bound is no choice
    limit: float
    is_least: bool

    @property
    def edge(self) -> float:
        """The least value behind the line: more than 3 lines begin with 4."""
        return self.limit + 1 if _is_whole(self.signal) and not self.is_least else self.limit


def bounds(clean: Artifact) -> list[Bound]:
    """The bounds that an artifact was cleaned by, in the order in which a document meets them."""
    recipe = CleanRecipe.model_validate(clean.manifest.recipe)
    rules = active_rules(recipe)
    return [Bound(r.reason, r.signal, r.bound, r.limit(recipe), r.is_least) for r in dict.fromkeys(rules)]


def counted_signals(clean: Artifact) -> pa.Table:
    """Histograms of every signal that a rule in force reads, up to the last bin with a document in it."""
    edges = edges_of(bounds(clean))
    sums = {signal: np.zeros((2, len(found)), np.int64) for signal, found in edges.items()}
    streams = read_batches(clean.local(SIGNALS), list(edges)), read_batches(clean.local(FILE), ["fate"])
    for signals, settled in side_by_side(*streams):
        is_kept = pc.equal(settled["fate"], KEPT).to_numpy()
        for signal, found in edges.items():
            places = _binned(pc.fill_null(signals[signal], 0).to_numpy(), found)
            for row, chosen in enumerate((is_kept, ~is_kept)):
                sums[signal][row] += np.bincount(places[chosen], minlength=len(found))
    return pa.concat_tables([SIGNAL_COUNTS_SCHEMA.empty_table(), *(_table(s, edges[s], sums[s]) for s in edges)])


def edges_of(lines: list[Bound]) -> dict[str, list[float]]:
    """The edges of the bins of every signal that has a bound."""
    limits: dict[str, list[Bound]] = {}
    for bound in lines:
        limits.setdefault(bound.signal, []).append(bound)
    return {
        signal: bin_edges(_is_whole(signal), max(b.limit for b in found), any(b.is_least for b in found))
        for signal, found in limits.items()
    }


def bin_edges(is_whole: bool, limit: float, is_least: bool = False) -> list[float]:
    """Where the bins begin; the last one has no end.

    Whole numbers: 0, 1, 2, 3, 4, 6, 8, 12, ... up to a million. Ratios: 40 bins up to 1, or to four times the bound
    where it says how little there may be at most; means: up to twice the bound.
    """
    if is_whole:
        return [0.0, 1.0, *(float(step << n) // 2 for n in range(1, 20) for step in (2, 3))][: NUM_BINS + 1]
    top = 2 * limit if limit > 1 else 4 * limit if 0 < limit < 0.25 and not is_least else 1.0
    return [top * n / NUM_BINS for n in range(NUM_BINS + 1)]


def position(value: float, edges: list[float]) -> float:
    """Where a value lies on an axis on which every bin is one wide; behind the last edge there is half a bin."""
    if value >= edges[-1]:
        return len(edges) - 1 + (0.5 if value > edges[-1] else 0.0)
    place = max(0, int(np.searchsorted(edges, value, side="right")) - 1)
    return place + max(0.0, (value - edges[place]) / (edges[place + 1] - edges[place]))


def _binned(values: np.ndarray, edges: list[float]) -> np.ndarray:
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 1)


def _table(signal: str, edges: list[float], sums: np.ndarray) -> pa.Table:
    used = int(np.flatnonzero(sums.sum(axis=0))[-1]) + 1 if sums.any() else 0
    highs = [*edges[1:], math.inf][:used]
    columns = [[signal] * used, edges[:used], highs, sums[0][:used], sums[1][:used]]
    return pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, SIGNAL_COUNTS_SCHEMA, strict=True)], SIGNAL_COUNTS_SCHEMA
    )


def _is_whole(signal: str) -> bool:
    return pa.types.is_integer(SIGNALS_SCHEMA.field(signal).type)
