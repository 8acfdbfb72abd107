"""The decision alone: every verdict from comparisons written by hand, and each reason as a person reads it."""

import math

import pytest

from evals.compare import Comparison
from evals.gate import GateRecipe, decide
from evals.statistics import Estimate, t_quantile

MANY = 400  # clusters: Student's t is nearly normal, t(0.95) = 1.649


def compared(task, value, stderr, metric="acc", clusters=MANY, items=MANY, unlike=""):
    found = None if unlike else Estimate(value, stderr, items, clusters)
    return Comparison(task, metric, found, unlike)


def bits(value, stderr=0.001, **fields):
    return compared("bpb", value, stderr, "bits_per_byte", **fields)


def verdict(*comparisons, **fields):
    return decide(list(comparisons), GateRecipe(**fields))


def outcomes(*comparisons, **fields):
    return {finding.task: (finding.role, finding.outcome) for finding in verdict(*comparisons, **fields)[2]}


# -- roles and margins -----------------------------------------------------------------------------------------


def test_without_named_guards_every_other_task_is_one():
    found = outcomes(bits(0.1), compared("a", 0.0, 0.001), compared("b", 0.0, 0.001))
    assert found == {"bpb": ("primary", "not worse"), "a": ("guard", "not worse"), "b": ("guard", "not worse")}


def test_tasks_that_are_neither_are_only_watched():
    found = outcomes(bits(0.1), compared("a", -0.5, 0.001), compared("b", 0.0, 0.001), guards=["b"])
    assert found == {"bpb": ("primary", "not worse"), "a": ("watched", "worse"), "b": ("guard", "not worse")}
    assert verdict(bits(0.1), compared("a", -0.5, 0.001), compared("b", 0.0, 0.001), guards=["b"])[0] == "PROMOTE"


def test_a_watched_task_that_is_unclear_holds_nobody_up():
    assert verdict(bits(0.1), compared("a", 0.0, 0.9), compared("b", 0.0, 0.001), guards=["b"])[0] == "PROMOTE"


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(0.0, "not worse"), (-0.033, "not worse"), (-0.034, "unclear"), (-0.066, "unclear"), (-0.067, "worse")],
)
def test_a_guard_is_judged_by_both_bounds(value, outcome):
    """Margin 0.05, error 0.01: the bounds lie 0.0165 to either side."""
    assert outcomes(bits(0.1), compared("a", value, 0.01))["a"] == ("guard", outcome)


def test_bits_and_ratios_have_margins_of_their_own():
    recipe = {"margin_bits": 0.3, "margin_ratio": 0.01}
    for metric in ("acc", "acc_norm", "acc_bytes", "accuracy", "macro_f1", "rouge_l", "exact_match", "choice_prob"):
        assert verdict(bits(0.1), compared("a", 0.0, 0.001, metric), **recipe)[2][1].margin == 0.01, metric
    for metric in ("bits_per_byte", "gold_bpb", "perplexity"):
        assert verdict(bits(0.1), compared("a", 0.0, 0.001, metric), **recipe)[2][1].margin == 0.3, metric


def test_a_margin_of_nothing_lets_a_guard_pass_that_is_exactly_as_good():
    """Both answer every item of the guard alike: nothing was lost, and no number of items would tell more."""
    assert outcomes(bits(0.1), compared("a", 0.0, 0.0), margin_ratio=0.0)["a"] == ("guard", "not worse")
    assert verdict(bits(0.1), compared("a", 0.0, 0.0), margin_ratio=0.0)[0] == "PROMOTE"
    assert outcomes(bits(0.1), compared("a", -1e-9, 0.0), margin_ratio=0.0)["a"] == ("guard", "worse")


def test_a_higher_confidence_asks_for_more():
    close = compared("a", -0.03, 0.01)
    assert outcomes(bits(0.1), close, confidence=0.95)["a"][1] == "not worse"
    assert outcomes(bits(0.1), close, confidence=0.99)["a"][1] == "unclear"


def test_bounds_are_students_on_the_clusters():
    finding = verdict(bits(0.1), compared("a", 0.02, 0.01, clusters=5))[2][1]
    assert finding.lower == pytest.approx(0.02 - t_quantile(0.95, 4) * 0.01)
    assert finding.upper == pytest.approx(0.02 + t_quantile(0.95, 4) * 0.01)
    assert (finding.n, finding.clusters, finding.advantage, finding.stderr) == (MANY, 5, 0.02, 0.01)


# -- verdicts --------------------------------------------------------------------------------------------------


def test_better_on_the_primary_and_no_worse_elsewhere_is_promoted_for_the_primary():
    decision, reasons, _ = verdict(bits(0.1), compared("a", 0.0, 0.001))
    assert decision == "PROMOTE"
    assert reasons == [
        "bpb (primary): bits_per_byte advantage +0.1000 ± 0.0010, margin 0.02, n 400 in 400 clusters: not worse"
    ]


@pytest.mark.parametrize("worse", ["primary", "guard"])
def test_certainly_worse_anywhere_is_rejected_and_only_that_is_the_reason(worse):
    found = [bits(-0.2 if worse == "primary" else 0.2), compared("a", -0.2 if worse == "guard" else 0.0, 0.001)]
    decision, reasons, _ = verdict(*found)
    assert (decision, len(reasons)) == ("REJECT", 1)
    assert f"({worse})" in reasons[0]
    assert reasons[0].endswith(": worse")


