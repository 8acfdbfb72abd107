"""The state of a run: weights, moments and records, written to a checkpoint and read from one.

What is kept for good is whole: shares are gathered before, and cut again after. The rolling checkpoints of a sharded run
are sharded as it is. Any number of processes goes on from either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from pipelines import consumption
from pipelines.provenance.tables import read_table, write_table
from training import checkpoints, fp8, guard, sharded
from training.ahead import apart
from training.models.names import ours, published
from training.optimizers import optimizer, optimizer_state, restore
from training.parallel import Sharded, copied, fill, parallel, recompute
from training.records import Meter, Row, Waiting, losses_table, rows_of
from training.weights import save_weights
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
        self.step, self.kept = 0, 0  # kept: step of the last rolling checkpoint that was begun
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
        for step_shares in zip(*self._gathered(self.unchained), strict=True):
            for hashes in step_shares:
                self.consumed = consumption.extended(self.consumed, hashes)
        self.unchained = []

    def _write(self, root: Path, *, ended: bool = False) -> checkpoints.Checkpoint | None:
        """A whole checkpoint that is on disk when this returns; of rank 0."""
        self.settle()
        write = self._whole()
        return write(root, self.run.task.finish if ended else None) if write else None

    def _write_behind(self, milestones: Path | None) -> None:
        """A rolling checkpoint and perhaps a milestone, while training goes on; older rolling ones are then removed."""
        self.settle()  # before anything is copied: at most one copy is held
        is_sharded = isinstance(self.parallel, Sharded)
        write = self._whole() if milestones or not is_sharded else None
        roll = self._share() if is_sharded else None

        def milestone() -> None:  # first: a run goes on after the step of the rolling one, and would never write it
            if write and milestones:
                write(milestones, None)

        def work() -> None:
            if roll:
                roll(milestone)
            elif write:
                milestone()
                write(self.rolling, None)
            if self.run.rank == 0:
                checkpoints.prune(self.rolling)

        self.kept = self.step
        self.writer.begin(work)

    def settle(self) -> None:
        """Until nothing is being written; every process must ask.

        Raises:
            BaseException: whatever the writing raised, here or in another process, on all of them.
        """
        # the first process waits for the files of all: it asks the others before, where a lost one is noticed
        is_first = self.run.rank == 0
        told = self._gathered(None if is_first else self._outcome())
        told[0] = self._gathered(self._outcome() if is_first else None)[0]
        errors = [found for found in told if found is not None]
        for found in sorted(errors, key=lambda found: isinstance(found, sharded.GoneError)):
            raise found

    def _outcome(self) -> BaseException | None:
        """What the writing raised here, once it has ended."""
        try:
            self.writer.wait()
        except BaseException as raised:  # noqa: BLE001 (travels to all processes)
            return raised
        return None

    def _gathered(self, mine: Any) -> list[Any]:
        """What each process says, in their order."""
        if self.run.world_size == 1:
            return [mine]
        gathered: list[Any] = [None] * self.run.world_size
        dist.all_gather_object(gathered, mine)
        return gathered

    def _state(self) -> dict[str, Any]:
        self._chain()
        return {
            "step": self.step,
            "consumption": self.consumed.hex(),
            "identity": self.run.identity,
            "made_of": self.run.made_of,
            "evaluations": list(self.evaluations),
            "processes": list(self.processes),
        }

    def _whole(self) -> Callable[[Path, Finish | None], checkpoints.Checkpoint] | None:
        """Everything that a checkpoint is made of, copied, and what writes it; nothing where it is not written."""
        state, is_kept = self._state(), self.run.rank == 0
        weights, further = apart(copied(self.network.state_dict(), is_kept=is_kept))
        moments = copied(optimizer_state(self.network, self.optimizer), is_kept=is_kept)
        if not is_kept:
            return None
        losses, skipped = losses_table(self.rows), self._skipped()
        names, header = published(self.network.recipe, weights), self.run.header

        def write(root: Path, also: Finish | None) -> checkpoints.Checkpoint:
            def finish(folder: Path) -> None:
                skipped(folder)
                if further:
                    save_weights(folder / checkpoints.AHEAD, further, {**header, "step": str(state["step"])})
                if also:
                    also(folder)

            return checkpoints.save(root, state, names, moments, losses, header, finish)

        return write

    def _share(self) -> Callable[[Callable[[], None]], None]:
        """The same of a rolling checkpoint of which every process writes its part, once it has done something else."""
        run, state = self.run, self._state()
        folder = self._gathered(checkpoints.begun(self.rolling, self.step) if run.rank == 0 else None)[0]
        held = sharded.shares({**self.network.state_dict(), **optimizer_state(self.network, self.optimizer)}, run.rank)
        losses, skipped, writer = losses_table(self.rows), self._skipped(), self.writer

        def write(before: Callable[[], None]) -> None:
            with checkpoints.whole_or_gone(folder):
                before()
                sharded.write_share(folder, run.rank, run.world_size, held, {**run.header, "step": str(state["step"])})
                if run.rank == 0:
                    write_table(folder / checkpoints.LOSSES, losses)
                    skipped(folder)
                    files = sharded.written(folder, run.world_size, writer.is_given_up.is_set)
                    checkpoints.published(folder, state, files)

        return write

    def _skipped(self) -> Finish:
        """Writes down the steps that were skipped so far, if any were."""
        table = guard.table(self.skipped) if self.skipped else None
        return lambda folder: write_table(folder / guard.SKIPPED, table) if table is not None else None

    def latest(self, root: Path) -> checkpoints.Checkpoint | None:
        """The newest checkpoint that is whole; the processes share the reading of its files, and agree.

        The first one says which there are: another machine may still remember a directory as it was a minute ago.
        """
        paths = self._gathered(checkpoints.newest_first(root))[0]

        def look(path: Path) -> checkpoints.Checkpoint:
            found, problem = None, ""
            try:
                found = checkpoints.opened(path, self.run.rank, self.run.world_size)
            except checkpoints.CheckpointError as error:
                problem = str(error)
            problems = [told for told in self._gathered(problem) if told]
            if found is None or problems:
                raise checkpoints.CheckpointError(problems[0])
            return found

        return checkpoints.first_whole(paths, self.run.say, look)

    def load(self, found: checkpoints.Checkpoint) -> None:
        """Stand where a checkpoint was written."""
        skipped = found.path / guard.SKIPPED
        self.skipped = [tuple(row.values()) for row in read_table(skipped).to_pylist()] if skipped.exists() else []
        taken = found.step - len(self.skipped)
        if found.is_sharded:
            shards = sharded.Shards(found.path)
            fill(self.network, shards)
            restore(self.network, self.optimizer, shards, taken)
        else:
            fill(self.network, ours(self.network.recipe, found.model()) | found.ahead())
            restore(self.network, self.optimizer, found.optimizer(), taken)
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
