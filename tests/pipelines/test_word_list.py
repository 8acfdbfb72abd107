"""Word lists: whole words, phrases across punctuation, scripts without spaces, and errors that print no word."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.filters.rules import broken_rule
from pipelines.instruments.word_list import RULES, BadWordsRecipe, WordList, WordListError
from pipelines.provenance.recipe import digest


def column(*texts: str) -> pa.Array:
    return pa.array(list(texts), pa.large_string())


def words(tmp_path, *lines: str) -> WordList:
    path = tmp_path / "list.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return WordList.read(path)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("A drat here, DRAT there; Drat!", 3),
        ("drats, undrat, drat2 and dratted are other words", 0),
        ("drat_drat drat-drat", 4),
        ("drat", 1),
        ("dra", 0),
        ("", 0),
        ("e\u0301drat drat\u0301", 0),  # an accent belongs to its letter
    ],
)
def test_a_word_is_found_whole_and_in_any_case(tmp_path, text, count):
    assert words(tmp_path, "drat").counts(column(text)).tolist() == [count]


@pytest.mark.parametrize("text", ["blue moon", "Blue-Moon", "blue\n  moon", "blue ... moon", "(blue) moon's"])
def test_a_phrase_is_found_whatever_stands_between_its_words(tmp_path, text):
    assert words(tmp_path, "blue  moon").counts(column(text)).tolist() == [1]


@pytest.mark.parametrize("text", ["bluemoon", "blue moons", "blue the moon", "blue"])
def test_a_phrase_is_not_found_in_other_words(tmp_path, text):
    assert words(tmp_path, "blue moon").counts(column(text)).tolist() == [0]


def test_the_longest_entry_counts_and_nothing_counts_twice(tmp_path):
    found = words(tmp_path, "blue", "blue moon", "moon river")
    assert found.counts(column("blue moon river", "blue blue moon", "blue mood")).tolist() == [1, 2, 1]


def test_entries_in_scripts_without_spaces_are_found_anywhere(tmp_path):
    found = words(tmp_path, "月亮", "ひどい", "คำไม่ดี", "달")
    assert found.counts(column("我看见月亮了", "とてもひどいです", "นี่คือคำไม่ดีมาก", "달빛", "저 달 봐")).tolist() == [
        1,
        1,
        1,
        0,
        1,
    ]


def test_symbols_stand_for_themselves(tmp_path):
    found = words(tmp_path, "d*rn", "c$$l", "\U0001f595")
    assert found.counts(column("D*RN it", "d-rn", "c$$l c$$", "so \U0001f595\U0001f595")).tolist() == [1, 0, 1, 2]


def test_capitals_of_every_script_are_folded_and_composed(tmp_path):
    assert words(tmp_path, "ΚΑΚΌΣ", "cafe\u0301").counts(column("κακόσ Κακόσ", "CAFÉ")).tolist() == [2, 1]


def test_comments_blank_lines_carriage_returns_and_repeats_are_no_entries(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbf# mine\r\n\r\ndrat\r\nDRAT\r\n  # more\r\nheck")
    assert WordList.read(path).num_entries == 2
    assert WordList.read(path).digest == digest(path.read_bytes())


def test_the_ratio_is_of_characters_not_bytes(tmp_path):
    signals = words(tmp_path, "éé").signals(column("éé aaaaaaa", "éé", "none", ""))
    assert signals["bad_words_ratio"].to_pylist() == [0.2, 1.0, 0.0, 0.0]
    assert signals["bad_words"].to_pylist() == [1, 1, 0, 0]


def test_rules_decide_from_the_signals(tmp_path):
    import polars as pl

    frame = pl.DataFrame(
        {k: pl.from_arrow(v) for k, v in words(tmp_path, "x").signals(column("x", "x x y", "y")).items()}
    )
    recipe = BadWordsRecipe(bad_words_max=1, bad_words_max_ratio=0.9)
    decided = frame.select(broken_rule(RULES, recipe).alias("rule"))["rule"].to_list()
    assert [rule and rule["reason"] for rule in decided] == ["bad_words_ratio", "bad_words", None]


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"fine\nsecre\xff\n", 2), (b"\n\nsecret\x07\n", 3), (b"secret " * 40, 1), (b"a\n - \n", 2)],
)
def test_errors_name_the_line_and_never_the_word(tmp_path, data, line):
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    with pytest.raises(WordListError, match=rf"^list\.txt:{line}: ") as error:
        WordList.read(path)
    assert "secre" not in str(error.value)


def test_a_list_without_entries_and_a_missing_one_are_refused(tmp_path):
    with pytest.raises(WordListError, match="no entry"):
        words(tmp_path, "# nothing")
    with pytest.raises(WordListError, match="no such file"):
        WordList.read(tmp_path / "absent.txt")


def test_rows_do_not_depend_on_their_neighbours(tmp_path):
    found = words(tmp_path, "blue moon")
    whole = column("x blue", "moon blue moon", "", "blue")
    assert found.counts(whole).tolist() == [0, 1, 0, 0]
    assert found.counts(whole.slice(1, 2)).tolist() == [1, 0]


ENTRY = st.text("abé月 ", min_size=1, max_size=4).filter(lambda t: t.strip())


def reference(text: str, entries: list[str]) -> int:
    """The rule as a regular expression: longest alternative first, borders between spaced letters alone."""
    alternatives = sorted({" ".join(e.split()) for e in entries}, key=len, reverse=True)
    letter, count, at = "[abé]", 0, 0
    while at < len(text):
        best = 0
        for entry in alternatives:
            body = re.escape(entry).replace(r"\ ", r"[^abé月]+")
            before = f"(?<!{letter})" if entry[0] in "abé" else ""
            after = f"(?!{letter})" if entry[-1] in "abé" else ""
            if match := re.compile(before + body + after).match(text, at):
                best = max(best, match.end() - at)
        count += best > 0
        at += best or 1
    return count


@settings(max_examples=300)
@given(entries=st.lists(ENTRY, min_size=1, max_size=5), text=st.text("abé月 .", max_size=25))
def test_the_walk_equals_a_regular_expression(tmp_path_factory, entries, text):
    path = tmp_path_factory.getbasetemp() / "hypothesis-list.txt"
    path.write_text("\n".join(entries), encoding="utf-8")
    assert WordList.read(path).counts(column(text)).tolist() == [reference(text, entries)]


@settings(max_examples=100)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=6))
def test_any_text_can_be_read(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "any-list.txt"
    path.write_text("a\n0\n月\n\u0e01\n*", encoding="utf-8")
    signals = WordList.read(path).signals(column(*texts))
    ratio = np.asarray(signals["bad_words_ratio"])
    assert ((ratio >= 0) & (ratio <= 1)).all()
    assert [c > 0 for c in signals["bad_words"].to_pylist()] == [r > 0 for r in ratio]
