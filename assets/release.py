"""Group release: what leaves the house, and what an auditor needs to judge it."""

import dagster as dg

from assets.benchmarks import CHECKPOINT_DEPS, benchmark_scores
from assets.partitions import CHECKPOINTS, RUNS
from assets.pretraining import pretrained_model
from assets.tokens import ANY
from assets.workspace import Workspace, form
from evals.bundle import BUNDLE_VERSION, BundleRecipe
from evals.card import CARD_VERSION, CardRecipe
from evals.gate import CHAMPION_VERSION, GateRecipe

GROUP, OWNERS = "release", ["team:evaluation"]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    partitions_def=RUNS,
    code_version=CHAMPION_VERSION,
    deps=[pretrained_model, dg.AssetDep(benchmark_scores, partition_mapping=ANY)],
    config_schema=form(GateRecipe),
)
def champion(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """The model in charge. A run takes its place only if the gate says so, on exactly this checkpoint's scores."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"markdown"},
    partitions_def=CHECKPOINTS,
    code_version=CARD_VERSION,
    config_schema=form(CardRecipe),
    deps=[*CHECKPOINT_DEPS, benchmark_scores],
)
def model_card(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """What a checkpoint is, what it was trained on by source and licence, how it scores, and its limits."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    partitions_def=CHECKPOINTS,
    code_version=BUNDLE_VERSION,
    config_schema=form(BundleRecipe),
    deps=CHECKPOINT_DEPS,
)
def audit_bundle(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Every manifest behind a checkpoint, its plan and the index of its documents: an audit without our store."""
    return workspace.materialize(context)


ASSETS = [champion, model_card, audit_bundle]
