"""Best-fit packing: only documents longer than a sequence are cut, and every token is learned once."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.layouts import FILL
from pipelines.packing import cut_docs, packed

sizes_of = st.lists(st.integers(0, 40), max_size=30)


def placed(sizes: list[int], length: int) -> list[list[tuple[int, int]]]:
    """By sequence: (start, tokens) of its segments; the sequences are full."""
    stops = np.cumsum(sizes, dtype=np.int64)
    found = packed(stops - np.array(sizes, np.int64), np.array(sizes, np.int64), length)
    sequences: list[list[tuple[int, int]]] = [[]]
    for start, size in zip(found.starts.tolist(), found.lengths.tolist(), strict=True):
        sequences[-1].append((start, size))
        if sum(n for _, n in sequences[-1]) == length + 1:
            sequences.append([])
    assert sequences.pop() == [], "the last sequence is full, if need be with what only fills up"
    assert len(sequences) == found.num_sequences
    assert sum(n for s in sequences for at, n in s if at == FILL) == found.num_filled
    return sequences


def by_hand(sizes: list[int], capacity: int) -> list[int]:
    """Room left in each bin after best fit decreasing, by looking at every bin."""
    rooms: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [room for room in rooms if room >= size]
        if fitting:
            rooms[rooms.index(min(fitting))] -= size
        else:
            rooms.append(capacity - size)
    return sorted(rooms)


def test_documents_that_fit_are_put_together_and_the_long_one_is_cut():
    assert placed([3, 9, 2, 3], 4) == [
        [(3, 5)],  # the first piece of the long document
        [(7, 5)],  # begins with the last token of the piece before
        [(0, 3), (FILL, 2)],
        [(12, 2), (14, 3)],  # in the order of the shards
    ]


def test_what_does_not_fit_beside_others_is_filled_up():
    assert placed([4, 4], 4) == [[(0, 4), (FILL, 1)], [(4, 4), (FILL, 1)]]
    assert placed([], 4) == placed([0, 0], 4) == []


@settings(max_examples=150)
@given(sizes_of, st.integers(1, 20))
def test_every_token_but_the_first_of_a_document_is_learned_once(sizes, length):
    stops = np.cumsum(sizes).tolist()
    firsts = {stop - size for stop, size in zip(stops, sizes, strict=True) if size}
    learned: Counter[int] = Counter()
    for sequence in placed(sizes, length):
        for start, size in sequence:
            if start != FILL:
                learned.update(range(start + 1, start + size))
    assert learned == Counter(t for t in range(sum(sizes)) if t not in firsts)


@settings(max_examples=150)
@given(sizes_of, st.integers(1, 20))
def test_no_document_is_cut_that_fits(sizes, length):
    whole = {segment for sequence in placed(sizes, length) for segment in sequence}
    for stop, size in zip(np.cumsum(sizes).tolist(), sizes, strict=True):
        if 0 < size <= length + 1:
            assert (stop - size, size) in whole


@settings(max_examples=100)
@given(st.lists(st.integers(1, 129), max_size=60), st.integers(128, 140))
def test_the_bins_are_those_of_looking_at_every_bin(sizes, length):
    rooms = [n for s in placed(sizes, length) for at, n in s if at == FILL]
    assert sorted(rooms) == [room for room in by_hand(sizes, length + 1) if room]


@settings(max_examples=150)
@given(sizes_of, st.integers(1, 12))
def test_documents_cut_by_concatenating_are_those_that_no_sequence_shows_whole(sizes, length):
    total = sum(sizes)
    windows = [(i * length, i * length + length + 1) for i in range(max(0, total - 1) // length)]
    stops = np.cumsum(sizes).tolist()
    cut = sum(
        not any(low <= stop - size and stop <= high for low, high in windows)
        for stop, size in zip(stops, sizes, strict=True)
        if size
    )
    assert cut_docs(np.array(sizes, np.int64), length) == cut


def test_of_ordinary_documents_half_as_many_are_cut():
    """1,024 targets, documents of 572 tokens in the median and 1,050 in the mean, as a corpus of web pages has them."""
    sizes = np.maximum(1, np.random.default_rng(0).lognormal(np.log(572), 1.1, 20_000)).astype(np.int64)
    found = packed(np.cumsum(sizes) - sizes, sizes, 1024)
    assert round(cut_docs(sizes, 1024) / len(sizes), 2) == 0.59
    assert round(float((sizes > 1025).mean()), 2) == 0.3
    assert found.num_filled < 0.001 * sizes.sum()
    assert abs(found.num_sequences / ((sizes.sum() - 1) // 1024) - 1) < 0.002
