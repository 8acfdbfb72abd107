"""fp16 with a loss scale that follows from the steps that overflowed, and fp8 where a GPU has it."""

from __future__ import annotations

import math

import pytest
import torch
from jobs import Interrupted, in_process, small_job, small_model, stopping
from test_attention import model, tokens
from test_guard import Spoilt
from test_step import RECIPE, Answers, started

from training import fp8, guard, loss_scale
from training.guard import NonFiniteLossError
from training.loop import Run
from training.objectives import NextToken
from training.recipes import FinetuneRecipe, PretrainRecipe
from training.replay import replay
from training.run import train

# -- the scale -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "overflows", "scale"),
    [
        (1, [], 2.0**16),
        (2000, [], 2.0**16),
        (2001, [], 2.0**17),
        (100_000, [], 2.0**24),  # as far as it goes
        (2, [1], 2.0**15),
        (4, [1, 2, 3], 2.0**13),
        (2001, [1], 2.0**15),
        (2002, [1], 2.0**16),
        (2003, [2002], 2.0**16),  # doubled before it was halved
    ],
)
def test_the_scale_is_halved_by_an_overflow_and_doubled_by_two_thousand_steps_without_one(step, overflows, scale):
    assert loss_scale.at(step, overflows) == scale


def test_the_scale_is_that_of_torchs_own_scaler():
    theirs = torch.amp.GradScaler("cpu", init_scale=loss_scale.START, growth_interval=loss_scale.PATIENCE)
    overflows = [1, 2, 2005, 2006, 4500]
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    for step in range(1, 6800):
        assert loss_scale.at(step, [each for each in overflows if each < step]) == theirs.get_scale()
        weight.grad = torch.full((1,), math.inf if step in overflows else 1.0)
        theirs.scale(torch.ones(1))
        theirs.step(optimizer)
        theirs.update()


# -- fp16 ------------------------------------------------------------------------------------------------------


def gradients(directory, **fields):
    """What reaches the optimizer in the first step, and the loss that is written down."""
    state, found = started(directory, clip=0.0, max_skips=1, **fields), {}
    state.optimizer.step = lambda: found.update({name: p.grad.clone() for name, p in state.network.named_parameters()})
    state.take(state.run.task.batches.batch(1))
    return found, state.rows[-1].loss


def test_a_scaled_loss_gives_the_gradients_of_one_that_is_not(tmp_path):
    (wanted, loss), (found, same) = gradients(tmp_path), gradients(tmp_path, dtype="fp16")
    assert same == pytest.approx(loss, rel=1e-3)
    for name in wanted:
        assert torch.allclose(found[name], wanted[name], atol=1e-2 * wanted[name].abs().max().item()), name


def test_small_gradients_vanish_without_a_scale(tmp_path, monkeypatch):
    wanted, _ = gradients(tmp_path)
    monkeypatch.setattr(loss_scale, "START", 2.0**-24)
    lost, _ = gradients(tmp_path, dtype="fp16")
    name = "model.layers.0.mlp.up_proj.weight"
    assert wanted[name].abs().max() > 0
    assert lost[name].abs().max() == 0


def test_steps_that_overflow_are_skipped_and_written_down_and_a_killed_run_ends_with_the_same_bytes(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr(loss_scale, "START", 2.0**27)  # far too much: the first steps overflow
    fields = {"dtype": "fp16", "dropout": 0.1, "checkpoint_every": 1}
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    skipped = whole.table(guard.SKIPPED).to_pylist()
    assert 1 < len(skipped) < 11
    assert {row["reason"] for row in skipped} == {"overflow"}
    assert [row["step"] for row in skipped[:2]] == [1, 2]
    assert all(math.isfinite(row["loss"]) and not math.isfinite(row["grad_norm"]) for row in skipped)
    losses = whole.losses()["loss"].to_pylist()
    assert len(losses) == 12 - len(skipped)
    assert losses[-1] < losses[0]
    for after in (1, skipped[-1]["step"], 11):
        job = small_job(world, tmp_path / f"halved-{after}", **fields)
        job.write()
        with pytest.raises(Interrupted), stopping(after=after):
            train(job)
        assert in_process(job).state["files"] == whole.state["files"]


def test_a_step_behind_a_milestone_is_replayed_at_its_own_scale(own_world, monkeypatch):
    from jobs import launch_in_process

    monkeypatch.setattr(loss_scale, "START", 2.0**27)
    sealed = small_model(own_world, launch=launch_in_process, dtype="fp16", milestone_every=6)
    assert sealed.facts["skipped_steps"][0] == 1
    for step in (1, 8):
        told = replay(sealed, step, say=lambda line: None)
        assert (told["equal"], told["from_step"]) == (True, 6 if step == 8 else 0)


def test_a_gradient_that_never_fits_ends_the_run_and_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_scale, "START", 2.0)
    with pytest.raises(
        NonFiniteLossError, match=r"(?s)step 2 skipped \(overflow\).* a loss scale of 1, .*dtype = \"bf16\""
    ):
        Run(
            Spoilt(1, 2, 3), RECIPE.model_copy(update={"dtype": "fp16"}), tmp_path, {}, "i", say=lambda line: None
        ).train()


