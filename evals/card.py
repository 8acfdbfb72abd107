"""The model card: what a checkpoint is, what it was trained on, how it scores, and what it is not good for.

Every number in it comes from sealed artifacts behind the checkpoint; nothing is typed by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import Field

from evals.bundle import fates_by_stage, pretrained
from evals.scores import FILE as SCORES_FILE
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import ancestor, ancestors
from pipelines.provenance.plan import Plan
from pipelines.provenance.recipe import Recipe

CARD_VERSION = "2"
FILE = "card.md"
LINEAGE = (
    "finetuned_model", "finetuning_shards", "pretrained_model", "mixture", "token_shards", "heldout_shards", "vocabulary",
    "training_documents", "heldout_documents", "unique_documents", "duplicate_clusters", "benchmark_prompts",
)  # fmt: skip


class CardRecipe(Recipe):
    """How much a card tells."""

    max_sources: int = Field(
        default=50, ge=1, description="Sources listed by name, largest first; the rest is summed up"
    )


def model_card(checkpoint: Artifact, scores: Artifact, recipe: CardRecipe, draft: Draft) -> Artifact:
    """Write the card of a checkpoint.

    Raises:
        ValueError: if the scores are another checkpoint's.
    """
    scored = scores.json(SCORES_FILE)
    if scored["checkpoint"] != checkpoint.content:
        raise ValueError(f"{scores.key} are the scores of {scored['checkpoint'][:12]}…, not of {checkpoint.key}.")
    base = pretrained(checkpoint)
    sections = [
        _head(checkpoint, base),
        *_data(checkpoint, recipe),
        _recipe(checkpoint),
        _scores(scored["scores"]),
        *_heldout(base, checkpoint),
        _limits(checkpoint, scored["scores"]),
        _lineage(checkpoint, scores),
    ]
    draft.path(FILE).write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return draft.seal(facts={"checkpoint": checkpoint.content})


def _head(checkpoint: Artifact, base: Artifact) -> str:
    facts = base.facts
    told = [f"{facts['parameters']:,} parameters"] if "parameters" in facts else []
    if {"tokens", "step"} <= facts.keys():
        told.append(f"{facts['tokens']:,} tokens read in {facts['step']:,} steps")
    kind = "language model trained from scratch"
    if checkpoint.key.asset == "compressed_model":
        kind = f"compression ({checkpoint.facts['method']}) of `{base.key}`"
        told.append(f"{checkpoint.facts['bytes']:,} bytes instead of {checkpoint.facts['base_bytes']:,}")
    elif checkpoint.digest != base.digest:
        kind = f"fine-tune ({checkpoint.facts.get('task', 'task unknown')}) of `{base.key}`"
        told.append(f"then {checkpoint.facts.get('step', 0):,} steps of fine-tuning")
    size = ", ".join(told) or "size unknown"
    return f"# {checkpoint.key.partition}\n\nA {kind} by Stemma: {size}.\nCheckpoint `{checkpoint.digest}`."


# -- data ------------------------------------------------------------------------------------------------------


def _data(checkpoint: Artifact, recipe: CardRecipe) -> Iterable[str]:
    try:
        mixture = ancestor(checkpoint, "mixture")
    except StoreError:
        yield "## Data\n\nNot known: this model was not trained from a mixture of ours."
        return
    sources = mixture.table("sources.arrow").to_pylist()
    length = Plan.model_validate(mixture.json("plan.json")).sequence_length
    read = sum(row["slots"] for row in sources) or 1
    ordered = sorted(sources, key=lambda row: (-row["slots"], row["part"]))
    listed = [_source_row(row["part"], row["licence"], [row], length, read) for row in ordered[: recipe.max_sources]]
    rest = ordered[recipe.max_sources :]
    if rest:
        listed.append(_source_row(f"{len(rest)} more", "various", rest, length, read))
    yield "## Data by source\n\n" + _table(
        ["source", "licence", "documents", "tokens there", "tokens read", "share", "epochs"], listed
    )
    by_licence: dict[str, list[dict[str, Any]]] = {}
    for row in sources:
        by_licence.setdefault(row["licence"], []).append(row)
    rows = [
        [licence, f"{len(found)}", *_source_row("", "", found, length, read)[2:6]]
        for licence, found in sorted(by_licence.items(), key=lambda item: (-sum(r["slots"] for r in item[1]), item[0]))
    ]
    yield "## Data by licence\n\n" + _table(
        ["licence", "sources", "documents", "tokens there", "tokens read", "share"], rows
    )
    yield _funnel(checkpoint)


def _source_row(name: str, licence: str, rows: Sequence[dict[str, Any]], length: int, read: int) -> list[str]:
    slots, tokens = sum(r["slots"] for r in rows), sum(r["tokens"] for r in rows)
    epochs = f"{rows[0]['epochs']:.2f}" if len(rows) == 1 else ""
    return [name, licence, f"{sum(r['docs'] for r in rows):,}", f"{tokens:,}", f"{slots * length:,}",
            f"{slots / read:.1%}", epochs]  # fmt: skip


def _funnel(checkpoint: Artifact) -> str:
    rows = [
        [f"{row['asset']}[{row['partition']}]", *(f"{row[n]:,}" for n in ("seen", "kept", "held_out", "dropped", "merged", "quarantined"))]
        for row in fates_by_stage(list(ancestors(checkpoint)))
    ]  # fmt: skip
    return "## What became of the documents\n\n" + _table(
        ["stage", "seen", "kept", "held out", "dropped", "merged", "quarantined"], rows
    )


# -- training, scores, limits ----------------------------------------------------------------------------------


def _recipe(checkpoint: Artifact) -> str:
    rows = [[f"`{name}`", f"{value}"] for name, value in sorted(checkpoint.manifest.recipe.items())]
    rows += [[f"numerics `{name}`", f"{value}"] for name, value in sorted(checkpoint.manifest.numerics.items())]
    return "## Training recipe\n\n" + _table(["field", "value"], rows)


def _scores(rows: Sequence[dict[str, Any]]) -> str:
    told = [
        [row["task"], row["metric"], row["subset"], f"{row['value']:.4f}", _interval(row), f"{row['n']:,}",
         f"{row['clusters']:,}", "" if row["baseline"] is None else f"{row['baseline']:.4f}"]
        for row in rows
    ]  # fmt: skip
    return "## Scores\n\n" + _table(
        ["task", "metric", "items", "value", "95 % interval", "n", "clusters", "guessing"], told
    ) + "\n\nErrors are clustered by the file that an item was cut from."  # fmt: skip


def _interval(row: dict[str, Any]) -> str:
    return "unknown" if row["low"] is None else f"{row['low']:.4f} to {row['high']:.4f}"


def _heldout(base: Artifact, checkpoint: Artifact) -> Iterable[str]:
    is_compressed = checkpoint.key.asset == "compressed_model"
    trained = "its base, by its own arithmetic" if is_compressed else "this model"
    rows = _facts_told(base, {
        f"{trained}, all held-out documents": "heldout_bpb",
        f"{trained}, those without overlap with training": "heldout_bpb_clean",
        "token trigram": "trigram_bpb", "token bigram": "bigram_bpb", "token unigram": "unigram_bpb",
    })  # fmt: skip
    if is_compressed:
        own = {"this model, all held-out documents": "heldout_bpb", "its base, in fp32 as this one": "base_heldout_bpb"}
        rows = _facts_told(checkpoint, own) + rows
    if rows:
        yield "## Held-out text\n\n" + _table(["predictor", "bits per byte"], rows)


def _facts_told(artifact: Artifact, names: dict[str, str]) -> list[list[str]]:
    """A row for each fact that there is."""
    return [
        [told, f"{artifact.facts[name]:.4f}"] for told, name in names.items() if artifact.facts.get(name) is not None
    ]


def _limits(checkpoint: Artifact, rows: Sequence[dict[str, Any]]) -> str:
    told = [
        "- It was trained on the documents above and on nothing else; outside of their language and subject it is untested.",
        "- It has not been tuned to be safe or truthful. What it says is not checked by anything.",
        "- Licences are those that the sources state about themselves; a model may repeat passages of its training text.",
    ]
    weak = sorted({_plain(f"{r['task']} ({r['metric']})") for r in rows if _no_better_than_guessing(r)})
    told += [f"- No better than guessing, within the error: {', '.join(weak)}."] if weak else []
    told += [] if any(r["subset"] == "clean" for r in rows) else [
        "- Overlap of the benchmark items with its training text was not measured."]  # fmt: skip
    return f"## Limits of `{checkpoint.key.partition}`\n\n" + "\n".join(told)


def _no_better_than_guessing(row: dict[str, Any]) -> bool:
    if row["baseline"] is None or row["low"] is None or row["subset"] != "all":
        return False
    return row["low"] <= row["baseline"] if row["higher_is_better"] else row["high"] >= row["baseline"]


def _lineage(checkpoint: Artifact, scores: Artifact) -> str:
    found = [a for a in ancestors(checkpoint, scores) if not a.key.part and a.key.asset in LINEAGE]
    found.sort(key=lambda a: (LINEAGE.index(a.key.asset), a.key.partition, a.digest))
    rows = [[f"`{a.key}`", f"`{a.digest}`", f"`{a.content}`"] for a in [scores, *found]]
    return "## Lineage\n\n" + _table(["artifact", "manifest", "content"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_plain(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(text: str) -> str:
    """Names and licences come from data: one line that ends no cell, opens no tag and makes no link."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("](", "]\\(")
