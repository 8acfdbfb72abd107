"""Layouts: another arrangement of a part's tokens, read forwards and backwards."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_shard_reader import documents, write_shards

from pipelines.layouts import FILL, LaidOut, Layout, segments_table
from pipelines.provenance import tables
from pipelines.shard_reader import ShardReader


def laid_out(folder, reader: ShardReader, segments: list[tuple[int, int]], fill=65_535) -> LaidOut:
    starts, lengths = (np.array([s[i] for s in segments], np.int64) for i in (0, 1))
    tables.write_table(folder / "layout.arrow", segments_table(starts, lengths))
    return LaidOut(reader, Layout(folder / "layout.arrow"), fill)


@st.composite
def arrangements(draw):
    """(documents, where new shards begin, segments of some of them in any order, with filling)."""
    given_documents = draw(documents)
    total = sum(len(tokens) for _, tokens in given_documents)
    cuts = sorted(draw(st.lists(st.integers(0, len(given_documents)), max_size=2)))
    edges = sorted({0, total, *draw(st.lists(st.integers(0, total), max_size=8))})
    pieces = [(a, b - a) for a, b in pairwise(edges)]
    fills = [(FILL, draw(st.integers(1, 3))) for _ in range(draw(st.integers(0, 3)))]
    chosen = draw(st.lists(st.sampled_from(pieces), unique=True)) if pieces else []
    return given_documents, cuts, draw(st.permutations([*chosen, *fills]))


@settings(max_examples=80)
@given(arrangements(), st.data())
def test_an_arrangement_answers_as_a_plain_list(tmp_path_factory, arrangement, data):
    given_documents, cuts, segments = arrangement
    folder = tmp_path_factory.mktemp("layout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_ROWS", 3)
        reader = ShardReader(write_shards(folder, given_documents, cuts))
        stream = laid_out(folder, reader, segments)
    flat = [(doc, place, token) for doc, tokens in given_documents for place, token in enumerate(tokens)]
    shown = [flat[at + i] if at != FILL else None for at, size in segments for i in range(size)]
    assert stream.num_tokens == len(shown)
    length = data.draw(st.integers(1, 6))
    starts = data.draw(st.lists(st.integers(0, max(0, len(shown) - length)), max_size=6))
    starts = np.array(starts if len(shown) >= length else [], np.int64)
    rows = stream.rows(starts, length)
    wanted = [shown[s : s + length] for s in starts.tolist()]
    assert rows.tolist() == [[65_535 if w is None else w[2] for w in row] for row in wanted]
    assert stream.num_filled(starts, length) == sum(w is None for row in wanted for w in row)
    seen = stream.excerpts(starts, starts + length)
    told = zip(seen.ranges.tolist(), seen.doc_ids(), seen.starts.tolist(), seen.lengths.tolist(), strict=True)
    places = [(r, doc, start + i) for r, doc, start, size in told for i in range(size)]
    assert places == [(r, w[0], w[1]) for r, row in enumerate(wanted) for w in row if w is not None]
    for doc, _ in given_documents:
        found = [(at + i, first + i) for at, first, size in stream.places(doc) for i in range(size)]
        assert sorted(found) == [(at, w[1]) for at, w in enumerate(shown) if w is not None and w[0] == doc]
    assert stream.places(b"\xfe" * 16) == []


@settings(max_examples=60)
@given(documents, st.data())
def test_gathered_ranges_are_the_slices_and_boundaries_those_of_the_documents(tmp_path_factory, documents, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_ROWS", 3)
        reader = ShardReader(write_shards(tmp_path_factory.mktemp("s"), documents, [len(documents) // 2]))
    stream = [t for _, tokens in documents for t in tokens]
    assert reader.boundaries().tolist() == np.cumsum([0, *(len(t) for _, t in documents)]).tolist()
    ranges = data.draw(st.lists(st.tuples(*[st.integers(0, len(stream))] * 2).map(sorted), max_size=6))
    starts, stops = (np.array([r[i] for r in ranges], np.int64) for i in (0, 1))
    assert reader.gathered(starts, stops - starts).tolist() == [t for a, b in ranges for t in stream[a:b]]


def test_segments_that_follow_each_other_are_one():
    table = segments_table(np.array([5, 7, 0, FILL, FILL]), np.array([2, 3, 5, 1, 1]))
    assert table.to_pylist() == [
        {"start": 5, "end": 5}, {"start": 0, "end": 10}, {"start": FILL, "end": 11}, {"start": FILL, "end": 12},
    ]  # fmt: skip
    assert segments_table(np.array([3, 9]), np.array([0, 0])).num_rows == 0


def test_ranges_outside_an_arrangement_are_refused(tmp_path):
    reader = ShardReader(write_shards(tmp_path, [(bytes(16), [1, 2, 3])], []))
    stream = laid_out(tmp_path, reader, [(1, 2)])
    assert stream.tokens(0, 2).tolist() == [2, 3]
    for start, stop in [(0, 3), (-1, 1)]:
        with pytest.raises(ValueError, match=r"the layout holds \[0, 2\)"):
            stream.excerpts(np.array([start]), np.array([stop]))
