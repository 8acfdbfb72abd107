"""The planner: what is fresh, pinned, stale or missing, and the one reason that a person can act on."""

import pytest

from assets.blueprint import BLUEPRINTS, ORDER
from assets.planner import Planner, difference, refused
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec, SpecError


def states(place, *select, spec=None, force=frozenset()) -> dict[str, tuple[str, str]]:
    """State and reason by key, of those that are not simply fresh."""
    steps = Planner(spec or place.spec, place.store, frozenset(force)).steps("demo", select)
    return {str(step.key): (step.state, step.because) for step in steps if step.state != "fresh" or step.because}


def test_what_was_built_as_the_spec_says_is_fresh(outline):
    assert states(outline) == {}
    assert len(Planner(outline.spec, outline.store).steps("demo")) == len(outline.keys())


def test_in_an_empty_store_everything_is_missing(blank):
    steps = Planner(blank.spec, blank.store).steps("demo")
    assert {(step.state, step.because) for step in steps} == {("missing", "not made yet")}
    assert all(step.due for step in steps)


def test_planning_writes_no_artifact_and_no_ref(blank):
    Planner(blank.spec, blank.store).steps("demo")
    assert list(blank.store.files.walk("artifacts")) == list(blank.store.files.walk("refs")) == []


def test_steps_come_upstream_first_and_each_once(outline):
    keys = [step.key for step in Planner(outline.spec, outline.store).steps("demo")]
    assert len(keys) == len(set(keys))
    for key in keys:
        for need in BLUEPRINTS[key.asset](outline.spec, key.partition).needs:
            assert keys.index(need) < keys.index(key)


# the outline's spec has none of these
ABSENT = {"text_classifier", "reference_model", "imported_model", "scaling_law", "compressed_model"}


@pytest.mark.parametrize("asset", [asset for asset in ORDER if asset not in ABSENT])
def test_a_selection_is_the_asset_and_all_that_it_needs(blank, asset):
    planner = Planner(blank.spec, blank.store)
    chosen = {step.key for step in planner.steps("demo", [asset])}
    assert {key for key in blank.keys() if key.asset == asset} <= chosen
    needed = {need for key in chosen for need in planner.blueprint(key).needs}
    assert needed <= chosen
    assert {key.asset for key in chosen - needed} == {asset}


def test_two_selections_are_their_union(blank):
    planner = Planner(blank.spec, blank.store)
    one, two = (set(planner.steps("demo", [asset])) for asset in ("vocabulary", "audit_bundle"))
    assert set(planner.steps("demo", ["audit_bundle", "vocabulary"])) == one | two


def test_an_unknown_run_is_an_error_that_names_those_there_are(blank):
    with pytest.raises(SpecError, match=r"no 'dem' in \[runs\]. Did you mean 'demo'"):
        Planner(blank.spec, blank.store).steps("dem")


# -- stale, and because of what ----------------------------------------------------------------------------------


def test_a_changed_field_is_told_with_both_values(outline):
    outline.edit("max_steps = 10", "max_steps = 25")
    found = states(outline)
    assert found["finetuned_model[demo-source]"] == ("stale", "recipe: max_steps 10 -> 25")
    assert set(found) == {
        f"{asset}[demo-source]"
        for asset in ("finetuned_model", "benchmark_samples", "benchmark_scores", "model_card", "audit_bundle")
    }


def test_what_stands_downstream_names_what_it_waits_for(outline):
    outline.edit("max_steps = 10", "max_steps = 25")
    waits = "will be rebuilt (may stop at the early cut-off)"
    found = states(outline)
    assert found["benchmark_scores[demo-source]"] == ("stale", f"benchmark_samples {waits}")
    assert found["model_card[demo-source]"] == ("stale", f"benchmark_scores, finetuned_model {waits}")


def test_more_than_three_changed_fields_are_counted(outline):
    outline.edit("layers = 2\nwarmup_steps = 5", "layers = 3\nheads = 2\nkv_heads = 1\nwarmup_steps = 6")
    because = states(outline)["pretrained_model[demo]"][1]
    assert because.startswith("recipe: heads ")
    assert because.endswith(" and 1 more")
    assert because.count("->") == 3


def test_a_new_stage_version_is_told(outline, monkeypatch):
    from pipelines import heldout

    reason = f"stage version {heldout.VERSION} -> 99"
    monkeypatch.setattr(heldout, "VERSION", "99")
    assert states(outline)["heldout_documents[small]"] == ("stale", reason)


def test_other_numerics_make_models_stale_and_data_not(outline, monkeypatch):
    from training import numerics

    monkeypatch.setattr(numerics, "num_threads", lambda world_size: 96)
    found = states(outline)
    assert found["pretrained_model[demo]"][0] == "stale"
    assert found["pretrained_model[demo]"][1].endswith(" -> 96")
    assert found["pretrained_model[demo]"][1].startswith("numerics: threads ")
    assert not {key.split("[")[0] for key in found} & {"mixture", "token_shards", "finetuning_shards", "vocabulary"}


