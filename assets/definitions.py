"""Everything that Dagster needs to know, in one object."""

import dagster as dg

from assets import benchmarks, checks, compression, corpus, finetuning, pretraining, release, scaling, tokens
from assets.partitions import mirror
from assets.workspace import Workspace


@dg.sensor(minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.RUNNING)
def spec_sensor(context: dg.SensorEvaluationContext, workspace: Workspace) -> dg.SkipReason:
    """Keeps the partitions those of stemma.toml: a source that is added there appears here by itself."""
    return dg.SkipReason(f"{mirror(workspace.load_spec(), context.instance)} partitions added or removed")


GROUPS = (corpus, tokens, pretraining, scaling, compression, finetuning, benchmarks, release)

defs = dg.Definitions(
    assets=[asset for group in GROUPS for asset in group.ASSETS],
    asset_checks=checks.CHECKS,
    sensors=[spec_sensor],
    resources={"workspace": Workspace()},
)
