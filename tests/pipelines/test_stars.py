"""Stars: against a loop over all pairs, no two survivors that met are alike, and whatever goes has its survivor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import stars

THRESHOLDS = st.sampled_from([0.25, 1 / 3, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9, 1.0])
SETS = st.lists(st.sets(st.integers(0, 9), max_size=8), max_size=14)


def flat(sets) -> tuple[np.ndarray, np.ndarray]:
    lists = [sorted(one) for one in sets]
    return np.array([value for one in lists for value in one], np.uint32), np.cumsum([0, *map(len, lists)])


def alike(one: set, other: set) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0


def gone(sets, bands, threshold) -> list[tuple[int, float]]:
    """The kernel's answer for documents whose bands hold the given values."""
    hashes = np.array(bands, np.uint64).reshape(len(sets), -1)
    found = stars.buckets([(column, np.arange(len(sets))) for column in hashes.T], len(sets))
    survivors, jaccards, _ = stars.stars(found, *flat([sets[doc] for doc in found.docs]), threshold)
    answer = [(-1, 0.0)] * len(sets)
    for doc, other, score in zip(found.docs.tolist(), survivors.tolist(), jaccards.tolist(), strict=True):
        answer[doc] = (int(found.docs[other]), score) if other >= 0 else (-1, score)
    return answer


def one_bucket(size) -> stars.Buckets:
    return stars.buckets([(np.zeros(size, np.uint64), np.arange(size))], size)


def plainly(sets, bands, threshold) -> list[tuple[int, float]]:
    """The rule in words: compare with the earlier survivors that share a band; the most alike, then the first."""
    found: list[tuple[int, float]] = []
    for doc, mine in enumerate(sets):
        best = (-1, 0.0)
        for other in range(doc):
            meets = found[other][0] == -1 and any(a == b for a, b in zip(bands[doc], bands[other], strict=True))
            score = alike(mine, sets[other])
            if meets and score >= threshold and score > best[1]:
                best = (other, score)
        found.append(best)
    return found


@st.composite
def corpora(draw):
    """(sets, band values): few values, so that buckets are shared by some and not by others."""
    sets = draw(SETS)
    width = draw(st.integers(1, 4))
    bands = [draw(st.lists(st.integers(0, 2), min_size=width, max_size=width)) for _ in sets]
    return sets, bands


@settings(max_examples=200)
@given(corpora(), THRESHOLDS)
def test_the_kernel_equals_the_rule_in_words(corpus, threshold):
    sets, bands = corpus
    if sets:
        assert gone(sets, bands, threshold) == plainly(sets, bands, threshold)


@settings(max_examples=100)
@given(SETS.filter(len), THRESHOLDS)
def test_where_all_meet_no_two_survivors_are_alike_and_each_that_goes_has_one_at_the_threshold(sets, threshold):
    found = gone(sets, [[0]] * len(sets), threshold)
    staying = [doc for doc, (survivor, _) in enumerate(found) if survivor < 0]
    for place, one in enumerate(staying):
        assert all(alike(sets[one], sets[other]) < threshold for other in staying[:place])
    for doc, (survivor, score) in enumerate(found):
        if survivor >= 0:
            assert survivor in staying
            assert survivor < doc
            assert score == alike(sets[doc], sets[survivor]) >= threshold
        else:
            assert score == 0.0


@settings(max_examples=60)
@given(corpora(), THRESHOLDS, st.integers(1, 6))
def test_more_documents_at_the_end_change_nothing_before_them(corpus, threshold, size):
    sets, bands = corpus
    if sets:
        size = min(size, len(sets))
        assert gone(sets, bands, threshold)[:size] == gone(sets[:size], bands[:size], threshold)


@settings(max_examples=60)
@given(corpora(), THRESHOLDS, st.permutations(range(3)))
def test_the_names_of_the_buckets_do_not_matter(corpus, threshold, names):
    sets, bands = corpus
    if sets:
        renamed = [[names[value] for value in row] for row in bands]
        assert gone(sets, renamed, threshold) == gone(sets, bands, threshold)


def test_a_hundred_copies_of_one_document_go_for_the_first():
    sets = [{1, 2, 3}] * 100
    assert gone(sets, [[7, 8]] * 100, 0.8) == [(-1, 0.0), *[(0, 1.0)] * 99]


def test_equal_scores_go_for_the_first_survivor():
    sets = [{1, 2, 3, 4}, {5, 6, 7, 8}, {1, 2, 5, 6}]
    assert gone(sets, [[0]] * 3, 0.3) == [(-1, 0.0), (-1, 0.0), (0, 2 / 6)]


def test_documents_without_shingles_are_nobodys_duplicates():
    assert gone([set(), set(), {1}, set()], [[0]] * 4, 0.25) == [(-1, 0.0)] * 4


