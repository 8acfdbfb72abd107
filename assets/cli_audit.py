"""stemma audit: checkpoint, step, verify (``document`` has its own file). The base install suffices; no Dagster, no torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.text import Text

from assets.cli import (
    UNVERIFIED,
    JsonOption,
    StoreOption,
    WrongUseError,
    audit_app,
    console,
    open_store,
    show_json,
    table,
)
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import CHECKPOINTS, ancestors, bases, checkpoint
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Read, Tracer, has_steps

RunArgument = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Name of a run or fine-tune, or a .safetensors file")
]


@audit_app.command("checkpoint")
def audit_checkpoint(name: RunArgument = "demo", json: JsonOption = False, store: StoreOption = "") -> None:
    """What a checkpoint is and everything that it was made from, down to sources and licences.

    What the trainer fed to the model is recomputed from the shards; exit code 4 if it is not what the checkpoint says.
    """
    the_store = open_store(store)
    found = _checkpoint(the_store, name)
    family = list(ancestors(found))
    sources = _sources(found)
    fed = _consumption(found)
    same = not fed or fed == _sealed_consumption(found)
    if json:
        show_json(
            {
                "checkpoint": _named(found),
                "facts": found.facts,
                "consumption_recomputed": fed,
                "numerics": found.manifest.numerics,
                "sources": sources,
                "bases": [
                    {"checkpoint": _named(base), "facts": base.facts, "sources": _sources(base)}
                    for base in bases(found)
                ],
                "lineage": [_named(a) for a in family],
            }
        )
    else:
        _show_checkpoint(found, family, sources, fed, same=same)
    if not same:
        raise typer.Exit(UNVERIFIED)


def _show_reading(model: Artifact) -> None:
    """The sources of one model in the line of those that began from each other."""
    title = f"what {escape(model.key.partition)} read"
    if model.key.asset == "imported_model":
        console.print(f"{title}: not known here; the model came from elsewhere", highlight=False)
    elif sources := _sources(model):
        rows = [[s["part"], s["licence"], s["docs"], s["tokens"], s["slots"], f"{s['epochs']:.2f}"] for s in sources]
        console.print(table(title, "source", "licence", "#docs", "#tokens", "#sequences", "#epochs", rows=rows))


def _show_checkpoint(
    found: Artifact, family: list[Artifact], sources: list[dict[str, Any]], fed: str, *, same: bool
) -> None:
    console.print(
        f"[bold]{escape(str(found.key))}[/] manifest {found.digest}\ncontent {found.content}", highlight=False
    )
    if fed:
        console.print(
            f"consumption {fed}: recomputed from the shards, "
            + ("equal to what the trainer fed" if same else f"but the trainer fed {_sealed_consumption(found)}"),
            highlight=False,
            soft_wrap=True,
        )
    facts = [[name, str(value)] for name, value in found.facts.items() if not isinstance(value, (dict, list))]
    console.print(table("facts", "fact", "value", rows=facts))
    for model in (found, *bases(found)):
        _show_reading(model)
    if sources:
        by_licence: Counter[str] = Counter()
        for source in sources:
            by_licence[source["licence"]] += source["slots"]
        total = sum(by_licence.values()) or 1
        console.print(
            table(
                "by licence",
                "licence",
                "#sequences",
                "#share",
                rows=[[licence, number, f"{number / total:.1%}"] for licence, number in by_licence.most_common()],
            )
        )
    whole = [
        [a.key.asset, a.key.partition, a.digest[:16], a.manifest.version, len(a.manifest.parts)]
        for a in family
        if not a.key.part
    ]
    console.print(table("lineage", "asset", "partition", "manifest", "version", "#parts", rows=whole))


@audit_app.command("step")
def audit_step(
    name: RunArgument,
    step: Annotated[int, typer.Argument(min=1, help="Step of the run, from 1")],
    json: JsonOption = False,
    store: StoreOption = "",
) -> None:
    """The documents that one training step read, with distribution, version, file, line and licence."""
    try:
        tracer = Tracer(_checkpoint(open_store(store), name))
        reads = tracer.documents(step)
    except ValueError as error:
        raise WrongUseError(str(error)) from None
    about = tracer.described([read.doc_id for read in reads])
    rows = [_document_row(read, about[read.doc_id]) for read in reads]
    if json:
        show_json(
            {
                "checkpoint": _named(tracer.checkpoint),
                "step": step,
                "skipped": step in tracer.checkpoint.facts.get("skipped_steps", []),
                "slots": len({r.slot for r in reads}),
                "documents": rows,
            }
        )
        return
    num_tokens = tracer.plan.sequence_length * tracer.plan.batch_size(step)
    console.print(
        f"[bold]{escape(str(tracer.checkpoint.key))}[/] step {step} of {tracer.num_steps}: "
        f"{tracer.plan.batch_size(step)} sequences, {num_tokens:,} targets, "
        f"{len({r.doc_id for r in reads})} documents",
        highlight=False,
    )
    if step in tracer.checkpoint.facts.get("skipped_steps", []):
        console.print("the step was skipped: its data were read, no weight was changed (skipped.arrow says why)")
    console.print(
        table(
            "documents",
            "#slot",
            "document",
            "source",
            "file",
            "#line",
            "licence",
            "#tokens",
            rows=[
                [r["slot"], r["doc_id"][:12], r["source"], r["file"], r["line"], r["licence"], r["tokens"]]
                for r in rows
            ],
        )
    )


@audit_app.command("verify")
def audit_verify(json: JsonOption = False, store: StoreOption = "") -> None:
    """Prove that every byte of the store is the one that was sealed; exit code 4 and the file's name if not."""
    from pipelines.provenance.verify import verify_store

    the_store = open_store(store)
    if not the_store.files.names("ledger"):
        raise ValueError(f"{the_store.url} holds no ledger: it is no store, or nothing has been made in it yet.")
    with Progress(
        TextColumn("verifying"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=json or not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=_evidence_bytes(the_store))
        report = verify_store(the_store, lambda num_bytes: progress.advance(task, num_bytes))
    if json:
        show_json(
            {
                "sound": report.sound,
                "artifacts": report.artifacts,
                "files": report.files,
                "bytes": report.num_bytes,
                "ledger_entries": report.ledger_entries,
                "problems": report.problems,
                "unfinished": report.unfinished,
            }
        )
    else:
        console.print(
            f"{report.artifacts:,} artifacts, {report.files:,} files, {report.num_bytes:,} bytes, "
            f"{report.ledger_entries:,} ledger entries",
            highlight=False,
        )
        for line in report.unfinished:
            console.print(f"unfinished, no evidence: {line}", markup=False, highlight=False, soft_wrap=True)
        for problem in report.problems:
            console.print(Text.assemble(("✗ ", "red"), problem), soft_wrap=True)
        console.print("[green]verified[/]" if report.sound else f"[bold red]{len(report.problems)} problems[/]")
    if not report.sound:
        raise typer.Exit(UNVERIFIED)


def _consumption(found: Artifact) -> str:
    """The chain over every sequence that the plan says, from the shards; empty where no step read any."""
    from pipelines.consumption import recompute_consumption

    if not has_steps(found):
        return ""
    tracer = Tracer(found)
    return recompute_consumption(tracer.plan, tracer.readers, tracer.num_steps)


def _sealed_consumption(found: Artifact) -> str:
    """By the trainer's own account; that of a pruned model is of its recovery."""
    return found.facts.get("consumption") or found.facts.get("recovery_consumption", "")


def _checkpoint(store: Store, name: str) -> Artifact:
    """By name, or by what a bare safetensors file says of itself."""
    path = Path(name)
    if path.suffix == ".safetensors" and path.is_file():
        return _identified(store, path)
    try:
        return checkpoint(store, name)
    except StoreError as error:
        raise WrongUseError(str(error)) from None


def _identified(store: Store, path: Path) -> Artifact:
    """The artifact, a milestone of a run included, with a file of this digest; of several the published one."""
    from pipelines.provenance.manifest import file_entry

    wanted = file_entry(path.parent, path.name).blake3
    keys = {Key(k.asset, k.partition) for k in store.keys() if k.asset in CHECKPOINTS}
    for key in sorted(keys):
        published = store.get(key)
        for artifact in [*([published] if published else []), *store.sealed(key)]:
            for found in (artifact, *artifact.parts()):
                if any(f.blake3 == wanted for f in found.manifest.files):
                    return found
    raise ValueError(
        f"{path}: no checkpoint in {store.url} has blake3 {wanted[:16]}…; it is from another store, or it was changed."
    )


def _sources(found: Artifact) -> list[dict[str, Any]]:
    mixture = next(
        (a for a in ancestors(found) if a.key.asset == "mixture" and found.key.asset != "imported_model"), None
    )
    return mixture.table("sources.arrow").to_pylist() if mixture else []


def _named(artifact: Artifact) -> dict[str, str]:
    return {**artifact.key._asdict(), "digest": artifact.digest, "content": artifact.content}


def _document_row(read: Read, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "slot": read.slot,
        "doc_id": read.doc_id.hex(),
        "source": read.part,
        "uri": about["uri"],
        "file": about["file"],
        "line": about["position"],
        "licence": about["licence"],
        "first_token": read.start,
        "tokens": read.length,
    }


def _evidence_bytes(store: Store) -> int:
    return sum(store.files.size(path) for path in store.files.walk("artifacts"))
