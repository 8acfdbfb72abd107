"""Each Gopher rule: a signal with a known value, kept on the bound and dropped beyond it."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.quality import RULES, QualityRecipe, broken_rule, signals

PAPER = QualityRecipe()
PROSE = "The cat and the dog that have been to the house of a friend with a garden. "


def signal(text, name):
    return signals(pl.Series([text]))[name][0]


def verdict(recipe=PAPER, **changed):
    """The broken rule of a document that is fine but for what is changed."""
    fine = {"num_words": 100, "mean_word_length": 5.0, "hash_ratio": 0.0, "ellipsis_ratio": 0.0,
            "bullet_lines_ratio": 0.0, "ellipsis_lines_ratio": 0.0, "alpha_words_ratio": 0.9, "num_stop_words": 5}  # fmt: skip
    row = pl.DataFrame([{**fine, **changed}]).select(broken_rule(recipe).alias("b"))["b"][0]
    return None if row is None or row["reason"] is None else (row["reason"], row["value"])


def test_the_defaults_are_the_papers_thresholds():
    assert PAPER.identity() == {
        "min_words": 50, "max_words": 100_000, "min_mean_word_length": 3.0, "max_mean_word_length": 10.0,
        "max_hash_ratio": 0.1, "max_ellipsis_ratio": 0.1, "max_bullet_lines_ratio": 0.9,
        "max_ellipsis_lines_ratio": 0.3, "min_alpha_words_ratio": 0.8, "min_stop_words": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "on_bound", "beyond", "reason"),
    [
        ("num_words", 50, 49, "too_short"),
        ("num_words", 100_000, 100_001, "too_long"),
        ("mean_word_length", 3.0, 2.99, "short_words"),
        ("mean_word_length", 10.0, 10.01, "long_words"),
        ("hash_ratio", 0.1, 0.11, "hash_signs"),
        ("ellipsis_ratio", 0.1, 0.11, "ellipses"),
        ("bullet_lines_ratio", 0.9, 0.91, "bullet_lines"),
        ("ellipsis_lines_ratio", 0.3, 0.31, "ellipsis_lines"),
        ("alpha_words_ratio", 0.8, 0.79, "few_letters"),
        ("num_stop_words", 2, 1, "few_stop_words"),
    ],
)
def test_a_document_on_the_bound_stays_and_one_beyond_goes(name, on_bound, beyond, reason):
    assert verdict(**{name: on_bound}) is None
    assert verdict(**{name: beyond}) == (reason, float(beyond))


def test_every_rule_is_tested_and_every_bound_belongs_to_one_rule():
    assert sorted(r.bound for r in RULES) == sorted(QualityRecipe.model_fields)
    assert len({r.reason for r in RULES}) == len(RULES)


def test_the_first_broken_rule_is_the_reason():
    assert verdict(num_words=3, num_stop_words=0) == ("too_short", 3.0)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("x.shape == (3, n_rows)", "num_words", 4),
        ("x.shape == (3, n_rows)", "num_tokens", 10),
        ("naïve café", "num_words", 2),
        ("ab abcd", "mean_word_length", 3.0),
        ("naïve", "mean_word_length", 5.0),  # characters, not bytes
        ("a # b #", "hash_ratio", 0.5),
        ("wait... what…", "ellipsis_ratio", 2 / 6),
        ("• a\n  - b\n* c\n\nd", "bullet_lines_ratio", 0.75),
        ("-----\n--x", "bullet_lines_ratio", 0.0),
        ("a...\nb…\nc", "ellipsis_lines_ratio", 2 / 3),
        ("a1 22 _ b ,", "alpha_words_ratio", 2 / 5),
        ("THE the Of weather", "num_stop_words", 2),
        ("", "mean_word_length", 0.0),
        ("", "num_stop_words", 0),
    ],
)
def test_signals_have_known_values(text, name, value):
    assert signal(text, name) == value


def test_ordinary_prose_passes_the_papers_rules_and_noise_does_not():
    noise = {"#" * 30 + PROSE * 4: "hash_signs", "1 2 3 4 " * 50: "short_words", "word " * 60: "few_stop_words",
             PROSE: "too_short", "- the cat and dog\n" * 30: "bullet_lines"}  # fmt: skip
    frame = signals(pl.Series([PROSE * 5, *noise])).select(broken_rule(PAPER).struct.field("reason"))
    assert frame["reason"].to_list() == [None, *noise.values()]


@given(st.lists(st.text(), max_size=5))
def test_ratios_are_finite_for_any_text(texts):
    frame = signals(pl.Series(texts, dtype=pl.String))
    assert len(frame) == len(texts)
    for name in frame.columns:
        assert frame[name].null_count() == 0
        if frame[name].dtype == pl.Float64:
            assert frame[name].is_finite().all()
