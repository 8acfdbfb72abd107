"""What a model looks like in the UI: its curves, and what it makes of the held-out text of every source."""

from __future__ import annotations

from assets.line_chart import small_chart
from assets.markdown import literal
from assets.run_facts import smoothed
from pipelines.profile.plots import as_markdown
from pipelines.provenance.artifact import Artifact

MOST_SOURCES = 40  # rows of the table


def model_pictures(artifact: Artifact) -> dict[str, str]:
    """Markdown by name; nothing for what is no trained model."""
    names = artifact.names()
    if "losses.arrow" not in names or artifact.key.asset not in ("pretrained_model", "finetuned_model"):
        return {}
    table = artifact.table("losses.arrow")
    found = {"plot_loss": loss_picture(table["step"].to_pylist(), table["loss"].to_pylist())}
    evaluations = artifact.json("heldout.json")["evaluations"] if "heldout.json" in names else []
    judged = [(each["step"], each["bpb"]) for each in evaluations if each.get("bpb") is not None]
    if len(judged) > 1:
        found["plot_heldout_bpb"] = picture(
            [step for step, _ in judged], [bpb for _, bpb in judged], "held-out bits per byte by step"
        )
    if evaluations and evaluations[-1].get("by_part"):
        found["heldout_by_source"] = by_source(evaluations)
    return {name: text for name, text in found.items() if text}


def loss_picture(steps: list[float], losses: list[float]) -> str:
    return picture(steps, smoothed(losses), "loss by step, smoothed")


def picture(steps: list[float], values: list[float], name: str) -> str:
    svg = small_chart(steps, values, name)
    return as_markdown(svg, name) if svg else ""


def by_source(evaluations: list[dict]) -> str:
    """Held-out bits per byte at the first and the last evaluation, sources with most documents first."""
    first = evaluations[0].get("by_part", {}) if len(evaluations) > 1 else {}
    last = evaluations[-1]["by_part"]
    ordered = sorted(last, key=lambda part: (-last[part]["docs"], part))
    lines = ["| source | documents | first | last |", "|---|---:|---:|---:|"]
    lines += [
        f"| {literal(part)} | {last[part]['docs']:,} | {_bpb(first.get(part))} | {_bpb(last[part])} |"
        for part in ordered[:MOST_SOURCES]
    ]
    if len(ordered) > MOST_SOURCES:
        lines.append(f"| and {len(ordered) - MOST_SOURCES:,} more | | | |")
    return "\n".join(lines)


def _bpb(score: dict | None) -> str:
    return "" if score is None or score["bpb"] is None else f"{score['bpb']:.3f}"
