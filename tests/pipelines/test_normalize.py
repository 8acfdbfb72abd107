"""Normal form: known answers, and a fixed point."""

import unicodedata

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.normalize import normalized

TRICKY = st.text(
    st.one_of(
        st.sampled_from("\r\n\t \x00\x0b\x0c\x1c\x85\u2028\u00a0\ufeffae\u0301\u0327\u212bﬁ"),
        st.characters(codec="utf-8"),
    )
)


def normal(*texts):
    return normalized(pl.Series(texts, dtype=pl.String)).to_list()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a\r\nb\rc\u2028d\x85e\x0cf", "a\nb\nc\nd\ne\nf"),
        ("a\x00b\x07\x1bc\ufeff", "abc"),
        ("tab\tstays", "tab\tstays"),
        ("e\u0301", "é"),
        ("e\x00\u0301", "é"),  # they meet only when the control character is gone
        ("a  \nb\u00a0\t\n", "a\nb"),
        ("a\n\n\n\n\nb\n \n\n \nc", "a\n\n\nb\n\n\nc"),
        ("\n\n    indented\n", "    indented"),
        (" \n\t\n", ""),
        ("ﬁ ½", "ﬁ ½"),  # canonical, not compatibility composition
    ],
)  # fmt: skip
def test_known_answers(before, after):
    assert normal(before) == [after]


@settings(max_examples=200)
@given(st.lists(TRICKY, min_size=1, max_size=4))
def test_normal_form_is_a_fixed_point(texts):
    once = normal(*texts)
    assert normal(*once) == once
    for text in once:
        assert unicodedata.is_normalized("NFC", text)
        assert not [c for c in text if unicodedata.category(c) == "Cc" and c not in "\n\t"]
        assert text == text.rstrip()
        assert "\n\n\n\n" not in text
        assert not any(line != line.rstrip() for line in text.split("\n"))


def test_rows_do_not_depend_on_their_neighbours():
    rows = ["e\u0301", "plain", "", "x \ny", "ü"]
    assert normal(*rows) == [normal(row)[0] for row in rows]
