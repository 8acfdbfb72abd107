"""stemma preview: what other thresholds would keep and drop, or a mixture read, before anything is recomputed."""

from __future__ import annotations

import json as jsonlib
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.text import Text

from assets.cli import (
    JsonOption,
    SpecOption,
    StoreOption,
    WrongUseError,
    app,
    console,
    load_spec,
    open_store,
    show_json,
    table,
)
from assets.cli_show import published, texts_of
from pipelines.contamination import THRESHOLDS, tradeoff
from pipelines.mixture import MixtureRecipe
from pipelines.preview import Example, Preview
from pipelines.preview import preview as previewed
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec

PREVIEWABLE = "clean_documents"
DECONTAMINATED = "training_documents"
MIXED = "mixture"


@app.command()
def preview(
    asset: Annotated[str, typer.Argument(help="clean_documents, training_documents or mixture")] = PREVIEWABLE,
    partition: Annotated[
        str, typer.Argument(help="A source or corpus, all of them if left out; of a mixture the run")
    ] = "",
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="A threshold or a switch of the recipe; may be repeated"),
    ] = None,
    examples: Annotated[int, typer.Option("-n", min=0, help="Examples on each side of the line")] = 10,
    json: JsonOption = False,
    store: StoreOption = "",
    spec: SpecOption = "",
) -> None:
    """Print the funnel that other thresholds would give, in seconds, with examples on each side of the line.

    For example: stemma preview clean_documents --set min_words=80 --set gopher_repetition=true

    Of training_documents: how many documents, bytes and benchmark items lie above each coverage, as in
    stemma preview training_documents --set coverage=0.3

    Of a mixture: tokens, share and epochs by source, licence, language and phase, before anything trains, as in
    stemma preview mixture demo --set weights=pypi-docs.networkx=2 --set max_epochs=4
    """
    if asset == MIXED:
        _mixture(load_spec(spec), open_store(store), partition, changes or [], json=json)
        return
    if asset == DECONTAMINATED:
        _decontamination(published(open_store(store), asset, partition), changes or [], json=json)
        return
    if asset != PREVIEWABLE:
        raise WrongUseError(
            f"{asset} stores no signals; only {PREVIEWABLE}, {DECONTAMINATED} and {MIXED} can be previewed."
        )
    wanted = dict(_parsed(change) for change in changes or [])
    if not wanted:
        raise WrongUseError("nothing to preview: name at least one field, as in --set min_words=80.")
    found = previewed(published(open_store(store), asset, partition), wanted, examples)
    if json:
        show_json(_as_json(found))
        return
    _show(found, wanted)


def _parsed(change: str) -> tuple[str, Any]:
    name, equals, value = change.partition("=")
    if not equals:
        raise WrongUseError(f"--set {change}: not FIELD=VALUE.")
    try:
        return name.strip(), jsonlib.loads(value)
    except ValueError:
        return name.strip(), value


def _decontamination(corpora: list[Artifact], changes: list[str], *, json: bool) -> None:
    """What the thresholds would act on, corpus by corpus; the one that is in force is marked."""
    answers = {}
    for artifact in corpora:
        recipe = artifact.manifest.recipe
        listed = min(recipe["report"], recipe["coverage"])
        asked = [_coverage(change) for change in changes]
        coverages = sorted({*(c for c in THRESHOLDS if c >= listed), recipe["coverage"], *asked})
        answers[artifact.key.partition] = (recipe["coverage"], asked, tradeoff(artifact, coverages))
    if json:
        show_json({name: {**found._asdict(), "costs": [c._asdict() for c in found.costs]}
                   for name, (_, _, found) in answers.items()})  # fmt: skip
        return
    for name, (now, asked, found) in answers.items():
        rows = []
        for cost in found.costs:
            mark = "now" if cost.coverage == now else "asked" if cost.coverage in asked else ""
            shares = (
                f"{cost.documents / max(1, found.documents):.2%}",
                f"{cost.num_bytes / max(1, found.num_bytes):.2%}",
            )
            row = [f"{cost.coverage:g}", mark, cost.documents, shares[0], cost.num_bytes, shares[1], cost.items]
            rows.append([*row, f"{cost.items / max(1, found.items):.1%}"])
        head = "#coverage", "", "#documents", "#share", "#bytes", "#of bytes", "#items", "#of checkable"
        console.print(
            table(f"{name}: documents that show a benchmark item, and items that are shown", *head, rows=rows)
        )


def _coverage(change: str) -> float:
    name, value = _parsed(change)
    if name != "coverage" or not isinstance(value, int | float) or isinstance(value, bool):
        raise WrongUseError(f"--set {change}: of {DECONTAMINATED} only coverage can be previewed, as in coverage=0.3.")
    return float(value)


