"""Line charts: every point in its place, no spike lost, gaps where there is no number, and well-formed whatever comes."""

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.line_chart import Axis, Line, line_chart, small_chart, thinned, tick
from assets.model_pictures import by_source, loss_picture
from assets.pictures import INLINE
from assets.run_facts import smoothed

SVG = "{http://www.w3.org/2000/svg}"


def paths(svg: str) -> list[str]:
    return [p.get("d", "") for p in ET.fromstring(svg).iter(f"{SVG}path") if p.get("fill") == "none"]


def test_a_curve_goes_from_corner_to_corner():
    (drawn,) = paths(line_chart([Line("a", [0, 10], [0.0, 1.0])], "step", "x", width=560, height=230))
    (left, low), (right, high) = [tuple(map(float, p.split())) for p in drawn.removeprefix("M").split("L")]
    assert (left, right) == (48, 548)
    assert 190 < low < 196, "a little above the bottom"
    assert 26 < high < 32


def test_a_gap_is_left_where_there_is_no_number():
    line = Line("a", [1, 2, 3, 4, 5], [1.0, float("nan"), 2.0, None, 3.0])
    (drawn,) = paths(line_chart([line], "step", "x"))
    assert drawn.count("M") == 3


def test_a_spike_survives_thinning():
    values = [1.0] * 5000
    values[3210] = 99.0
    found = thinned(list(enumerate(values)), 100)
    assert len(found) <= 100
    assert (3210, 99.0) in found
    assert [x for x, _ in found] == sorted(x for x, _ in found)


def test_values_of_several_sizes_get_a_logarithmic_axis():
    assert "(log)" in line_chart([Line("a", [1, 2], [1.0, 1000.0])], "step", "norm")
    assert "(log)" not in line_chart([Line("a", [1, 2], [0.0, 1000.0])], "step", "norm"), "0 has no logarithm"


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.none(), max_size=60),
    st.text(max_size=20),
)
def test_whatever_comes_the_picture_is_well_formed(values, name):
    name = "".join(c for c in name if c.isprintable())
    svg = line_chart([Line(name, range(len(values)), values, dots=True)], name, "y", points=20, marks=[(1.0, name)])
    assert "nan" not in "".join(paths(svg))
    ET.fromstring(svg)
    ET.fromstring(small_chart(range(len(values)), [v or 0.0 for v in values], name) or "<x/>")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0, "0"),
        (0.003, "0.003"),
        (3e-5, "3e-05"),
        (7.5, "7.5"),
        (9999, "9999"),
        (20000, "20k"),
        (1.5e6, "1.5M"),
        (2e9, "2B"),
    ],
)
def test_numbers_are_told_briefly(value, told):
    assert tick(value) == told


def test_ticks_are_round_and_within_the_range():
    assert Axis(0, 640, 0, 100).ticks(8) == [0, 100, 200, 300, 400, 500, 600]
    assert Axis(0.7, 900, 0, 100, log=True).ticks() == [1, 10, 100]
    assert all(1.0 <= value <= 1.01 for value in Axis(1.0, 1.01, 0, 100).ticks())


def test_a_smoothed_curve_keeps_a_straight_line_at_its_beginning_and_leaves_out_what_is_no_number():
    assert smoothed([5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0], 4)[:4] == pytest.approx([5.0, 4.0, 3.0, 2.2])
    assert smoothed([1.0, math.nan, 3.0], 3)[1] == 2.0
    assert smoothed([], 3) == []


# -- in the UI -----------------------------------------------------------------------------------------------------------


def test_the_curve_of_a_long_run_is_short_enough_for_the_page_itself():
    text = loss_picture(range(100_000), [7.3 - math.sin(n) / 3 for n in range(100_000)])
    assert len(text) < INLINE
    assert re.match(r"!\[loss by step, smoothed\]\(<data:image/svg\+xml,", text)


def test_sources_are_told_with_their_first_and_last_figure_those_with_most_documents_first():
    first = {"bpb": 3.0, "by_part": {"a/1": {"bpb": 3.0, "docs": 1}}}
    last = {"bpb": 2.0, "by_part": {"a/1": {"bpb": 2.0, "docs": 2}, "b|b/1": {"bpb": 1.5, "docs": 9}}}
    assert by_source([first, last]).splitlines()[2:] == [
        "| `b\\|b/1` | 9 |  | 1.500 |",
        "| `a/1` | 2 | 3.000 | 2.000 |",
    ]


def test_a_run_of_before_has_its_sources_at_the_end_alone():
    last = {"bpb": 2.0, "by_part": {"a/1": {"bpb": 2.0, "docs": 2}}}
    assert by_source([{"bpb": 3.0}, last]).splitlines()[2:] == ["| `a/1` | 2 |  | 2.000 |"]
