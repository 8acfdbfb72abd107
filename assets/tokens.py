"""Group tokens: from documents to the sequences that a run reads."""

import dagster as dg

from assets.corpus import heldout_documents, training_documents
from assets.partitions import RUNS, TOKENS, VOCABULARIES
from assets.workspace import Workspace, form
from pipelines import mixture as mixing
from pipelines import shards
from pipelines import vocabulary as bpe

GROUP, OWNERS = "tokens", ["team:data"]
ANY = dg.AllPartitionMapping()


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"huggingface"},
    partitions_def=VOCABULARIES,
    deps=[dg.AssetDep(training_documents, partition_mapping=ANY)],
    code_version=bpe.VERSION,
    config_schema=form(bpe.VocabularyRecipe),
)
def vocabulary(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """A vocabulary, learned once from a corpus or taken from a file, and then frozen under its name."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=TOKENS,
    deps=[dg.AssetDep(training_documents, partition_mapping=ANY), dg.AssetDep(vocabulary, partition_mapping=ANY)],
    code_version=shards.VERSION,
    config_schema=form(shards.ShardRecipe),
)
def token_shards(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """The tokens of every training document, with its id: memory-mapped by the trainer, searched by the audit."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=TOKENS,
    deps=[
        dg.AssetDep(heldout_documents, partition_mapping=ANY),
        dg.AssetDep(training_documents, partition_mapping=ANY),
        dg.AssetDep(vocabulary, partition_mapping=ANY),
    ],
    code_version=shards.HELDOUT_VERSION,
    config_schema=form(shards.HeldoutShardRecipe),
)
def heldout_shards(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """The tokens of every held-out document, with the share of its 13-grams that training documents contain."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"json"},
    partitions_def=RUNS,
    code_version=mixing.VERSION,
    deps=[
        dg.AssetDep(token_shards, partition_mapping=ANY),
        dg.AssetDep(heldout_shards, partition_mapping=ANY),
        dg.AssetDep(vocabulary, partition_mapping=ANY),
    ],
    config_schema=form(mixing.MixtureRecipe),
)
def mixture(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """How much of which source a run reads, and in which order: the plan from which every step can be told."""
    return workspace.materialize(context)


ASSETS = [vocabulary, token_shards, heldout_shards, mixture]
