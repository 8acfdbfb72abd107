"""Checks: what must be true of an asset before anything downstream may use it. They read the sealed bytes again."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg

from assets import benchmarks, corpus, finetuning, pretraining, tokens
from assets.partitions import CHECKPOINTS, CLASSIFIERS, CORPORA, FINETUNES, RUNS, SOURCES, TOKENS, VOCABULARIES
from assets.workspace import Workspace
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import FILE, ConservationError, check_conservation, counted
from pipelines.provenance.tables import read_batches

Verdict = tuple[bool, dict[str, Any]]
MOST_NAMED = 20  # items that a verdict names; all stand in items.arrow


def conserved(artifact: Artifact) -> Verdict:
    """Books balance: seen == kept + held_out + dropped + merged + quarantined, recounted from the fates of every part."""
    total: dict[str, int] = {}
    for part in artifact.parts():
        counts = counted(read_batches(part.local(FILE)))
        try:
            check_conservation(counts, part.counts["seen"])
        except ConservationError as error:
            return False, {"problem": str(error)}
        total = {name: total.get(name, 0) + number for name, number in counts.items()}
    return all(artifact.counts[name] == number for name, number in total.items()), total


def exact_duplicates(artifact: Artifact) -> Verdict:
    """No two documents with the same text."""
    hashes = [
        row
        for part in artifact.parts()
        for batch in read_batches(part.local("documents.arrow"), ["sha256_out"])
        for row in batch["sha256_out"].to_pylist()
    ]
    return len(set(hashes)) == len(hashes), {"docs": len(hashes), "exact_duplicates": len(hashes) - len(set(hashes))}


def no_undecided_leak(artifact: Artifact) -> Verdict:
    """No benchmark item that was brought from files is shown by the corpus, unless the recipe says what to do.

    To go on, look at the documents (`stemma show training_documents --dropped`), then write
    action = "drop", "cut" or "flag" into [corpora.NAME.decontaminate].
    """
    items = artifact.table("items.arrow").to_pylist()
    dirty = [item for item in items if item["status"] == "dirty"]
    found: dict[str, Any] = {
        "action": artifact.manifest.recipe["action"],
        "items": len(items),
        "items_not_checkable": sum(item["status"] == "not checkable" for item in items),
        "items_dirty": len(dirty),
    }
    if dirty:
        dirty.sort(key=lambda item: -item["num_documents"])  # else in the order of the suites
        names = [f"{i['suite']}/{i['task']}/{i['item_id']} ({i['num_documents']} documents)" for i in dirty]
        found["dirty"] = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    if dirty and found["action"] == "ask":
        found["problem"] = (
            f"{len(dirty)} benchmark items are shown by documents of {artifact.key.partition}, and its recipe does not "
            f'say what to do: write action = "drop", "cut" or "flag" into [corpora.{artifact.key.partition}.decontaminate].'
        )
    return "problem" not in found, found


def round_trip(artifact: Artifact) -> Verdict:
    """Text survives encoding and decoding unchanged, whatever it holds; what a vocabulary from a file changes is told."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(artifact.local("tokenizer.json")))
    texts = [
        "plain words",
        " leading and trailing  ",
        "tabs\tand\nnew lines\r\n",
        "naïve café ﬁ 你好 🙂 \u200b",
        "\x00\x7f",
    ]
    texts += [text for document in artifact.inputs("training_documents") for text in _some_texts(document, 200)]
    broken = [t for t in texts if tokenizer.decode(tokenizer.encode(t).ids, skip_special_tokens=False) != t]
    is_ours = not artifact.manifest.recipe.get("file_digest")
    return not (is_ours and broken), {"texts": len(texts), "changed": len(broken)}


def better_than_chance(artifact: Artifact) -> Verdict:
    """On documents that it has not learned from, the positive ones are ranked before the negative ones: AUC over 0.5."""
    measured = artifact.facts["heldout"]
    return measured["auc"] > 0.5, {name: measured[name] for name in ("docs", "auc", "accuracy", "brier")}


def totals(artifact: Artifact) -> Verdict:
    """Documents and tokens in the shards are those of the manifest, and the documents are the training documents."""
    docs = sum(
        batch.num_rows
        for part in artifact.parts()
        for name in part.names(".arrow")
        if name.startswith("shard-")
        for batch in read_batches(part.local(name), ["doc_id"])
    )
    counted_tokens = sum(_tokens(part) for part in artifact.parts())
    wanted = artifact.input("training_documents").counts["kept"]
    found = {"docs": docs, "tokens": counted_tokens, "training_documents": wanted}
    return docs == wanted == artifact.counts["docs"] and counted_tokens == artifact.counts["tokens"], found


