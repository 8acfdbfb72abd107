"""Group pretraining: from sequences to weights."""

import dagster as dg

from assets.partitions import MODELS, RUNS
from assets.tokens import ANY, mixture
from assets.trainer import pipes_launcher
from assets.workspace import Workspace, form
from training.importing import IMPORT_VERSION, ImportRecipe
from training.pretrain import PRETRAIN_VERSION
from training.recipes import PretrainRecipe

GROUP, OWNERS = "pretraining", ["team:research"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch"},
    partitions_def=MODELS,
    code_version=IMPORT_VERSION,
    config_schema=form(ImportRecipe),
)
def imported_model(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """A language model from elsewhere that runs may begin from, its logits compared with those of transformers.

    What it was trained on is not known here: the audit of a run that begins from it says so.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch"},
    partitions_def=RUNS,
    deps=[mixture, dg.AssetDep(imported_model, partition_mapping=ANY)],
    pool="gpu",
    code_version=PRETRAIN_VERSION,
    config_schema=form(PretrainRecipe),
)
def pretrained_model(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """A language model trained on the run's mixture, from nothing or from its base, with its loss on held-out documents.

    The trainer runs as a process of its own; if it dies, the next materialization goes on from its last checkpoint
    and ends with the same bytes.
    """
    return workspace.materialize(context, launch=pipes_launcher(context))


ASSETS = [imported_model, pretrained_model]
