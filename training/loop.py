"""The loop: one for pretraining and fine-tunes, exact to the bit when it is killed and goes on.

Everything that a step depends on is the weights, the moments and the number of the step: the plan gives its data,
and random numbers are seeded anew for each microbatch. So a checkpoint needs no random state and no loader state.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from pipelines import consumption
from pipelines.provenance.order import order_key
from training import checkpoints
from training.batches import Batch, Batches
from training.objectives import Objective
from training.optimizers import adamw, optimizer_state, restore
from training.recipes import OptimisationRecipe
from training.schedules import warmup_cosine

LOG_EVERY = 10  # steps; reading a loss waits for the device, so it is not done every step
LOSSES = pa.schema([(n, pa.int64() if n == "step" else pa.float64()) for n in ("step", "loss", "lr", "grad_norm")])


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient became NaN or infinite."""


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

    def train(self) -> checkpoints.Checkpoint | None:
        """Train to the end of the plan; the last checkpoint, on rank 0.

        Raises:
            NonFiniteLossError: naming the step; nothing is written from there on.
            CheckpointError: if the directory holds the checkpoints of another run.
        """
        state = _State(self)
        state.resume()
        last = self.task.batches.plan.num_steps
        if state.step == last:
            return checkpoints.latest(self.directory / "rolling", self.say) if self.rank == 0 else None
        final = None
        state.started()
        for batch in self.task.batches.steps(state.step + 1, last):
            state.take(batch)
            final = state.keep_records(last)
        return final


