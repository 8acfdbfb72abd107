"""stemma show, status and export: look at what was made, and take it elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.columns import Columns
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from assets import cli_profile
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
from assets.examples import texts_of
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import FILE as FATES_FILE
from pipelines.provenance.fates import KEPT, MERGED
from pipelines.provenance.lineage import checkpoint
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.provenance.tables import read_batches


@app.command()
def show(
    asset: Annotated[str, typer.Argument(help="For example clean_documents, benchmark_samples, model_card")],
    partition: Annotated[str, typer.Argument(help="All partitions if left out")] = "",
    dropped: Annotated[
        str,
        typer.Option(
            "--dropped",
            metavar="REASON",
            help="Only documents that went for this reason (its beginning suffices; 'any' for all)",
        ),
    ] = "",
    limit: Annotated[int, typer.Option("-n", min=1, help="How many documents or rows")] = 5,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="source_profile: write its page of plots (HTML) there")
    ] = None,
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """Read what an asset holds: texts that were kept or dropped, beside what was changed; rows of other tables."""
    the_store = open_store(store)
    artifacts = published(the_store, asset, partition)
    if asset == cli_profile.ASSET:
        cli_profile.show_profiles(artifacts, limit, json, out)
        return
    if out is not None:
        raise WrongUseError(f"--out writes the page of a {cli_profile.ASSET}; {asset} has none.")
    if any(FATES_FILE in part.names() for part in artifacts[0].parts()):
        found = list(itertools.islice(_documents(artifacts, dropped), limit))
        if not found:
            raise ValueError(
                f"{asset}: no document {f'dropped as {dropped!r}' if dropped else 'was kept'}. "
                f"There are: {', '.join(_reasons(artifacts)) or 'none that went'}."
            )
        if json:
            show_json([{k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()} for row in found])
        else:
            for row in found:
                _show_document(row)
        return
    _show_other(artifacts[0], limit, json)


@app.command()
def status(
    run: Annotated[str, typer.Argument(metavar="[RUN]", help="Only what this run stands on")] = "",
    json: JsonOption = False,
    store: StoreOption = "",
    spec: SpecOption = "",
) -> None:
    """Per partition: fresh, pinned, stale and because of what, or not made; and where a recipe departs from the spec."""
    from assets.planner import Planner

    the_spec, the_store = load_spec(spec), open_store(store)
    planner = Planner(the_spec, the_store)
    steps = {}
    for name in [run] if run else [*the_spec.document.runs, *the_spec.document.sweeps]:
        steps.update({step.key: step for step in planner.steps(name)})
    rows = [
        {
            **key._asdict(),
            "state": step.state,
            "because": step.because,
            "digest": _digest(the_store, planner.blueprint(key).under or key),
        }
        for key, step in steps.items()
    ]
    if json:
        show_json(rows)
        return
    colour = {"fresh": "green", "pinned": "cyan", "stale": "yellow", "missing": "dim"}
    console.print(
        table(
            "status",
            "asset",
            "partition",
            "state",
            "because",
            "content",
            rows=[
                [r["asset"], r["partition"], Text(r["state"], style=colour[r["state"]]), r["because"], r["digest"][:12]]
                for r in rows
            ],
        )
    )


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Run or fine-tune")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="New or empty directory")],
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """Write a directory that transformers loads (AutoModelForCausalLM, AutoTokenizer), and check it by loading it."""
    from training.export import export as export_checkpoint

    if out.exists() and any(out.iterdir()):
        raise WrongUseError(f"{out} is not empty; give a new directory.")
    facts = export_checkpoint(checkpoint(open_store(store), run), out)
    if json:
        show_json({"path": str(out), **facts})
    else:
        console.print(
            f"{out}: reloaded in transformers, largest logit difference {facts['max_logit_difference']:.1e}",
            markup=False,
            highlight=False,
        )


def published(store: Store, asset: str, partition: str) -> list[Artifact]:
    """The published artifacts of an asset, of one partition or of all.

    Raises:
        WrongUseError: if there are none.
    """
    keys = [k for k in store.keys() if k.asset == asset and not k.part and partition in ("", k.partition)]
    if not keys:
        there = sorted({k.asset for k in store.keys()})
        partitions = [k.partition for k in store.keys() if k.asset == asset]
        hint = (
            f"its partitions are {', '.join(partitions)}" if partitions else f"there are {', '.join(there) or 'none'}"
        )
        raise WrongUseError(f"{asset} {partition} is not in {store.url}; {hint}.")
    return [store.open(*key) for key in keys]


def _documents(artifacts: list[Artifact], reason: str) -> Iterator[dict[str, Any]]:
    """Documents that were kept, or that went for a reason, each with its text before and after the stage."""
    for artifact in artifacts:
        for part in artifact.parts():
            if FATES_FILE not in part.names():
                continue
            for batch in read_batches(part.local(FATES_FILE)):
                rows = batch.filter(_chosen(batch, reason)).to_pylist()
                for start in range(0, len(rows), 32):
                    yield from _with_texts(part, rows[start : start + 32], artifact.inputs("clean_documents"))


def _chosen(batch: pa.Table, reason: str) -> Any:
    if not reason:
        return pc.equal(batch["fate"], KEPT)
    gone = pc.not_equal(batch["fate"], KEPT)
    if reason == "any":
        return gone
    reasons, methods = (pc.fill_null(batch[name], "") for name in ("reason", "method"))
    why = pc.if_else(pc.equal(reasons, ""), methods, reasons)
    whole = pc.binary_join_element_wise(batch["fate"], why, ": ")  # as our own messages write it
    return pc.and_(gone, pc.or_(pc.starts_with(why, reason), pc.starts_with(whole, reason)))


def _with_texts(part: Artifact, rows: list[dict[str, Any]], everywhere: list[Artifact]) -> Iterator[dict[str, Any]]:
    """Rows with their texts; the survivor of a twin may come from any source of the corpus."""
    ids = [row["doc_id"] for row in rows]
    after = texts_of([part], ids)
    before = texts_of([source for i in part.inputs() for source in i.parts()], ids)
    survivors = texts_of(everywhere, [row["survivor"] for row in rows if row["survivor"]])
    for row in rows:
        yield {
            **row,
            "partition": part.key.part or part.key.partition,
            "before": before.get(row["doc_id"]),
            "after": after.get(row["doc_id"]),
            "survivor_text": survivors.get(row["survivor"]),
        }


def _reasons(artifacts: list[Artifact]) -> list[str]:
    from pipelines.provenance.fates import kinds

    tables = (t for a in artifacts for part in a.parts() for t in read_batches(part.local(FATES_FILE)))
    return [f"{name} ({number})" for name, number in kinds(tables).items()]


def _show_document(row: dict[str, Any]) -> None:
    value = "" if row["value"] is None else f" ({row['value']:g})"
    why = row["reason"] or row["method"]
    head = f"{row['doc_id'].hex()} · {row['partition']} · {row['fate']} {why}{'' if row['fate'] == MERGED else value}"
    if row["fate"] == MERGED:
        alike = ", cosine" if row["jaccard"] is None else f", Jaccard {row['jaccard']:.2f}"
        head += f" into {row['survivor'].hex()[:12]}…{alike}{value if row['jaccard'] is None else ''}"
        sides = [("this document", row["before"]), ("survivor", row["survivor_text"])]
    elif row["after"] is not None and row["before"] not in (None, row["after"]):
        sides = [("before", row["before"]), ("after", row["after"])]
    else:
        sides = [("text", row["after"] if row["after"] is not None else row["before"])]
    console.rule(escape(head), align="left")
    width = max(30, (console.width - 2) // len(sides) - 1)
    console.print(Columns([Panel(Text(_shortened(text)), title=name, width=width) for name, text in sides]))


def _shortened(text: str | None, most: int = 1200) -> str:
    if text is None:
        return "(no text: its bytes could not be read)"
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def _show_other(artifact: Artifact, limit: int, as_json: bool) -> None:
    """Facts, readable files and the first rows of the tables of an artifact without documents."""
    part = artifact.parts()[0]
    tables = {
        name: _rows(part.local(name), limit)
        for name in part.names()
        if name.endswith((".arrow", ".parquet")) and not name.startswith("shard-")
    }
    if as_json:
        show_json(
            {
                **artifact.key._asdict(),
                "digest": artifact.digest,
                "counts": artifact.counts,
                "facts": artifact.facts,
                "files": artifact.names(),
                "rows": tables,
            }
        )
        return
    console.print(f"[bold]{escape(str(artifact.key))}[/] {artifact.digest}", highlight=False)
    for name in part.names(".md"):
        from rich.markdown import Markdown

        console.print(Markdown(part.local(name).read_text(encoding="utf-8")))
    facts = {**artifact.counts, **artifact.facts}
    console.print(table("facts", "name", "value", rows=[[k, _shortened(str(v), 200)] for k, v in facts.items()]))
    for name, rows in tables.items():
        if rows:
            columns = list(rows[0])[:8]
            console.print(table(name, *columns, rows=[[_shortened(str(r[c]), 80) for c in columns] for r in rows]))
    console.print("files: " + ", ".join(artifact.names()), markup=False, highlight=False)


def _rows(path: Path, limit: int) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path).slice(0, limit).to_pylist()
    else:
        first = next(iter(read_batches(path)), None)
        rows = first.slice(0, limit).to_pylist() if first is not None else []
    return [{k: v.hex() if isinstance(v, bytes) else v for k, v in row.items()} for row in rows]


def _digest(store: Store, key: Key) -> str:
    found = store.get(key)
    return found.content if found else ""
