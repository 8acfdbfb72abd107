"""Group compression: a run's model, made smaller."""

import dagster as dg

from assets.partitions import COMPRESSIONS
from assets.pretraining import pretrained_model
from assets.tokens import ANY
from assets.trainer import pipes_launcher
from assets.workspace import Workspace, form
from training.compress import COMPRESSION_VERSION, CompressionRecipe


@dg.asset(
    group_name="compression",
    owners=["team:research"],
    kinds={"pytorch"},
    partitions_def=COMPRESSIONS,
    deps=[dg.AssetDep(pretrained_model, partition_mapping=ANY)],
    code_version=COMPRESSION_VERSION,
    config_schema=form(CompressionRecipe),
)
def compressed_model(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """The run's model, quantised or pruned, with its size and what that costs on held-out documents."""
    return workspace.materialize(context, launch=pipes_launcher(context))


ASSETS = [compressed_model]
