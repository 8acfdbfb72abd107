"""The summary at the end of a run: counts that add up, what is not there left out, a curve that is drawn once."""

import io
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from assets.summary import BARS, FATES, champion, funnel, scores, show_summary, sparkline, summary
from pipelines.provenance.manifest import Key

STAGES = ["raw_documents", "clean_documents", "unique_documents", "heldout_documents", "training_documents"]


def shown(place, built=0, seconds=0.0, run="demo") -> str:
    told = io.StringIO()
    show_summary(Console(file=told, width=160), place.spec, place.store, run, built, seconds)
    return told.getvalue()


# -- the funnel -------------------------------------------------------------------------------------------------------


def test_the_sources_of_a_corpus_are_summed_and_every_stage_adds_up(library):
    rows = dict(funnel(library.spec, library.store, "demo"))
    assert list(rows) == STAGES
    assert rows["raw_documents"] == {
        "seen": 45, "kept": 44, "held_out": 0, "merged": 0, "dropped": 0, "quarantined": 1,
    }  # fmt: skip
    for counts in rows.values():
        assert counts["seen"] == sum(counts[fate] for fate in FATES if fate != "seen")
    assert rows["clean_documents"]["seen"] == rows["raw_documents"]["kept"]
    assert rows["unique_documents"]["seen"] == rows["clean_documents"]["kept"]


def test_a_stage_that_was_not_made_is_left_out(blank):
    from assets.builder import build_key

    assert funnel(blank.spec, blank.store, "demo") == []
    build_key(blank.spec, blank.store, Key("raw_documents", "poems/1"))
    assert [(stage, counts["seen"]) for stage, counts in funnel(blank.spec, blank.store, "demo")] == [
        ("raw_documents", 24)
    ]


def test_a_run_counts_the_sources_of_its_own_corpus_alone(own_library):
    own_library.edit(
        "[runs.demo]",
        '[corpora.poems]\nsources = ["poems/1"]\nvocabulary = "words"\n[runs.poems]\ncorpus = "poems"\n[runs.demo]',
    )
    rows = dict(funnel(own_library.spec, own_library.store, "poems"))
    assert rows["raw_documents"]["seen"] == 24
    assert "unique_documents" not in rows


# -- as JSON -----------------------------------------------------------------------------------------------------------


def test_a_store_without_a_model_has_its_funnel_and_nothing_else(blank):
    found = summary(blank.spec, blank.store, "demo")
    assert found == {
        "funnel": [], "model": None, "scores": [], "champion": None, "store": str(blank.url), "report": None,
    }  # fmt: skip


def test_the_summary_is_json_with_the_facts_of_the_model(own_library):
    found = json.loads(json.dumps(summary(own_library.spec, own_library.store, "demo")))
    model = own_library.store.open("pretrained_model", "demo")
    assert found["model"] == {"digest": model.digest, **model.facts}
    assert [row["stage"] for row in found["funnel"]] == STAGES
    with open(found["report"], encoding="utf-8") as file:
        assert model.digest in file.read()


def score(task="bpb", **changes):
    row = {"task": task, "metric": "bits_per_byte", "subset": "all", "headline": True, "value": 1.5, "low": 1.25,
           "high": 1.75, "baseline": None, "n": 1200, "stderr": 0.1}  # fmt: skip
    return row | changes


def publish_scores(place, name, *rows):
    place.seal(Key("benchmark_scores", name), lambda draft: draft.write_json("scores.json", {"scores": list(rows)}))


def test_scores_are_those_of_the_run_and_its_fine_tunes_and_of_no_other(own_library):
    for name in ("demo", "demo-source", "stranger"):
        publish_scores(own_library, name, score(task=f"of {name}"))
    found = summary(own_library.spec, own_library.store, "demo")["scores"]
    assert [(row["checkpoint"], row["task"]) for row in found] == [
        ("demo", "of demo"),
        ("demo-source", "of demo-source"),
    ]
    assert scores(own_library.store, "nobody") == []


def test_the_champion_is_that_of_the_contest_whoever_ran_last(own_library):
    crown = {"checkpoint": {"partition": "older"}, "reasons": ["better by far"]}
    own_library.seal(Key("champion", "quiz"), lambda draft: draft.write_json("champion.json", crown))
    assert champion(own_library.spec, own_library.store, "demo") == crown
    assert "champion: older (better by far)" in shown(own_library)


# -- as people read it -------------------------------------------------------------------------------------------------


def test_what_was_built_is_counted_and_nothing_to_do_is_said(library):
    assert "demo: 7 steps built in 12 s." in shown(library, built=7, seconds=12.4)
    assert "demo: nothing to do, everything is as stemma.toml says." in shown(library)


def test_the_model_is_told_with_its_baselines_and_what_is_unknown_is_left_out(library):
    told = shown(library)
    assert "loss 5.50" in told
    assert "3.25  (3 points, 768 tokens, 1,234 parameters)" in told
    lines = {
        line.split("│")[1].strip(): line.split("│")[2].strip() for line in told.splitlines() if line.count("│") == 3
    }
    assert lines == {"heldout": "2.500", "trigram": "2.750", "bigram": "3.000", "unigram": "4.000"}


