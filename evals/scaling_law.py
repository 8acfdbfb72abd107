"""Scaling laws: loss as a function of parameters and tokens, fitted to a ladder of runs.

    L(N, D) = E + A / N^alpha + B / D^beta          (Hoffmann et al. 2022, arXiv:2203.15556, section 3.3)

N parameters, D tokens, L loss. The fit is theirs (appendix D.2): Huber loss with delta = 1e-3 on log L, L-BFGS from a
grid of starts. Pure functions of numbers; no artifacts here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.provenance.order import order_key

DELTA = 1e-3  # of the Huber loss, on log L
ALPHAS, LEVELS, FLOORS = (0, 0.5, 1, 1.5, 2), (0, 5, 10, 15, 20, 25), (-1, -0.5, 0, 0.5, 1)  # the grid of appendix D.2
STARTS = 1  # of the 180 with the same exponents, those that fit best as they stand
DISTINCT = 3  # sizes and budgets: two of either leave its exponent open
POINTS = 6  # five constants and something that can disagree with them
LARGEST = 690.0  # whose exponential, and that of three of them, is still a number
FLOPS = 6.0  # a parameter and a token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1)

Floats = NDArray[np.float64]


class ScalingError(ValueError):
    """These runs cannot say what the law is."""


class Point(NamedTuple):
    """One run."""

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Law:
    """The five constants; E, A and B in the unit of the loss."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return self.E + _term(self.A, self.alpha, parameters) + _term(self.B, self.beta, tokens)

    def optimum(self, flops: float) -> tuple[float, float]:
        """The N and D of least loss with 6 N D = ``flops``, in closed form (equation 4).

        Raises:
            ScalingError: if the law does not fall with both, so that there is no such point.
        """
        if min(self.A, self.alpha, self.B, self.beta) <= 0:
            raise ScalingError(f"no optimum: the loss does not fall with both size and tokens ({self}).")
        ratio = math.log(self.alpha) + math.log(self.A) - math.log(self.beta) - math.log(self.B)
        budget = math.log(flops / FLOPS)
        parameters = (ratio + self.beta * budget) / (self.alpha + self.beta)
        if not abs(parameters) < LARGEST or not abs(budget - parameters) < LARGEST:
            raise ScalingError(f"no optimum that could be written down: the runs hardly determine the law ({self}).")
        return math.exp(parameters), math.exp(budget - parameters)


@dataclass(frozen=True)
class Fit:
    """The law of some runs, and those of their resamples, by which it is known how far to trust it."""

    law: Law
    replicates: tuple[Law, ...]

    def interval(self, value: str, confidence: float = 0.95) -> tuple[float, float]:
        """Of a constant, by percentiles of the bootstrap."""
        return _percentiles([getattr(law, value) for law in self.replicates], confidence)

    def loss_interval(self, parameters: float, tokens: float, confidence: float = 0.95) -> tuple[float, float]:
        """Of the predicted loss. It holds what the runs disagree on, not what is wrong about the form of the law."""
        return _percentiles([law.loss(parameters, tokens) for law in self.replicates], confidence)


def fitted(points: Sequence[Point], replicates: int = 200, seed: int = 0) -> Fit:
    """Fit the law, and again to ``replicates`` resamples of the runs.

    Raises:
        ScalingError: if a figure is no positive number, or there are too few runs, sizes or budgets.
    """
    check(points)
    data = _data(points)
    solutions = _minima(data, _screened(data))
    law = _law(solutions[0], data)
    best = _uncentred(solutions[0], data)
    # where the best floor is 0, its logarithm is so low that no step would lead away from it: one start has a floor
    floored = np.array([*best[:4], float(data.loss_P.min()) - math.log(2)])
    near = [best, floored]
    resampled = [_data(_resample(points, seed, number)) for number in range(replicates)]
    return Fit(law, tuple(_law(_minima(d, [_centred(s, d) for s in near])[0], d) for d in resampled))


def check(points: Sequence[Point]) -> None:
    for point in points:
        if not all(math.isfinite(value) and value > 0 for value in point):
            raise ScalingError(f"a run with {point}: expected positive numbers. Leave out a run that has diverged.")
    for name, there in (("sizes", {p.parameters for p in points}), ("token budgets", {p.tokens for p in points})):
        if len(there) < DISTINCT:
            raise ScalingError(f"{len(there)} different {name}, needed are {DISTINCT}: add some to the sweep.")
    if len(set(points)) < POINTS:
        raise ScalingError(f"{len(set(points))} runs, needed are {POINTS}: the law has five constants.")