def test_overflows_do_not_use_up_the_skips_that_a_recipe_allows(tmp_path):
    recipe = RECIPE.model_copy(update={"dtype": "fp16", "max_skips": 1})
    final = Run(Spoilt(1, 2, 3), recipe, tmp_path, {}, "i", say=lambda line: None).train()
    assert final.table(guard.SKIPPED)["reason"].to_pylist() == ["overflow"] * 3


def test_a_loss_that_is_no_number_is_no_overflow(tmp_path):
    def spoil(network):
        network.model.norm.weight.fill_(math.nan)

    with pytest.raises(NonFiniteLossError, match="step 1: the loss is nan"):
        Run(Answers(spoil=spoil), RECIPE.model_copy(update={"dtype": "fp16"}), tmp_path, {}, "i", say=print).train()


# -- fp8 -------------------------------------------------------------------------------------------------------


def test_without_a_gpu_that_has_it_fp8_is_refused_before_anything_is_trained(world, tmp_path):
    with pytest.raises(fp8.UnsupportedError, match=r"compute capability 8\.9 or more; this run is on the cpu"):
        in_process(small_job(world, tmp_path, dtype="fp8", mlp_width=64))


def test_a_gpu_before_ada_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A100")
    with pytest.raises(fp8.UnsupportedError, match=r"8\.9 or more, A100 has 8\.0"):
        fp8.convert(model(), torch.device("cuda"))


@pytest.mark.parametrize("field", ["mlp_width", "width", "sequence_length"])
def test_sides_that_do_not_divide_by_16_are_named(field):
    good = {"dtype": "fp8", "width": 128, "mlp_width": 64, "sequence_length": 32, "heads": 4, "kv_heads": 2}
    assert PretrainRecipe(**good).dtype == "fp8"
    with pytest.raises(ValueError, match=rf"{field} \({good[field] + 8}\).* does not"):
        PretrainRecipe(**{**good, field: good[field] + 8})
    with pytest.raises(ValueError, match="fp8' is for pretraining"):
        FinetuneRecipe(dtype="fp8")


def test_without_torchao_fp8_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(fp8.UnsupportedError, match=r"pip install -e '\.\[fp8\]'"):
        fp8.convert(model(), torch.device("cpu"), emulated=True)


@pytest.mark.filterwarnings("ignore")
def test_blocks_multiply_in_fp8_and_keep_the_names_and_values_of_their_weights():
    """Emulated: rounded to 8 bits, multiplied in float32."""
    pytest.importorskip("torchao")
    plain, narrow = (model(scale=2.0, width=64, mlp_width=64) for _ in range(2))
    fp8.convert(narrow, torch.device("cpu"), emulated=True)
    assert list(narrow.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), narrow.parameters(), strict=True))
    assert type(narrow.model.layers[0].mlp.up_proj).__name__ == "Float8Linear"
    with torch.autocast("cpu", torch.bfloat16):
        costs = [NextToken(network)(tokens(2, 17)) for network in (plain, narrow)]
    for cost in costs:
        cost.backward()
    assert costs[1].item() != costs[0].item()
    assert costs[1].item() == pytest.approx(costs[0].item(), rel=0.02)
    for one, other in zip(plain.parameters(), narrow.parameters(), strict=True):
        if one.ndim == 2:
            assert torch.cosine_similarity(one.grad.flatten(), other.grad.flatten(), 0) > 0.9


@pytest.mark.skipif(
    not (torch.cuda.is_available() and torch.cuda.get_device_capability() >= fp8.LEAST_CAPABILITY),
    reason="needs a GPU of compute capability 8.9 or more",
)
def test_a_gpu_that_has_fp8_learns_as_with_bf16(tmp_path):
    pytest.importorskip("torchao")
    device, found = torch.device("cuda"), []
    for narrow in (False, True):
        network = model(scale=1.0, width=64, mlp_width=64).to(device).train()
        if narrow:
            fp8.convert(network, device)
        with torch.autocast("cuda", torch.bfloat16):
            cost = NextToken(torch.compile(network))(tokens(2, 33).to(device))
        cost.backward()
        found.append(cost.item())
    assert found[1] == pytest.approx(found[0], rel=0.02)
