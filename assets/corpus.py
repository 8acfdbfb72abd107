"""Group corpus: from what lies on disk to the documents that a model may train on."""

import dagster as dg

from assets.partitions import CLASSIFIERS, CORPORA, REFERENCES, SOURCES
from assets.workspace import Workspace, form
from pipelines import (
    clean,
    clean_recipe,
    decontaminate,
    dedup,
    heldout,
    ingest,
    sources,
    unique,
)
from pipelines import signatures as minhash
from pipelines.instruments import classifier, ngram_model
from pipelines.profile import measure as profile

GROUP, OWNERS = "corpus", ["team:data"]
ALL_SOURCES = dg.AllPartitionMapping()


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=SOURCES,
    code_version=ingest.INGEST_VERSION,
    config_schema=form(sources.IngestRecipe),
)
def raw_documents(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Every record of a source as it was found, with its file, line, licence and a stable id.

    Records that cannot be read are quarantined with the reason; nothing is skipped in silence.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow", "numba"},
    partitions_def=CLASSIFIERS,
    deps=[dg.AssetDep(raw_documents, partition_mapping=ALL_SOURCES)],
    code_version=classifier.VERSION,
    config_schema=form(classifier.ClassifierRecipe),
)
def text_classifier(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """How likely a text is to come from the positive sources rather than the negative ones, by its n-grams.

    A tenth of the documents is held out: accuracy, area under the ROC curve and confusion are measured on it.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow", "numba"},
    partitions_def=REFERENCES,
    deps=[dg.AssetDep(raw_documents, partition_mapping=ALL_SOURCES)],
    code_version=ngram_model.VERSION,
    config_schema=form(ngram_model.PerplexityRecipe),
)
def reference_model(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """N-grams of text that is as documents should be, smoothed by Kneser and Ney: what perplexity is measured by."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow", "polars"},
    partitions_def=SOURCES,
    deps=[
        raw_documents,
        dg.AssetDep(text_classifier, partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep(reference_model, partition_mapping=dg.AllPartitionMapping()),
    ],
    code_version=clean.CLEAN_VERSION,
    config_schema=form(clean_recipe.CleanRecipe),
)
def clean_documents(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Documents in normal form that are in the language asked for, pass the quality rules and name no person.

    Lines of boilerplate are cut; e-mail and IP addresses, phone, card and account numbers, national ids, keys and
    tokens are masked. Every measured signal is kept, also of documents that were dropped: `stemma preview` tells what
    other thresholds would keep.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow", "parquet"},
    partitions_def=SOURCES,
    deps=[raw_documents, clean_documents],
    code_version=profile.PROFILE_VERSION,
    config_schema=form(profile.ProfileRecipe),
)
def source_profile(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """What a source holds, by language: lengths, why documents went, licences, what was masked, domains, signals.

    For people: plots below, numbers as Parquet, and all of it as one HTML page. Nothing is built on it.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow", "numba"},
    partitions_def=SOURCES,
    deps=[clean_documents],
    code_version=minhash.VERSION,
    config_schema=form(minhash.SignatureRecipe),
)
def signatures(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """MinHash signature and shingle hashes of every clean document, by which near-duplicates are found."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=CORPORA,
    code_version=dedup.VERSION,
    deps=[
        dg.AssetDep(clean_documents, partition_mapping=ALL_SOURCES),
        dg.AssetDep(signatures, partition_mapping=ALL_SOURCES),
    ],
    config_schema=form(dedup.DedupRecipe),
)
def duplicate_clusters(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """For every document that repeats another one of the corpus: which one stays, and their true Jaccard similarity.

    Candidates come from MinHash bands; each is verified on its shingles, and removed only for a survivor.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=CORPORA,
    code_version=unique.VERSION,
    deps=[dg.AssetDep(clean_documents, partition_mapping=ALL_SOURCES), duplicate_clusters],
    config_schema=form(unique.UniqueRecipe),
)
def unique_documents(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """The documents of a corpus, each once: one of every set of duplicates stays.

    Where the recipe asks for it, lines or paragraphs that many documents have are cut out of all but the first.
    """
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=CORPORA,
    deps=[unique_documents],
    code_version=heldout.VERSION,
    config_schema=form(heldout.HeldoutRecipe),
)
def heldout_documents(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """Documents that no model of this corpus ever trains on, chosen whole file by whole file."""
    return workspace.materialize(context)


@dg.asset(
    group_name=GROUP,
    owners=OWNERS,
    kinds={"arrow"},
    partitions_def=CORPORA,
    code_version=decontaminate.VERSION,
    config_schema=form(decontaminate.DecontaminateRecipe),
    deps=[
        unique_documents,
        heldout_documents,
        dg.AssetDep(dg.AssetKey("benchmark_prompts"), partition_mapping=dg.AllPartitionMapping()),
    ],
)
def training_documents(context: dg.AssetExecutionContext, workspace: Workspace) -> dg.MaterializeResult:
    """What models may read: unique, not held out, and free of the text of every benchmark in use."""
    return workspace.materialize(context)


ASSETS = [
    raw_documents,
    text_classifier,
    reference_model,
    clean_documents,
    source_profile,
    signatures,
    duplicate_clusters,
    unique_documents,
    heldout_documents,
    training_documents,
]
