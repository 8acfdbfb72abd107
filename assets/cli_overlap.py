"""stemma audit overlap: which benchmark items the token shards show, asked of the shards alone."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from assets.cli import REFUSED, JsonOption, StoreOption, WrongUseError, audit_app, console, open_store, show_json, table
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.store import Store

if TYPE_CHECKING:
    from pipelines.token_overlap import Item


@audit_app.command("overlap")
def audit_overlap(
    corpus: Annotated[str, typer.Argument(metavar="CORPUS", help="Token shards: a corpus, or CORPUS@VOCABULARY")],
    suite: Annotated[
        list[str] | None, typer.Option("--suite", help="Look for this suite's items [default: those of the corpus]")
    ] = None,
    items: Annotated[
        Path | None, typer.Option("--items", metavar="FILE", help='Items of your own: JSON lines with "text"')
    ] = None,
    ngram: Annotated[
        int, typer.Option(min=0, max=256, help="Tokens of an n-gram (Llama 2: 11); 0: as many as 13 words have")
    ] = 0,
    coverage: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of its tokens at which a document shows an item")
    ] = 0.8,
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """Which benchmark items stand in the token shards, letter by letter, and in which documents; exit code 3 if any.

    Nothing is read but shards, vocabulary and items: what a trainer reads is searched for the items' own tokens.
    """
    from pipelines.token_overlap import shown_by_tokens, tokens_of_words

    the_store = open_store(store)
    shards = _opened(the_store, "token_shards", corpus)
    wanted = _items(the_store, shards, suite or [], items)
    ngram = ngram or tokens_of_words(shards.input("vocabulary"))
    rows = shown_by_tokens(shards, wanted, ngram=ngram, coverage=coverage).to_pylist()
    for row in rows:
        row["documents"] = [doc_id.hex() for doc_id in row["documents"]]
    shown = [row for row in rows if row["num_documents"]]
    checkable = sum(row["checkable"] for row in rows)
    if json:
        show_json({"shards": shards.digest, "ngram": ngram, "coverage": coverage, "items": rows})
    else:
        shown.sort(key=lambda row: -row["coverage"])
        console.print(
            f"{len(shown)} of {checkable} items are shown by documents of {shards.key}, by n-grams of {ngram} tokens "
            f"({len(rows) - checkable} more are too short to be looked for)",
            highlight=False,
        )
        cells = [
            [r["suite"], f"{r['task']}/{r['item_id']}", r["num_tokens"], f"{r['coverage']:.2f}", r["num_documents"],
             ", ".join(document[:12] for document in r["documents"])]
            for r in shown
        ]  # fmt: skip
        if cells:
            console.print(
                table("items shown", "suite", "item", "#tokens", "#coverage", "#documents", "the first", rows=cells)
            )
    if shown:
        raise typer.Exit(REFUSED)


def _opened(store: Store, asset: str, partition: str) -> Artifact:
    try:
        return store.open(asset, partition)
    except StoreError as error:
        raise WrongUseError(str(error)) from None


def _items(store: Store, shards: Artifact, suites: list[str], file: Path | None) -> list[Item]:
    from pipelines.token_overlap import items_of

    if suites:
        prompts = [_opened(store, "benchmark_prompts", suite) for suite in suites]
    else:
        prompts = [] if file else shards.input("training_documents").inputs("benchmark_prompts")
    found = [item for one in prompts for item in items_of(one)]
    found += _of_file(file) if file else []
    if not found:
        raise WrongUseError(f"{shards.key} knows of no benchmark; name one with --suite, or give --items FILE.")
    return found


def _of_file(file: Path) -> list[Item]:
    from pipelines.token_overlap import Item

    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUseError(f"{file}: cannot be read as UTF-8 text ({error}).") from None
    return [Item(file.stem, *_item(file, number, line)) for number, line in enumerate(lines, 1) if line.strip()]


def _item(file: Path, number: int, line: str) -> tuple[str, str, str]:
    try:
        row: Any = jsonlib.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise WrongUseError(
            f'{file.name}: line {number} is {line[:40]!r}; expected an object with a "text" (and "task" and "item_id").'
        )
    return str(row.get("task", "")), str(row.get("item_id", number)), row["text"]
