"""Draws docs/graph.png from the graph's snapshot: python docs/draw_graph.py."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

HERE = Path(__file__).resolve().parent
COLOURS = {"corpus": "#4f6d7a", "tokens": "#8a6d3b", "pretraining": "#9b3d4b", "finetuning": "#6b4f8a",
           "compression": "#7a5a3d", "scaling": "#3d5f8a", "benchmarks": "#3d7a5a", "release": "#333f48"}  # fmt: skip
LANES = list(COLOURS)  # groups, from top to bottom
WIDTH, HEIGHT = 2.55, 0.42


def placed(graph: dict) -> dict[str, tuple[float, float]]:
    """x: the longest way from raw_documents; y: the lane of the group, those at one place side by side."""
    depth: dict[str, int] = {}

    def depth_of(name: str) -> int:
        if name not in depth:
            depth[name] = 1 + max((depth_of(parent) for parent in graph[name]["deps"]), default=-1)
        return depth[name]

    places: dict[str, tuple[float, float]] = {}
    taken: dict[tuple[int, str], int] = {}
    for name in sorted(graph, key=lambda n: (depth_of(n), n)):
        cell = depth[name], graph[name]["group"]
        row = taken.get(cell, 0)
        taken[cell] = row + 1
        places[name] = depth[name] * 2.8, -LANES.index(graph[name]["group"]) * 1.5 - row * 0.55
    return places


def main() -> None:
    graph = json.loads((HERE.parent / "tests" / "golden" / "graph.json").read_text(encoding="utf-8"))
    places = placed(graph)
    right = max(x for x, _ in places.values())
    figure = Figure(figsize=(23, 8.4), layout="constrained")
    axes = figure.subplots()
    for lane, (group, colour) in enumerate(COLOURS.items()):
        top = -lane * 1.5 + 0.42
        box = (-3.6, top - 1.42), right + 5.0, 1.4
        axes.add_patch(FancyBboxPatch(*box, boxstyle="round,pad=0,rounding_size=0.1", fc=colour, alpha=0.07, lw=0))
        axes.text(-3.45, top - 0.42, group, color=colour, fontsize=12, fontweight="bold", va="center")
    for name, node in graph.items():
        x, y = places[name]
        for parent in node["deps"]:
            px, py = places[parent]
            style = f"arc3,rad={-0.12 if py != y else 0.0}"
            axes.add_patch(FancyArrowPatch((px + WIDTH / 2, py), (x - WIDTH / 2, y), connectionstyle=style, lw=0.8,
                                           arrowstyle="-|>", mutation_scale=8, color="#00000055"))  # fmt: skip
    for name, (x, y) in places.items():
        colour = COLOURS[graph[name]["group"]]
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.08", fc="white",
                                      ec=colour, lw=1.4, zorder=3))  # fmt: skip
        axes.text(x, y, name, ha="center", va="center", fontsize=7.4, zorder=4)
    axes.set_xlim(-3.7, right + 1.5)
    axes.set_ylim(-1.5 * len(LANES), 0.6)
    axes.axis("off")
    figure.savefig(HERE / "graph.png", dpi=80)


if __name__ == "__main__":
    main()
