"""Estimates with their errors. Items of one file are alike, so errors are clustered by file wherever files are known.

Miller 2024 ("Adding Error Bars to Evals", arXiv 2411.00640) gives the clustered and the paired standard error;
the factor G/(G-1) and the t distribution on G-1 degrees of freedom keep them honest for few clusters.
Sums run in the order of the items, so that the same records give the same last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

REPLICATES = 1000  # a bootstrap standard error of 1,000 replicates is itself good to 1/sqrt(2000) = 2.2 %

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A number, its standard error (None where one cluster tells nothing about spread), and what it rests on."""

    value: float
    stderr: float | None
    num_items: int
    num_clusters: int

    def interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Two-sided interval by Student's t on ``num_clusters - 1`` degrees of freedom."""
        if self.stderr is None:
            return None
        reach = t_quantile(0.5 + confidence / 2, self.num_clusters - 1) * self.stderr
        return self.value - reach, self.value + reach

    def lower(self, confidence: float = 0.95) -> float:
        """One-sided lower bound; minus infinity where the error is unknown."""
        return -math.inf if self.stderr is None else self.value - t_quantile(confidence, self._df) * self.stderr

    def upper(self, confidence: float = 0.95) -> float:
        """One-sided upper bound; infinity where the error is unknown."""
        return math.inf if self.stderr is None else self.value + t_quantile(confidence, self._df) * self.stderr

    @property
    def _df(self) -> int:
        return self.num_clusters - 1


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees, probability))


def t_tail(t: float, degrees: int) -> float:
    """P(T > t): the one-sided p-value."""
    from scipy.special import stdtr

    return float(stdtr(degrees, -t))


def cluster_codes(clusters: Sequence[str]) -> Ints:
    """Clusters as 0, 1, 2, … in order of appearance; an item without a cluster (empty name) is one of its own."""
    codes: dict[str, int] = {}
    names = [name or f"\x00{index}" for index, name in enumerate(clusters)]
    return np.array([codes.setdefault(name, len(codes)) for name in names], np.int64)


def mean(values: Sequence[float] | Floats, codes: Ints) -> Estimate:
    """Mean over items with its clustered standard error.

    Without clusters of more than one item this is sd / sqrt(n) with n - 1 in the variance.
    """
    return ratio(values, np.ones(len(values)), codes)


def ratio(numerators: Sequence[float] | Floats, denominators: Sequence[float] | Floats, codes: Ints) -> Estimate:
    """Sum of numerators over sum of denominators (bits per byte), with the linearised clustered standard error.

    The residual of an item is its numerator minus the ratio times its denominator; residuals are summed by cluster.

    Raises:
        ValueError: if there is nothing to estimate from, or a number is not finite.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if not len(top) or not bottom.sum() > 0:
        raise ValueError("an estimate needs at least one item with a positive weight; there was none.")
    if not (np.isfinite(top).all() and np.isfinite(bottom).all()):
        raise ValueError(f"{int((~np.isfinite(top)).sum())} of {len(top)} items have no finite value.")
    total = math.fsum(bottom)  # exactly rounded, whatever the order
    value = math.fsum(top) / total
    num_clusters = int(codes.max()) + 1
    if num_clusters < 2:
        return Estimate(value, None, len(top), num_clusters)
    residuals = np.bincount(codes, weights=top - value * bottom)
    variance = num_clusters / (num_clusters - 1) * math.fsum(residuals**2) / total**2
    return Estimate(value, math.sqrt(variance), len(top), num_clusters)


def cluster_weights(num_clusters: int, seed: int, replicates: int = REPLICATES) -> Iterator[Floats]:
    """How often each cluster is drawn, with replacement, in each bootstrap replicate: blocks of [rows, num_clusters].

    The draws are the output stream of blake3 over the seed: counter-based, and the same in every library version.
    """
    hasher = blake3(f"stemma-bootstrap/1:{seed}:{num_clusters}".encode())
    block = max(1, 1_000_000 // num_clusters)  # 8 MB at a time
    for first in range(0, replicates, block):
        rows = min(block, replicates - first)
        stream = hasher.digest(length=8 * rows * num_clusters, seek=8 * first * num_clusters)
        draws = (np.frombuffer(stream, "<u8") % np.uint64(num_clusters)).astype(np.int64)
        flat = np.repeat(np.arange(rows), num_clusters) * num_clusters + draws
        yield np.bincount(flat, minlength=rows * num_clusters).reshape(rows, num_clusters).astype(np.float64)


def bootstrap(
    statistic: Callable[[Floats], Floats],
    per_cluster: Floats,
    num_items: int,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Estimate:
    """Cluster bootstrap of a statistic that depends on sums of counts only.

    Args:
        statistic: maps summed counts [..., K] to values [...].
        per_cluster: counts summed by cluster, [G, K].
        num_items: how many items were counted.
        seed: of the draws.
        replicates: how many times the clusters are drawn.
    """
    num_clusters = len(per_cluster)
    value = float(statistic(per_cluster.sum(axis=0)[None, :])[0])
    if num_clusters < 2:
        return Estimate(value, None, num_items, num_clusters)
    drawn = [statistic(weights @ per_cluster) for weights in cluster_weights(num_clusters, seed, replicates)]
    spread = float(np.std(np.concatenate(drawn), ddof=1))
    return Estimate(value, spread, num_items, num_clusters)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for several tests (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: (p_values[i], i))
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def items_needed(estimate: Estimate, margin: float, confidence: float = 0.95, power: float = 0.8) -> int | None:
    """Items at which a one-sided test would see a difference of ``margin`` with the given power."""
    from scipy.special import ndtri

    if estimate.stderr is None or margin <= 0:
        return None
    variance = estimate.stderr**2 * estimate.num_items
    return math.ceil(variance * (float(ndtri(confidence)) + float(ndtri(power))) ** 2 / margin**2)
