"""Estimates and their errors, against hand computation, the bootstrap, and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.statistics import (
    Estimate,
    bootstrap,
    cluster_codes,
    cluster_weights,
    holm,
    items_needed,
    mean,
    ratio,
    t_quantile,
    t_tail,
)


def singles(n):
    return np.arange(n)


def test_without_clusters_the_error_is_the_textbook_one():
    values = [1.0, 2.0, 4.0, 7.0]
    found = mean(values, singles(4))
    assert found.value == 3.5
    assert found.stderr == pytest.approx(np.std(values, ddof=1) / 2)


def test_clustered_error_by_hand():
    # residuals by cluster are +1 and -1: variance = 2/1 * (1 + 1) / 4**2
    found = mean([1, 1, 0, 0], cluster_codes(["a", "a", "b", "b"]))
    assert (found.value, found.stderr, found.num_clusters) == (0.5, pytest.approx(0.5), 2)


def test_one_cluster_tells_nothing_about_spread():
    found = mean([1, 0, 1], cluster_codes(["a", "a", "a"]))
    assert found.stderr is None
    assert found.interval() is None
    assert found.lower() == -math.inf


def test_items_without_a_cluster_stand_alone():
    assert cluster_codes(["a", "", "a", ""]).tolist() == [0, 1, 0, 2]


def test_ratio_error_agrees_with_the_bootstrap_within_5_percent():
    draw = np.random.default_rng(1)
    codes = np.repeat(np.arange(300), 4)
    sizes = draw.integers(50, 500, 1200).astype(float)
    bits = sizes * (1.5 + 0.3 * draw.standard_normal(300)[codes] + 0.2 * draw.standard_normal(1200))
    found = ratio(bits, sizes, codes)
    per_cluster = np.stack([np.bincount(codes, weights=x) for x in (bits, sizes)], axis=1)
    drawn = bootstrap(lambda c: c[:, 0] / c[:, 1], per_cluster, 1200, replicates=4000)
    assert drawn.value == pytest.approx(found.value)
    assert found.stderr == pytest.approx(drawn.stderr, rel=0.05)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30), st.randoms(use_true_random=False))
def test_the_mean_does_not_depend_on_the_order(values, shuffler):
    again = list(values)
    shuffler.shuffle(again)
    assert mean(values, singles(len(values))).value == mean(again, singles(len(values))).value


def test_null_comparisons_of_clustered_items_alarm_in_about_5_percent():
    """Clusters of ten, intraclass correlation .5: ignoring them alarms in about a quarter of the comparisons."""
    draw = np.random.default_rng(2)
    codes = np.repeat(np.arange(100), 10)
    alarms = {"clustered": 0, "ignored": 0}
    for _ in range(1000):
        shared, own = draw.standard_normal(100), draw.standard_normal(1000)
        values = np.sqrt(0.5) * shared[codes] + np.sqrt(0.5) * own
        for name, found in (("clustered", mean(values, codes)), ("ignored", mean(values, singles(1000)))):
            alarms[name] += 2 * t_tail(abs(found.value / found.stderr), found.num_clusters - 1) < 0.05
    assert alarms["clustered"] <= 65  # 50 expected, 2 standard errors above are 64
    assert alarms["ignored"] > 300


def test_t_quantiles_are_those_of_the_tables():
    assert t_quantile(0.975, 10) == pytest.approx(2.228139, abs=1e-6)
    assert t_tail(2.228139, 10) == pytest.approx(0.025, abs=1e-6)
    low, high = Estimate(1.0, 0.1, 11, 11).interval()
    assert (low, high) == (pytest.approx(1 - 0.2228139), pytest.approx(1 + 0.2228139))


def test_bootstrap_draws_are_the_same_for_ever_and_in_any_blocks():
    whole = np.concatenate(list(cluster_weights(7, seed=3, replicates=50)))
    assert whole.sum(axis=1).tolist() == [7.0] * 50
    assert whole[0].tolist() == [0.0, 1.0, 2.0, 0.0, 2.0, 1.0, 1.0]
    first = np.concatenate(list(cluster_weights(7, seed=3, replicates=20)))
    assert np.array_equal(whole[:20], first)
    assert not np.array_equal(whole, np.concatenate(list(cluster_weights(7, seed=4, replicates=50))))


def test_holm_adjusts_as_published():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_items_needed_grows_with_the_square_of_the_margin():
    found = Estimate(0.0, 0.01, 1000, 1000)  # variance of an item: 0.1
    assert items_needed(found, 0.02) == math.ceil(0.1 * (1.644854 + 0.841621) ** 2 / 0.02**2)
    assert items_needed(found, 0.01) == pytest.approx(4 * items_needed(found, 0.02), abs=4)
    assert items_needed(Estimate(0.0, None, 5, 1), 0.02) is None


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_nothing_is_estimated_from_nothing_or_from_what_is_not_finite(values):
    with pytest.raises(ValueError, match=r"at least one item|finite"):
        mean(values, singles(len(values)))
