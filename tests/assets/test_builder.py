"""The builder: one key through its blueprint and the memo; overrides are recipes like any other."""

import os

import pytest

from assets.blueprint import BLUEPRINTS
from assets.builder import build_key, overridden, standing
from assets.planner import Planner
from pipelines.heldout import HeldoutRecipe
from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import Key
from pipelines.spec import SpecError

POEMS = Key("raw_documents", "poems/1")


def test_a_key_is_computed_once_and_then_answered_by_the_memo(blank):
    spec, store = blank.spec, blank.store
    first, second = (build_key(spec, store, POEMS) for _ in range(2))
    assert (first.computed, second.computed) == (True, False)
    assert second.artifact.prefix == first.artifact.prefix
    assert store.get(POEMS).digest == first.artifact.digest


def test_a_missing_input_is_named_with_the_command_that_makes_it(blank):
    with pytest.raises(StoreError, match=r"raw_documents\[poems/1\] has not been made .* --select raw_documents"):
        build_key(blank.spec, blank.store, Key("clean_documents", "poems/1"))
    assert blank.store.keys() == []


def test_a_partition_that_the_spec_does_not_have_is_named(blank):
    with pytest.raises(SpecError, match=r"no 'poem/1' in \[sources\]. Did you mean 'poems/1'"):
        build_key(blank.spec, blank.store, Key("raw_documents", "poem/1"))


def test_an_override_is_the_recipe_of_that_artifact(library):
    """A one-off from the launchpad: recorded as what was made, and seen as a departure from the spec."""
    key = Key("heldout_documents", "small")
    place = library
    asked = BLUEPRINTS[key.asset](place.spec, "small").recipe
    changed = overridden(asked, {"ratio": 0.5})
    assert changed.identity() == asked.identity() | {"ratio": 0.5}


def test_a_build_with_an_override_departs_from_the_spec_and_without_it_comes_back(own_library):
    spec, store, key = own_library.spec, own_library.store, Key("heldout_documents", "small")
    before = store.open(*key)
    made = build_key(spec, store, key, overrides={"ratio": 0.9})
    assert made.computed
    assert made.artifact.manifest.recipe["ratio"] == 0.9
    assert made.artifact.counts["held_out"] > before.counts["held_out"]
    assert Planner(spec, store).step(key).because == "recipe: ratio 0.9 -> 0.2"
    back = build_key(spec, store, key)
    assert (back.computed, back.artifact.digest) == (False, before.digest)
    assert Planner(spec, store).step(key).state == "fresh"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"ratio": 1.5}, "recipe field ratio: Input should be less than or equal to 1, found 1.5"),
        ({"ratio": "a third"}, "recipe field ratio: Input should be a valid number"),
        ({"ratios": 0.5}, "recipe field ratios: Extra inputs are not permitted, found 0.5. Fields: ratio, seed"),
        ({"ratio": float("nan")}, "recipe field ratio: "),
    ],
)
def test_an_override_that_the_recipe_does_not_allow_is_refused(library, overrides, told):
    with pytest.raises(SpecError) as error:
        build_key(library.spec, library.store, Key("heldout_documents", "small"), overrides=overrides)
    assert told in str(error.value)


def test_an_override_that_contradicts_another_field_names_both():
    from training.recipes import FinetuneRecipe

    with pytest.raises(SpecError, match=r"microbatch \(64\) is larger than batch_size \(32\)"):
        overridden(FinetuneRecipe(), {"microbatch": 64})


def test_no_override_leaves_the_recipe_equal():
    assert overridden(HeldoutRecipe(ratio=0.3), {}) == HeldoutRecipe(ratio=0.3)


def test_a_pinned_asset_stands_though_its_inputs_moved_on(own_library):
    spec, store = own_library.spec, own_library.store
    before = store.open("benchmark_prompts", "quiz")
    build_key(spec, store, Key("heldout_documents", "small"), overrides={"ratio": 0.9})
    answer = build_key(spec, store, Key("benchmark_prompts", "quiz"))
    assert (answer.computed, answer.artifact.digest) == (False, before.digest)


