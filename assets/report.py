"""The report of one training, or of several side by side: one HTML file that runs no script and asks nobody for anything.

It is made on demand and is no artifact: speeds are in it, and they differ from one machine and day to another.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from assets.line_chart import COLOURS, Line, colour, line_chart
from assets.run_facts import BASELINES, RunFacts, smoothed

By = Literal["steps", "tokens"]
MOST_SOURCES = len(COLOURS)  # of which the held-out curve is drawn; the table has all
_DARK = ("#6aa9ec", "#f0906f", "#6cc094", "#bd96e0", "#dbb04a", "#5cc0cf", "#ea84ac", "#a3acb8")
_STYLE = (
    ":root{color-scheme:light dark;--ink:#3c4650;--faint:#e2e6ea;--page:#fff;--card:#f7f8fa;"
    + "".join(f"--s{n}:{c};" for n, c in enumerate(COLOURS))
    + "}@media(prefers-color-scheme:dark){:root{--ink:#ccd3da;--faint:#333b44;--page:#14181c;--card:#1c2228;"
    + "".join(f"--s{n}:{c};" for n, c in enumerate(_DARK))
    + "}}body{font:14px/1.5 sans-serif;color:var(--ink);background:var(--page);max-width:76em;margin:2em auto;"
    "padding:0 1em}h1{font-size:1.5em}h2{font-size:1.15em;margin:1.8em 0 .4em}h3{font-size:1em;margin:.2em 0}"
    "section.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(30em,1fr));gap:1em}"
    "figure{background:var(--card);border-radius:8px;margin:0;padding:.8em}svg{width:100%;height:auto}"
    "table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}"
    "td,th{padding:2px 12px 2px 0;text-align:right;border-bottom:1px solid var(--faint);vertical-align:top}"
    "td:first-child,th:first-child{text-align:left}code{font-size:12px;overflow-wrap:anywhere}"
    ".keys{font-size:12px;margin:.1em 0 .4em}.keys span{white-space:nowrap;margin-right:.8em}"
    ".keys i{display:inline-block;width:1.3em;height:3px;vertical-align:middle;margin-right:.35em}.note{opacity:.75;font-size:13px}tr.differs td{font-weight:600}"
    "div.wide{overflow-x:auto}"
)


class _Bottom(NamedTuple):
    """What stands along the bottom of all charts of a page."""

    label: str
    end: float
    is_shared: bool  # by several runs


def report(runs: Sequence[RunFacts], by: By = "steps") -> str:
    """The whole page.

    Args:
        runs: in the order in which they are told.
        by: what stands along the bottom of the charts.
    """
    title = f"Training of {', '.join(run.name for run in runs)}"
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>",
        _facts(runs),
        "<h2>While it trained</h2><section class='charts'>",
        *_charts(runs, by),
        "</section>",
        *_note(runs),
        *_sources_scored(runs),
        *(_skipped(run) for run in runs if run.skipped),
        *_data(runs),
        _recipes(runs),
        _digests(runs),
        "</body></html>\n",
    ]
    return "\n".join(parts)


# -- charts ----------------------------------------------------------------------------------------------------


def _charts(runs: Sequence[RunFacts], by: By) -> Iterable[str]:
    def along(run: RunFacts, steps: Sequence[int]) -> Sequence[float]:
        return run.tokens(steps) if by == "tokens" else steps

    def of_steps(column: str, *, smooth: bool) -> list[Line]:
        found = []
        for number, run in enumerate(runs):
            if column not in run.losses:
                continue
            xs, ys = along(run, run.losses["step"]), run.losses[column]
            if smooth:
                found.append(Line(run.name, xs, ys, number, faint=True))
            found.append(Line(run.name, xs, smoothed(ys) if smooth else ys, number))
        return found

    def of_speeds(column: str) -> list[Line]:
        speeds = [(n, run, run.training.get("speeds", {})) for n, run in enumerate(runs)]
        return [Line(run.name, along(run, s["step"]), s[column], n) for n, run, s in speeds if any(s.get(column, ()))]

    judged = [
        Line(run.name, along(run, [e["step"] for e in run.evaluations]), [e["bpb"] for e in run.evaluations], n, dots=True)
        for n, run in enumerate(runs)
        if any(e.get("bpb") is not None for e in run.evaluations)
    ]  # fmt: skip
    end = max((along(run, run.losses["step"][-1:]) or [0])[0] for run in runs)
    bottom = _Bottom("tokens" if by == "tokens" else "step", end, len(runs) > 1)
    yield _figure("Training loss, each step and smoothed", of_steps("loss", smooth=True), bottom, "nats a token")
    marks = [(v, name) for name, v in runs[0].baselines.items()] if len(runs) == 1 else []
    yield _figure("Held-out text", judged, bottom, "bits per byte", marks)
    if len(runs) == 1:
        yield _by_source(runs[0], along, bottom)
    yield _figure("Norm of the gradient, before it is clipped", of_steps("grad_norm", smooth=True), bottom, "norm")
    yield _figure("Learning rate", of_steps("lr", smooth=False), bottom, "rate")
    yield _figure("Speed", of_speeds("tokens_per_second"), bottom, "tokens a second")
    yield _figure("Model FLOPs utilisation", of_speeds("mfu"), bottom, "share of the peak")
    yield _figure("Wait for data, of a step", of_speeds("data_wait_seconds"), bottom, "seconds")


def _note(runs: Sequence[RunFacts]) -> Iterable[str]:
    """What a curve may be taken for and is not."""
    if any(len(run.evaluations) > 1 for run in runs):
        yield (
            "<p class='note'>The last point of held-out text is of all held-out documents; those before are of a sample "
            "(eval_documents), the same each time.</p>"
        )


def _by_source(run: RunFacts, along: Callable[[RunFacts, Sequence[int]], Sequence[float]], bottom: _Bottom) -> str:
    chosen = list(run.by_source().items())[:MOST_SOURCES]
    if max((len(points) for _, points in chosen), default=0) < 2:
        return ""
    lines = [
        Line(part, along(run, [s for s, _ in points]), [bpb for _, bpb in points], n, dots=True)
        for n, (part, points) in enumerate(chosen)
    ]
    total = len(run.last_by_source())
    more = "" if total <= MOST_SOURCES else f", the {MOST_SOURCES} with most held-out documents of {total}"
    return _figure(f"Held-out text by source{more}", lines, bottom, "bits per byte")


def _figure(
    title: str, lines: Sequence[Line], bottom: _Bottom, unit: str, marks: Sequence[tuple[float, str]] = ()
) -> str:
    if not lines:
        return ""
    names = list(dict.fromkeys((line.name, line.colour) for line in lines))
    keys = " ".join(f"<span><i style='background:{colour(n)}'></i>{html.escape(name)}</span>" for name, n in names)
    legend = f"<div class='keys'>{keys}</div>" if len(names) > 1 or bottom.is_shared else ""
    drawn = line_chart(lines, bottom.label, unit, marks=marks, x_end=bottom.end, may_be_log=unit != "rate")
    return f"<figure><h3>{html.escape(title)}</h3>{legend}{drawn}</figure>"


# -- tables ----------------------------------------------------------------------------------------------------


def _facts(runs: Sequence[RunFacts]) -> str:
    rows = {name: [told(run) for run in runs] for name, told in _TOLD.items()}
    return _table(["", *(run.name for run in runs)], [[name, *cells] for name, cells in rows.items() if any(cells)])


def _fact(name: str, style: str = "{:,}") -> Callable[[RunFacts], str]:
    def told(run: RunFacts) -> str:
        value = run.artifact.facts.get(name)
        return "" if value is None else style.format(value)

    return told


def _last(run: RunFacts) -> str:
    """The mean loss of the last twenty-fifth of the steps."""
    losses = run.losses.get("loss", [])
    last = losses[-max(1, len(losses) // 25) :]
    return f"{sum(last) / len(last):.4f}" if last else ""


def _pace(run: RunFacts, column: str, style: str) -> str:
    """The median of the points that are kept."""
    values = sorted(v for v in run.training.get("speeds", {}).get(column, []) if v is not None)
    return style.format(values[len(values) // 2]) if values else ""


def _time(run: RunFacts) -> str:
    seconds = run.training.get("seconds")
    if seconds is None:
        return ""
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36000 else f"{seconds / 3600:.1f} h"


def _waits(run: RunFacts) -> str:
    speeds = run.training.get("speeds", {})
    waits, seconds = (sum(v or 0 for v in speeds.get(n, [])) for n in ("data_wait_seconds", "seconds"))
    return f"{waits / seconds:.2%}" if seconds else ""


_TOLD: dict[str, Callable[[RunFacts], str]] = {
    "held-out bits per byte": _fact("heldout_bpb", "{:.4f}"),
    "of documents without training overlap": _fact("heldout_bpb_clean", "{:.4f}"),
    **{f"{n} of tokens": lambda run, n=n: f"{run.baselines[n]:.4f}" if n in run.baselines else "" for n in BASELINES},
    "loss of the last 4 % of the steps": _last,
    "parameters": _fact("parameters"),
    "steps": _fact("step"),
    "tokens read": _fact("tokens"),
    "steps skipped": lambda run: f"{len(run.skipped)}" if run.skipped else "",
    "device": lambda run: str(run.training.get("device", "")),
    "time, of its last start": _time,
    "tokens a second, median": lambda run: _pace(run, "tokens_per_second", "{:,.0f}"),
    "model FLOPs utilisation, median": lambda run: _pace(run, "mfu", "{:.1%}"),
    "wait for data, of the time": _waits,
}  # fmt: skip


def _sources_scored(runs: Sequence[RunFacts]) -> Iterable[str]:
    """Held-out bits per byte of every source at the end."""
    scored = [run.last_by_source() for run in runs]
    parts = list(dict.fromkeys(part for run in runs for part in run.by_source()))
    if not parts:
        return
    rows = []
    for part in parts:
        found = [each.get(part, {}).get("bpb") for each in scored]
        docs = next(each[part]["docs"] for each in scored if part in each)
        rows.append([part, f"{docs:,}", *("" if bpb is None else f"{bpb:.4f}" for bpb in found)])
    yield "<h2>Held-out bits per byte by source, at the end</h2>"
    yield _table(["source", "documents", *(run.name for run in runs)], rows)


def _skipped(run: RunFacts) -> str:
    rows = [[f"{r['step']}", f"{r['loss']:.4f}", f"{r['grad_norm']:.3g}", r["reason"]] for r in run.skipped]
    return f"<h2>Steps that {html.escape(run.name)} skipped</h2>" + _table(
        ["step", "loss", "norm of the gradient", "because"], rows
    )


def _data(runs: Sequence[RunFacts]) -> Iterable[str]:
    """Where the data came from; told once for runs that read the same."""
    told: dict[str, list[str]] = {}
    for run in runs:
        length = run.plan.sequence_length if not run.is_finetune else 0
        read = sum(row["slots"] for row in run.sources) or 1
        rows = [
            [r["part"], r["licence"], f"{r['docs']:,}", f"{r['tokens']:,}",
             f"{r['slots'] * length:,}" if length else "", f"{r['slots'] / read:.1%}", f"{r['epochs']:.2f}"]
            for r in run.sources
        ]  # fmt: skip
        head = ["source", "licence", "documents", "tokens there", "tokens read", "share", "epochs"]
        if rows:
            told.setdefault(_table(head, rows), []).append(run.name + (" (its base)" if run.is_finetune else ""))
    for table, names in told.items():
        of = f" of {html.escape(', '.join(names))}" if len(runs) > 1 else ""
        yield f"<h2>Where the data{of} came from</h2>{table}"


def _recipes(runs: Sequence[RunFacts]) -> str:
    recipes = [run.artifact.manifest.recipe for run in runs]
    numerics = [{f"numerics: {k}": v for k, v in run.artifact.manifest.numerics.items()} for run in runs]
    both = [recipe | declared for recipe, declared in zip(recipes, numerics, strict=True)]
    rows = [[name, *(str(each.get(name, "")) for each in both)] for name in sorted({n for each in both for n in each})]
    differ = [row for row in rows if len(set(row[1:])) > 1]
    head = ["field", *(run.name for run in runs)]
    told = f"<h2>Recipe</h2>{_table(head, differ)}" if differ else "<h2>Recipe</h2>"
    if len(runs) > 1:
        told += f"<p class='note'>{'Above is' if differ else 'There is nothing'} what differs; below, everything.</p>"
    return f"{told}<details><summary>all {len(rows)} fields</summary>{_table(head, rows)}</details>"


def _digests(runs: Sequence[RunFacts]) -> str:
    rows = []
    for run in runs:
        found = {"manifest": run.artifact.digest, "content": run.artifact.content}
        found |= {name: run.artifact.facts[name] for name in ("consumption", "plan") if name in run.artifact.facts}
        found |= {f"from {each.key}": each.manifest for each in run.artifact.manifest.inputs}
        rows += [[f"{run.artifact.key} {name}", value] for name, value in found.items()]
    return "<h2>Digests</h2>" + _table(["", "blake3"], rows, code=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], *, code: bool = False) -> str:
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    fence = ("<code>", "</code>") if code else ("", "")
    body = "".join(
        f"<tr><td>{html.escape(str(row[0]))}</td>"
        + "".join(f"<td>{fence[0]}{html.escape(str(cell))}{fence[1]}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<div class='wide'><table><tr>{top}</tr>{body}</table></div>"