class _State:
    """Weights, moments and records of a run as it goes."""

    def __init__(self, run: Run) -> None:
        self.run, self.recipe = run, run.recipe
        self.network = run.task.objective.network
        run.task.objective.to(run.device).train()
        self.optimizer = adamw(self.network, run.recipe)
        self.parallel = DistributedDataParallel(run.task.objective) if run.world_size > 1 else None
        module = self.parallel or run.task.objective
        self.forward = torch.compile(module) if run.recipe.compile == "on" else module
        self.step = 0
        self.consumed = consumption.START
        self.evaluations: list[dict[str, Any]] = []
        self.rows: list[tuple[int, float, float, float]] = []  # of LOSSES
        self.waiting: list[tuple[int, Tensor, float, Tensor]] = []  # the same, still on the device
        self.unchained: list[tuple[bytes, ...]] = []  # hashes of sequences that are not in the chain yet
        self.rolling = run.directory / "rolling"

    # -- one step --------------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        recipe, num_steps = self.recipe, self.run.task.batches.plan.num_steps
        rate = warmup_cosine(batch.step, num_steps, recipe.learning_rate, recipe.warmup_steps, recipe.min_lr_ratio)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._backward(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = batch.step
        self.waiting.append((batch.step, loss, rate, norm))
        self.unchained.append(batch.hashes)
        self.tokens_since += batch.inputs.tokens_BT.numel() * self.run.world_size

    def _backward(self, batch: Batch) -> Tensor:
        """Gradients of the mean over the global batch; that mean's share of this process."""
        micro = list(batch.split(self.recipe.microbatch))
        loss = torch.zeros((), device=self.run.device)
        for index, (place, inputs) in enumerate(micro):
            torch.manual_seed(order_key("dropout", self.recipe.seed, batch.step, place) >> 1)
            moved = inputs.to(self.run.device)
            with self._unsynced(index + 1 < len(micro)):
                with torch.autocast(self.run.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bf16"):
                    summed = self.forward(moved.tokens_BT, moved.weights_BT, moved.labels_B, moved.ends_B)
                # DDP divides gradients by the world size; the sum over processes is what is meant
                share = summed * (self.run.world_size / batch.total)
                share.backward()
            loss += share.detach()
        return loss

    @contextlib.contextmanager
    def _unsynced(self, more_to_come: bool) -> Iterator[None]:
        with self.parallel.no_sync() if self.parallel and more_to_come else contextlib.nullcontext():
            yield

    # -- records ---------------------------------------------------------------------------------------------

    def started(self) -> None:
        self.clock, self.tokens_since = time.perf_counter(), 0

    def keep_records(self, last: int) -> checkpoints.Checkpoint | None:
        """Whatever is due after a step; the checkpoint of the last one."""
        run, step, ended = self.run, self.step, self.step == last
        milestone = bool(run.milestone_every) and step % run.milestone_every == 0
        judged = ended or (run.eval_every and step % run.eval_every == 0)
        saved = ended or milestone or step % self.recipe.checkpoint_every == 0
        if judged or saved or step % LOG_EVERY == 0:
            self._drain()
        if judged:
            self._judge(ended)
        return self._save(milestone, ended) if saved else None

    def _drain(self) -> None:
        """Bring losses from the device, check them, report them."""
        losses = torch.stack([loss for _, loss, _, _ in self.waiting]) / self.run.world_size
        if self.run.world_size > 1:
            dist.all_reduce(losses)
        norms = torch.stack([norm for _, _, _, norm in self.waiting])
        for (step, _, rate, _), loss, norm in zip(self.waiting, losses.tolist(), norms.tolist(), strict=True):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise NonFiniteLossError(
                    f"step {step}: the loss is {loss}, the norm of its gradient {norm}; nothing of this run was sealed. "
                    f"Lower learning_rate ({self.recipe.learning_rate}) or raise warmup_steps "
                    f"({self.recipe.warmup_steps}); `stemma audit step` lists the documents of the step, and the "
                    "plan can skip its slots."
                )
            self.rows.append((step, loss, rate, norm))
        self.waiting.clear()
        now = time.perf_counter()
        seconds, tokens = now - self.clock, self.tokens_since
        self.started()
        if self.run.rank == 0:
            self._report(tokens / max(seconds, 1e-9), seconds)

    def _report(self, tokens_per_second: float, seconds: float) -> None:
        step, loss, rate, norm = self.rows[-1]
        num_steps = self.run.task.batches.plan.num_steps
        line = {"step": step, "steps": num_steps, "loss": loss, "lr": rate, "grad_norm": norm}
        line |= {"tokens_per_second": round(tokens_per_second), "seconds": round(seconds, 3)}
        with (self.run.directory / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.run.say(f"step {step}/{num_steps} loss {loss:.4f} lr {rate:.2e} {tokens_per_second:,.0f} tokens/s")

    def _judge(self, ended: bool) -> None:
        self.run.task.objective.eval()
        with torch.autocast(self.run.device.type, torch.bfloat16, enabled=self.recipe.dtype == "bf16"):
            figures = self.run.task.evaluate(last=ended)
        self.run.task.objective.train()
        self.evaluations.append({"step": self.step, **figures})
        told = " ".join(f"{k} {v:.4f}" for k, v in figures.items() if isinstance(v, float))
        if told:
            self.run.say(f"step {self.step} evaluated: {told}")
        self.started()

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

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _save(self, milestone: bool, ended: bool) -> checkpoints.Checkpoint | None:
        self._chain()
        if self.run.rank != 0:
            return None
        state = {
            "step": self.step,
            "consumption": self.consumed.hex(),
            "identity": self.run.identity,
            "evaluations": self.evaluations,
        }
        weights, moments = self.network.state_dict(), optimizer_state(self.network, self.optimizer)
        columns = zip(*self.rows, strict=True)
        losses = pa.table({f.name: pa.array(c, f.type) for f, c in zip(LOSSES, columns, strict=True)}, schema=LOSSES)
        if milestone and not ended:
            checkpoints.save(self.run.directory / "milestones", state, weights, moments, losses, self.run.header)
        finish = self.run.task.finish if ended else None
        saved = checkpoints.save(self.rolling, state, weights, moments, losses, self.run.header, finish)
        checkpoints.prune(self.rolling)
        self.started()
        return saved

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one."""
        found = checkpoints.latest(self.rolling, self.run.say)
        if found is None:
            return
        if found.state["identity"] != self.run.identity:
            raise checkpoints.CheckpointError(
                f"{found.path} belongs to another recipe, plan, data or numerics; this run is "
                f"{self.run.identity[:12]}…, the checkpoint {found.state['identity'][:12]}…. Remove {self.run.directory}."
            )
        self.network.load_state_dict(found.model())
        restore(self.network, self.optimizer, found.optimizer(), found.step)
        self.step, self.consumed = found.step, bytes.fromhex(found.state["consumption"])
        self.evaluations = list(found.state["evaluations"])
        table = found.losses()
        self.rows = list(zip(*(table[name].to_pylist() for name in LOSSES.names), strict=True))
        self.run.say(f"resumed after step {self.step}")
