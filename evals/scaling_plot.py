"""The plot of a scaling law: loss against tokens, a line a size, and the held-back run beside its prediction. SVG."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from evals.scaling_law import Law

WIDTH, HEIGHT = 680, 380
LEFT, RIGHT, TOP, BOTTOM = 52, 185, 26, 40  # pixels around the plot
COLOURS = ("#1b6ca8", "#3d7a5a", "#b06a1c", "#7a4fa3", "#a8324a", "#4a6572", "#8a7a1b", "#2b2f77")
INK, GRID, HELD = "#3c4650", "#d8dde2", "#c8102e"
CURVE = 24  # pieces of a line


class _Frame:
    """Where a number of tokens and a loss lie, in pixels; tokens on a logarithmic scale."""

    def __init__(self, tokens: Sequence[float], losses: Sequence[float]) -> None:
        self.first, self.last = math.log(min(tokens) / 1.25), math.log(max(tokens) * 1.25)
        space = (max(losses) - min(losses)) * 0.08 or 0.1
        self.low, self.high = min(losses) - space, max(losses) + space

    def x(self, tokens: float) -> float:
        share = (math.log(tokens) - self.first) / (self.last - self.first)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, loss: float) -> float:
        return round(TOP + (self.high - loss) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM), 1)


def drawn(rows: Sequence[Mapping[str, Any]], law: Law, title: str) -> str:
    """The plot of ``runs`` of a ``scaling.json``."""
    losses = [row["loss"] for row in rows] + [row["predicted"] for row in rows]
    frame = _Frame([row["D"] for row in rows], losses)
    sizes = sorted({row["N"] for row in rows})
    body = _axes(frame, rows)
    for place, size in enumerate(sizes):
        colour = COLOURS[place % len(COLOURS)]
        body += _line(frame, law, size, colour) + _named(place, size, colour)
        body += "".join(_dot(frame, row, colour) for row in rows if row["N"] == size and not row["held_back"])
    body += "".join(_held(frame, row) for row in rows if row["held_back"])
    head = f"<text x='{LEFT}' y='16' font-weight='bold'>{html.escape(title)}: held-out bits per byte by tokens</text>"
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' "
        f"font-family='sans-serif' font-size='11' fill='{INK}'><rect width='100%' height='100%' fill='#fff'/>"
        f"{head}{body}</svg>"
    )


def _axes(frame: _Frame, rows: Sequence[Mapping[str, Any]]) -> str:
    found, bottom, right = "", HEIGHT - BOTTOM, WIDTH - RIGHT
    for number in range(5):
        loss = frame.low + (frame.high - frame.low) * (number + 0.5) / 5
        found += f"<path stroke='{GRID}' d='M{LEFT} {frame.y(loss)}H{right}'/>"
        found += f"<text x='{LEFT - 6}' y='{frame.y(loss) + 4}' text-anchor='end'>{loss:.2f}</text>"
    for tokens in sorted({row["D"] for row in rows}):
        found += f"<path stroke='{GRID}' d='M{frame.x(tokens)} {TOP}V{bottom}'/>"
        found += f"<text x='{frame.x(tokens)}' y='{bottom + 15}' text-anchor='middle'>{_short(tokens)}</text>"
    found += f"<text x='{(LEFT + right) / 2}' y='{HEIGHT - 8}' text-anchor='middle'>training tokens</text>"
    return found + f"<path stroke='{INK}' fill='none' d='M{LEFT} {TOP}V{bottom}H{right}'/>"


def _line(frame: _Frame, law: Law, size: float, colour: str) -> str:
    steps = [frame.first + (frame.last - frame.first) * i / CURVE for i in range(CURVE + 1)]
    places = [(frame.x(math.exp(step)), frame.y(law.loss(size, math.exp(step)))) for step in steps]
    path = "L".join(f"{x} {max(TOP, min(HEIGHT - BOTTOM, y))}" for x, y in places)
    return f"<path fill='none' stroke='{colour}' d='M{path}'/>"


def _named(place: int, size: float, colour: str) -> str:
    y = TOP + 12 + 16 * place
    return (
        f"<circle cx='{WIDTH - RIGHT + 14}' cy='{y - 4}' r='4' fill='{colour}'/>"
        f"<text x='{WIDTH - RIGHT + 24}' y='{y}'>{_short(size)} parameters</text>"
    )


def _dot(frame: _Frame, row: Mapping[str, Any], colour: str) -> str:
    return f"<circle cx='{frame.x(row['D'])}' cy='{frame.y(row['loss'])}' r='4' fill='{colour}'/>"


def _held(frame: _Frame, row: Mapping[str, Any]) -> str:
    """A ring where the run came out, a cross where the law had expected it."""
    x, y, told = frame.x(row["D"]), frame.y(row["loss"]), frame.y(row["predicted"])
    off = f"{row['predicted'] / row['loss'] - 1:+.1%}"
    return (
        f"<circle cx='{x}' cy='{y}' r='6' fill='none' stroke='{HELD}' stroke-width='2'/>"
        f"<path stroke='{HELD}' stroke-width='2' d='M{x - 5} {told - 5}l10 10m0 -10l-10 10'/>"
        f"<text x='{WIDTH - RIGHT + 10}' y='{HEIGHT - BOTTOM - 18}' fill='{HELD}'>o held back: {row['loss']:.3f}</text>"
        f"<text x='{WIDTH - RIGHT + 10}' y='{HEIGHT - BOTTOM - 4}' fill='{HELD}'>x predicted: {row['predicted']:.3f} "
        f"({off})</text>"
    )


def _short(number: float) -> str:
    for unit, sign in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{sign}"
    return f"{number:g}"
