"""Entries of a mixture: what may be written, and what is said of what may not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from pydantic import ValidationError

from pipelines.mixture import MixtureRecipe
from pipelines.mixture_entries import SOURCE, Selector, parsed_entry, parsed_phase, phases_of


@pytest.mark.parametrize(("text", "selector", "value", "is_epochs"), [
    ("wiki=2", Selector(SOURCE, ":", "wiki"), Fraction(2), False),
    ("docs.*=0.1", Selector(SOURCE, ":", "docs.*"), Fraction(1, 10), False),
    (" wiki = 1/3 ", Selector(SOURCE, ":", "wiki"), Fraction(1, 3), False),
    ("wiki/2026-11=3 epochs", Selector(SOURCE, ":", "wiki/2026-11"), Fraction(3), True),
    ("wiki=1 epoch", Selector(SOURCE, ":", "wiki"), Fraction(1), True),
    ("language:de=2.5 epochs", Selector("language", ":", "de"), Fraction(5, 2), True),
    ("licence:CC-BY*=0", Selector("licence", ":", "CC-BY*"), Fraction(0), False),
    ("score>=0.7=2", Selector("score", ">=", "0.7"), Fraction(2), False),
    ("num_words<50=0", Selector("num_words", "<", "50"), Fraction(0), False),
])  # fmt: skip
def test_an_entry_says_whom_it_is_about_and_how_often(text, selector, value, is_epochs):
    entry = parsed_entry(text)
    assert (entry.selector, entry.value, entry.is_epochs) == (selector, value, is_epochs)


@pytest.mark.parametrize(
    "text", ["docs", "wiki=-1", "wiki=x", "=2", "wiki=nan", "wiki=1/0", "wiki=2 steps", "epochs=", ""]
)
def test_what_is_no_entry_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected NAME=FACTOR with a number from 0 on, such as 'wiki=2'"):
        parsed_entry(text)


def test_a_number_is_compared_with_a_number():
    with pytest.raises(ValueError, match="'high' is no number to compare score with"):
        parsed_entry("score>=high=2")


def test_a_phase_begins_at_a_fraction_or_a_step():
    phase = parsed_phase("0.8: wiki=2, language:de=0")
    assert [entry.text for entry in phase.entries] == ["wiki=2", "language:de=0"]
    assert [parsed_phase(f"{start}: a=1").first_step(100) for start in ("0.8", "1/3", "0.001", "81")] == [81, 34, 1, 81]
    assert parsed_phase("0.5:").entries == []  # by tokens


@pytest.mark.parametrize("text", ["wiki=2", "x: wiki=2", "0: wiki=2", "-1: wiki=2", "1.5: wiki=2", "0.8 wiki=2"])
def test_what_is_no_phase_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="expected FROM: NAME=FACTOR"):
        parsed_phase(text)


def test_phases_come_one_after_another_within_the_run():
    found = phases_of(["a=1"], ["0.5: b=2", "81: c=3"], 100)
    assert [(first, [e.text for e in entries]) for first, entries in found] == [
        (1, ["a=1"]), (51, ["b=2"]), (81, ["c=3"]),
    ]  # fmt: skip
    for wrong in (["0.5: a=1", "0.2: a=1"], ["101: a=1"], ["1: a=1"], ["0.001: a=1"]):
        with pytest.raises(ValueError, match=r"it must come after step .* and within the 100 steps"):
            phases_of([], wrong, 100)


@pytest.mark.parametrize(("fields", "says"), [
    ({"weights": ["wiki"]}, "expected NAME=FACTOR"),
    ({"phases": ["0.8 wiki=2"]}, "expected FROM"),
    ({"phases": ["0.8: wiki"]}, "expected NAME=FACTOR"),
    ({"phases": ["400: wiki=2"], "steps": 320}, "begins at step 400"),
    ({"weights": ["wiki=5 epochs"], "max_epochs": 4}, "'wiki=5 epochs' asks for more epochs than max_epochs, which is 4"),
    ({"phases": ["0.8: wiki=5 epochs"], "max_epochs": 4}, "asks for more epochs than max_epochs"),
    ({"alpha": 1.5}, "less than or equal to 1"),
    ({"packing": "tight"}, "'concatenate' or 'best_fit'"),
])  # fmt: skip
def test_a_recipe_says_what_is_wrong_before_there_is_a_corpus(fields, says):
    with pytest.raises(ValidationError, match=says):
        MixtureRecipe(**fields)
