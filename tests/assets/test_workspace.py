"""The workspace: the launchpad form of every recipe, where store and spec come from, and one asset as Dagster makes it."""

from types import SimpleNamespace

import dagster as dg
import pytest

from assets.corpus import clean_documents, raw_documents
from assets.definitions import defs
from assets.partitions import mirror
from assets.workspace import CHECKOUT, Workspace, form, spec_path, store_url
from evals.gate import GateRecipe
from pipelines.clean_recipe import CleanRecipe
from pipelines.heldout import HeldoutRecipe
from pipelines.mixture import MixtureRecipe
from pipelines.provenance.ledger import entries
from pipelines.provenance.manifest import Key
from pipelines.sources import IngestRecipe
from pipelines.vocabulary import VocabularyRecipe
from training.recipes import FinetuneRecipe, PretrainRecipe

RECIPES = [
    IngestRecipe,
    CleanRecipe,
    HeldoutRecipe,
    MixtureRecipe,
    VocabularyRecipe,
    PretrainRecipe,
    FinetuneRecipe,
    GateRecipe,
]


def validated(recipe, config):
    """What Dagster makes of a launchpad's config, or its refusal."""

    @dg.op(config_schema=form(recipe))
    def step(context):
        return context.op_config

    @dg.job
    def job():
        step()

    return job.execute_in_process(run_config={"ops": {"step": {"config": config}}}).output_for_node("step")


# -- the form ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_form_has_every_field_of_its_recipe_described_and_none_required(recipe):
    made = form(recipe)
    assert set(made) == {"force", *recipe.model_fields}
    for name, field in made.items():
        assert not field.is_required, name
        assert field.description, name
        assert name == "force" or field.description.endswith("Left out: as stemma.toml says.")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_an_empty_form_overrides_nothing(recipe):
    """No default of the recipe may creep into the config: what is left out is as the spec says."""
    assert validated(recipe, {}) == {"force": False}


def test_every_asset_has_the_form_of_the_recipe_that_its_blueprint_makes(blank):
    from assets.blueprint import BLUEPRINTS

    for key in blank.keys():
        recipe = type(BLUEPRINTS[key.asset](blank.spec, key.partition).recipe)
        (op,) = (n.definition for n in defs.resolve_implicit_global_asset_job_def().nodes if n.name == key.asset)
        assert set(op.config_schema.config_type.fields) == {"force", *recipe.model_fields}, key.asset


def test_bounds_stand_in_the_description():
    assert "(Ge(ge=0); Le(le=1))" in form(HeldoutRecipe)["ratio"].description


@pytest.mark.parametrize(
    ("recipe", "config"),
    [
        (HeldoutRecipe, {"ratio": 0.5, "seed": 3}),
        (MixtureRecipe, {"weights": ["poems=2", "letters=0.5"], "steps": 9}),
        (IngestRecipe, {"reader": "text", "license": "MIT"}),
        (GateRecipe, {"require_superiority": False, "primary": []}),
        (PretrainRecipe, {"learning_rate": 1, "dtype": "bf16", "force": True}),
    ],
)
def test_what_is_filled_in_reaches_the_builder_as_it_was_written(recipe, config):
    assert validated(recipe, config) == {"force": False} | config


@pytest.mark.parametrize(
    ("recipe", "config", "told"),
    [
        (HeldoutRecipe, {"ratio": "a third"}, "ratio"),
        (HeldoutRecipe, {"seed": 1.5}, "seed"),
        (HeldoutRecipe, {"ratios": 0.5}, 'Received unexpected config entry "ratios"'),
        (MixtureRecipe, {"weights": "poems=2"}, "weights"),
        (MixtureRecipe, {"weights": [2]}, "weights"),
        (GateRecipe, {"require_superiority": "no"}, "require_superiority"),
        (PretrainRecipe, {"layers": True, "dtype": 32}, "dtype"),
        (FinetuneRecipe, {"epochs": None}, "epochs"),
        (FinetuneRecipe, {"force": "yes"}, "force"),
        (HeldoutRecipe, {"ratio": 1.5}, "less than or equal to 1, found 1.5"),
        (CleanRecipe, {"min_words": -1}, "greater than or equal to 0, found -1"),
        (CleanRecipe, {"word_rule": "by-ear"}, "word_rule"),
        (IngestRecipe, {"origin": "nowhere"}, "String should match pattern"),
    ],
)
def test_a_wrong_type_name_or_value_is_refused_before_anything_runs(recipe, config, told):
    with pytest.raises(dg.DagsterInvalidConfigError) as error:
        validated(recipe, config)
    assert told in str(error.value)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.__name__)
