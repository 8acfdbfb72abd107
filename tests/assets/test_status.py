"""stemma status, run --dry-run and the wrong uses of run: what is due and why, without building anything."""

import pytest

from assets.blueprint import BLUEPRINTS, ORDER
from assets.builder import build_key
from pipelines.provenance.manifest import Key

WAITS = "will be rebuilt (may stop at the early cut-off)"


def by_key(rows) -> dict[str, tuple[str, str]]:
    return {f"{row['asset']}[{row['partition']}]": (row["state"], row["because"]) for row in rows}


# -- status --------------------------------------------------------------------------------------------------------


def test_a_finished_run_is_fresh_with_the_content_of_every_key(outline, stemma):
    rows = stemma.json(outline, "status")
    assert {row["state"] for row in rows} == {"fresh"}
    store = outline.store
    for row in rows:
        key = BLUEPRINTS[row["asset"]](outline.spec, row["partition"]).under or Key(row["asset"], row["partition"])
        assert row["digest"] == store.open(*key).content
    assert set(rows[0]) == {"asset", "partition", "part", "state", "because", "digest"}


def test_nothing_made_is_missing_and_has_no_content(blank, stemma):
    rows = stemma.json(blank, "status")
    assert len(rows) == len(blank.keys())
    assert {(row["state"], row["because"], row["digest"]) for row in rows} == {("missing", "not made yet", "")}


def test_a_stale_asset_says_because_of_what_and_what_is_below_waits_for_it(outline, stemma):
    outline.edit("max_steps = 10", "max_steps = 12")
    found = {key: said for key, said in by_key(stemma.json(outline, "status")).items() if said[0] != "fresh"}
    assert found["finetuned_model[demo-source]"] == ("stale", "recipe: max_steps 10 -> 12")
    assert found["benchmark_samples[demo-source]"] == ("stale", f"finetuned_model {WAITS}")


def test_a_one_off_override_is_seen_as_a_departure_from_the_spec(own_library, stemma):
    """What a person tried in the launchpad is published; status says that the spec does not ask for it."""
    build_key(own_library.spec, own_library.store, Key("heldout_documents", "small"), overrides={"ratio": 0.5})
    found = by_key(stemma.json(own_library, "status"))
    assert found["heldout_documents[small]"] == ("stale", "recipe: ratio 0.5 -> 0.2")
    assert found["unique_documents[small]"][0] == "fresh"
    assert found["vocabulary[words]"][0] == "pinned"


def test_a_refused_artifact_is_due(outline, stemma):
    from assets.planner import refused

    mark = refused(outline.store, outline.store.open("clean_documents", "poems/1").digest)
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert by_key(stemma.json(outline, "status"))["clean_documents[poems/1]"] == ("stale", "a check refused it")


def test_status_of_a_run_leaves_out_what_it_does_not_stand_on(outline, stemma):
    more = '[corpora.wide]\nsources = ["poems/1"]\nvocabulary = "words"\n[runs.wide]\ncorpus = "wide"\n[finetunes.demo-source]'
    outline.edit("[finetunes.demo-source]", more)
    of_wide, of_all = (by_key(stemma.json(outline, "status", *name)) for name in (["wide"], []))
    assert "unique_documents[wide]" in of_wide
    assert "unique_documents[small]" in of_wide, "its vocabulary was made from there"
    assert "pretrained_model[demo]" not in of_wide
    assert set(of_all) > set(of_wide)
    assert "pretrained_model[demo]" in of_all


def test_the_table_of_status_reads_as_the_json(outline, stemma, monkeypatch):
    outline.edit("size = 384", "size = 500")
    said = stemma(outline, "status")
    (line,) = (line for line in said.splitlines() if "vocabulary " in line and "words" in line)
    assert "stale" in line
    assert "recipe: size 384 -> 500" in line
    assert outline.store.open("vocabulary", "words").content[:12] in line


def test_status_of_an_unknown_run_is_wrong_use(outline, stemma):
    assert "Did you mean 'demo'?" in stemma(outline, "status", "demp", code=2)


def test_status_of_a_spec_that_is_missing_is_wrong_use(outline, stemma, tmp_path):
    assert "is missing" in stemma(outline, "status", "--spec", str(tmp_path / "none.toml"), code=2)


# -- run --dry-run ---------------------------------------------------------------------------------------------------


