"""stemma run and stemma ui."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from assets import cli_scaling
from assets.cli import (
    JsonOption,
    SpecOption,
    StoreOption,
    app,
    console,
    load_spec,
    open_store,
    show_json,
    table,
)
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec, SpecError


@app.command()
def run(
    name: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run or a sweep of stemma.toml [default: its default_run]")
    ] = "",
    select: Annotated[
        list[str] | None, typer.Option("--select", help="Only this asset and what it needs; may be repeated.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Compute the selected assets again (all of them without --select), pinned ones included."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be built, and why; build nothing.")
    ] = False,
    json: JsonOption = False,
    store: StoreOption = "",
    spec: SpecOption = "",
) -> None:
    """Build everything that a run needs and that is not there yet: raw text to scores, champion and audit bundle.

    What the memo answers costs nothing. Killed in the middle, the next call goes on where it stopped.
    """
    from assets.blueprint import ORDER
    from assets.planner import Planner

    the_spec, the_store = load_spec(spec), open_store(store)
    name = name or the_spec.document.default_run
    if not name:
        raise SpecError("stemma.toml has no default_run; name a run: " + ", ".join(the_spec.document.runs))
    if name not in the_spec.document.sweeps:
        _check_run(the_spec, name)
    if unknown := [asset for asset in select or [] if asset not in ORDER]:
        raise SpecError(f"--select {unknown[0]}: no such asset; there are {', '.join(ORDER)}.")
    forced = frozenset(select or ORDER) if force else frozenset()
    planner = Planner(the_spec, the_store, forced)
    steps = planner.steps(name, select or ())
    if dry_run:
        _show_plan(steps, json)
        return
    computed, seconds = _build(the_spec, the_store, planner, steps, name)
    from assets.summary import show_summary, summary

    if name in the_spec.document.sweeps or the_spec.is_swept(name):
        cli_scaling.show_built(the_spec, the_store, name, computed, seconds, as_json=json)
    elif json:
        show_json({"run": name, "built": computed, "seconds": round(seconds, 1), **summary(the_spec, the_store, name)})
    else:
        show_summary(console, the_spec, the_store, name, computed, seconds)


def _check_run(spec: Spec, name: str) -> None:
    for kind, models in (("fine-tune", spec.document.finetunes), ("compression", spec.document.compressions)):
        if name in models and name not in spec.document.runs:
            base = models[name].base
            raise SpecError(f"{name} is a {kind} and is built with its base: stemma run {base}.")
    spec.run(name)


def _show_plan(steps: list[Any], as_json: bool) -> None:
    due = [step for step in steps if step.due]
    if as_json:
        show_json([{**step.key._asdict(), "state": step.state, "because": step.because} for step in steps])
        return
    rows = [
        [step.key.asset, step.key.partition, step.state, step.because] for step in steps if step.due or step.because
    ]
    if rows:
        console.print(table("would be built", "asset", "partition", "state", "because", rows=rows))
    console.print(f"{len(due)} of {len(steps)} steps would be built; nothing was.")


def _build(spec: Spec, store: Store, planner: Any, steps: list[Any], name: str) -> tuple[int, float]:
    due = [step.key for step in steps if step.due]
    started = time.monotonic()
    if not due:
        return 0, 0.0
    from assets.run import Runner, output_to

    log = store.scratch / "logs" / f"{time.strftime('%Y%m%dT%H%M%S')}-{name}.log"
    with output_to(log) as descriptor, os.fdopen(descriptor, "w", closefd=False) as terminal:
        shown = Console(file=terminal, force_terminal=os.isatty(descriptor))
        with Bars(shown, due, store) as bars:
            runner = Runner(spec, store, planner, bars.update, bars.say, bars.pieces)
            built = runner.run(steps)
        shown.file.flush()
    return built, time.monotonic() - started


class Bars:
    """One progress bar an asset; the bar of a training model follows its steps. Plain lines where no one looks."""

    def __init__(self, shown: Console, due: list[Key], store: Store) -> None:
        self._console = shown
        self._store = store
        self._totals = Counter(key.asset for key in due)
        self._left = Counter(self._totals)  # history may know less than the store: then more is run than was due
        self._built: set[Key] = set()
        self._tasks: dict[str, TaskID] = {}
        self._stop = threading.Event()
        self._running = ""
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}"),
            console=shown,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._progress.start()
        self._watch = threading.Thread(target=self._follow_training, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._watch.join()
        if self._console.is_terminal:
            self._progress.stop()

    def say(self, message: str) -> None:
        self._progress.console.print(message, markup=False, highlight=False)

    def update(self, key: Key, state: str) -> None:
        """Called by the runner: running, built (by the pool), done, cut off."""
        if key.asset not in self._tasks:
            self._tasks[key.asset] = self._progress.add_task(f"{key.asset:20}", total=self._totals[key.asset], note="")
        task = self._tasks[key.asset]
        self._running = key.asset if state == "running" else ""
        if state == "running":
            self._progress.update(task, note=key.partition)
            return
        if key not in self._built:
            self._built.add(key)
            self._progress.update(task, advance=1, note=key.partition)
        if state != "built":
            self._left[key.asset] -= 1
            if not self._left[key.asset]:
                self._progress.update(task, note="")
                if not self._console.is_terminal:
                    seconds = self._progress.tasks[task].elapsed or 0.0
                    self.say(f"{key.asset:20} {self._totals[key.asset]:>4} built {seconds:8.1f} s")

    def pieces(self, key: Key, done: int, total: int) -> None:
        """Called by a large stage whose work goes in pieces."""
        if total > 1:
            self._progress.update(self._tasks[key.asset], note=f"{key.partition} {done}/{total} pieces")

    def _follow_training(self) -> None:
        while not self._stop.wait(1.0):
            running = self._running
            if running in ("pretrained_model", "finetuned_model", "compressed_model"):  # which may recover by training
                self._progress.update(self._tasks[running], note=training_note(self._store.scratch))


def training_note(scratch: Path) -> str:
    """``step 120, loss 3.211, 20,000 tokens/s`` from the newest metrics file of a trainer, or nothing."""
    import json

    try:
        newest = max(scratch.rglob("metrics.jsonl"), key=lambda path: path.stat().st_mtime)
        last = json.loads(newest.read_text(encoding="utf-8").splitlines()[-1])
        return f"step {last['step']}, loss {last['loss']:.3f}, {last.get('tokens_per_second', 0):,.0f} tokens/s"
    except (OSError, IndexError, ValueError, KeyError):  # none yet, or removed while we looked
        return ""


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on loopback.")] = 3000,
    store: StoreOption = "",
    spec: SpecOption = "",
) -> None:
    """Open Dagster on http://127.0.0.1:3000, with everything that was built in its history. Ctrl-C ends it."""
    from assets.run import bury, dagster_home, open_instance

    the_spec, the_store = load_spec(spec), open_store(store)
    os.environ.update(STEMMA_STORE=the_store.url, STEMMA_SPEC=str(the_spec.path.resolve()))
    home = dagster_home(the_store)
    from assets.partitions import mirror

    with open_instance(the_store) as instance:
        mirror(the_spec, instance)
        bury(instance)
    console.print(
        f"Dagster: http://127.0.0.1:{port} (history in {home}); Ctrl-C ends it.", markup=False, highlight=False
    )
    # a shell that starts us in the background leaves SIGINT ignored, and dagster would then ignore SIGTERM too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "dagster", "dev", "-m", "assets.definitions", "-h", "127.0.0.1", "-p", str(port)]
    os.chdir(Path(__file__).resolve().parent.parent)
    os.execv(sys.executable, command)  # noqa: S606 - one process to stop, not two