def test_the_defaults_of_a_recipe_fit_into_its_own_form(recipe):
    """A person who copies the recipe out of the provenance and runs it again gets that recipe."""
    required = {"reader": "jsonl", "source": "s", "snapshot": "1"} if recipe is IngestRecipe else {}
    whole = recipe(**required).identity()
    config = validated(recipe, whole)
    assert recipe.model_validate({name: value for name, value in config.items() if name != "force"}).identity() == whole


def test_choices_are_words_and_lists_are_lists():
    reader = form(IngestRecipe)["reader"].config_type
    assert {"jsonl", "warc"} < set(reader.config_values)
    assert form(GateRecipe)["primary"].config_type.kind.name == "ARRAY"


def test_a_value_out_of_bounds_keeps_a_run_from_being_made(blank):
    """The plan of a run is what the UI asks for first when Launch is pressed."""
    from dagster._core.execution.api import create_execution_plan

    job = defs.get_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey("clean_documents")})
    config = {"ops": {"clean_documents": {"config": {"min_words": -1}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match="min_words"):
        create_execution_plan(job, config)


# -- where store and spec come from --------------------------------------------------------------------------------


def test_what_is_given_goes_before_the_environment_and_that_before_the_checkout(monkeypatch):
    monkeypatch.setenv("STEMMA_STORE", "/env/store")
    monkeypatch.setenv("STEMMA_SPEC", "/env/stemma.toml")
    assert (store_url("s3://given"), store_url()) == ("s3://given", "/env/store")
    assert (str(spec_path("/given.toml")), str(spec_path())) == ("/given.toml", "/env/stemma.toml")
    monkeypatch.delenv("STEMMA_STORE")
    monkeypatch.delenv("STEMMA_SPEC")
    assert (store_url(), spec_path()) == (str(CHECKOUT / ".stemma"), CHECKOUT / "stemma.toml")


def test_an_empty_variable_is_as_if_it_were_not_set(monkeypatch):
    monkeypatch.setenv("STEMMA_STORE", "")
    monkeypatch.setenv("STEMMA_SPEC", "")
    assert (store_url(), spec_path()) == (str(CHECKOUT / ".stemma"), CHECKOUT / "stemma.toml")


def test_a_workspace_opens_what_it_was_given(blank, monkeypatch):
    monkeypatch.setenv("STEMMA_STORE", "/nowhere")
    workspace = Workspace(store=str(blank.url), spec=str(blank.spec_path))
    assert workspace.open_store().url == str(blank.url)
    assert workspace.load_spec().path == blank.spec_path


# -- an asset, as Dagster makes it -----------------------------------------------------------------------------------


@pytest.fixture
def materialized(blank):
    """Materialize an asset of a partition with a launchpad's config; gives result and instance."""
    with dg.DagsterInstance.ephemeral() as instance:
        mirror(blank.spec, instance)

        def run(asset, partition, **config):
            workspace = Workspace(store=str(blank.url), spec=str(blank.spec_path))
            return dg.materialize(
                [asset],
                partition_key=partition,
                instance=instance,
                resources={"workspace": workspace},
                run_config={"ops": {asset.key.path[-1]: {"config": config}}} if config else None,
                raise_on_error=False,
            )

        yield run


def event(result):
    (found,) = result.get_asset_materialization_events()
    return found.step_materialization_data.materialization


def messages(result) -> str:
    return "\n".join(
        str(error) for e in result.all_events if e.is_step_failure for error in _chain(e.step_failure_data.error)
    )


def _chain(error):
    while error is not None:
        yield error.message
        error = error.cause


def test_the_data_version_is_the_content_so_that_equal_bytes_stop_a_rebuild(blank, materialized):
    made = event(materialized(raw_documents, "poems/1"))
    artifact = blank.store.open("raw_documents", "poems/1")
    assert made.tags["dagster/data_version"] == artifact.content
    assert made.partition == "poems/1"
    assert made.metadata["kept"].value == 24
    assert artifact.digest in made.metadata["provenance"].value


def test_the_ledger_knows_the_run_that_made_an_artifact(blank, materialized):
    result = materialized(raw_documents, "poems/1")
    store = blank.store
    artifact = store.open("raw_documents", "poems/1")
    (entry,) = (e for e in entries(store.files) if e.event == "sealed" and e.manifest == artifact.digest)
    circumstances = store.files.read(f"circumstances/{entry.circumstances}.json").decode()
    assert f'"dagster_run":"{result.run_id}"' in circumstances


def test_an_override_of_the_launchpad_is_the_recipe_of_the_artifact(blank, materialized):
    assert materialized(raw_documents, "poems/1").success
    made = event(materialized(clean_documents, "poems/1", min_words=1000))
    artifact = blank.store.open("clean_documents", "poems/1")
    assert artifact.manifest.recipe["min_words"] == 1000
    assert artifact.manifest.recipe["min_stop_words"] == 1, "the rest is as the spec says"
    assert made.metadata["dropped"].value == artifact.counts["dropped"] > 0


@pytest.mark.parametrize(
    ("override", "told"),
    [({"max_record_bytes": 0}, "greater than or equal to 1, found 0"), ({"reader": "telepathy"}, "reader")],
)
def test_an_override_that_cannot_be_starts_no_step_and_publishes_nothing(blank, materialized, override, told):
    with pytest.raises(dg.DagsterInvalidConfigError, match=told):
        materialized(raw_documents, "poems/1", **override)
    assert blank.store.keys() == []


def test_an_input_that_was_not_made_fails_with_what_to_do(materialized):
    result = materialized(clean_documents, "poems/1")
    assert "raw_documents[poems/1] has not been made" in messages(result)


def test_force_computes_what_the_memo_knows_and_is_no_field_of_the_recipe(blank, materialized):
    """Whoever computes seals, so the ledger tells how often that was."""
    first = materialized(raw_documents, "poems/1")
    assert sealed(blank.store) == 1
    again = materialized(raw_documents, "poems/1")
    assert sealed(blank.store) == 1
    forced = materialized(raw_documents, "poems/1", force=True)
    assert sealed(blank.store) == 2
    assert "force" not in blank.store.open("raw_documents", "poems/1").manifest.recipe
    assert len({event(result).tags["dagster/data_version"] for result in (first, again, forced)}) == 1


def sealed(store) -> int:
    return sum(entry.event == "sealed" for entry in entries(store.files))


def test_who_holds_the_lease_reaches_step_log_and_terminal(monkeypatch):
    from assets import workspace

    heard, logged = [], []
    context = SimpleNamespace(log=SimpleNamespace(warning=logged.append))
    monkeypatch.setattr(workspace, "listeners", [heard.append])
    workspace._waiting(context, Key("vocabulary", "words"), "somebody, pid 7")
    assert heard == logged == ["vocabulary[words]: waiting for the lease of somebody, pid 7"]


def test_a_run_reads_now_and_then_how_many_pieces_are_done(monkeypatch):
    """At most a line in ten seconds, but whoever watches hears of each."""
    from assets import workspace

    lines, watched, now = [], [], [0.0]
    monkeypatch.setattr(workspace.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(workspace, "watchers", [lambda *one: watched.append(one)])
    context = SimpleNamespace(log=SimpleNamespace(info=lambda message, *said: lines.append(message % said)))
    key = Key("clean_documents", "poems/1")
    tell = workspace.Progress(context, key)
    for done in range(31):
        now[0] = done
        tell(done, 30)
    assert lines == [f"clean_documents[poems/1]: {done} of 30 pieces" for done in (10, 20, 30)]
    assert watched == [(key, done, 30) for done in range(31)]