def test_documents_that_share_no_band_are_never_compared():
    assert gone([{1}, {1}, {1}], [[1, 2], [2, 1], [3, 2]], 0.5) == [(-1, 0.0), (-1, 0.0), (0, 1.0)]


# -- Jaccard -----------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 2**32 - 1), max_size=30), st.sets(st.integers(0, 2**32 - 1), max_size=30))
def test_jaccard_is_that_of_the_sets_and_symmetric(one, other):
    for left, right in ((one, other), (other, one), (one, one | other)):
        arrays = [np.array(sorted(each), np.uint32) for each in (left, right)]
        assert stars.jaccard(*arrays) == alike(left, right)


@settings(max_examples=150)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_a_pair_at_exactly_the_threshold_goes(common, left, right):
    """The comparison stops as soon as the threshold is out of reach; rounding must not stop it one element early."""
    union = common + left + right
    if not common or not union:
        return
    one, other = set(range(common + left)), {*range(common), *range(1000, 1000 + right)}
    threshold = common / union
    assert Fraction(common, union) == Fraction(len(one & other), len(one | other))
    assert gone([one, other], [[0], [0]], threshold) == [(-1, 0.0), (0, threshold)]
    above = np.nextafter(threshold, 2.0)
    if above <= 1:
        assert gone([one, other], [[0], [0]], above) == [(-1, 0.0), (-1, 0.0)]


def test_a_pair_of_a_million_shingles_at_exactly_the_threshold_goes():
    one = np.arange(1_000_000, dtype=np.uint32)
    offsets = np.array([0, 1_000_000, 1_800_000])
    both = np.concatenate([one, one[:800_000]])
    survivors, scores, _ = stars.stars(one_bucket(2), both, offsets, 0.8)
    assert (survivors.tolist(), scores.tolist()) == ([-1, 0], [0.0, 0.8])


# -- bands and buckets -------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 6), st.data())
def test_band_hashes_are_equal_exactly_where_the_rows_of_the_band_are(bands, rows, size, data):
    values = st.lists(st.integers(0, 1), min_size=bands * rows + 1, max_size=bands * rows + 1)
    signatures = np.array([data.draw(values) for _ in range(size)], np.uint32).reshape(size, bands * rows + 1)
    hashes = stars.band_hashes(signatures, bands, rows)
    assert hashes.shape == (size, bands)
    for band in range(bands):
        here = signatures[:, band * rows : (band + 1) * rows].tolist()
        for doc in range(size):
            assert (hashes[:, band] == hashes[doc, band]).tolist() == [row == here[doc] for row in here]


@settings(max_examples=60)
@given(st.integers(1, 4), st.integers(0, 9), st.data())
def test_buckets_are_the_values_that_two_documents_share_in_one_band(bands, size, data):
    row = st.lists(st.integers(0, 3), min_size=bands, max_size=bands)
    hashes = np.array([data.draw(row) for _ in range(size)], np.uint64).reshape(size, bands)
    numbers = np.array(data.draw(st.permutations(range(3, 3 + size))), np.int64)
    found = stars.buckets([(column, numbers) for column in hashes.T], int(numbers.max(initial=-1)) + 1)
    assert found.docs.tolist() == sorted(set(found.docs.tolist()))
    members = {}
    for place, doc in enumerate(found.docs.tolist()):
        for bucket in found.ids[found.starts[place] : found.starts[place + 1]].tolist():
            members.setdefault(bucket, []).append(doc)
    plain = [
        sorted(numbers[hashes[:, band] == value].tolist())
        for band in range(bands)
        for value in np.unique(hashes[:, band])
    ]
    assert sorted(members.values()) == sorted(group for group in plain if len(group) > 1)
    assert sorted(members) == list(range(len(found.begins) - 1))
    assert [len(members[bucket]) for bucket in sorted(members)] == np.diff(found.begins).tolist()


def test_no_documents_have_no_buckets():
    found = stars.buckets([(np.zeros(0, np.uint64), np.zeros(0, np.int64))] * 3, 0)
    assert [len(column) for column in found] == [0, 1, 0, 1]


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6), st.data())
def test_gathered_lists_lie_at_their_places_and_nowhere_else(lists, data):
    values, begins = np.array([v for one in lists for v in one], np.uint32), np.cumsum([0, *map(len, lists)])
    rows = np.array(data.draw(st.lists(st.integers(0, len(lists) - 1), unique=True)), np.int64)
    at = np.cumsum([1, *(len(lists[row]) + 1 for row in rows)])[: len(rows)]
    out = np.full(int(sum(map(len, lists)) + len(lists) + 2), 99, np.uint32)
    stars.gather(begins, values, rows, at, out)
    expected = [99] * len(out)
    for row, start in zip(rows.tolist(), at.tolist(), strict=True):
        expected[start : start + len(lists[row])] = lists[row]
    assert out.tolist() == expected
