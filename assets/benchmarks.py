"""Group benchmarks: questions that were set aside, answers of a checkpoint, scores with their errors."""

import dagster as dg

from assets.compression import compressed_model
from assets.corpus import heldout_documents
from assets.finetuning import finetuned_model
from assets.partitions import CHECKPOINTS, SUITES
from assets.pretraining import pretrained_model
from assets.tokens import ANY
from assets.workspace import Workspace, form
from evals.harness import SAMPLES_VERSION, EvalRecipe
from evals.scores import SCORES_VERSION, ScoreRecipe
from evals.suites import PROMPTS_VERSION, SuiteRecipe

GROUP, OWNERS = "benchmarks", ["team:evaluation"]
CHECKPOINT_DEPS = [
    dg.AssetDep(pretrained_model, partition_mapping=ANY),
    dg.AssetDep(finetuned_model, partition_mapping=ANY),
    dg.AssetDep(compressed_model, partition_mapping=ANY),
]


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    partitions_def=SUITES,
    deps=[dg.AssetDep(heldout_documents, partition_mapping=ANY)],
    code_version=PROMPTS_VERSION,
    config_schema=form(SuiteRecipe),
)
def benchmark_prompts(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Benchmark items, made once from held-out documents (or from files) and then frozen under the suite's name."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"parquet"},
    partitions_def=CHECKPOINTS,
    deps=[*CHECKPOINT_DEPS, dg.AssetDep(benchmark_prompts, partition_mapping=ANY)],
    code_version=SAMPLES_VERSION,
    config_schema=form(EvalRecipe),
)
def benchmark_samples(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """What a checkpoint answered to every single item, with its log-likelihoods."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    partitions_def=CHECKPOINTS,
    deps=[benchmark_samples],
    code_version=SCORES_VERSION,
    config_schema=form(ScoreRecipe),
)
def benchmark_scores(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Scores of a checkpoint, each with its number of items and a standard error clustered by file."""
    return workspace.materialize(context)


ASSETS = [benchmark_prompts, benchmark_samples, benchmark_scores]
