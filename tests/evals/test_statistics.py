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


def test_a_ratio_and_its_error_by_hand():
    """10 bits over 4 bytes and 2 over 4: 1.5 bits a byte, residuals 4 and -4; 2/1 * 32 / 8² = 1."""
    found = ratio([10.0, 2.0], [4.0, 4.0], singles(2))
    assert (found.value, found.stderr) == (1.5, pytest.approx(1.0))


def test_weights_are_no_matter_of_scale():
    draw = np.random.default_rng(0)
    top, bottom = draw.normal(5, 1, 20), draw.uniform(1, 3, 20)
    one, other = ratio(top, bottom, singles(20)), ratio(top * 7, bottom * 7, singles(20))
    assert one.value == pytest.approx(other.value)
    assert one.stderr == pytest.approx(other.stderr)


def test_an_item_that_weighs_nothing_changes_neither_value_nor_error_but_the_count():
    one = ratio([1.0, 2.0, 0.0], [1.0, 1.0, 0.0], cluster_codes(["a", "b", "b"]))
    other = ratio([1.0, 2.0], [1.0, 1.0], cluster_codes(["a", "b"]))
    assert (one.value, one.stderr, one.num_items) == (other.value, other.stderr, 3)


def test_items_of_one_cluster_that_are_copies_tell_no_more_than_one():
    values = [1.0, 0.0, 1.0, 1.0, 0.0]
    copies = mean(np.repeat(values, 20), np.repeat(singles(5), 20))
    assert copies.stderr == pytest.approx(mean(values, singles(5)).stderr)
    assert mean(np.repeat(values, 20), singles(100)).stderr < copies.stderr / 3


@given(st.lists(st.tuples(st.floats(-100, 100), st.integers(0, 5)), min_size=2, max_size=40))
def test_neither_the_order_nor_the_names_of_clusters_move_the_error(rows):
    values, names = zip(*rows, strict=True)
    one = mean(values, cluster_codes([f"c{n}" for n in names]))
    other = mean(values[::-1], cluster_codes([f"other{9 - n}" for n in names[::-1]]))
    assert (one.stderr is None) == (other.stderr is None)
    if one.stderr is not None:
        assert one.stderr == pytest.approx(other.stderr, rel=1e-6, abs=1e-9)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """2,000 samples of 12 clusters of 4 alike items: 95 % of the intervals cover 0, give or take."""
    draw = np.random.default_rng(7)
    codes, covered = np.repeat(np.arange(12), 4), 0
    for _ in range(2000):
        low, high = mean(draw.standard_normal(12)[codes] + draw.standard_normal(48), codes).interval()
        covered += low <= 0 <= high
    assert 0.93 < covered / 2000 < 0.965


def test_intervals_and_bounds_agree():
    found = Estimate(0.3, 0.05, 40, 9)
    low, high = found.interval(0.9)
    assert (found.lower(0.95), found.upper(0.95)) == (pytest.approx(low), pytest.approx(high))
    assert found.lower(0.5) == pytest.approx(0.3)  # at even odds a bound is the value
    unknown = Estimate(0.3, None, 40, 1)
    assert (unknown.lower(), unknown.upper()) == (-math.inf, math.inf)
    certain = Estimate(0.3, 0.0, 40, 9)
    assert certain.interval() == (0.3, 0.3)


def test_bootstrapped_error_of_a_mean_is_the_textbooks_within_its_own():
    draw = np.random.default_rng(3)
    values = draw.standard_normal(200)
    per_cluster = np.stack([values, np.ones(200)], axis=1)
    found = bootstrap(lambda c: c[:, 0] / c[:, 1], per_cluster, 200, replicates=3000)
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(values.std() / math.sqrt(200), rel=0.05)


def test_a_bootstrap_repeats_with_its_seed_and_knows_when_it_cannot_tell():
    per_cluster = np.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
    errors = [bootstrap(lambda c: c[:, 0] / c[:, 1], per_cluster, 7, seed=seed).stderr for seed in (1, 1, 2)]
    assert errors[0] == errors[1] != errors[2]
    alone = bootstrap(lambda c: c[:, 0] / c[:, 1], per_cluster[:1], 7)
    assert (alone.value, alone.stderr, alone.num_clusters) == (0.5, None, 1)


def test_many_clusters_are_drawn_in_blocks_that_make_one_stream(monkeypatch):
    """600,000 clusters go one replicate at a time; the first is the same whether one or two are asked for."""
    two = [block.copy() for block in cluster_weights(600_000, seed=1, replicates=2)]
    [one] = cluster_weights(600_000, seed=1, replicates=1)
    assert [block.shape for block in two] == [(1, 600_000)] * 2
    assert np.array_equal(two[0], one)
    assert not np.array_equal(two[0], two[1])


def test_every_cluster_is_drawn_about_as_often_as_any_other():
    drawn = np.concatenate(list(cluster_weights(10, seed=0, replicates=4000))).sum(axis=0)
    assert drawn.sum() == 40_000
    assert abs(drawn - 4000).max() < 5 * math.sqrt(40_000 * 0.1 * 0.9)


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_never_makes_smaller_and_stays_below_bonferroni(p_values):
    adjusted = holm(p_values)
    for p, found in zip(p_values, adjusted, strict=True):
        assert p <= found <= min(1.0, p * len(p_values)) + 1e-12
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


@pytest.mark.parametrize(
    ("p_values", "wanted"), [([0.04], [0.04]), ([0.5, 0.9], [1.0, 1.0]), ([0.01, 0.01], [0.02, 0.02])]
)
def test_holm_by_hand(p_values, wanted):
    assert holm(p_values) == pytest.approx(wanted)


def test_a_margin_of_nothing_needs_more_items_than_there_are():
    assert items_needed(Estimate(0.0, 0.1, 100, 100), 0.0) is None
    assert items_needed(Estimate(0.0, 0.0, 100, 100), 0.1) == 0
