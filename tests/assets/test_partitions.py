"""Partitions mirror the spec: what is added there appears, what is taken away goes, and nothing is done twice."""

import dagster as dg
import pytest

from assets import partitions
from assets.definitions import defs, spec_sensor
from assets.partitions import mirror, wanted
from assets.workspace import Workspace
from pipelines.spec import Spec, SpecError

DEFINED = [value for value in vars(partitions).values() if isinstance(value, dg.DynamicPartitionsDefinition)]


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def present(instance) -> dict[str, list[str]]:
    return {str(kind.name): list(instance.get_dynamic_partitions(str(kind.name))) for kind in DEFINED}


def test_every_kind_of_partition_has_the_keys_of_the_spec(blank):
    assert wanted(blank.spec) == {
        "source": ["poems/1", "letters/1"],
        "corpus": ["small"],
        "tokens": ["small"],
        "suite": ["quiz"],
        "classifier": [],
        "reference": [],
        "vocabulary": ["words"],
        "model": [],
        "run": ["demo"],
        "finetune": ["demo-source"],
        "compression": [],
        "sweep": [],
        "checkpoint": ["demo", "demo-source"],
    }


def test_no_kind_of_partition_is_forgotten(blank):
    assert set(wanted(blank.spec)) == {kind.name for kind in DEFINED}


def test_a_run_with_another_vocabulary_has_a_partition_of_tokens(blank):
    blank.edit(
        "[runs.demo]",
        '[vocabularies.tiny]\ncorpus = "small"\n[runs.other]\ncorpus = "small"\nvocabulary = "tiny"\n[runs.demo]',
    )
    assert wanted(blank.spec)["tokens"] == ["small", "small@tiny"]


def test_every_key_that_a_run_needs_is_a_partition_of_its_asset(blank):
    """Else `stemma run` would ask Dagster for a partition that it does not know."""
    keys, graph = wanted(blank.spec), defs.resolve_asset_graph()
    for key in blank.keys():
        kind = graph.get(dg.AssetKey(key.asset)).partitions_def
        assert isinstance(kind, dg.DynamicPartitionsDefinition)
        assert key.partition in keys[str(kind.name)], key


def test_a_new_instance_gets_all_and_the_second_time_nothing(blank, instance):
    assert mirror(blank.spec, instance) == sum(map(len, wanted(blank.spec).values())) == 10
    assert present(instance) == wanted(blank.spec)
    assert mirror(blank.spec, instance) == 0
    assert present(instance) == wanted(blank.spec)


def test_what_the_spec_gains_is_added_and_what_it_loses_is_removed(blank, instance):
    mirror(blank.spec, instance)
    blank.edit('[sources."letters/1"]', '[sources."letters/2"]')
    blank.edit('"letters/1"]', '"letters/2"]')
    blank.edit("[finetunes.demo-source]", "[finetunes.demo-kind]")
    blank.edit("[finetunes.demo-source.training]", "[finetunes.demo-kind.training]")
    assert mirror(blank.spec, instance) == 6, "one source, one fine-tune, one checkpoint: each gone and come"
    assert present(instance)["source"] == ["poems/1", "letters/2"]
    assert set(present(instance)["checkpoint"]) == {"demo", "demo-kind"}


def test_partitions_that_somebody_added_by_hand_do_not_stay(blank, instance):
    mirror(blank.spec, instance)
    instance.add_dynamic_partitions("run", ["mine"])
    assert mirror(blank.spec, instance) == 1
    assert present(instance)["run"] == ["demo"]


def test_a_source_that_left_keeps_its_history(blank, instance):
    """A partition is a name in a list; materializations and artifacts stay."""
    mirror(blank.spec, instance)
    instance.report_runless_asset_event(dg.AssetMaterialization("raw_documents", partition="letters/1"))
    spec = Spec(
        blank.spec_path.read_text().replace('"poems/1", "letters/1"', '"poems/1"').replace("letters/1", "letters/9"),
        blank.spec_path,
    )
    mirror(spec, instance)
    assert "letters/1" not in present(instance)["source"]
    assert "letters/1" in instance.get_materialized_partitions(dg.AssetKey("raw_documents"))


def evaluated(place, instance) -> dg.SkipReason:
    workspace = Workspace(store=str(place.url), spec=str(place.spec_path))
    context = dg.build_sensor_context(instance, resources={"workspace": workspace})
    answer = spec_sensor(context)
    assert isinstance(answer, dg.SkipReason)
    return answer


def test_the_sensor_mirrors_the_spec_and_says_how_much_changed(blank, instance):
    assert evaluated(blank, instance).skip_message == "10 partitions added or removed"
    assert present(instance) == wanted(blank.spec)
    blank.edit('[sources."poems/1"]', '[sources."more/1"]\nreader = "text"\npath = "more"\n[sources."poems/1"]')
    assert evaluated(blank, instance).skip_message == "1 partitions added or removed"
    assert "more/1" in present(instance)["source"]
    assert evaluated(blank, instance).skip_message == "0 partitions added or removed"


def test_the_sensor_asks_for_no_run():
    """It keeps names; what is built is for a person or `stemma run` to say."""
    assert spec_sensor.minimum_interval_seconds == 30
    assert spec_sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert not spec_sensor.targets


def test_a_broken_spec_changes_no_partition_and_its_line_is_told(blank, instance):
    mirror(blank.spec, instance)
    blank.edit('corpus = "small"', 'corpus = "smal"')
    with pytest.raises(SpecError, match=r"stemma\.toml:\d+: no 'smal' in \[corpora\]"):
        evaluated(blank, instance)
    assert present(instance)["corpus"] == ["small"]