def test_a_finished_model_stays_when_only_the_lock_file_is_another(outline, monkeypatch, tmp_path):
    from training import numerics

    other = tmp_path / "requirements.lock"
    other.write_text("something==2\n")
    monkeypatch.setattr(numerics, "LOCK", other)
    found = states(outline)
    told = ("pinned", "made with another lock file; it stays as it is (--force remakes it)")
    assert found["pretrained_model[demo]"] == found["finetuned_model[demo-source]"] == told
    assert {state for state, _ in found.values()} == {"pinned"}
    assert states(outline, force={"pretrained_model"})["pretrained_model[demo]"] == ("stale", "forced")


def test_a_stage_version_that_stands_makes_no_model_stale_and_is_not_built_again(outline, monkeypatch):
    from assets.builder import build_key
    from training import pretrain

    key, earlier = Key("pretrained_model", "demo"), pretrain.PRETRAIN_VERSION
    monkeypatch.setattr(pretrain, "PRETRAIN_VERSION", "99")
    monkeypatch.setattr(pretrain, "STANDING_VERSIONS", (earlier,))
    told = f"made with stage version {earlier}; it stays as it is (--force remakes it)"
    assert states(outline) == {str(key): ("pinned", told)}
    assert not build_key(outline.spec, outline.store, key).computed
    monkeypatch.setattr(pretrain, "STANDING_VERSIONS", ())
    assert states(outline)[str(key)] == ("stale", f"stage version {earlier} -> 99")


def test_a_changed_input_is_named(outline):
    raw = Key("raw_documents", "poems/1")
    published = outline.store.open(*raw)
    from pipelines.provenance.memo import build

    blueprint = BLUEPRINTS["raw_documents"](outline.spec, "poems/1")

    def make(draft):
        draft.path("text.txt").write_text("other bytes from the same recipe")
        return draft.seal()

    again = build(outline.store, raw, blueprint.version, blueprint.recipe, [], make, force=True).artifact
    assert again.content != published.content
    found = states(outline, "clean_documents")
    assert found == {"clean_documents[poems/1]": ("stale", "input raw_documents[poems/1] changed")}


def test_a_changed_source_file_makes_its_own_branch_stale(outline):
    with (outline.folder / "letters.jsonl").open("a") as file:
        file.write('{"id": "late", "text": "One more."}\n')
    found = states(outline, "clean_documents")
    assert set(found) == {"raw_documents[letters/1]", "clean_documents[letters/1]"}
    assert found["raw_documents[letters/1]"][1].startswith("recipe: origin ")


def test_a_source_that_left_the_corpus_is_told_as_gone(outline):
    outline.edit('sources = ["poems/1", "letters/1"]', 'sources = ["poems/1"]')
    because = states(outline)["duplicate_clusters[small]"][1]
    assert because == "input clean_documents[letters/1] (gone), signatures[letters/1] (gone) changed"


def test_sources_in_another_order_are_told(outline):
    """Dedup prefers survivors by the order of the sources, so the order is an input like any other."""
    outline.edit('["poems/1", "letters/1"]', '["letters/1", "poems/1"]')
    assert states(outline)["duplicate_clusters[small]"] == ("stale", "the order of its inputs changed")


def test_an_artifact_from_the_memo_that_is_not_the_published_one_is_stale(outline):
    """Set back to an earlier recipe, the spec asks for what the store still holds but does not publish."""
    before = outline.spec_path.read_text()
    outline.edit("ratio = 0.2", "ratio = 0.3")
    outline.pretend(Key("heldout_documents", "small"), "more is held out")
    assert "heldout_documents[small]" not in states(outline)
    outline.spec_path.write_text(before)
    assert states(outline)["heldout_documents[small]"] == ("stale", "recipe: ratio 0.3 -> 0.2")


def test_an_early_cut_off_leaves_everything_below_fresh(outline, monkeypatch):
    """Another version of the stage that seals the same bytes: nothing below it need be looked at again."""
    from pipelines import clean

    monkeypatch.setattr(clean, "CLEAN_VERSION", "7")
    assert len(states(outline)) > 10
    for source in ("poems/1", "letters/1"):
        outline.pretend(Key("clean_documents", source))
    assert states(outline) == {}


# -- pinned -------------------------------------------------------------------------------------------------------


def test_a_pinned_asset_stays_when_its_inputs_will_be_rebuilt(outline):
    outline.edit("ratio = 0.2", "ratio = 0.3")
    stays = ("pinned", "its inputs will be rebuilt; it stays as it is (--force remakes it)")
    found = states(outline)
    for key in ("vocabulary[words]", "benchmark_prompts[quiz]", "mixture[demo]"):
        assert found[key] == stays
    assert "pretrained_model[demo]" not in found, "a run is pinned to the mixture that it started from"