def test_a_dry_run_lists_state_and_reason_of_every_step_and_builds_nothing(outline, stemma):
    outline.edit("layers = 2", "layers = 3")
    before = sorted(outline.store.files.walk("artifacts"))
    rows = stemma.json(outline, "run", "--dry-run")
    assert [set(row) for row in rows] == [{"asset", "partition", "part", "state", "because"}] * len(rows)
    found = by_key(rows)
    assert found["pretrained_model[demo]"] == ("stale", "recipe: layers 2 -> 3")
    assert found["mixture[demo]"] == ("fresh", "")
    assert [ORDER.index(row["asset"]) for row in rows] == sorted(ORDER.index(row["asset"]) for row in rows)
    assert sorted(outline.store.files.walk("artifacts")) == before


def test_a_dry_run_says_how_many_steps_are_due_and_shows_only_those(outline, stemma):
    outline.edit("max_steps = 10", "max_steps = 12")
    said = stemma(outline, "run", "--dry-run")
    assert "5 of 29 steps would be built; nothing was." in said
    assert "finetuned_model" in said
    assert "raw_documents" not in said


def test_a_dry_run_of_a_finished_run_has_no_table(outline, stemma):
    said = stemma(outline, "run", "--dry-run")
    assert "0 of 29 steps would be built; nothing was." in said
    assert "because" not in said


def test_a_dry_run_shows_what_is_pinned_though_it_is_not_due(outline, stemma):
    outline.edit("ratio = 0.2", "ratio = 0.3")
    said = stemma(outline, "run", "--dry-run", "--select", "mixture")
    assert "it stays as it is (--force" in said


def test_select_limits_the_plan_to_the_asset_and_what_it_needs(outline, stemma):
    assets = {row["asset"] for row in stemma.json(outline, "run", "--dry-run", "--select", "clean_documents")}
    assert assets == {"raw_documents", "clean_documents"}
    both = stemma.json(outline, "run", "--dry-run", "--select", "signatures", "--select", "clean_documents")
    assert {row["asset"] for row in both} == {"raw_documents", "clean_documents", "signatures"}


def test_force_with_select_forces_that_asset_alone(outline, stemma):
    rows = stemma.json(outline, "run", "--dry-run", "--force", "--select", "signatures")
    forced = {row["asset"] for row in rows if row["because"] == "forced"}
    assert forced == {"signatures"}
    assert {row["asset"] for row in rows} == {"raw_documents", "clean_documents", "signatures"}


def test_force_alone_forces_everything_pinned_ones_included(outline, stemma):
    assert {row["because"] for row in stemma.json(outline, "run", "--dry-run", "--force")} == {"forced"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing"], "no 'nothing' in [runs]. There are: demo."),
        (
            ["demo", "--select", "clean_doc"],
            "--select clean_doc: no such asset; there are raw_documents, text_classifier",
        ),
        (["demo", "--select", "signatures", "--select", "nothing"], "--select nothing: no such asset"),
        (["--dry"], "No such option"),
    ],
)
def test_wrong_use_is_exit_code_2_and_says_what_there_is(blank, stemma, arguments, told):
    assert told in " ".join(stemma(blank, "run", *arguments, code=2).split())


def test_a_spec_without_a_default_run_asks_for_a_name(blank, stemma):
    blank.edit('default_run = "demo"\n', "")
    assert "stemma.toml has no default_run; name a run: demo" in stemma(blank, "run", code=2)
    assert len(stemma.json(blank, "run", "demo", "--dry-run")) == 29


def test_a_store_that_is_a_file_is_a_failure_and_not_wrong_use(blank, stemma, tmp_path):
    (tmp_path / "file").write_text("no store")
    assert "is a file" in stemma(blank, "run", "--dry-run", "--store", str(tmp_path / "file"), code=1)


def test_a_source_whose_file_is_gone_fails_the_plan_with_its_path(blank, stemma):
    (blank.folder / "poems.jsonl").unlink()
    said = stemma(blank, "run", "--dry-run", code=1)
    assert "poems.jsonl: no such file or directory. Give the source the path of its data." in " ".join(said.split())


def test_an_error_is_one_line_that_is_no_markup(blank, stemma):
    """A name from the command line that looks like markup is told as it was typed."""
    said = stemma(blank, "run", "[bold]x[/]", code=2)
    assert said.startswith("error: ")
    assert "no '[bold]x[/]' in [runs]" in said
    assert len(said.strip().splitlines()) == 1
