"""What a person sees when a run has ended: funnel, loss curve, scores, where everything is, what to try next."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from assets.blueprint import contest
from assets.cli import table
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec

FUNNEL = ("raw_documents", "clean_documents", "unique_documents", "heldout_documents", "training_documents")
FATES = ("seen", "kept", "held_out", "merged", "dropped", "quarantined")
BARS = "▁▂▃▄▅▆▇█"
MOST_SOURCES = 12  # rows of the table by source


def summary(spec: Spec, store: Store, run: str) -> dict[str, Any]:
    """The same facts as JSON."""
    model = store.get(Key("pretrained_model", run))
    names = [run, *spec.finetunes_of(run), *spec.compressions_of(run)]
    return {
        "funnel": [{"stage": asset, **counts} for asset, counts in funnel(spec, store, run)],
        "model": {"digest": model.digest, **model.facts} if model else None,
        "scores": [{"checkpoint": name, **score} for name in names for score in scores(store, name)],
        "champion": champion(spec, store, run),
        "store": store.url,
        "report": str(report_page(store, model)) if model else None,
    }


def show_summary(console: Console, spec: Spec, store: Store, run: str, built: int, seconds: float) -> None:
    """Print it."""
    if built:
        console.print(f"\n[bold green]{run}[/]: {built} steps built in {seconds:.0f} s.")
    else:
        console.print(f"[bold green]{run}[/]: nothing to do, everything is as stemma.toml says.")
    rows = [[asset, *[counts.get(name, 0) for name in FATES]] for asset, counts in funnel(spec, store, run)]
    if rows:
        console.print(table("documents", "stage", *[f"#{name}" for name in FATES], rows=rows))
    model = store.get(Key("pretrained_model", run))
    if model is not None:
        _show_model(console, store, model)
    _show_scores(console, spec, store, run)
    _show_next(console, store, run)


def funnel(spec: Spec, store: Store, run: str) -> list[tuple[str, dict[str, int]]]:
    """Documents by fate at every stage of the run's corpus; source stages are summed."""
    corpus = spec.run(run).corpus
    rows = []
    for asset in FUNNEL:
        partitions = spec.sources_of(corpus) if asset in FUNNEL[:2] else [corpus]
        found = [a for p in partitions if (a := store.get(Key(asset, p)))]
        if found:
            rows.append((asset, {name: sum(a.counts.get(name, 0) for a in found) for name in FATES}))
    return rows


def scores(store: Store, checkpoint: str) -> list[dict[str, Any]]:
    found = store.get(Key("benchmark_scores", checkpoint))
    return found.json("scores.json")["scores"] if found else []


def champion(spec: Spec, store: Store, run: str) -> dict[str, Any] | None:
    """Who is in charge of the contest that a run takes part in."""
    found = store.get(contest(spec, run))
    return found.json("champion.json") if found else None


def sparkline(values: list[float], width: int = 60) -> str:
    """Values as a row of blocks, each the mean of its share; a share that is no number is a question mark."""
    width = min(width, len(values))
    edges = [len(values) * i // max(width, 1) for i in range(width + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)] or [0.0]
    low, span = min(finite), (max(finite) - min(finite)) or 1.0
    return "".join(
        BARS[min(len(BARS) - 1, int((mean - low) / span * len(BARS)))] if math.isfinite(mean) else "?" for mean in means
    )


def _show_model(console: Console, store: Store, model: Artifact) -> None:
    facts = model.facts
    losses = model.table("losses.arrow")["loss"].to_pylist()
    console.print(
        f"\nloss {losses[0]:.2f} {sparkline(losses)} {losses[-1]:.2f}  ({len(losses)} points, "
        f"{facts['tokens']:,} tokens, {facts['parameters']:,} parameters)",
        highlight=False,
    )
    names = ("heldout_bpb", "heldout_bpb_clean", "trigram_bpb", "bigram_bpb", "unigram_bpb")
    shown = [
        [
            name.removesuffix("_bpb") if name != "heldout_bpb_clean" else "held-out, no training overlap",
            f"{facts[name]:.3f}",
        ]
        for name in names
        if facts.get(name) is not None
    ]
    console.print(table("bits per byte on held-out documents", "model or baseline", "#bpb", rows=shown))
    _show_by_source(console, model)
    console.print(f"report: {report_page(store, model)}", markup=False, highlight=False, soft_wrap=True)


def _show_by_source(console: Console, model: Artifact) -> None:
    """Held-out bits per byte of the sources with most documents, and their way there."""
    evaluations = model.json("heldout.json")["evaluations"] if "heldout.json" in model.names() else []
    last = evaluations[-1].get("by_part", {}) if evaluations else {}
    rows = []
    for part in sorted(last, key=lambda part: (-last[part]["docs"], part))[:MOST_SOURCES]:
        way = [
            e["by_part"][part]["bpb"]
            for e in evaluations[:-1]
            if e.get("by_part", {}).get(part, {}).get("bpb") is not None
        ]
        bpb = last[part]["bpb"]
        rows.append([part, last[part]["docs"], sparkline(way, 20), "" if bpb is None else f"{bpb:.3f}"])
    if len(rows) > 1:  # of one source it is the figure above
        more = f", {len(rows)} of {len(last)} sources" if len(last) > len(rows) else ""
        console.print(table(f"by source{more}", "source", "#documents", "on the way", "#bpb", rows=rows))


def _show_scores(console: Console, spec: Spec, store: Store, run: str) -> None:
    rows = [
        [
            name,
            s["task"],
            s["metric"],
            f"{s['value']:.3f}",
            f"{s['low']:.3f} to {s['high']:.3f}",
            "" if s["baseline"] is None else f"{s['baseline']:.3f}",
            s["n"],
        ]
        for name in [run, *spec.finetunes_of(run), *spec.compressions_of(run)]
        for s in scores(store, name)
        if s["headline"] and s["subset"] == "all"
    ]
    if rows:
        console.print(
            table(
                "scores, with 95 % intervals clustered by file",
                "checkpoint",
                "task",
                "metric",
                "#value",
                "#interval",
                "#chance",
                "#items",
                rows=rows,
            )
        )
    if in_charge := champion(spec, store, run):
        reasons = escape("; ".join(in_charge["reasons"]))
        console.print(f"champion: [bold]{in_charge['checkpoint']['partition']}[/] ({reasons})", highlight=False)


def _show_next(console: Console, store: Store, run: str) -> None:
    model = store.get(Key("pretrained_model", run))
    console.print(f"\nstore: {store.url}", markup=False, highlight=False, soft_wrap=True)
    look = [("stemma show clean_documents --dropped any", "what was dropped, and why")]
    if model:
        step = min(120, model.facts["step"])
        look = [
            (f'stemma generate --run {run} "Return the "', "let the model write"),
            (f"stemma audit step {run} {step}", f"the documents that step {step} read"),
        ]
    for command, effect in (
        ("stemma ui", "the graph, funnels, plots and checks in the browser"),
        *look,
        ("stemma audit verify", "prove that every byte is the one that was sealed"),
        ("stemma source add NAME PATH --license SPDX --corpus mine && stemma run mine", "train on your own text"),
    ):
        console.print(f"  [cyan]{command}[/]  [dim]{effect}[/]", highlight=False, soft_wrap=True)


def report_page(store: Store, model: Artifact) -> Path:
    """The report of a model, named by its digest so that it is written once."""
    from assets.cli_report import default_path
    from assets.report import report
    from assets.run_facts import RunFacts

    path = default_path(store, [model])
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report([RunFacts.of(store, model.key.partition)]), encoding="utf-8")
    return path
