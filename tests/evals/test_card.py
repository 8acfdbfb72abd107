"""The model card against the artifacts behind it: every figure has its source, and data are never markup."""

import re

import pytest
from released import LENGTHS, sealed, small_run

from evals.card import CardRecipe, _no_better_than_guessing, model_card
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store

ROW = {
    "task": "choice", "metric": "acc", "subset": "all", "headline": True, "value": 0.5, "stderr": 0.03, "low": 0.44,
    "high": 0.56, "n": 1200, "clusters": 90, "higher_is_better": True, "baseline": 0.25,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("run"))


def carded(store, model, rows=(), **choices):
    draft = store.draft(Key("benchmark_scores", model.key.partition), "1", {}, [model])
    draft.write_json("scores.json", {"checkpoint": model.content, "samples": "", "scores": [*rows]})
    scores, recipe = draft.seal(), CardRecipe(**choices)
    draft = store.draft(Key("model_card", model.key.partition), "1", recipe.identity(), [model, scores])
    return model_card(model, scores, recipe, draft).local("card.md").read_text(encoding="utf-8")


@pytest.fixture
def card(trained):
    """The card of the small run with some scores."""

    def write(*rows, **choices):
        store, _, model = trained
        return carded(store, model, rows, **choices)

    return write


def section(text, title):
    return text.split(f"## {title}")[1].split("\n## ")[0]


def table(text, title):
    """The cells of a section's first table, its head left out."""
    lines = [line for line in section(text, title).splitlines() if line.startswith("|")]
    return [re.split(r"(?<!\\) \| ", line[2:-2]) for line in lines[2:]]


# -- figures ---------------------------------------------------------------------------------------------------


def test_sections_stand_in_their_order(card):
    assert re.findall(r"^## ([A-Z][a-z]+)", card(ROW), re.MULTILINE) == [
        "Data", "Data", "What", "Training", "Scores", "Held", "Limits", "Lineage"
    ]  # fmt: skip


def test_what_was_read_adds_up_to_what_the_checkpoint_says(card, trained):
    """192 tokens: slots times sequence length, over the sources and over the licences."""
    text = card(ROW)
    for title, column in (("Data by source", 4), ("Data by licence", 4)):
        assert sum(int(row[column].replace(",", "")) for row in table(text, title)) == trained[2].facts["tokens"]
    shares = [float(row[5].rstrip("%")) for row in table(text, "Data by source")]
    assert sum(shares) == pytest.approx(100, abs=0.1)


def test_tokens_there_are_those_of_the_shards(card):
    there = {row[0]: int(row[3].replace(",", "")) for row in table(card(ROW), "Data by source")}
    assert there == {name: sum(lengths) for name, lengths in LENGTHS.items()}


def test_sources_stand_by_what_was_read_of_them_and_the_rest_is_summed_up(card):
    assert [row[0] for row in table(card(ROW), "Data by source")] == ["docs.a/1", "docs.b/1"]
    rows = table(card(ROW, max_sources=1), "Data by source")
    assert [row[0] for row in rows] == ["docs.a/1", "1 more"]
    assert [row[0] for row in table(card(ROW, max_sources=1), "Data by licence")] == ["MIT", "Apache-2.0"]


def other_sources(trained, name, **columns):
    """The card of a model whose mixture says other things about its two sources."""
    store, plan, model = trained
    sources = model.input("mixture").table("sources.arrow")
    for column, values in columns.items():
        sources = sources.set_column(sources.schema.get_field_index(column), column, [values])

    def mixture(draft):
        draft.write_json("plan.json", plan.model_dump(mode="json"))
        draft.write("sources.arrow", sources)

    mixed = sealed(store, "mixture", name, mixture, [model.input("mixture").input("token_shards")])
    return carded(store, sealed(store, "pretrained_model", name, lambda d: None, [mixed]))


def test_the_source_and_the_licence_that_were_read_most_stand_first(trained):
    text = other_sources(trained, "turned", slots=[3, 21])
    assert [row[0] for row in table(text, "Data by source")] == ["docs.b/1", "docs.a/1"]
    assert [row[0] for row in table(text, "Data by licence")] == ["Apache-2.0", "MIT"]
    even = other_sources(trained, "even", slots=[12, 12])
    assert [row[0] for row in table(even, "Data by source")] == ["docs.a/1", "docs.b/1"]


def test_sources_of_one_licence_are_summed(trained):
    [row] = table(other_sources(trained, "one", licence=["MIT", "MIT"]), "Data by licence")
    assert row == ["MIT", "2", "13", "262", "192", "100.0%"]


def test_what_became_of_documents_adds_up(card):
    [row] = table(card(ROW), "What became of the documents")
    seen, *fates = (int(cell) for cell in row[1:])
    assert seen == sum(fates) == 15


