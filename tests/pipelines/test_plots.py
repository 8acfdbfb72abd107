"""Plots: pictures whose sizes are their numbers, and whose names are never markup."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.profile import plots
from pipelines.profile.page import funnel, largest, length_picture
from pipelines.profile.plots import as_markdown, bars, histogram, plain
from pipelines.profile.signal_counts import Bound, bin_edges, edges_of, position


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter() if element.tag.endswith("text")]


def paths(svg: str) -> list[str]:
    return [element.attrib["d"] for element in ET.fromstring(svg).iter() if element.tag.endswith("path")]


def test_bars_are_as_long_as_their_numbers():
    svg = bars([("a", 100), ("b", 50), ("c", 0)], 200)
    assert [int(n) for n in re.findall(r"h(\d+)v", paths(svg)[0])] == [210, 105]
    assert texts(svg) == ["a", "100 (50.0%)", "b", "50 (25.0%)", "c", "0 (0.0%)"]


def test_bars_of_nothing_draw_nothing():
    assert texts(bars([])) == []
    assert paths(bars([("a", 0)])) == [""]


def test_a_histogram_has_kept_ones_inside_all_of_them():
    svg = histogram([4, 0, 2], [4, 0, 1], [(0, "0"), (2, "2")], [(1, "few < 1")])
    everything, kept = paths(svg)[:2]
    assert everything == "M0 98V14h36V98h36V56h36V98z"
    assert kept == "M0 98V14h36V98h36V77h36V98z"
    assert texts(svg) == ["0", "2", "4", "few < 1"]


def test_one_document_among_a_million_is_still_seen():
    assert "V97" in histogram([10**6, 1], [0, 1], [])


def test_names_are_shortened_and_printable():
    assert plain("a" * 40) == "a" * 29 + "…"
    assert plain("a\x00b\u202ec\n d") == "a\ufffdb\ufffdc\ufffd d"


@given(st.text(max_size=60), st.integers(0, 10**12))
def test_any_name_makes_well_formed_xml_that_survives_markdown(name, number):
    svg = bars([(name, number)])
    assert texts(svg)[0] == plain(name)
    address = re.fullmatch(r"!\[t\]\(<(data:image/svg\+xml,.*)>\)", as_markdown(svg, "t"))
    assert address
    assert not set(address[1]) & set('<>\\&"#\n`')
    assert address[1].isascii()
    assert unquote(address[1]) == f"data:image/svg+xml,{svg}"


def test_the_largest_are_named_and_the_rest_is_summed():
    numbers = {"a": 1, "b": 5, "c": 5, "d": 2}
    assert largest(numbers, 4) == [("b", 5), ("c", 5), ("d", 2), ("a", 1)]
    assert largest(numbers, 3) == [("b", 5), ("c", 5), ("(2 others)", 3)]


def test_the_funnel_tells_only_fates_that_are_there():
    assert texts(funnel({"dropped": 1, "kept": 3}).svg) == [
        "in",
        "4 (100.0%)",
        "kept",
        "3 (75.0%)",
        "dropped",
        "1 (25.0%)",
    ]


def test_lengths_between_the_shortest_and_the_longest_have_a_place():
    picture = length_picture({"4-7": 2, "32-63": 1}, {"32-63": 1})
    assert texts(picture.svg)[:2] == ["4", "16"]
    everything, kept = paths(picture.svg)[:2]
    assert everything == "M0 98V14h36V98h72V56h36V98z"
    assert kept == "M0 98V98h108V56h36V98z"


@pytest.mark.parametrize(
    ("is_whole", "limit", "first", "last"),
    [(True, 50, [0, 1, 2, 3, 4, 6, 8, 12], 786432), (False, 0.8, [0, 0.025], 1.0), (False, 0.12, [0, 0.012], 0.48),
     (False, 10.0, [0, 0.5], 20.0), (False, 0.0, [0, 0.025], 1.0)],
)  # fmt: skip
def test_bins_begin_where_they_should(is_whole, limit, first, last):
    edges = bin_edges(is_whole, limit)
    assert edges[: len(first)] == pytest.approx(first)
    assert edges[-1] == pytest.approx(last)
    assert all(a < b for a, b in pairwise(edges))


def test_a_least_share_is_drawn_among_all_shares_and_a_small_greatest_one_among_small_ones():
    least = Bound("language", "wanted_language_confidence", "min_language_confidence", 0.02, is_least=True)
    most = Bound("hash_signs", "hash_ratio", "max_hash_ratio", 0.02, is_least=False)
    assert [edges[-1] for edges in edges_of([least, most]).values()] == [1.0, 0.08]


def test_a_value_lies_between_the_edges_of_its_bin():
    edges = [0.0, 1.0, 2.0, 4.0]
    assert [position(value, edges) for value in (0, 0.5, 1, 3, 4, 9, -1)] == [0, 0.5, 1, 2.5, 3, 3.5, 0]


def test_more_than_three_lines_begin_with_four():
    most = Bound("too_long", "num_words", "max_words", 3.0, is_least=False)
    least = Bound("too_short", "num_words", "min_words", 3.0, is_least=True)
    ratio = Bound("hash_signs", "hash_ratio", "max_hash_ratio", 0.1, is_least=False)
    assert (most.edge, least.edge, ratio.edge) == (4.0, 3.0, 0.1)
    assert list(edges_of([most, ratio, least])) == ["num_words", "hash_ratio"]


def test_a_plot_of_forty_bins_fits_its_width():
    svg = histogram([1] * 41, [1] * 41, [], [(41, "far")])
    right = max(float(x) for x in re.findall(r" x='([\d.]+)'", svg))
    assert right < plots.WIDTH
