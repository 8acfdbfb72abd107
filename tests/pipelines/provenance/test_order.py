"""The order is a frozen bijection with an exact inverse, for any size."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.provenance.order import FEW, invert, invert_each, order_key, permute, permute_each

KEYS = st.integers(0, 2**64 - 1)


def test_golden_vectors_freeze_the_keys():
    assert order_key(0, 0, "pypi-docs.polars/2.1.0", 0) == 0x96A3DAF1C6E1EF84
    assert order_key(7) == 0x95A0946E50E6ABA6
    assert order_key("wiki") == 0xC77585F651C95853
    assert order_key(0, "0") == 0xB7D0B79BF4BEC0F


def test_golden_vectors_freeze_the_permutation():
    key = 0x96A3DAF1C6E1EF84
    assert permute(np.arange(10), 10, key).tolist() == [2, 7, 1, 4, 3, 0, 6, 8, 5, 9]
    assert permute(np.arange(7), 7, 2**64 - 1).tolist() == [5, 6, 2, 3, 1, 4, 0]
    assert permute(np.arange(8), 1000003, key).tolist() == [
        305252, 486073, 869102, 237337, 953126, 239182, 861038, 556613,
    ]  # fmt: skip
    assert permute(np.array([0, 1, 10**12 - 1]), 10**12, 12345).tolist() == [921948554355, 86503537660, 650965260459]


@pytest.mark.parametrize(("size", "key", "sha256"), [
    (1000, 1, "50308b4b7e071e5f1fa2f1f778f998d1d96876ef432533ef25586a561ce4c1f1"),
    (65537, 2, "6b2b12ed95043b48d85f4854a0997cfa74bdcdbca7010c2fa1e0fad63c8873f4"),
    (100000, 3, "924ee41b9b7c0b04d159739b520e418c400d0c8fa9c0c3f06a310001c6e1e2a0"),
])  # fmt: skip
def test_golden_vectors_freeze_whole_permutations(size, key, sha256):
    image = permute(np.arange(size), size, key).astype("<u8")
    assert hashlib.sha256(image.tobytes()).hexdigest() == sha256


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20_000) | st.sampled_from([2**16, 2**16 + 1, 99_991, 1_000_000]), KEYS)
@example(1, 0)
@example(2, 1)
@example(1_000_000, 2**64 - 1)
def test_every_position_has_one_image_and_the_inverse_brings_it_back(size, key):
    positions = np.arange(size, dtype=np.uint64)
    image = permute(positions, size, key)
    assert np.array_equal(np.sort(image), positions)
    assert np.array_equal(invert(image, size, key), positions)


@given(
    st.integers(10**12 - 10**6, 3 * 10**12), KEYS, st.lists(st.integers(0, 10**12 - 10**6 - 1), min_size=1, max_size=20)
)
def test_single_points_of_a_trillion_come_back(size, key, points):
    positions = np.array(points, np.int64)
    image = permute(positions, size, key)
    assert int(image.max()) < size
    assert invert(image, size, key).tolist() == points


def test_one_position_alone_goes_where_it_goes_among_others():
    together = permute(np.arange(5000), 5000, 9)
    assert [int(permute(np.array([p]), 5000, 9)[0]) for p in (0, 17, 4999)] == [int(together[p]) for p in (0, 17, 4999)]


@given(st.lists(st.tuples(st.integers(1, 300), KEYS), min_size=1, max_size=5), st.data())
def test_many_permutations_at_once_are_each_alone(domains, data):
    """Few numbers are walked one by one and many together, all in one permutation or each in its own."""
    which = data.draw(st.lists(st.integers(0, len(domains) - 1), max_size=3 * FEW))
    points = [data.draw(st.integers(0, domains[index][0] - 1)) for index in which]
    images = permute_each(np.array(points, np.int64), domains, np.array(which, np.int64))
    alone = [int(permute(np.array([p]), *domains[i])[0]) for p, i in zip(points, which, strict=True)]
    assert images.tolist() == alone
    assert invert_each(images, domains, np.array(which, np.int64)).tolist() == points


def test_few_and_many_go_the_same_way_in_a_large_domain():
    positions = np.arange(10**15, 10**15 + 4 * FEW)
    together = permute(positions, 2**63, 5)
    assert together.tolist() == [int(permute(positions[i : i + 1], 2**63, 5)[0]) for i in range(len(positions))]
    assert invert(together, 2**63, 5).tolist() == positions.tolist()


def test_other_keys_give_other_orders_and_neighbours_part():
    first, second = permute(np.arange(10_000), 10_000, 1), permute(np.arange(10_000), 10_000, 2)
    assert (first == second).mean() < 0.002
    steps = np.abs(np.diff(first.astype(np.int64)))
    assert abs(steps.mean() / 10_000 - 1 / 3) < 0.02  # independent uniform numbers are a third apart


@pytest.mark.parametrize("positions", [[-1], [10], [2**63], [0.5], [3, 10], ["a"]])
def test_positions_outside_are_refused(positions):
    for through in (permute, invert):
        with pytest.raises((ValueError, TypeError), match="positions must"):
            through(np.array(positions), 10, 0)


def test_no_position_is_no_image():
    assert permute(np.array([], np.int64), 10, 0).size == 0


@pytest.mark.parametrize("word", [np.int64(3), True, 1.0, None])
def test_a_key_is_made_of_plain_ints_and_strings(word):
    """str(numpy.int64(3)) and str(3) are equal and their types are not: the order would change silently."""
    with pytest.raises(TypeError, match="plain int or str"):
        order_key(0, word)


@given(
    st.lists(st.integers() | st.text("ab1:\x1e"), max_size=4), st.lists(st.integers() | st.text("ab1:\x1e"), max_size=4)
)
def test_different_words_give_different_keys(one, other):
    assert (order_key(*one) == order_key(*other)) == (one == other and list(map(type, one)) == list(map(type, other)))


def test_every_order_of_four_is_reached_and_none_is_favoured():
    """24 orders, 2,400 keys: chi-square of 23 degrees of freedom is below 50 but for one seed in a thousand."""
    seen = Counter(tuple(permute(np.arange(4), 4, order_key("key", n)).tolist()) for n in range(2400))
    assert len(seen) == 24
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 50


def test_every_position_may_come_anywhere():
    """37 is no product of two near squares, so that some walks take several rounds."""
    places = np.stack([permute(np.arange(37), 37, order_key("place", n)) for n in range(1850)]).astype(np.int64)
    for position in range(37):
        counts = np.bincount(places[:, position], minlength=37)
        assert counts.min() > 10  # 50 expected, standard deviation 7
        assert ((counts - 50) ** 2 / 50).sum() < 85  # chi-square of 36: 0.001 % by chance


def test_the_order_of_a_part_tells_nothing_about_that_of_another():
    one, other = (permute(np.arange(2000), 2000, order_key(1, 0, name, 0)).astype(float) for name in ("a/1", "a/2"))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.1  # standard error 0.022
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.1


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16, np.uint64])
def test_the_type_of_the_positions_does_not_matter(dtype):
    positions = np.array([0, 7, 999])
    assert permute(positions.astype(dtype), 1000, 5).tolist() == permute(positions, 1000, 5).tolist()
    assert permute(positions, 1000, 5).dtype == np.uint64


def test_the_positions_that_are_given_are_not_changed():
    positions = np.arange(10, dtype=np.uint64)
    permute(positions, 10, 1)
    assert positions.tolist() == list(range(10))