def no_item_in_tokens(artifact: Artifact) -> Verdict:
    """No benchmark item of the corpus's suites stands in the shards letter by letter, by n-grams of tokens.

    Nothing is read but shards, vocabulary and items. What decontamination took out by words cannot be here; an item
    that is too short for words may be (`stemma audit overlap CORPUS` names the documents).
    """
    from pipelines.token_overlap import COVERAGE, items_of, shown_by_tokens, tokens_of_words

    training = artifact.input("training_documents")
    items = [item for prompts in training.inputs("benchmark_prompts") for item in items_of(prompts)]
    rows = shown_by_tokens(artifact, items).to_pylist()
    shown = sorted((row for row in rows if row["num_documents"]), key=lambda row: -row["num_documents"])
    found: dict[str, Any] = {
        "items": len(rows),
        "items_not_checkable": sum(not row["checkable"] for row in rows),
        "items_shown": len(shown),
        "ngram": tokens_of_words(artifact.input("vocabulary")),
        "coverage": COVERAGE,
    }
    if shown:
        names = [f"{i['suite']}/{i['task']}/{i['item_id']} ({i['num_documents']} documents)" for i in shown]
        found["shown"] = ", ".join(names[:MOST_NAMED]) + (" …" if len(names) > MOST_NAMED else "")
    return not shown or training.manifest.recipe["action"] == "flag", found


def finite_loss(artifact: Artifact) -> Verdict:
    """Every recorded loss is a number."""
    losses = artifact.table("losses.arrow")["loss"].to_pylist()
    return bool(losses) and all(map(math.isfinite, losses)), {
        "steps": len(losses),
        "last": losses[-1] if losses else None,
    }


def better_than_unigrams(artifact: Artifact) -> Verdict:
    """Held-out bits per byte below those of token frequencies alone."""
    facts = artifact.facts
    found = {name: facts[name] for name in ("heldout_bpb", "unigram_bpb", "bigram_bpb", "trigram_bpb")}
    return facts["heldout_bpb"] < facts["unigram_bpb"], found


def _tokens(part: Artifact) -> int:
    return sum(
        int(batch["tokens"].combine_chunks().values.__len__())
        for name in part.names(".arrow")
        if name.startswith("shard-")
        for batch in read_batches(part.local(name), ["tokens"])
    )


def _some_texts(documents: Artifact, most: int) -> Iterator[str]:
    for part in documents.parts():
        table = part.table("texts.arrow")
        yield from table["text"].slice(0, max(1, most // max(1, len(documents.parts())))).to_pylist()


def _check(
    asset: dg.AssetsDefinition,
    partitions: dg.PartitionsDefinition,
    rule: Callable[[Artifact], Verdict],
    blocking: bool = True,
) -> dg.AssetChecksDefinition:
    """An asset check of one rule, judged partition by partition."""
    asset_name = asset.key.path[-1]

    @dg.asset_check(
        asset=asset,
        name=rule.__name__,
        blocking=blocking,
        partitions_def=partitions,
        description=(rule.__doc__ or "").strip(),
    )
    def check(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> dg.AssetCheckResult:
        artifact = workspace.open_store().open(asset_name, context.op_execution_context.partition_key)
        passed, found = rule(artifact)
        told = " ".join((rule.__doc__ or "").split())
        return dg.AssetCheckResult(passed=passed, metadata={**found, "manifest": artifact.digest}, description=told)

    return check


@dg.asset_check(
    asset=benchmarks.benchmark_scores,
    name="gate",
    blocking=False,
    partitions_def=CHECKPOINTS,
    description="Would the gate promote this checkpoint? (The champion asks again, on its own.)",
)
def gate(context: dg.AssetCheckExecutionContext, workspace: Workspace) -> dg.AssetCheckResult:
    from assets.blueprint import judged

    name = context.op_execution_context.partition_key
    spec, store = workspace.load_spec(), workspace.open_store()
    if name not in spec.document.runs:
        return dg.AssetCheckResult(passed=True, metadata={"verdict": "no run: no candidate for champion"})
    verdict = judged(spec, store, name)
    return dg.AssetCheckResult(
        passed=verdict.verdict == "PROMOTE",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"verdict": verdict.verdict, "reasons": "; ".join(verdict.reasons), "checkpoint": verdict.checkpoint},
    )


CHECKS = [
    _check(corpus.raw_documents, SOURCES, conserved),
    _check(corpus.text_classifier, CLASSIFIERS, better_than_chance, blocking=False),
    _check(corpus.clean_documents, SOURCES, conserved),
    _check(corpus.signatures, SOURCES, conserved),
    _check(corpus.duplicate_clusters, CORPORA, conserved),
    _check(corpus.unique_documents, CORPORA, conserved),
    _check(corpus.unique_documents, CORPORA, exact_duplicates),
    _check(corpus.heldout_documents, CORPORA, conserved),
    _check(corpus.training_documents, CORPORA, conserved),
    _check(corpus.training_documents, CORPORA, no_undecided_leak),
    _check(tokens.vocabulary, VOCABULARIES, round_trip),
    _check(tokens.token_shards, TOKENS, conserved),
    _check(tokens.token_shards, TOKENS, totals),
    _check(tokens.token_shards, TOKENS, no_item_in_tokens, blocking=False),
    _check(tokens.heldout_shards, TOKENS, conserved),
    _check(pretraining.pretrained_model, RUNS, finite_loss),
    _check(pretraining.pretrained_model, RUNS, better_than_unigrams),
    _check(finetuning.finetuning_shards, FINETUNES, conserved),
    gate,
]
