"""The state of a run: weights, moments and records, written to a checkpoint and read from one.

A checkpoint does not know how many processes wrote it: shares are gathered before, and cut again after.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from pipelines import consumption
from pipelines.provenance.tables import read_table, write_table
from training import checkpoints, fp8, guard
from training.models.names import ours, published
from training.optimizers import optimizer, optimizer_state, restore
from training.parallel import copied, fill, parallel, recompute
from training.records import Meter, Row, Waiting, losses_table, rows_of
from training.writing import Writer

if TYPE_CHECKING:
    from training.loop import Run


Finish = Callable[[Path], None]


class State:
    """Weights, moments and records of a run after some step."""

    def __init__(self, run: Run) -> None:
        self.run, self.recipe = run, run.recipe
        self.network = run.task.objective.network
        run.task.objective.to(run.device).train()
        if run.recipe.dtype == "fp8":
            fp8.convert(self.network, run.device)
        if run.recomputed:
            recompute(run.task.objective)
        self.parallel = parallel(run.task.objective, run.world_size, run.sharding, run.recipe.dtype)
        self.optimizer = optimizer(self.network, run.recipe)
        self.forward = torch.compile(self.parallel.module) if run.recipe.compile == "on" else self.parallel.module
        self.step = 0
        self.is_over = False
        self.consumed = consumption.START
        self.evaluations: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        self.skipped: list[tuple[int, float, float, str]] = []
        self.waiting: list[Waiting] = []
        self.reported = 0  # rows that are in metrics.jsonl
        self.waits: dict[int, float] = {}  # seconds that a step waited for its batch
        self.unchained: list[tuple[bytes, ...]] = []  # hashes of sequences that are not in the chain yet
        self.rolling = run.directory / "rolling"
        self.writer = Writer()
        self.processes: list[list[Any]] = [self._processes()]
        name = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else run.device.type
        self.meter = Meter(self.network.recipe, name, run.world_size)

    def _chain(self) -> None:
        """Extend the consumption chain by what all processes fed since the last time, in slot order."""
        shares = [self.unchained]
        if self.run.world_size > 1:
            gathered: list[Any] = [None] * self.run.world_size
            dist.all_gather_object(gathered, self.unchained)
            shares = gathered
        for step_shares in zip(*shares, strict=True):
            for hashes in step_shares:
                self.consumed = consumption.extended(self.consumed, hashes)
        self.unchained = []

    def _write(self, root: Path, *, ended: bool = False) -> checkpoints.Checkpoint | None:
        """A checkpoint that is on disk when this returns; of rank 0."""
        self.writer.wait()
        write = self._copied()
        return write(root, self.run.task.finish if ended else None) if write else None

    def _write_behind(self, *roots: Path) -> None:
        """The same in each directory while training goes on, older ones in the rolling one then removed."""
        self.writer.wait()  # before anything is copied: at most one copy is held
        write = self._copied()
        if write is None:
            return

        def work() -> None:
            for root in roots:
                write(root, None)
            checkpoints.prune(self.rolling)

        self.writer.begin(work)

    def _copied(self) -> Callable[[Path, Finish | None], checkpoints.Checkpoint] | None:
        """Everything that a checkpoint is made of, copied, and what writes it; nothing where it is not written."""
        self._chain()
        is_kept = self.run.rank == 0
        weights = copied(self.network.state_dict(), is_kept=is_kept)
        moments = copied(optimizer_state(self.network, self.optimizer), is_kept=is_kept)
        if not is_kept:
            return None
        state = {
            "step": self.step,
            "consumption": self.consumed.hex(),
            "identity": self.run.identity,
            "evaluations": list(self.evaluations),
            "processes": list(self.processes),
        }
        losses, skipped = losses_table(self.rows), guard.table(self.skipped) if self.skipped else None
        names, header = published(self.network.recipe, weights), self.run.header

        def write(root: Path, also: Finish | None) -> checkpoints.Checkpoint:
            def finish(folder: Path) -> None:
                if skipped is not None:
                    write_table(folder / guard.SKIPPED, skipped)
                if also:
                    also(folder)

            return checkpoints.save(root, state, names, moments, losses, header, finish)

        return write

    def load(self, found: checkpoints.Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        skipped = found.path / guard.SKIPPED
        self.skipped = [tuple(row.values()) for row in read_table(skipped).to_pylist()] if skipped.exists() else []
        fill(self.network, ours(self.network.recipe, found.model()))
        restore(self.network, self.optimizer, found.optimizer(), found.step - len(self.skipped))
        self.step, self.consumed = found.step, bytes.fromhex(found.state["consumption"])
        self.unchained, self.waiting = [], []
        self.evaluations = list(found.state["evaluations"])
        self.processes = list(found.state["processes"])
        self.rows = rows_of(found.losses())
        self.reported = len(self.rows)

    def _processes(self) -> list[Any]:
        """Who takes the steps from the next one on: its number, processes, threads of each, how the model is cut."""
        run = self.run
        return [self.step + 1, run.world_size, torch.get_num_threads(), run.sharding if run.world_size > 1 else "none"]
