"""Alignment: rows that belong together meet, wherever the batches of their files end."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.profile.alignment import side_by_side


def cut(name: str, total: int, ends: list[int]):
    """Numbers from 0 to ``total`` in tables that end at ``ends``."""
    whole = pa.table({name: list(range(total))})
    bounds = [0, *sorted(min(end, total) for end in ends), total]
    return (whole.slice(start, stop - start) for start, stop in itertools.pairwise(bounds))


CUTS = st.lists(st.integers(0, 40), max_size=6)


@given(total=st.integers(0, 40), ends=st.tuples(CUTS, CUTS, CUTS))
def test_rows_meet_however_their_tables_are_cut(total, ends):
    met = list(side_by_side(*(cut(name, total, at) for name, at in zip("abc", ends, strict=True))))
    assert all(len({table.num_rows for table in tables}) == 1 for tables in met)
    for place, name in enumerate("abc"):
        assert [n for tables in met for n in tables[place][name].to_pylist()] == list(range(total))


def test_no_step_is_empty():
    met = list(side_by_side(cut("a", 5, [0, 0, 2, 2]), cut("b", 5, [3, 3])))
    assert [tables[0].num_rows for tables in met] == [2, 1, 2]


@pytest.mark.parametrize(("first", "second"), [(4, 5), (5, 4), (0, 1), (1, 0)])
def test_a_row_without_a_fellow_is_an_error(first, second):
    with pytest.raises(ValueError, match="not the same number"):
        list(side_by_side(cut("a", first, [2]), cut("b", second, [3])))


def test_two_files_are_read_batch_by_batch():
    """Memory is bounded by the batch: the second table is asked for when the first is used up, not before."""
    asked = []

    def told(name):
        for number in range(3):
            asked.append(f"{name}{number}")
            yield pa.table({name: [number]})

    steps = side_by_side(told("a"), told("b"))
    next(steps)
    assert asked == ["a0", "b0"]
    next(steps)
    assert asked == ["a0", "b0", "a1", "b1"]
