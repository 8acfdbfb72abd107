"""Group scaling: what a ladder of runs says of the next one."""

import dagster as dg

from assets.partitions import SWEEPS
from assets.pretraining import pretrained_model
from assets.tokens import ANY
from assets.workspace import Workspace, form
from evals.scaling import SCALING_VERSION, ScalingRecipe


@dg.asset(
    group_name="scaling",
    owners=["team:research"],
    kinds={"json"},
    partitions_def=SWEEPS,
    deps=[dg.AssetDep(pretrained_model, partition_mapping=ANY)],
    code_version=SCALING_VERSION,
    config_schema=form(ScalingRecipe),
)
def scaling_law(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Held-out loss by parameters and tokens, fitted to the runs of a sweep, with what it says of the run held back."""
    return workspace.materialize(context)


ASSETS = [scaling_law]
