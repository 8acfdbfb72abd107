"""One step of the loop on a task in memory: accumulation, clipping, rates, records, and numbers that are not finite."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from echo import V

from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from training import checkpoints
from training.batches import Batches
from training.finetuning import ExampleSource
from training.guard import NonFiniteLossError
from training.loop import Run, _State
from training.models.classifier import GPTClassifier
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.objectives import NextToken, WeightedClass
from training.recipes import OptimisationRecipe
from training.schedules import warmup_cosine

BATCH, STEPS = 6, 4
SHAPE = GPTRecipe(vocab_size=V, sequence_length=32, layers=2, width=16, heads=2, kv_heads=1, mlp_width=16)
RECIPE = OptimisationRecipe(learning_rate=0.02, warmup_steps=2, dtype="fp32", compile="off", checkpoint_every=2)


def examples(count=BATCH * STEPS):
    """Prompts and answers whose lengths differ much, so that a mean of means would be another number."""
    draw = np.random.default_rng(0)
    rows = [draw.integers(2, V, 3 + int(draw.integers(0, 25))).tolist() for _ in range(count)]
    starts = [int(draw.integers(1, len(row))) for row in rows]
    return pa.table({
        "doc_id": pa.array([bytes([i]) * 16 for i in range(count)], pa.binary(16)),
        "tokens": pa.array(rows, pa.large_list(pa.uint16())),
        "answer_start": pa.array(starts, pa.int32()),
        "label": pa.array([i % 2 for i in range(count)], pa.int32()),
    })  # fmt: skip


class Answers:
    """A task of the loop: learn the answers of twenty-four examples, or their two classes."""

    def __init__(self, seed=1, classes=(), dropout=0.0, spoil=None, segments=None) -> None:
        shape = SHAPE.model_copy(update={"dropout": dropout})
        network = GPTClassifier(shape, len(classes)) if classes else GPT(shape)
        initialise(network, 2, seed)
        if spoil:
            with torch.no_grad():
                spoil(network)
        self.objective = WeightedClass(network, torch.tensor(classes)) if classes else NextToken(network)
        plan = Plan(
            seed=5, sequence_length=SHAPE.sequence_length, parts=[PlanPart(name="examples", num_sequences=24)],
            phases=[PlanPhase(slots=[BATCH * STEPS])],
            segments=segments or [Segment(first_step=1, first_slot=0, batch_size=BATCH)],
        )  # fmt: skip
        self.batches = Batches(plan, ExampleSource(examples(), 1, list(classes)))
        self.modes = []

    def evaluate(self, *, last):
        self.modes.append(self.objective.training)
        return {"figure": 1.5, "last": last}

    def finish(self, folder):
        (folder / "finished.txt").write_text("x")


def started(directory, task=None, **fields):
    """The state of a run before its first step."""
    recipe = RECIPE.model_copy(update=fields)
    run = Run(task or Answers(), recipe, directory, {"run": "memory"}, "identity", say=lambda line: None)
    state = _State(run)
    state.started()
    return state


def gradients_of(state, batch):
    """What reaches the optimizer in one step, and the loss."""
    found = {}
    before = state.optimizer.step
    state.optimizer.step = lambda: found.update({name: p.grad.clone() for name, p in state.network.named_parameters()})
    try:
        state.take(batch)
    finally:
        state.optimizer.step = before
    return found, state.waiting[-1][1].item()


@pytest.mark.parametrize("classes", [(), (0.75, 1.5)], ids=["answers", "classes"])
@pytest.mark.parametrize("microbatch", [1, 2, 4, 6, 100])
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path, classes, microbatch):
    """Answers of 1 to 27 tokens: a mean over microbatches of their means would weigh short answers more."""
    whole = started(tmp_path, Answers(classes=classes), clip=0.0)
    parts = started(tmp_path, Answers(classes=classes), clip=0.0, microbatch=microbatch)
    wanted, loss = gradients_of(whole, whole.run.task.batches.batch(1))
    found, same = gradients_of(parts, parts.run.task.batches.batch(1))
    assert same == pytest.approx(loss, rel=1e-5)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], atol=1e-6), name


def test_the_loss_is_the_mean_over_the_targets_that_count(tmp_path):
    state = started(tmp_path, microbatch=2)
    batch = state.run.task.batches.batch(1)
    inputs = batch.inputs
    losses = state.network.losses(inputs.tokens_BT)
    _, loss = gradients_of(state, batch)
    assert loss == pytest.approx((losses * inputs.weights_BT).sum().item() / inputs.weights_BT.sum().item(), rel=1e-5)


def test_a_large_gradient_is_cut_to_the_norm_and_its_true_norm_is_kept(tmp_path):
    free, cut = started(tmp_path, clip=0.0), started(tmp_path, clip=0.01)
    batch = free.run.task.batches.batch(1)
    wanted, _ = gradients_of(free, batch)
    found, _ = gradients_of(cut, batch)
    norm = math.sqrt(sum(g.double().pow(2).sum().item() for g in wanted.values()))
    assert norm > 0.01
    assert math.sqrt(sum(g.double().pow(2).sum().item() for g in found.values())) == pytest.approx(0.01, rel=1e-3)
    assert free.waiting[0][3].item() == pytest.approx(norm, rel=1e-5)
    assert cut.waiting[0][3].item() == pytest.approx(norm, rel=1e-5)  # what is recorded is the norm before the cut
    for name in wanted:
        assert torch.allclose(found[name], wanted[name] * (0.01 / norm), atol=1e-7)  # the direction stays


def test_a_small_gradient_is_left_alone(tmp_path):
    free, cut = started(tmp_path, clip=0.0), started(tmp_path, clip=1e6)
    batch = free.run.task.batches.batch(1)
    wanted, found = gradients_of(free, batch)[0], gradients_of(cut, batch)[0]
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_gradients_do_not_pile_up_from_step_to_step(tmp_path):
    state, alone = started(tmp_path, learning_rate=1e-12), started(tmp_path, learning_rate=1e-12)
    batches = state.run.task.batches
    gradients_of(state, batches.batch(1))
    second = gradients_of(state, batches.batch(2))[0]
    fresh = gradients_of(alone, batches.batch(2))[0]
    assert all(torch.allclose(second[name], fresh[name], atol=1e-7) for name in fresh)


def test_every_step_has_the_rate_of_its_number(tmp_path):
    final = Run(Answers(), RECIPE, tmp_path, {}, "i", say=lambda line: None).train()
    rates = final.losses()["lr"].to_pylist()
    assert rates == [warmup_cosine(step, STEPS, 0.02, 2, RECIPE.min_lr_ratio) for step in range(1, STEPS + 1)]


def test_a_step_does_not_depend_on_when_it_is_taken(tmp_path):
    """Dropout is seeded by run, step and place: the third step gives the same gradient whatever came before."""
    first, later = (started(tmp_path, Answers(dropout=0.3), clip=0.0) for _ in range(2))
    batches = first.run.task.batches
    torch.rand(17)  # random numbers that somebody else has drawn meanwhile
    gradients_of(later, batches.batch(1))
    wanted, found = gradients_of(first, batches.batch(3))[0], gradients_of(later, batches.batch(3))[0]
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    other = gradients_of(started(tmp_path, Answers(dropout=0.3), clip=0.0, seed=2), batches.batch(3))[0]
    assert not all(torch.equal(wanted[name], other[name]) for name in wanted)


def test_two_microbatches_do_not_drop_the_same_channels(tmp_path):
    state = started(tmp_path, Answers(dropout=0.5), clip=0.0, microbatch=1)
    batch = state.run.task.batches.batch(1)
    twice = type(batch)(1, batch.inputs.sliced(slice(0, 1)), 0, batch.total, batch.hashes)
    moved = type(batch)(1, batch.inputs.sliced(slice(0, 1)), 1, batch.total, batch.hashes)
    one, other = gradients_of(state, twice)[0], gradients_of(state, moved)[0]
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_evaluation_sees_the_network_without_dropout_and_training_goes_on_with_it(tmp_path):
    task = Answers(dropout=0.5)
    final = Run(task, RECIPE, tmp_path, {}, "i", eval_every=2, say=lambda line: None).train()
    assert task.modes == [False, False]
    assert task.objective.training
    assert final.state["evaluations"] == [
        {"step": 2, "figure": 1.5, "last": False},
        {"step": 4, "figure": 1.5, "last": True},
    ]


def test_the_last_checkpoint_holds_what_the_task_finishes_with(tmp_path):
    final = Run(Answers(), RECIPE, tmp_path, {"run": "memory"}, "i", say=lambda line: None).train()
    assert (final.step, "finished.txt" in final.state["files"]) == (4, True)
    first = checkpoints.opened(tmp_path / "rolling" / "step-00000002")
    assert "finished.txt" not in first.state["files"]
    assert first.losses()["step"].to_pylist() == [1, 2]


def test_a_learning_model_gets_better_and_its_losses_are_those_in_the_metrics(tmp_path):
    told = []
    final = Run(Answers(), RECIPE, tmp_path, {}, "i", say=told.append).train()
    losses = final.losses()["loss"].to_pylist()
    assert losses[-1] < losses[0]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == list(enumerate(losses, 1))
    assert [line["grad_norm"] for line in lines] == final.losses()["grad_norm"].to_pylist()
    assert {line["mfu"] for line in lines} == {"unknown"}  # no one states a peak for a CPU
    assert all(line["data_wait_seconds"] >= 0 and line["tokens_per_second"] > 0 for line in lines)
    assert told[0].startswith(f"step 2/4 loss {losses[1]:.4f} lr 2.00e-02 ")


def test_a_plan_with_a_skip_and_a_larger_batch_is_learnt_to_its_end(tmp_path):
    """Slots 4 to 11 caused a spike, say: the plan goes on at 12 with four sequences a step."""
    segments = [Segment(first_step=1, first_slot=0, batch_size=2), Segment(first_step=3, first_slot=12, batch_size=4)]
    task = Answers(segments=segments)
    assert [batch.inputs.tokens_BT.shape[0] for batch in task.batches.steps(1, 5)] == [2, 2, 4, 4, 4]
    final = Run(task, RECIPE, tmp_path, {}, "i", say=lambda line: None).train()
    assert final.losses()["step"].to_pylist() == [1, 2, 3, 4, 5]


# -- numbers that are not finite -------------------------------------------------------------------------------


def poisoned(network):
    network.model.norm.weight.fill_(math.nan)


def test_a_loss_that_is_no_number_names_the_step_the_cause_and_what_to_do(tmp_path):
    run = Run(Answers(spoil=poisoned), RECIPE, tmp_path, {}, "i", say=lambda line: None)
    with pytest.raises(NonFiniteLossError) as error:
        run.train()
    told = str(error.value)
    assert told.startswith("step 1: the loss is nan")
    assert "nothing of this run was sealed" in told
    assert "Lower learning_rate (0.02) or raise warmup_steps (2)" in told
    assert "audit step" in told


def test_nothing_is_written_from_the_step_that_diverged_on(tmp_path):
    """Steps 1 and 2 are good and kept; step 3 meets poisoned weights."""
    task = Answers()
    run = Run(task, RECIPE, tmp_path, {}, "i", say=lambda line: None)
    honest = task.batches.steps

    def steps(first, last):
        for batch in honest(first, last):
            if batch.step == 3:
                with torch.no_grad():
                    poisoned(task.objective.network)
            yield batch

    task.batches.steps = steps
    with pytest.raises(NonFiniteLossError, match=r"^step 3: the loss is nan"):
        run.train()
    assert [path.name for path in (tmp_path / "rolling").iterdir()] == ["step-00000002"]
    kept = checkpoints.latest(tmp_path / "rolling")
    assert all(torch.isfinite(tensor).all() for tensor in kept.model().values())
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_gradient_that_is_infinite_is_noticed_though_the_loss_is_finite(tmp_path):
    task = Answers()
    weight = task.objective.network.model.norm.weight
    weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLossError, match=r"step 1: the loss is \d.*, the norm of its gradient (inf|nan)"):
        Run(task, RECIPE, tmp_path, {}, "i", say=lambda line: None).train()