def test_worse_outweighs_unclear():
    decision, reasons, _ = verdict(bits(0.1), compared("a", 0.0, 0.9), compared("b", -0.5, 0.001))
    assert (decision, [reason.split(" ")[0] for reason in reasons]) == ("REJECT", ["b"])


def test_unclear_is_held_with_the_number_of_items_that_would_tell():
    decision, reasons, _ = verdict(bits(0.1), compared("a", 0.0, 0.1, items=100, clusters=100))
    # 100 items of variance 1 each; (1.645 + 0.842)² / 0.05² = 2,473 items
    assert (decision, len(reasons)) == ("HOLD", 1)
    assert reasons[0].endswith("unclear; about 2474 items would tell") or reasons[0].endswith(
        "about 2473 items would tell"
    )


def test_where_no_number_of_items_would_tell_none_is_named():
    """All items stand in one file: their error is unknown, and more items of that file would not change it."""
    decision, reasons, _ = verdict(bits(0.1), compared("a", 0.0, None, clusters=1))
    assert decision == "HOLD"
    assert "None" not in reasons[0]
    assert reasons[0].endswith(
        "of unknown error, margin 0.05, n 400 in 1 clusters: unclear; items of more files would tell"
    )


def test_a_margin_of_nothing_that_is_unclear_names_no_number_either():
    _, reasons, _ = verdict(bits(0.1), compared("a", 0.0, 0.01), margin_ratio=0.0)
    assert "None" not in reasons[0]
    assert reasons[0].endswith("unclear; a margin above 0 would tell")


def test_no_better_than_chance_is_held():
    decision, reasons, _ = verdict(bits(0.001), compared("a", 0.0, 0.001))
    assert decision == "HOLD"
    [reason] = reasons
    assert reason.startswith("no primary task is better beyond chance: bpb (primary): bits_per_byte advantage +0.0010")
    assert reason.endswith("± 0.0010, margin 0.02, n 400 in 400 clusters: not worse")


def test_not_being_worse_is_enough_where_that_is_asked():
    decision, reasons, _ = verdict(bits(0.001), compared("a", 0.0, 0.001), require_superiority=False)
    assert (decision, len(reasons)) == ("PROMOTE", 2)


def test_a_gate_that_asks_to_be_better_names_what_at():
    """Without a primary task nobody could ever be promoted, and no reason could be given."""
    with pytest.raises(ValueError, match="primary names no task"):
        GateRecipe(primary=[])
    assert verdict(bits(0.0), primary=[], require_superiority=False)[0] == "PROMOTE"


def test_several_primary_tasks_share_the_chance_of_one():
    """p = 0.03 twice: Holm asks for 0.025 of the first; either alone would have passed."""
    t = t_quantile(1 - 0.03, MANY - 1)
    one, two = (compared(name, t * 0.01, 0.01) for name in ("one", "two"))
    assert verdict(one, primary=["one"])[0] == "PROMOTE"
    assert verdict(one, two, primary=["one", "two"])[0] == "HOLD"
    strong = compared("two", 0.5, 0.01)
    decision, reasons, _ = verdict(one, strong, primary=["one", "two"])
    assert decision == "PROMOTE"
    assert [reason.split(" ")[0] for reason in reasons] == ["one", "two"]  # with the other out of the way, 0.03 < 0.05


def test_one_better_primary_is_enough():
    decision, reasons, _ = verdict(compared("one", 0.2, 0.01), compared("two", 0.0, 0.001), primary=["one", "two"])
    assert (decision, [reason.split(" ")[0] for reason in reasons]) == ("PROMOTE", ["one"])


# -- what cannot be compared -----------------------------------------------------------------------------------


def test_one_task_that_cannot_be_compared_stops_all():
    decision, reasons, findings = verdict(bits(0.5), compared("a", 0, 0, unlike="the suite differs"))
    assert (decision, reasons, findings) == ("INCOMPARABLE", ["a: the suite differs"], [])


def test_a_task_of_the_gate_that_nobody_answered_is_named():
    decision, reasons, _ = verdict(bits(0.5), primary=["bpb", "arc"], guards=["hellaswag"])
    assert decision == "INCOMPARABLE"
    assert reasons == [
        "arc: no one answered it; name other tasks in the gate",
        "hellaswag: no one answered it; name other tasks in the gate",
    ]


def test_nothing_in_common_is_not_a_pass():
    assert verdict(primary=[], require_superiority=False) == ("INCOMPARABLE", ["the two have no task in common"], [])


def test_a_certain_advantage_without_spread_is_superior():
    assert verdict(bits(0.1, 0.0))[0] == "PROMOTE"
    assert verdict(bits(0.0, 0.0))[0] == "HOLD"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"confidence": 0.5}, "greater than 0.5"),
        ({"confidence": 1.0}, "less than 1"),
        ({"margin_bits": -0.1}, "greater than or equal to 0"),
        ({"min_gain": 1.0}, "less than 1"),
        ({"max_coverage": 0.0}, "greater than 0"),
    ],
)
def test_a_gate_that_means_nothing_is_refused(fields, told):
    with pytest.raises(ValueError, match=told):
        GateRecipe(**fields)


def test_no_reason_holds_a_number_that_is_none():
    for found in (bits(0.1, None, clusters=1), bits(-0.5, None, clusters=1), bits(math.inf, None, clusters=1)):
        _, reasons, _ = verdict(found)
        assert reasons
        assert not [reason for reason in reasons if "None" in reason or "nan" in reason]