def test_every_source_is_told_with_its_way_and_its_end(own_library):
    way = [{"step": n, "bpb": 3.0, "by_part": {"poems/1": {"bpb": 4.0 - n, "docs": 2}}} for n in (1, 2)]
    last = {"poems/1": {"bpb": 1.25, "docs": 2}, "letters/1": {"bpb": 1.5, "docs": 9}}

    def write(draft):
        draft.write("losses.arrow", pa.table({"step": [1, 2, 3], "loss": [3.0, 2.0, 1.0]}))
        evaluations = [*way, {"step": 3, "bpb": 1.4, "by_part": last}]
        draft.write_json("heldout.json", {"evaluations": evaluations, "baselines": {}})

    facts = own_library.store.open("pretrained_model", "demo").facts
    own_library.seal(Key("pretrained_model", "demo"), write, [own_library.store.open("mixture", "demo")], facts=facts)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown(own_library).splitlines()]
    assert [row for row in rows if row[:1] in (["letters/1"], ["poems/1"])] == [
        ["letters/1", "9", "", "1.500"],
        ["poems/1", "2", "█▁", "1.250"],
    ]


def test_headlines_on_all_items_are_shown_with_interval_and_chance(own_library):
    publish_scores(
        own_library,
        "demo",
        score(),
        score("quiz", value=0.5, low=0.4, high=0.6, baseline=0.25),
        score("detail", headline=False),
        score("clean part", subset="clean"),
    )
    told = shown(own_library)
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in told.splitlines()
        if "demo " in line and "│" in line
    ]
    assert rows == [
        ["demo", "bpb", "bits_per_byte", "1.500", "1.250 to 1.750", "", "1,200"],
        ["demo", "quiz", "bits_per_byte", "0.500", "0.400 to 0.600", "0.250", "1,200"],
    ]


def test_the_next_commands_name_this_run_and_a_step_that_it_made(library, blank):
    told = shown(library)
    assert "stemma audit step demo 12 " in told, "the run has 12 steps, not 120"
    assert 'stemma generate --run demo "Return the "' in told
    without = shown(blank)
    assert "stemma show clean_documents --dropped any" in without
    assert "stemma generate" not in without, "there is no model that could write"
    assert "stemma audit step" not in without
    assert f"store: {library.url}" in told


def test_reasons_and_places_with_brackets_are_no_markup(library, tmp_path):
    place = library.copy(tmp_path / "old [bold]place[/]")
    crown = {"checkpoint": {"partition": "demo"}, "reasons": ["task [red]x[/red] is better"]}
    place.seal(Key("champion", "quiz"), lambda draft: draft.write_json("champion.json", crown))
    told = shown(place)
    assert "task [red]x[/red] is better" in told
    assert f"store: {place.url}" in told


# -- the report -----------------------------------------------------------------------------------------------------------


def test_a_report_is_written_once_for_a_model_and_anew_for_another(own_library, worlds):
    first = summary(own_library.spec, own_library.store, "demo")["report"]
    with open(first, "wb") as file:
        file.write(b"as it was left")
    assert summary(own_library.spec, own_library.store, "demo")["report"] == first
    with open(first, "rb") as file:
        assert file.read() == b"as it was left", "written a second time"
    worlds.name_checkpoint(own_library, heldout_bpb=2.0)
    second = summary(own_library.spec, own_library.store, "demo")["report"]
    assert second != first
    with open(second, "rb") as file:
        assert file.read(15) == b"<!doctype html>"


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        ([], 60, ""),
        ([1.0], 60, "▁"),
        ([2.0, 2.0, 2.0], 60, "▁▁▁"),
        ([0.0, 1.0], 60, "▁█"),
        ([7, 6, 5, 4, 3, 2, 1, 0], 60, "█▇▆▅▄▃▂▁"),
        ([0, 0, 7, 7], 2, "▁█"),
        ([0, 2, 5, 9], 2, "▁█"),
        ([0, 0, 0, 7, 7], 2, "▁█"),
        ([-1.0, 0.0, 1.0], 60, "▁▅█"),
        ([2.0, float("nan"), 1.0, float("inf")], 60, "█?▁?"),
        ([float("nan")], 60, "?"),
    ],
)
def test_a_sparkline_draws_means_between_lowest_and_highest(values, width, drawn):
    assert sparkline(values, width) == drawn


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200), st.integers(1, 80))
def test_a_sparkline_is_never_wider_than_asked_and_never_leaves_the_blocks(values, width):
    drawn = sparkline(values, width)
    assert len(drawn) == min(width, len(values))
    assert set(drawn) <= set(BARS)
    assert BARS[0] in drawn


def test_a_falling_loss_draws_a_falling_line():
    drawn = [BARS.index(bar) for bar in sparkline([10 / step for step in range(1, 400)])]
    assert drawn == sorted(drawn, reverse=True)
    assert (drawn[0], drawn[-1]) == (7, 0)


def test_a_loss_that_is_no_number_does_not_end_the_summary(own_library, worlds):
    """The run diverged; the person must get to read so, check and scores and all."""

    def write(draft):
        draft.write("losses.arrow", pa.table({"step": [1, 2, 3], "loss": [3.0, float("nan"), float("inf")]}))

    facts = own_library.store.open("pretrained_model", "demo").facts
    own_library.seal(Key("pretrained_model", "demo"), write, [own_library.store.open("mixture", "demo")], facts=facts)
    told = shown(own_library)
    assert "loss 3.00" in told
    assert "▁?? inf  (3 points" in told
