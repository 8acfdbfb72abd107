"""Group pretraining: from sequences to weights."""

import dagster as dg

from assets.partitions import RUNS
from assets.tokens import mixture
from assets.trainer import pipes_launcher
from assets.workspace import Workspace, form
from training.pretrain import PRETRAIN_VERSION
from training.recipes import PretrainRecipe

GROUP, OWNERS = "pretraining", ["team:research"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch"},
    partitions_def=RUNS,
    deps=[mixture],
    pool="gpu",
    code_version=PRETRAIN_VERSION,
    config_schema=form(PretrainRecipe),
)
def pretrained_model(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """A language model trained from nothing on the run's mixture, with its loss on held-out documents.

    The trainer runs as a process of its own; if it dies, the next materialization goes on from its last checkpoint
    and ends with the same bytes.
    """
    return workspace.materialize(context, launch=pipes_launcher(context))


ASSETS = [pretrained_model]