def test_a_pinned_asset_tells_what_moved_on_since(outline):
    outline.edit("ratio = 0.2", "ratio = 0.3")
    outline.pretend(Key("heldout_documents", "small"), "more is held out")
    assert states(outline)["benchmark_prompts[quiz]"] == ("pinned", "made from an earlier heldout_documents[small]")
    assert not next(s for s in Planner(outline.spec, outline.store).steps("demo") if s.state == "pinned").due


def test_a_pinned_asset_with_a_new_recipe_is_stale(outline):
    outline.edit("size = 384", "size = 500")
    assert states(outline)["vocabulary[words]"] == ("stale", "recipe: size 384 -> 500")


def test_a_pinned_asset_outlives_a_new_version_of_its_stage(outline, monkeypatch):
    """Scores stay comparable: only a new recipe, or --force, remakes what stands under a name."""
    from evals import suites

    monkeypatch.setattr(suites, "PROMPTS_VERSION", "9")
    assert states(outline) == {}


# -- forced, refused, settled ---------------------------------------------------------------------------------------


def test_forced_assets_are_due_and_what_stands_on_them_waits(outline):
    found = states(outline, force=["vocabulary"])
    assert found["vocabulary[words]"] == ("stale", "forced")
    assert found["token_shards[small]"][1].startswith("vocabulary will be rebuilt")
    assert "training_documents[small]" not in found


def test_after_a_forced_build_it_counts_as_settled(outline):
    planner = Planner(outline.spec, outline.store, frozenset(["vocabulary"]))
    key = Key("vocabulary", "words")
    assert planner.step(key).due
    planner.settle(key)
    assert planner.step(key).state == "fresh"
    planner.forget(key)
    assert planner.step(key).because == "forced"


def test_a_missing_asset_is_missing_however_it_is_forced(blank):
    assert states(blank, "raw_documents", force=["raw_documents"])["raw_documents[poems/1]"][0] == "missing"


def test_what_a_check_refused_is_due_though_the_memo_knows_it(outline):
    store = outline.store
    mark = refused(store, store.open("unique_documents", "small").digest)
    mark.parent.mkdir(parents=True)
    mark.touch()
    found = states(outline)
    assert found["unique_documents[small]"] == ("stale", "a check refused it")
    assert found["heldout_documents[small]"][0] == "stale"
    mark.unlink()
    assert states(outline) == {}


def test_the_mark_of_another_artifact_refuses_nothing(outline):
    mark = refused(outline.store, "0" * 64)
    mark.parent.mkdir(parents=True)
    mark.touch()
    assert states(outline) == {}


def test_a_champion_is_due_until_its_candidate_was_judged(outline):
    """The decision is asked once for these scores of this checkpoint, whatever the gate said."""
    outline.edit("[finetunes.demo-source]", '[runs.second]\ncorpus = "small"\n[finetunes.demo-source]')
    for key in outline.keys("second"):
        if key.asset != "champion":
            outline.pretend(key)
    planner = Planner(outline.spec, outline.store)
    assert [(s.key, s.because) for s in planner.steps("second") if s.due] == [
        (Key("champion", "second"), "not judged yet")
    ]
    assert states(outline) == {}, "the champion in charge stays what it is"


def test_a_champion_waits_for_scores_that_will_be_rebuilt(outline):
    outline.edit("layers = 2", "layers = 3")
    waits = "benchmark_scores, pretrained_model will be rebuilt"
    assert states(outline)["champion[demo]"] == ("stale", waits)


def test_a_gate_that_was_changed_does_not_reopen_a_decision(outline):
    spec = Spec(outline.spec_path.read_text() + "[gate]\nmin_gain = 0.9\n", outline.spec_path)
    assert states(outline, spec=spec) == {}


# -- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1}, ""),
        ({"a": 1}, {"a": 2}, "a 1 -> 2"),
        ({"a": 1}, {}, "a 1 -> None"),
        ({}, {"b": True}, "b None -> True"),
        ({"z": 1, "a": 1}, {"z": 2, "a": 2}, "a 1 -> 2, z 1 -> 2"),
        ({"a": "x" * 24}, {"a": "y"}, f"a {'x' * 24} -> y"),
        ({"a": "x" * 25}, {"a": "y"}, f"a {'x' * 12}… -> y"),
        (dict.fromkeys("abcde", 0), dict.fromkeys("abcde", 1), "a 0 -> 1, b 0 -> 1, c 0 -> 1 and 2 more"),
    ],
)
def test_a_difference_is_told_field_by_field(before, after, told):
    assert difference(before, after) == told
