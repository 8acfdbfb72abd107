"""The judgement: the order of the rules, what may be tried on stored signals, and two ways to the same answer."""

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clean import SIGNALS_SCHEMA
from pipelines.clean_recipe import PRESETS, CleanRecipe, docs, fineweb, web
from pipelines.filters.rules import judged
from pipelines.judgement import FAMILIES, active_rules, broken_rule, measured_alike, thresholds

SIGNALS = {rule.signal for family in FAMILIES for rule in family.rules}


def signals(**given):
    """One document that breaks no rule of any family, but for what is given."""
    fine = {}
    for family in FAMILIES:
        for rule in family.rules:
            fine[rule.signal] = rule.limit(CleanRecipe())
    return {name: pa.array([float(value)]) for name, value in {**fine, **given}.items()}


def first(recipe, **given):
    return judged(signals(**given), active_rules(recipe), recipe)["reason"][0]


def test_on_the_bound_is_allowed():
    assert first(web()) is None


def test_families_are_met_in_finewebs_order():
    """Of a document that breaks one rule of each family, the earliest family gives the reason."""
    worst = {
        "language": {"wanted_language_confidence": 0.0},
        "top_2_gram": {"top_2_gram_ratio": 1.0},
        "too_short": {"num_words": 0},
        "few_sentences": {"num_sentences": 0},
        "short_lines": {"short_lines_ratio": 1.0},
    }
    reasons = list(worst)
    for place, reason in enumerate(reasons):
        given = {k: v for later in reasons[place:] for k, v in worst[later].items()}
        assert first(web(), **given) == reason


def test_a_family_that_is_off_judges_nobody():
    assert first(docs(), top_2_gram_ratio=1.0, num_sentences=0, short_lines_ratio=1.0) is None
    assert first(CleanRecipe(refinedweb=True), removed_words_ratio=0.5) == "words_removed"
    assert first(web(), removed_words_ratio=0.5) is None


def test_every_rule_looks_at_a_column_that_is_stored():
    assert set(SIGNALS_SCHEMA.names) >= SIGNALS


def test_every_bound_is_a_field_of_the_recipe():
    bounds = {rule.bound for family in FAMILIES for rule in family.rules if rule.bound}
    switches = {family.switch for family in FAMILIES if family.switch}
    assert bounds | switches <= set(CleanRecipe.model_fields)
    assert set(thresholds()) >= bounds


@pytest.mark.parametrize("name", ["c4", "refinedweb", "classifier", "reference", "url_list_digest", "bad_words_digest"])
def test_what_changes_the_measurement_is_no_threshold(name):
    assert name not in thresholds()


@pytest.mark.parametrize(
    ("changes", "differing"),
    [
        ({"min_words": 3, "fineweb": False}, []),
        ({"min_words": 3, "short_line_chars": 9}, ["short_line_chars"]),
        ({"c4": False, "repair": False}, ["c4", "repair"]),
    ],
)
def test_recipes_measure_alike_if_they_differ_in_thresholds_alone(changes, differing):
    assert measured_alike(web(), web().model_copy(update=changes)) == differing


def test_presets_are_what_their_names_say():
    assert web() == CleanRecipe()
    assert fineweb().word_rule == "spacy-en"
    assert not (fineweb().normalize)
    assert not (fineweb().repair)
    assert not (fineweb().language)
    families = ("gopher_repetition", "gopher_quality", "c4", "fineweb")
    assert all(getattr(fineweb(), family) for family in families)
    assert [family for family in families if getattr(docs(), family)] == ["gopher_quality"]
    assert all(make().mask_email and make().mask_secret for make in PRESETS.values())


values = st.one_of(st.none(), st.floats(0, 2), st.integers(0, 200_000).map(float))


@given(
    st.lists(st.fixed_dictionaries(dict.fromkeys(sorted(SIGNALS), values)), min_size=1, max_size=4),
    st.sampled_from(sorted(PRESETS)),
)
def test_columns_and_expressions_judge_alike_also_where_a_signal_is_missing(documents, preset):
    recipe = PRESETS[preset]()
    columns = {name: pa.array([document[name] for document in documents], pa.float64()) for name in SIGNALS}
    by_columns = judged(columns, active_rules(recipe), recipe)
    frame = pl.DataFrame({name: pl.from_arrow(column) for name, column in columns.items()})
    by_expression = frame.select(broken_rule(recipe).alias("broken"))["broken"]
    for row, broken in enumerate(by_expression.to_list()):
        found = by_columns["reason"][row], by_columns["value"][row]
        assert found == ((broken["reason"], broken["value"]) if broken and broken["reason"] else (None, None))
