"""Line charts as SVG by hand: nothing from elsewhere, and colours that the page around them may set (light and dark)."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

COLOURS = ("#2a6fbb", "#d1603d", "#3d8a5f", "#8a5bb5", "#b8860b", "#1f8a99", "#c2487f", "#6b7280")
INK, FAINT = "var(--ink,#3c4650)", "var(--faint,#d5dade)"
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 26, 34  # pixels around the plot
MARGIN = 0.03  # of the range, above and below the curves
LOG_FROM = 30.0  # times that the largest value is the smallest, from where a logarithmic axis shows more


@dataclass(frozen=True)
class Line:
    """One curve; what is no number is a gap in it."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float | None]
    colour: int = 0  # of COLOURS, over and over
    faint: bool = False  # stands behind the others
    dashed: bool = False
    dots: bool = False  # a dot at every point, which tells its value when the mouse rests on it


@dataclass(frozen=True)
class Axis:
    """A range of values, mapped to pixels."""

    low: float
    high: float
    start: float  # pixel of the low end
    stop: float
    log: bool = False

    @classmethod
    def of(cls, values: Sequence[float], start: float, stop: float, *, may_be_log: bool = False) -> Axis:
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if may_be_log and low > 0 and high / low > LOG_FROM:
            return cls(low, high, start, stop, log=True)
        room = (high - low) * MARGIN if high - low > 1e-12 else (abs(low) or 1.0) * 0.1
        return cls(low - room, high + room, start, stop)

    def at(self, value: float) -> float:
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.stop - self.start) * (here - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round numbers within the range."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            every = [1, 2, 5] if len(decades) <= 3 else [1]
            return [v for d in decades for n in every if self.low <= (v := n * 10.0**d) <= self.high]
        rough = (self.high - self.low) / most
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(n * size for n in (1, 2, 5, 10) if n * size >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def line_chart(
    lines: Sequence[Line], x_label: str, y_label: str, *, width: int = 560, height: int = 230, points: int = 500,
    marks: Sequence[tuple[float, str]] = (), x_end: float = 0.0, may_be_log: bool = True,
) -> str:  # fmt: skip
    """Curves over one pair of axes.

    Args:
        lines: drawn in their order.
        x_label: what stands along the bottom.
        y_label: unit of the values.
        width: pixels.
        height: pixels.
        points: of a curve that are drawn; of a longer one, the lowest and highest of every stretch.
        marks: dashed horizontal lines, with names.
        x_end: right end of the bottom; default where the curves end. It begins at 0.
        may_be_log: values of several sizes get a logarithmic axis.
    """
    values = [y for line in lines for y in line.ys if _is_number(y)] + [y for y, _ in marks]
    across = Axis(0, max([x_end, *(x for line in lines for x in line.xs)]) or 1, LEFT, width - RIGHT)
    up = Axis.of(values, height - BOTTOM, TOP, may_be_log=may_be_log)
    body = _frame(across, up, x_label, y_label, width, height)
    body += "".join(_mark(value, name, across, up) for value, name in marks)
    body += "".join(_curve(line, across, up, points) for line in sorted(lines, key=lambda line: not line.faint))
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}' viewBox='0 0 {width} {height}'"
    return f"{head} font-family='sans-serif' font-size='11' fill='{INK}' role='img'>{body}</svg>"


def small_chart(xs: Sequence[float], ys: Sequence[float], name: str, points: int = 40) -> str:
    """One curve with its first, last, lowest and highest value, in few enough characters to stand in a line of Markdown."""
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if _is_number(y)]
    if not pairs:
        return ""
    across, up = Axis.of([x for x, _ in pairs], 44, 316), Axis.of([y for _, y in pairs], 76, 16, may_be_log=True)
    chosen = thinned(pairs, points)
    drawn = " ".join(f"{across.at(x):.0f},{up.at(y):.0f}" for x, y in chosen)
    (first, _), (last, value) = pairs[0], pairs[-1]
    low, high = min(y for _, y in pairs), max(y for _, y in pairs)
    return (
        "<svg xmlns='http://www.w3.org/2000/svg' width='360' height='96' font-family='sans-serif' font-size='11' "
        f"fill='#556'><text y='11'>{html.escape(name)}{' (log)' if up.log else ''}: {value:.4g}</text>"
        f"<text y='26'>{tick(high)}</text><text y='80'>{tick(low)}</text>"
        f"<text x='44' y='93'>{tick(first)}</text><text x='316' y='93' text-anchor='end'>{tick(last)}</text>"
        f"<polyline fill='none' stroke='#2a6fbb' points='{drawn}'/></svg>"
    )