def _mixture(spec: Spec, store: Store, run: str, changes: list[str], *, json: bool) -> None:
    """What a run would read, from the token shards that there are."""
    from pipelines.mixture_preview import as_json, preview_mixture

    run = run or spec.document.default_run
    spec.run(run)  # or says that there is none
    recipe = _changed(spec.recipe(MixtureRecipe, ("runs", run, "mixture")), changes)
    shards = store.get(Key("token_shards", spec.tokens_of(run)))
    if shards is None:
        raise WrongUseError(
            f"token_shards[{spec.tokens_of(run)}] are not in {store.url}; `stemma run {run} --select token_shards` makes "
            "them, and nothing trains."
        )
    found = preview_mixture(shards, recipe)
    if json:
        show_json({"run": run, **as_json(found)})
        return
    phases = [f"#tokens from step {first:,}" for first in found.first_steps] if len(found.first_steps) > 1 else []
    for kind, rows in found.by.items():
        told = [
            [row.name, row.docs, row.tokens, *(row.read if phases else []), sum(row.read), f"{row.share:.1%}",
             f"{row.epochs:.2f}"]
            for row in rows
        ]  # fmt: skip
        head = kind, "#documents", "#tokens", *phases, "#read", "#share", "#epochs"
        console.print(table(f"{run}: {found.read:,} tokens in {found.steps:,} steps, by {kind}", *head, rows=told))
    if found.packing:
        docs = max(1, sum(row.docs for row in found.by["source"]))
        ours, theirs = found.packing["cut_docs"], found.packing["cut_docs_if_concatenated"]
        console.print(
            f"best fit cuts {ours:,} documents ({ours / docs:.1%}), concatenating would cut {theirs:,} "
            f"({theirs / docs:.1%}); {found.packing['filled_tokens']:,} tokens only fill up",
            highlight=False,
        )


def _changed(recipe: MixtureRecipe, changes: list[str]) -> MixtureRecipe:
    """The recipe with fields set anew; of a list each --set adds an entry, after the first has emptied it."""
    wanted: dict[str, Any] = {}
    for change in changes:
        name, value = _parsed(change)
        field = MixtureRecipe.model_fields.get(name)
        if field is None:
            raise WrongUseError(f"--set {change}: a mixture has the fields {', '.join(MixtureRecipe.model_fields)}.")
        if field.annotation == list[str]:
            entries = value if isinstance(value, list) else [change.partition("=")[2].strip()]
            value = [*wanted.get(name, []), *(entry for entry in entries if entry)]
        wanted[name] = value
    try:
        return MixtureRecipe.model_validate({**recipe.model_dump(), **wanted})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise WrongUseError(f"{where}: {message}" if where else message) from None


def _show(found: Preview, wanted: dict[str, Any]) -> None:
    reasons = list(dict.fromkeys([*found.now, *found.then]))
    reasons.sort(key=lambda r: (r != "kept", -found.then.get(r, 0), r))
    seen = max(1, sum(found.now.values()))
    rows = []
    for reason in reasons:
        before, after = found.now.get(reason, 0), found.then.get(reason, 0)
        rows.append([reason, before, after, f"{after - before:+,}", f"{after / seen:.1%}"])
    title = "would be, with " + ", ".join(f"{name} = {value}" for name, value in wanted.items())
    console.print(table(title, "documents", "#now", "#then", "#change", "#share then", rows=rows))
    for name, side in (("would go", found.going), ("would stay", found.staying)):
        if side:
            _show_side(name, side)


def _show_side(name: str, side: list[Example]) -> None:
    texts = {}
    for artifact in {example.artifact.prefix: example.artifact for example in side}.values():
        texts |= texts_of(artifact.inputs("raw_documents"), [e.doc_id for e in side if e.artifact == artifact])
    rows = []
    for example in side:
        value = "" if example.value is None else f" ({example.value:g})"
        change = "" if (not example.reason) == (not example.before) else f", now {example.before or 'kept'}"
        text = " ".join(texts.get(example.doc_id, "").split())
        rows.append([example.doc_id.hex()[:12], f"{example.reason or 'kept'}{value}{change}", Text(text[:160])])
    console.print(table(name, "document", "why", "begins", rows=rows))


def _as_json(found: Preview) -> dict[str, Any]:
    def rows(side: list[Example]) -> list[dict[str, Any]]:
        return [
            {"doc_id": e.doc_id.hex(), "partition": e.artifact.key.partition, "reason": e.reason, "value": e.value,
             "before": e.before}
            for e in side
        ]  # fmt: skip

    return {"now": found.now, "then": found.then, "going": rows(found.going), "staying": rows(found.staying)}
