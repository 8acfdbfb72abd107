"""The loop: one for pretraining and fine-tunes, exact to the bit when it is killed and goes on.

Everything that a step depends on is the weights, the moments and the number of the step: the plan gives its data,
and random numbers are seeded anew for each microbatch. So a checkpoint needs no random state and no loader state.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

from pipelines.provenance.order import order_key
from training import checkpoints, guard, loss_scale, stopping
from training.batches import Batch, Batches
from training.curves import EVALUATIONS, METRICS, Track
from training.objectives import Objective
from training.parallel import NARROW, number
from training.recipes import OptimisationRecipe
from training.records import Waiting, arrived, report, report_evaluation
from training.schedules import learning_rate
from training.state import State

LOG_EVERY = 10  # steps; reading a loss waits for the device, so it is not done every step
BEST, FINAL = "best", "final"  # directories of a run with patience


class Task(Protocol):
    """What is trained: network with loss, data, and how it is judged."""

    @property
    def objective(self) -> Objective[Any]: ...

    @property
    def batches(self) -> Batches: ...

    def evaluate(self, *, last: bool) -> dict[str, Any]:
        """Figures for the record of evaluations; every process calls it."""
        ...

    def finish(self, folder: Path) -> None:
        """Write what belongs beside the last checkpoint."""
        ...


@dataclass
class Run:
    """One training run on one process of ``world_size``."""

    task: Task
    recipe: OptimisationRecipe
    directory: Path
    header: dict[str, str]  # what weight files say of themselves
    identity: str  # digest of everything that must be the same for a checkpoint to be gone on from
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world_size: int = 1
    eval_every: int = 0
    milestone_every: int = 0
    say: Callable[[str], None] = print  # rank 0's; the others keep quiet
    patience: int = 0
    sharding: str = "ddp"
    recomputed: bool = False
    is_asked_to_stop: Callable[[], bool] = lambda: False
    track: Track = lambda lines: None
    made_of: dict[str, Any] = field(default_factory=dict)  # what the identity stands for, by name

    def train(self) -> checkpoints.Checkpoint | None:
        """Train to the end of the plan; the last checkpoint, on rank 0.

        Raises:
            NonFiniteLossError: naming the step; nothing is written from there on.
            CheckpointError: if the directory holds the checkpoints of another run.
            Stopped: if it was asked to stop; a checkpoint is written.
        """
        state = _State(self)
        state.resume()
        last = self.task.batches.plan.num_steps
        if state.step == last and not self.patience:
            return checkpoints.latest(self.directory / "rolling", self.say) if self.rank == 0 else None
        final = state.finished_before(last)
        state.started()
        if state.is_over:
            return final
        asked = time.perf_counter()
        with state.writer:
            for batch in self.task.batches.steps(state.step + 1, last):
                state.take(batch, time.perf_counter() - asked)
                final = state.keep_records(last)
                if state.is_over:
                    break
                if state.step < last:
                    state.stop_if_asked()
                asked = time.perf_counter()
        return final


class _State(State):
    """A run as it goes."""

    # -- one step --------------------------------------------------------------------------------------------

    def take(self, batch: Batch, data_wait: float = 0.0) -> None:
        rate = learning_rate(batch.step, self.run.task.batches.plan.num_steps, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        scale = loss_scale.of(self.recipe, batch.step, self.skipped)
        loss = self._backward(batch, scale)
        norm = number(torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip or math.inf))
        self.waiting.append(Waiting(batch.step, loss, rate, norm, data_wait))
        if not (guard.is_on(self.recipe) and self._is_skipped()):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = batch.step
        self.waits[batch.step] = data_wait
        self.unchained.append(batch.hashes)
        self.meter.tokens += batch.inputs.tokens_BT.numel() * self.run.world_size

    def _backward(self, batch: Batch, scale: float) -> Tensor:
        """Gradients of the mean over the global batch; that mean's share of this process."""
        micro = list(batch.split(self.recipe.microbatch))
        loss = torch.zeros((), device=self.run.device)
        for index, (place, inputs) in enumerate(micro):
            torch.manual_seed(order_key("dropout", self.recipe.seed, batch.step, place) >> 1)
            moved = inputs.to(self.run.device)
            with self.parallel.unsynced(index + 1 < len(micro)):
                with self._arithmetic():
                    summed = self.forward(*moved.tensors())
                # gradients are divided by the world size; the sum over processes is what is meant
                share = summed * (self.run.world_size / batch.total)
                (share if scale == 1 else share * scale).backward()
            loss += share.detach()
        if scale != 1:
            loss_scale.unscale(self.network.parameters(), scale)
        return loss

    def _arithmetic(self) -> torch.autocast:
        dtype = self.recipe.dtype
        return torch.autocast(self.run.device.type, NARROW.get(dtype, torch.bfloat16), enabled=dtype in NARROW)

    def _is_skipped(self) -> bool:
        """Look at the step that has just been computed; write down why, if it must not be taken."""
        row = arrived(self.waiting, self.run.world_size)[0]
        self.waiting.clear()
        reason = guard.reason(row, self.rows, self.recipe)
        if not reason:
            self.rows.append(row)
            return False
        self.skipped.append((row.step, row.loss, row.grad_norm, reason))
        told = f"step {row.step} skipped ({reason}): loss {row.loss:.4f}, norm of its gradient {row.grad_norm:.3g}"
        self.run.say(told)
        guard.check_skipped(self.skipped, told, self.recipe)
        return True

    # -- records ---------------------------------------------------------------------------------------------

    def started(self) -> None:
        self.meter.start()

    def keep_records(self, last: int) -> checkpoints.Checkpoint | None:
        """Whatever is due after a step; the checkpoint of the last one."""
        run, step, ended = self.run, self.step, self.step == last
        milestone = bool(run.milestone_every) and step % run.milestone_every == 0
        judged = ended or bool(run.eval_every and step % run.eval_every == 0)
        saved = ended or milestone or step % self.recipe.checkpoint_every == 0
        if judged or saved or step % LOG_EVERY == 0:
            self.drain()
        if judged:
            self._judge(last=ended and not run.patience)
        if run.patience:
            return self._keep_best(last, judged=judged, milestone=milestone, saved=saved)
        return self._save(milestone, ended) if saved else None

    def _keep_best(self, last: int, *, judged: bool, milestone: bool, saved: bool) -> checkpoints.Checkpoint | None:
        """The same for a run that stops when it gets no better."""
        if judged and stopping.best(self.evaluations)["step"] == self.step:
            self._write(self.run.directory / BEST)
            if self.run.rank == 0:
                checkpoints.prune(self.run.directory / BEST, 1)
        if saved and self.step < last:
            self._save(milestone, ended=False)
        return self.finished_before(last)

    def finished_before(self, last: int) -> checkpoints.Checkpoint | None:
        """Where there is nothing more to learn: the best checkpoint as the last one."""
        run = self.run
        over = self.step == last or stopping.is_over(self.evaluations, run.patience)
        if not (run.patience and over):
            return None
        self.is_over = True
        if (done := self.latest(run.directory / FINAL)) is not None:
            return done
        found, evaluations = self.latest(run.directory / BEST), self.evaluations
        if found is None:
            raise checkpoints.CheckpointError(
                f"{run.directory / BEST} holds no whole checkpoint. Remove {run.directory}."
            )
        run.say(f"step {self.step}: no better evaluation than that of step {found.step}, which is the result")
        self.load(found)
        self.evaluations = evaluations
        self._judge(last=True)
        return self._write(run.directory / FINAL, ended=True)

    def stop_if_asked(self) -> None:
        """All processes agree, every so many steps.

        Raises:
            Stopped: after writing a checkpoint.
        """
        asked = self.run.is_asked_to_stop()
        if self.run.world_size > 1:
            if self.step % LOG_EVERY:
                return
            votes = torch.tensor(float(asked), device=self.run.device)
            dist.all_reduce(votes)
            asked = bool(votes > 0)
        if asked:
            self.drain()
            if self.kept != self.step:  # who asks may not wait for another one, nor for the removal of this one
                self._save(milestone=False, ended=False)
            self.settle()
            raise stopping.Stopped(f"asked to stop: step {self.step} is taken and kept. Start again to go on.")

    def drain(self) -> None:
        """Bring losses from the device, check them, report them."""
        if self.waiting:
            rows = arrived(self.waiting, self.run.world_size)
            self.waiting.clear()
            for row in rows:
                guard.check(row.step, row.loss, row.grad_norm, self.recipe)
            self.rows += rows
        rows = self.rows[self.reported :]
        self.reported = len(self.rows)
        if rows and self.run.rank == 0:
            waits = [self.waits.get(row.step, 0.0) for row in rows]
            num_steps = self.run.task.batches.plan.num_steps
            report(self.run.directory / METRICS, rows, waits, num_steps, self.meter, self.run.say, self.run.track)
        self.waits.clear()
        self.started()

    def _judge(self, *, last: bool) -> None:
        self.run.task.objective.eval()
        with self._arithmetic(), self.parallel.evaluated():
            figures = self.run.task.evaluate(last=last)
        self.run.task.objective.train()
        self.evaluations.append({"step": self.step, **figures})
        if self.run.rank == 0:
            num_steps = self.run.task.batches.plan.num_steps
            report_evaluation(self.run.directory / EVALUATIONS, self.evaluations[-1], num_steps, self.run.track)
        told = " ".join(f"{k} {v:.4f}" for k, v in figures.items() if isinstance(v, float))
        if told:
            self.run.say(f"step {self.step} evaluated: {told}")
        self.started()

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _save(self, milestone: bool, ended: bool) -> checkpoints.Checkpoint | None:
        saved = None
        if ended:
            saved = self._write(self.rolling, ended=True)
            if self.run.rank == 0:
                checkpoints.prune(self.rolling)
        else:
            self._write_behind(self.run.directory / "milestones" if milestone else None)
        self.started()
        return saved

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        if self.run.rank == 0:
            checkpoints.sweep(self.rolling)  # of a run that was killed while it wrote
        found = self.latest(self.rolling)
        if found is None:
            return
        if found.state["identity"] != self.run.identity:
            raise checkpoints.CheckpointError(
                f"{found.path} belongs to another run ({found.state['identity'][:12]}…) than this one "
                f"({self.run.identity[:12]}…). {checkpoints.differing(found.state.get('made_of', {}), self.run.made_of)} "
                f"Remove {self.run.directory}."
            )
        self.load(found)
        self.run.say(f"resumed after step {self.step}")
        here = self._processes()
        if here[1:] != self.processes[-1][1:]:
            self.processes = [*self.processes, here]
            self.run.say("on other processes than before: the same data, and results equal to rounding only")