def colour(number: int) -> str:
    place = number % len(COLOURS)
    return f"var(--s{place},{COLOURS[place]})"


def thinned(pairs: list[tuple[float, float]], points: int) -> list[tuple[float, float]]:
    """At most so many points, with the lowest and the highest of every stretch among them, so that no spike is lost."""
    if len(pairs) <= points:
        return pairs
    found: list[tuple[float, float]] = []
    stretches = max(points // 2, 1)
    for number in range(stretches):
        part = pairs[len(pairs) * number // stretches : len(pairs) * (number + 1) // stretches]
        found += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return found


def _is_number(value: float | None) -> TypeGuard[float]:
    return value is not None and abs(value) < 1e100  # what is larger has diverged, and no axis holds it


def _frame(across: Axis, up: Axis, x_label: str, y_label: str, width: int, height: int) -> str:
    bottom, body = height - BOTTOM, ""
    for value in up.ticks():
        y = _px(up.at(value))
        body += f"<path stroke='{FAINT}' d='M{LEFT} {y}H{width - RIGHT}'/>"
        body += f"<text x='{LEFT - 6}' y='{y}' dy='4' text-anchor='end'>{tick(value)}</text>"
    for value in across.ticks(8):
        body += f"<text x='{_px(across.at(value))}' y='{bottom + 15}' text-anchor='middle'>{tick(value)}</text>"
    body += f"<text x='{width - RIGHT}' y='{height - 4}' text-anchor='end'>{html.escape(x_label)}</text>"
    return f"{body}<text x='2' y='12'>{html.escape(y_label)}{' (log)' if up.log else ''}</text>"


def _mark(value: float, name: str, across: Axis, up: Axis) -> str:
    y = _px(up.at(value))
    line = f"<path stroke='{INK}' stroke-dasharray='2 4' d='M{across.start:g} {y}H{across.stop:g}'/>"
    return f"{line}<text x='{across.stop:g}' y='{y}' dy='-3' text-anchor='end' opacity='.8'>{html.escape(name)}</text>"


def _curve(line: Line, across: Axis, up: Axis, points: int) -> str:
    paint, drawn = colour(line.colour), ""
    for run in _stretches(line):
        placed = [(_px(across.at(x)), _px(up.at(y))) for x, y in thinned(run, points)]
        drawn += "M" + "L".join(f"{x} {y}" for x, y in placed)
    style = f"fill='none' stroke='{paint}' stroke-width='{1 if line.faint else 1.8}' stroke-linejoin='round'"
    style += " opacity='.35'" if line.faint else ""
    style += " stroke-dasharray='5 4'" if line.dashed else ""
    found = f"<path {style} d='{drawn}'/>"
    if line.dots:
        for run in _stretches(line):
            for x, y in run:
                told = html.escape(f"{line.name}: {y:.4g} at {x:,.0f}")
                found += f"<circle fill='{paint}' cx='{_px(across.at(x))}' cy='{_px(up.at(y))}' r='3'><title>{told}</title></circle>"
    return found


def _stretches(line: Line) -> list[list[tuple[float, float]]]:
    """The points between gaps."""
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.xs, line.ys, strict=True):
        if _is_number(y):
            found[-1].append((x, y))
        elif found[-1]:
            found.append([])
    return [run for run in found if run]


def tick(value: float) -> str:
    """A number as short as it can be told: 20k, 1.5M, 0.002, 3e-04."""
    size = abs(value)
    if size and size < 1e-4:
        return f"{value:.0e}"
    for bound, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if size >= bound:
            scale = 1e3 if letter == "k" else bound
            return f"{value / scale:.4g}{letter}"
    return f"{value:.4g}"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
