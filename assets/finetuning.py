"""Group finetuning: a run's model, taught a task."""

import dagster as dg

from assets.corpus import heldout_documents, training_documents
from assets.partitions import FINETUNES
from assets.pretraining import pretrained_model
from assets.tokens import ANY, mixture
from assets.trainer import pipes_launcher
from assets.workspace import Workspace, form
from training.finetune import FINETUNE_VERSION
from training.finetune_data import FINETUNE_DATA_VERSION
from training.recipes import FinetuneDataRecipe, FinetuneRecipe

GROUP, OWNERS = "finetuning", ["team:research"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=FINETUNES,
    deps=[
        dg.AssetDep(mixture, partition_mapping=ANY),
        dg.AssetDep(training_documents, partition_mapping=ANY),
        dg.AssetDep(heldout_documents, partition_mapping=ANY),
    ],
    code_version=FINETUNE_DATA_VERSION,
    config_schema=form(FinetuneDataRecipe),
)
def finetuning_shards(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Labelled examples of a task: training ones from training documents, test ones from held-out documents."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"pytorch"},
    partitions_def=FINETUNES,
    pool="gpu",
    deps=[finetuning_shards, dg.AssetDep(pretrained_model, partition_mapping=ANY)],
    code_version=FINETUNE_VERSION,
    config_schema=form(FinetuneRecipe),
)
def finetuned_model(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """The run's model after fine-tuning on the task, with what it answers on the test examples."""
    return workspace.materialize(context, launch=pipes_launcher(context))


ASSETS = [finetuning_shards, finetuned_model]
