"""MinHash: the algebra that makes a signature a signature, and the reference library's Jaccard."""

from __future__ import annotations

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import minhash

HASHES = st.lists(st.integers(0, 2**32 - 1), max_size=30)


def signature(hashes, num_perm: int = 32, seed: int = 1) -> np.ndarray:
    flat, offsets = np.array(hashes, np.uint32), np.array([0, len(hashes)])
    return minhash.signatures(flat, offsets, *minhash.permutations(num_perm, seed))[0]


@settings(max_examples=50)
@given(HASHES, HASHES)
def test_the_signature_of_a_union_is_the_smaller_of_both(one, other):
    assert np.array_equal(signature(one + other), np.minimum(signature(one), signature(other)))


@settings(max_examples=30)
@given(HASHES, st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(hashes, random):
    shuffled = random.sample(hashes, len(hashes)) + hashes[:3]
    assert np.array_equal(signature(shuffled), signature(hashes))


@settings(max_examples=30)
@given(st.lists(HASHES, min_size=1, max_size=5))
def test_a_document_has_one_signature_alone_and_among_others(documents):
    flat = np.array([h for d in documents for h in d], np.uint32)
    rows = minhash.signatures(flat, np.cumsum([0, *map(len, documents)]), *minhash.permutations(32, 1))
    assert np.array_equal(rows, np.stack([signature(d) for d in documents]))


def test_every_permutation_is_a_bijection_as_its_multiplier_is_odd():
    """Else two shingles could never be told apart by it."""
    for num_perm, seed in ((112, 1), (4096, 7)):
        a, b = minhash.permutations(num_perm, seed)
        assert (a & 1).all()
        assert a.dtype == b.dtype == np.uint32
        assert len({*zip(a.tolist(), b.tolist(), strict=True)}) == num_perm


def test_another_seed_gives_other_permutations_and_the_same_seed_the_same():
    one, again, other = (minhash.permutations(64, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("shared", [0, 25, 50, 80, 100])
def test_the_share_of_equal_values_is_datasketchs_jaccard_and_near_the_true_one(shared):
    random = np.random.default_rng(shared)
    pool = random.choice(2**32, 200 - shared, replace=False).astype(np.uint32)
    one, other = pool[:100], np.concatenate([pool[:shared], pool[100:]])
    ours = float((signature(one, 1024) == signature(other, 1024)).mean())
    sketches = []
    for hashes in (one, other):
        sketch = MinHash(num_perm=1024, seed=1, hashfunc=int, scheme="affine32")
        sketch.update_batch(hashes.tolist())
        sketches.append(sketch)
    assert ours == sketches[0].jaccard(sketches[1])
    true = shared / (200 - shared)
    assert abs(ours - true) <= 5 * (true * (1 - true) / 1024) ** 0.5


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 2**33), max_size=12), max_size=6))
def test_distinct_hashes_are_the_sorted_sets_of_the_upper_halves(documents):
    flat = np.array([h for d in documents for h in d], np.uint64)
    found, offsets = minhash.distinct(flat, np.cumsum([0, *map(len, documents)]))
    expected = [sorted({h >> 32 for h in d}) for d in documents]
    assert offsets.tolist() == np.cumsum([0, *map(len, expected)]).tolist()
    assert found.tolist() == [h for d in expected for h in d]
    assert found.dtype == np.uint32


def test_hashes_are_not_taken_from_the_document_beside():
    """The sort is over (document, hash): equal hashes of neighbours must not melt together."""
    found, offsets = minhash.distinct(np.array([5 << 32, 5 << 32, 5 << 32, 4 << 32], np.uint64), np.array([0, 1, 1, 4]))
    assert (found.tolist(), offsets.tolist()) == ([5, 4, 5], [0, 1, 1, 3])