# -- the fit; letters of shapes: P runs, S starts ----------------------------------------------------------------------


class _Data(NamedTuple):
    """Logarithms of the runs; those of size and tokens about their means, by which exponents and levels come apart."""

    size_P: Floats
    tokens_P: Floats
    loss_P: Floats
    means: tuple[float, float]


def _data(points: Sequence[Point]) -> _Data:
    size_P, tokens_P, loss_P = np.log(np.array(points, np.float64)).T
    means = float(size_P.mean()), float(tokens_P.mean())
    return _Data(size_P - means[0], tokens_P - means[1], loss_P, means)


def _terms(theta_S5: Floats, data: _Data) -> Floats:
    """Logarithms of the three terms of the law, [3, S, P]; theta is (a, alpha, b, beta, e), a and b at the means."""
    a, alpha, b, beta, e = theta_S5.T[:, :, None]
    return np.stack([a - alpha * data.size_P, b - beta * data.tokens_P, np.broadcast_to(e, (len(e), len(data.loss_P)))])


def _objective(theta_S5: Floats, data: _Data) -> tuple[Floats, Floats]:
    """Huber loss of each start, [S], and its gradient [S, 5].

    In units of delta squared: L-BFGS compares improvements with 1, and ends at once where the loss itself is 1e-6.
    """
    terms = _terms(theta_S5, data)
    peak = terms.max(0)
    shares = np.exp(terms - peak)
    total = shares.sum(0)
    shares /= total
    off_SP = (peak + np.log(total) - data.loss_P) / DELTA
    inside = np.clip(off_SP, -1.0, 1.0)
    losses = (inside * (off_SP - inside / 2)).sum(1)
    slope = shares * inside / DELTA
    a, b, e = slope.sum(2)
    alpha, beta = -(slope[0] * data.size_P).sum(1), -(slope[1] * data.tokens_P).sum(1)
    return losses, np.stack([a, alpha, b, beta, e], 1)


def _screened(data: _Data) -> list[Floats]:
    """The best starts of the grid, of every pair of exponents as many: the best of all may all lie on one plateau."""
    found = []
    for alpha, beta in product(ALPHAS, ALPHAS):
        grid = np.array([(a, alpha, b, beta, e) for a, b, e in product(LEVELS, LEVELS, FLOORS)], np.float64)
        centred = np.stack([_centred(start, data) for start in grid])
        order = np.argsort(_objective(centred, data)[0], kind="stable")
        found += [centred[place] for place in order[:STARTS]]
    return found


def _minima(data: _Data, starts: Sequence[Floats]) -> list[Floats]:
    """Where L-BFGS ends from each start, best first."""
    from scipy.optimize import minimize

    def one(theta: Floats) -> tuple[float, Floats]:
        loss, slope = _objective(theta[None], data)
        return float(loss[0]), slope[0]

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-12, "gtol": 1e-8}
    ends = [minimize(one, start, jac=True, method="L-BFGS-B", options=options) for start in starts]
    return [np.asarray(end.x) for end in sorted(ends, key=lambda end: float(end.fun))]


def _centred(theta: Floats, data: _Data) -> Floats:
    a, alpha, b, beta, e = theta
    return np.array([a - alpha * data.means[0], alpha, b - beta * data.means[1], beta, e])


def _uncentred(theta: Floats, data: _Data) -> Floats:
    a, alpha, b, beta, e = theta
    return np.array([a + alpha * data.means[0], alpha, b + beta * data.means[1], beta, e])


def _law(theta: Floats, data: _Data) -> Law:
    a, alpha, b, beta, e = _uncentred(theta, data).tolist()
    return Law(E=_exp(e), A=_exp(a), alpha=alpha, B=_exp(b), beta=beta)


def _exp(value: float) -> float:
    return math.exp(min(value, LARGEST))  # a resample that says nothing about a level may put it beyond any number


def _term(level: float, exponent: float, number: float) -> float:
    return _exp(math.log(level) - exponent * math.log(number)) if level else 0.0


def _resample(points: Sequence[Point], seed: int, number: int) -> list[Point]:
    """As many runs, drawn with replacement; a draw that could not be fitted is drawn anew."""
    attempt = 0
    while True:
        drawn = [points[order_key("bootstrap", seed, number, attempt, i) % len(points)] for i in range(len(points))]
        if len({p.parameters for p in drawn}) >= DISTINCT <= len({p.tokens for p in drawn}) and len(set(drawn)) >= 5:
            return drawn
        attempt += 1


def _percentiles(values: Sequence[float], confidence: float) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    edges = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(np.array(values), edges, method="linear").tolist()
    return low, high