def test_a_score_is_told_with_interval_size_and_guessing(card):
    assert table(card(ROW), "Scores") == [
        ["choice", "acc", "all", "0.5000", "0.4400 to 0.5600", "1,200", "90", "0.2500"]
    ]


def test_what_is_not_known_is_said_so_and_not_0(card):
    [row] = table(card(ROW | {"low": None, "high": None, "stderr": None, "baseline": None}), "Scores")
    assert (row[4], row[7].strip()) == ("unknown", "")


def test_the_training_recipe_is_that_of_the_manifest(card, trained):
    assert table(card(ROW), "Training recipe") == [["`learning_rate`", "0.003"]]
    assert trained[2].manifest.recipe == {"learning_rate": 0.003}


def test_baselines_that_were_not_measured_are_left_out(card):
    assert [row[0] for row in table(card(ROW), "Held-out text")] == [
        "this model, all held-out documents", "token bigram", "token unigram"
    ]  # fmt: skip


def test_the_lineage_names_every_whole_ancestor_by_both_digests(card, trained):
    _, _, model = trained
    rows = {row[0].strip("`"): (row[1].strip("`"), row[2].strip("`")) for row in table(card(ROW), "Lineage")}
    for artifact in (model, model.input("mixture"), model.input("mixture").input("token_shards")):
        assert rows[str(artifact.key)] == (artifact.digest, artifact.content)
    assert len(rows) == 5  # scores, model, mixture, shards, documents; no parts


# -- limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "weak"),
    [
        ({}, False),
        ({"low": 0.25}, True),  # guessing lies on the border of the interval
        ({"low": 0.2501}, False),
        ({"baseline": None}, False),
        ({"low": None, "high": None}, False),  # unknown is not weak
        ({"subset": "clean", "low": 0.1}, False),
        ({"higher_is_better": False, "baseline": 8.0, "high": 7.9}, False),
        ({"higher_is_better": False, "baseline": 8.0, "high": 8.1}, True),
    ],
)
def test_no_better_than_guessing_is_a_matter_of_the_interval(fields, weak):
    assert _no_better_than_guessing(ROW | fields) is weak


def test_weak_tasks_are_named_once_and_others_are_not(card):
    text = section(card(ROW, ROW | {"task": "b", "low": 0.1}, ROW | {"task": "a", "low": 0.2}), "Limits")
    assert "No better than guessing, within the error: a (acc), b (acc)." in text
    assert "choice" not in text
    assert "No better than guessing" not in section(card(ROW), "Limits")


def test_overlap_that_was_measured_is_not_called_unmeasured(card):
    unmeasured = "Overlap of the benchmark items with its training text was not measured."
    assert unmeasured in card(ROW)
    assert unmeasured not in card(ROW, ROW | {"subset": "clean"})
    assert unmeasured in card()  # no score, no overlap


# -- data are never markup -------------------------------------------------------------------------------------

SLY = "a|b\n| c | <img src=x onerror=alert(1)> | ![d](http://e)"


def test_a_name_cannot_leave_its_cell_nor_become_markup(card):
    text = card(ROW | {"task": SLY, "low": 0.1})
    [row] = table(text, "Scores")
    assert len(row) == 8
    assert row[1:4] == ["acc", "all", "0.5000"]
    assert "<img" not in text
    assert "](" not in text
    assert "&lt;img src=x onerror=alert(1)>" in row[0]
    assert len([line for line in section(text, "Limits").splitlines() if line.startswith("|")]) == 0


def test_a_licence_cannot_leave_its_cell(trained):
    text = other_sources(trained, "sly", licence=[SLY, "MIT"])
    assert {len(row) for row in table(text, "Data by source")} == {7}
    assert {len(row) for row in table(text, "Data by licence")} == {6}
    assert "<img" not in text


# -- models from elsewhere -------------------------------------------------------------------------------------


def test_a_model_from_elsewhere_says_what_is_not_known(tmp_path):
    store = Store(tmp_path)
    text = carded(
        store, sealed(store, "pretrained_model", "hub", lambda d: d.path("w").write_bytes(b"w") and None), [ROW]
    )
    assert "A language model trained from scratch by Stemma: size unknown." in text
    assert "Not known: this model was not trained from a mixture of ours." in text
    assert "## Held-out text" not in text


def test_a_fine_tune_is_told_with_its_own_steps_and_the_size_of_its_base(trained):
    store, _, model = trained
    tuned = sealed(store, "finetuned_model", "sum", lambda d: None, [model], facts={"task": "summary", "step": 1234})
    text = carded(store, tuned)
    assert text.startswith("# sum\n\nA fine-tune (summary) of `pretrained_model[demo]` by Stemma: 1,234 parameters")
    assert "then 1,234 steps of fine-tuning" in text
    assert f"Checkpoint `{tuned.digest}`." in text
    assert "| token bigram | 1.8000 |" in text  # held-out figures are those of the base
