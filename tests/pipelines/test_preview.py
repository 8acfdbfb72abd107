"""A preview says what a run with these thresholds would do, and does not run it."""

import pytest
from test_clean import GOOD, TEXTS, made

from pipelines.clean_recipe import CleanRecipe, docs
from pipelines.preview import changed_recipe, preview

LENGTHS = (1, 2, 3, 5)  # of GOOD, which has 21 words


@pytest.fixture
def artifact(tmp_path):
    return made(tmp_path, [*(GOOD * n for n in LENGTHS), *TEXTS[2:]])


@pytest.mark.parametrize(
    "changes", [{"min_words": 50}, {"min_words": 0, "min_language_confidence": 0.0}, {"gopher_quality": False}]
)
def test_the_funnel_is_that_of_a_run_with_the_changed_recipe(tmp_path, artifact, changes):
    found = preview([artifact], changes)
    run = made(tmp_path / "run", [*(GOOD * n for n in LENGTHS), *TEXTS[2:]], docs().model_copy(update=changes))
    reasons = [reason or "kept" for reason in run.table("fates.arrow")["reason"].to_pylist()]
    assert {k: v for k, v in found.then.items() if v} == {r: reasons.count(r) for r in set(reasons)}
    assert found.now["kept"] == artifact.counts["kept"]


def test_examples_stand_nearest_to_the_line_and_those_that_change_sides_come_first(artifact):
    found = preview([artifact], {"min_words": 50}, examples=2)
    assert [(e.reason, e.value, e.before) for e in found.going] == [("too_short", 42.0, ""), ("too_short", 21.0, "")]
    assert [e.distance for e in found.staying] == [13.0, 55.0]
    assert all(e.reason == "" for e in found.staying)


def test_several_sources_are_one_funnel(tmp_path, artifact):
    other = made(tmp_path / "other", [GOOD * 3])
    found = preview([artifact, other], {"min_words": 63})
    assert sum(found.then.values()) == sum(found.now.values()) == artifact.counts["seen"] + 1
    assert {e.artifact.digest for e in found.staying} == {artifact.digest, other.digest}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c4": True}, "c4: changes the text or what is measured of it.*stemma.toml"),
        ({"word_rule": "spacy-en"}, "word_rule: changes"),
        ({"min_wordz": 3}, "min_wordz: Extra inputs are not permitted.*min_words"),
        ({"min_words": -1}, "min_words: Input should be greater than or equal to 0"),
    ],
)
def test_what_stored_signals_cannot_answer_is_refused(artifact, changes, message):
    with pytest.raises(ValueError, match=message):
        preview([artifact], changes)


def test_a_source_that_was_cleaned_by_another_preset_keeps_its_own_bounds(tmp_path):
    artifact = made(tmp_path, [GOOD * 3], CleanRecipe())
    assert changed_recipe(artifact, {"min_words": 7}).max_top_2_gram_ratio == CleanRecipe().max_top_2_gram_ratio