def test_force_remakes_a_pinned_asset_from_its_inputs_of_today(own_library):
    spec, store = own_library.spec, own_library.store
    before = store.open("benchmark_prompts", "quiz")
    heldout = build_key(spec, store, Key("heldout_documents", "small"), overrides={"ratio": 0.9}).artifact
    answer = build_key(spec, store, Key("benchmark_prompts", "quiz"), force=True)
    assert answer.computed
    assert answer.artifact.input("heldout_documents").digest == heldout.digest
    assert answer.artifact.digest != before.digest
    assert store.open("benchmark_prompts", "quiz").digest == answer.artifact.digest


def test_a_pinned_asset_with_another_recipe_does_not_stand(outline):
    key = Key("vocabulary", "words")
    blueprint = BLUEPRINTS["vocabulary"](outline.spec, "words")
    published = outline.store.get(key)
    assert standing(outline.store, key, blueprint, blueprint.recipe).digest == published.digest
    assert standing(outline.store, key, blueprint, overridden(blueprint.recipe, {"size": 999})) is None


def test_what_is_not_pinned_is_left_to_the_memo(outline):
    key = Key("heldout_documents", "small")
    blueprint = BLUEPRINTS[key.asset](outline.spec, "small")
    assert standing(outline.store, key, blueprint, blueprint.recipe) is None


def test_force_on_equal_inputs_gives_the_same_digest(own_library):
    spec, store = own_library.spec, own_library.store
    for asset, partition in (
        ("clean_documents", "letters/1"),
        ("duplicate_clusters", "small"),
        ("vocabulary", "words"),
    ):
        before = store.open(asset, partition).digest
        again = build_key(spec, store, Key(asset, partition), force=True)
        assert (again.computed, again.artifact.digest) == (True, before)


def test_a_champion_that_was_settled_is_not_judged_again(outline, monkeypatch):
    """The gate is asked once for each candidate; asking again could only confuse."""
    from evals import gate

    monkeypatch.setattr(gate, "champion", lambda *arguments, **options: pytest.fail("the gate was asked again"))
    answer = build_key(outline.spec, outline.store, Key("champion", "demo"))
    assert not answer.computed
    assert answer.artifact.key == Key("champion", "quiz"), "it stands under its contest, not under the run"


def test_a_stage_that_fails_leaves_nothing_published_and_nothing_half_written(blank, monkeypatch):
    from pipelines import ingest

    def torn(recipe, draft, *, path):
        draft.path("documents.arrow").write_bytes(b"half a")
        raise RuntimeError("the source went away")

    monkeypatch.setattr(ingest, "ingest", torn)
    with pytest.raises(RuntimeError, match="the source went away"):
        build_key(blank.spec, blank.store, POEMS)
    assert blank.store.get(POEMS) is None
    assert list(blank.store.files.walk("artifacts")) == []


def test_a_file_that_changes_between_plan_and_build_is_refused(blank):
    spec, store = blank.spec, blank.store
    blueprint = BLUEPRINTS["raw_documents"](spec, "poems/1")
    with (blank.folder / "poems.jsonl").open("a") as file:
        file.write('{"id": "late", "text": "Too late."}\n')
    draft = store.draft(POEMS, blueprint.version, blueprint.recipe.identity(), [])
    with pytest.raises(ValueError, match=r"They changed after the run was planned; run again"):
        blueprint.make([], blueprint.recipe, draft, None)


def test_who_waits_for_a_lease_is_told_whose_it_is(blank):
    """Another process holds the key; the builder asks its caller to say so, and goes on when it is free."""
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    holder = context.Process(target=hold, args=(str(blank.url), held, done))
    holder.start()
    assert held.wait(60)
    heard = []

    def waiting(message):
        heard.append(message)
        done.set()

    assert build_key(blank.spec, blank.store, POEMS, waiting=waiting).computed
    holder.join(60)
    assert len(heard) == 1
    assert f"pid {holder.pid}" in heard[0]
    assert str(os.getpid()) not in heard[0]


def hold(url, held, done):
    from pipelines.provenance.store import Store

    with Store(url).lease(POEMS):
        held.set()
        done.wait(60)
