"""Plots as SVG: small enough to stand in a line of text, without scripts, fonts or anything from elsewhere."""

from __future__ import annotations

import html
import itertools
import unicodedata
from collections.abc import Sequence
from urllib.parse import quote

WIDTH = 560
INK, KEPT, GONE = "#3c4650", "#3d7a5a", "#d9a3a9"
_ROW, _LEFT, _RIGHT = 17, 190, 160  # pixels: a row of bars, the room for names and that for numbers
_PLOT, _BIN, _HEIGHT, _TOP = 492, 36, 84, 14  # pixels: the plot, its widest bin; the room for what stands at a line
_NAME = 30  # characters of a name that has room


def bars(rows: Sequence[tuple[str, int]], whole: int = 0, colour: str = KEPT) -> str:
    """Horizontal bars with names and numbers; shares of ``whole`` where it is given."""
    longest = max((number for _, number in rows), default=0)
    path, texts = "", []
    for place, (name, number) in enumerate(rows):
        length = round((WIDTH - _LEFT - _RIGHT) * number / longest) if longest else 0
        y = place * _ROW
        path += f"M{_LEFT} {y + 3}h{length}v11h-{length}z" if length else ""
        share = f" ({number / whole:.1%})" if whole else ""
        texts.append(f"<text y='{y + 13}'>{_text(name)}</text>")
        texts.append(f"<text x='{_LEFT + length + 5}' y='{y + 13}'>{number:,}{share}</text>")
    return _svg(len(rows) * _ROW + 2, f"<path fill='{colour}' d='{path}'/>" + "".join(texts))


def histogram(
    all_of_them: Sequence[int],
    kept: Sequence[int],
    ticks: Sequence[tuple[float, str]],
    lines: Sequence[tuple[float, str]] = (),
) -> str:
    """Bins from left to right: all documents pale, the kept ones of them dark; dashed lines where a bound lies.

    Ticks and lines stand at a place in bins, not in pixels.
    """
    highest, wide = max(all_of_them, default=0), min(_BIN, _PLOT // max(len(all_of_them), 1))
    body = "".join(
        f"<path fill='{colour}' d='{_steps(numbers, highest, wide)}'/>"
        for colour, numbers in ((GONE, all_of_them), (KEPT, kept))
        if any(numbers)
    )
    bottom = _TOP + _HEIGHT
    body += f"<path stroke='{INK}' d='M0 {bottom}h{len(all_of_them) * wide}'/>"
    body += "".join(f"<text x='{place * wide:g}' y='{bottom + 13}'>{_text(name)}</text>" for place, name in ticks)
    body += f"<text x='{len(all_of_them) * wide + 6}' y='{_TOP + 10}'>{highest:,}</text>"
    for place, name in lines:
        body += f"<path stroke='{INK}' stroke-dasharray='3' d='M{place * wide:g} {_TOP - 3}V{bottom}'/>"
        anchor = " text-anchor='end'" if place > len(all_of_them) / 2 else ""
        body += f"<text x='{place * wide:g}' y='{_TOP - 4}'{anchor}>{_text(name)}</text>"
    return _svg(bottom + 18, body)


def as_markdown(svg: str, title: str) -> str:
    """A picture inside Markdown: what is not plain there is written as %XX."""
    written = quote(svg, safe=" ='/:;,.()-!*+?@")
    return f"![{title}](<data:image/svg+xml,{written}>)"


def plain(text: str, most: int = _NAME) -> str:
    """Printable characters alone, at most so many."""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else "\N{REPLACEMENT CHARACTER}" for c in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _text(text: str) -> str:
    return html.escape(plain(text), quote=True)


def _steps(numbers: Sequence[int], highest: int, wide: int) -> str:
    """The outline of a histogram; nothing that is there is drawn as nothing."""
    bottom = _TOP + _HEIGHT
    heights = [max(1, round(_HEIGHT * number / highest)) if number else 0 for number in numbers]
    runs = [(height, len(list(run))) for height, run in itertools.groupby(heights)]
    path = "".join(f"V{bottom - height}h{wide * length}" for height, length in runs)
    return f"M0 {bottom}{path}V{bottom}z"


def _svg(height: int, body: str) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'"
    return f"{head} font-family='sans-serif' font-size='11' fill='{INK}'>{body}</svg>"
