"""The page of a profile: its plots and their numbers in one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.compute as pc

from pipelines.profile import plots
from pipelines.profile.measure import names_of
from pipelines.profile.signal_counts import Bound, bin_edges, edges_of, position
from pipelines.provenance.fates import FATES

if TYPE_CHECKING:
    import pyarrow as pa

# (name of the picture, title, dimension, column)
_BARS = (
    ("drop_reasons", "Why documents went", "reason", "docs"),
    ("languages", "Languages, by document", "language", "docs"),
    ("licences", "Licences, by byte of text", "licence", "num_bytes"),
    ("masked", "Places masked, by kind", "masked", "places"),
    ("cuts", "Places cut, by rule", "cut", "places"),
    ("domains", "Domains, by document", "domain", "docs"),
)
_WHOLES = {"reason": "fate", "domain": "language"}  # shares of all documents, and of all that were kept
_COLUMNS = ("docs", "num_bytes", "num_words", "places")
_MOST = 25  # bars in a plot of the page
_STYLE = (
    "body{font:14px/1.5 sans-serif;color:#222;max-width:62em;margin:2em auto;padding:0 1em}h2{margin:1.6em 0 .4em}"
    "table{border-collapse:collapse;font-size:12px}td,th{padding:1px 10px;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}figure{display:inline-block;width:47%;margin:.6em 2% .6em 0}"
    "figcaption{font-size:12px}svg{max-width:100%;height:auto}.note{color:#666}"
)


class Picture(NamedTuple):
    """One plot: a name for programs, a title for people."""

    name: str
    title: str
    svg: str


def page(source: str, table: pa.Table, signals: pa.Table, lines: Sequence[Bound]) -> str:
    """The whole page; it runs no script, asks nobody for anything, and shows names of the data as text."""
    title = f"Profile of {html.escape(plots.plain(source, 120))}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1>",
        f"<p class='note'>Dark: kept documents. Pale: documents that went. {_bins_note()}</p>",
    ]
    tables = {"funnel": "fate", "lengths": "length_in"} | {name: dimension for name, _, dimension, _ in _BARS}
    parts += [f"<h2>{p.title}</h2>{p.svg}{_numbers(table, tables[p.name])}" for p in overview(table, _MOST)]
    parts.append("<h2>Signals and their bounds</h2>")
    parts += [f"<figure><figcaption>{p.title}</figcaption>{p.svg}</figure>" for p in signal_pictures(signals, lines)]
    return "\n".join([*parts, "</body></html>\n"])


def overview(table: pa.Table, most: int = 6) -> list[Picture]:
    """Funnel, lengths, and the names of each dimension with the largest numbers; none where there is nothing."""
    pictures = [funnel(names_of(table, "fate"))]
    if lengths := names_of(table, "length_in"):
        pictures.append(length_picture(lengths, names_of(table, "length")))
    for name, title, dimension, column in _BARS:
        if numbers := names_of(table, dimension, column):
            whole = sum(names_of(table, _WHOLES.get(dimension, dimension), column).values())
            rows = largest({name or "(none)": number for name, number in numbers.items()}, most)
            colour = plots.GONE if dimension == "reason" else plots.KEPT
            pictures.append(Picture(name, title, plots.bars(rows, whole, colour)))
    return pictures


def funnel(fates: dict[str, int]) -> Picture:
    """In, kept and what became of the others."""
    seen = sum(fates.values())
    rows = [("in", seen), *((fate, fates[fate]) for fate in FATES if fates.get(fate))]
    return Picture("funnel", "Funnel", plots.bars(rows, seen))


def length_picture(before: dict[str, int], after: dict[str, int]) -> Picture:
    """Documents by number of words, in bins that double."""
    names = [name for name, _ in sorted(before.items(), key=lambda item: int(item[0].split("-", maxsplit=1)[0]))]
    low, high = _exponent(names[0]), _exponent(names[-1])
    bins = ["0", "1", *(f"{1 << n}-{(2 << n) - 1}" for n in range(1, 63))][low : high + 1]
    ticks = [(place, name.split("-", maxsplit=1)[0]) for place, name in enumerate(bins) if place % 2 == 0]
    svg = plots.histogram([before.get(b, 0) for b in bins], [after.get(b, 0) for b in bins], ticks)
    return Picture("lengths", "Words a document, before and after", svg)


def signal_pictures(signals: pa.Table, lines: Sequence[Bound]) -> list[Picture]:
    """A histogram of every signal with the bounds that it is held against, in the order of the rules."""
    pictures = []
    for signal, edges in edges_of(list(lines)).items():
        rows = signals.filter(pc.equal(signals["signal"], signal)).to_pylist()
        if not rows:
            continue
        kept, gone = ([row[side] for row in rows] + [0] * (len(edges) - len(rows)) for side in ("kept", "dropped"))
        ticks = [(n, _number(edges[n])) for n in range(0, len(edges), 6)]
        marks = [
            (position(bound.edge, edges), f"{bound.reason} {'<' if bound.is_least else '>'} {bound.limit:g}")
            for bound in lines
            if bound.signal == signal
        ]
        svg = plots.histogram([a + b for a, b in zip(kept, gone, strict=True)], kept, ticks, marks)
        pictures.append(Picture(signal, signal, svg))
    return pictures


def largest(numbers: dict[str, int], most: int) -> list[tuple[str, int]]:
    """The largest numbers, of equal ones the first names, and one row for all others."""
    rows = sorted(numbers.items(), key=lambda item: (-item[1], item[0]))
    if len(rows) <= most:
        return rows
    rest = rows[most - 1 :]
    return [*rows[: most - 1], (f"({len(rest):,} others)", sum(number for _, number in rest))]


def _numbers(table: pa.Table, dimension: str) -> str:
    """The rows of a dimension, summed over languages, as a table that unfolds."""
    columns = {column: names_of(table, dimension, column) for column in _COLUMNS}
    told = [c for c in _COLUMNS if c != "places" or dimension in ("masked", "cut")]
    head = "".join(f"<th>{name}</th>" for name in ["", *(c.removeprefix("num_") for c in told)])
    rows = [
        f"<tr><td>{html.escape(plots.plain(name, 80)) or '(none)'}</td>"
        + "".join(f"<td>{columns[c][name]:,}</td>" for c in told)
        + "</tr>"
        for name in columns["docs"]
    ]
    return f"<details><summary>numbers</summary><table><tr>{head}</tr>{''.join(rows)}</table></details>"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _exponent(name: str) -> int:
    return int(name.split("-", maxsplit=1)[0]).bit_length()


def _bins_note() -> str:
    return (
        f"Whole numbers stand in bins that grow, ratios in {len(bin_edges(False, 1.0)) - 1}; the last bin has no end."
    )
