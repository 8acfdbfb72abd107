"""Two texts side by side: what is told is enough to get both of them back, but for what they share."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from assets.side_by_side import ONLY_HERE, ONLY_THERE, comparison, rows

LINES = st.lists(st.sampled_from(["one", "two words", "three more words", "[red] no markup", ""]), max_size=12)


def drawn(left, right, width=100):
    console = Console(file=io.StringIO(), width=width)
    console.print(comparison(left, right, ("here", "there")))
    return console.file.getvalue()


@given(LINES, LINES)
def test_rows_that_are_not_hidden_hold_the_lines_of_both_texts(left, right):
    found = list(rows("\n".join(left), "\n".join(right)))
    hidden = sum(int(row[1].plain.split()[1]) for row in found if "equal lines" in row[1].plain)
    for side, lines in ((1, left), (2, right)):
        shown = [row[side].plain for row in found if "equal lines" not in row[side].plain]
        assert [line for line in shown if line] == [line for line in shown if line and line in lines]
        assert len([line for line in shown if line]) + hidden >= len([line for line in lines if line])


@given(LINES)
def test_equal_texts_have_no_marked_row(lines):
    assert all(mark == "" for mark, *_ in rows("\n".join(lines), "\n".join(lines)))


def test_only_the_words_that_differ_are_coloured():
    ((mark, here, there),) = rows("the quick brown fox", "the slow brown fox")
    assert mark == "≠"
    assert [(here.plain[s.start : s.end], s.style) for s in here.spans if s.style] == [("quick", ONLY_HERE)]
    assert [(there.plain[s.start : s.end], s.style) for s in there.spans if s.style] == [("slow", ONLY_THERE)]


def test_a_long_line_is_compared_sentence_by_sentence_and_equal_ones_are_counted():
    sentences = [f"This is sentence number {n} of a text without a line break." for n in range(12)]
    changed = [*sentences[:6], "Here stands another one.", *sentences[7:]]
    said = drawn(" ".join(sentences), " ".join(changed), 160)
    assert "… 5 equal lines …" in said
    assert "… 4 equal lines …" in said
    (line,) = (line for line in said.splitlines() if "≠" in line)
    assert "sentence number 6" in line
    assert "Here stands another one." in line


@pytest.mark.parametrize(("left", "right"), [("", "a line"), ("a line", ""), ("a\nb", "b")])
def test_what_only_one_of_them_has_stands_beside_nothing(left, right):
    marked = [row for row in rows(left, right) if row[0]]
    assert all("" in (here.plain, there.plain) for _, here, there in marked)
    assert marked


def test_text_that_looks_like_markup_is_no_markup():
    assert "[red] sign" in drawn("[red] sign", "[/] sign")


def test_what_is_too_long_to_compare_is_told():
    left, right = "word " * 60_000, "word " * 60_001
    found = list(rows(left, right))
    assert [row.plain for row in found[-1][1:]] == [
        "… 100,000 more characters, not compared",
        "… 100,005 more characters, not compared",
    ]
    assert all(mark == "" for mark, *_ in found)
