"""The curve while it trains: what the UI is told meanwhile, how often, and that nothing of it can end a training."""

import re
import sys

import dagster as dg
import pytest

from assets.live_curves import LiveCurves
from assets.trainer import pipes_launcher

# stands for the trainer: writes what it writes, beside the job that it is given
TRAINER = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--job") + 1]).parent
with (folder / "metrics.jsonl").open("a") as file:
    for step in (1, 2):
        file.write(json.dumps({"step": step, "steps": 2, "loss": 4.0 / step, "lr": 0.1, "mfu": "unknown"}) + "\\n")
with (folder / "evaluations.jsonl").open("a") as file:
    file.write(json.dumps({"step": 2, "steps": 2, "bpb": 1.5, "docs": 3, "by_part": {"a/1": {"bpb": 1.25, "docs": 3}}}) + "\\n")
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture(autouse=True)
def in_process(monkeypatch):
    monkeypatch.setenv("STEMMA_IN_PROCESS", "1")


def trained(folder, instance, code=0):
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["demo", "other"]))
    def model(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        command = [sys.executable, "-c", TRAINER, "--job", str(folder / "job.json"), str(code)]
        pipes_launcher(context)(command, {})
        return dg.MaterializeResult()

    return dg.materialize([model], instance=instance, partition_key="demo", raise_on_error=False)


@pytest.mark.parametrize("code", [0, 1])
def test_the_figures_of_a_training_are_observations_of_its_asset_and_partition(tmp_path, code):
    with dg.DagsterInstance.ephemeral() as instance:
        assert trained(tmp_path, instance, code).success == (code == 0)
        seen = instance.fetch_observations(dg.AssetKey("model"), limit=10).records
        assert instance.get_latest_materialization_event(dg.AssetKey("model")) is None or code == 0
    newest = seen[0].event_log_entry.dagster_event.event_specific_data.asset_observation
    assert newest.partition == "demo"
    told = {name: value.value for name, value in newest.metadata.items()}
    assert told.pop("curve").startswith("![loss by step, smoothed](<data:image/svg+xml,")
    assert told == {"step": 2, "loss": 2.0, "learning_rate": 0.1, "heldout_bpb": 1.5, "heldout_bpb/a/1": 1.25}


def test_there_is_at_most_one_a_second_and_fewer_in_a_long_run():
    now, told = [0.0], []
    curves = LiveCurves(told.append, lambda: now[0])
    for step in range(1, 2001):  # ten steps a second
        now[0] = step / 10
        curves({"step": step, "loss": 1.0})
    assert len(told) == 200
    for step in range(2001, 2701):  # and then one in ten seconds, for two hours
        now[0] += 10
        curves({"step": step, "loss": 1.0})
    assert 200 + 300 < len(told) < 200 + 550
    curves({"step": 2701, "loss": 1.0})
    curves.flush()
    curves.flush()
    assert [each["step"] for each in told[-2:]] == [told[-2]["step"], 2701], "the last one is always told, and once"
    assert told[-2]["step"] != 2701


def test_of_many_sources_twenty_are_plotted():
    told = []
    curves = LiveCurves(told.append, lambda: 0.0)
    curves({"step": 1, "bpb": 1.0, "by_part": {f"s/{n}": {"bpb": 1.0, "docs": 1} for n in range(99)}})
    curves.flush()
    assert sum(name.startswith("heldout_bpb/") for name in told[0]) == 20


def test_a_log_that_cannot_be_written_ends_no_training(tmp_path, monkeypatch):
    with dg.DagsterInstance.ephemeral() as instance:
        before = type(instance).report_runless_asset_event

        def refuse(self, event):
            if isinstance(event, dg.AssetObservation):
                raise OSError("database is locked")
            return before(self, event)

        monkeypatch.setattr(type(instance), "report_runless_asset_event", refuse)
        assert trained(tmp_path, instance).success


def test_a_tracker_that_does_not_exist_is_told_before_anything_is_built(own_library, stemma):
    own_library.edit("[finetunes.demo-source]", '[runs.demo.compute]\ntrack = "tensorbord"\n\n[finetunes.demo-source]')
    told = stemma(own_library, "run", "demo", "--dry-run", code=2)
    assert re.search(r"stemma\.toml:\d+: track: ", told)
    assert "no such tracker. There are tensorboard, mlflow, wandb" in told


def test_a_run_that_is_tracked_is_not_another_run(own_library):
    from assets.blueprint import BLUEPRINTS

    plain = BLUEPRINTS["pretrained_model"](own_library.spec, "demo")
    own_library.edit("[finetunes.demo-source]", '[runs.demo.compute]\ntrack = "mlflow"\n\n[finetunes.demo-source]')
    tracked = BLUEPRINTS["pretrained_model"](own_library.spec, "demo")
    assert (plain.recipe, plain.numerics) == (tracked.recipe, tracked.numerics)
