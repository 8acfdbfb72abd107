"""Looking ahead: the loss written out by hand, what a position may see, and runs that end with the same bytes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from jobs import Interrupted, in_process, launch_in_process, small_job, small_model, small_recipe, stopping
from test_parallel import job_of, losses, run

from training.ahead import TokensAhead, apart, moved
from training.checkpoints import AHEAD
from training.export import export
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.objectives import NextToken
from training.recipes import PretrainRecipe
from training.replay import replay
from training.weights import load_weights, weights_metadata

SHAPE = GPTRecipe(vocab_size=64, layers=1, width=16, heads=2, kv_heads=1, mlp_width=16, sequence_length=12)
SHAPES = [{}, {"qk_norm": True}, {"blocks": "gpt2", "kv_heads": 2}, {"window": 4}, {"tied": False}]


def network(**fields):
    made = GPT(SHAPE.model_copy(update=fields))
    initialise(made, 1, 1)
    return made.eval()


def tokens(length=13, rows=3):
    return torch.randint(0, 64, (rows, length), generator=torch.Generator().manual_seed(0))


def objective(depth=2, weight=0.3, **fields):
    made = TokensAhead(network(**fields), depth, weight, seed=7)
    with torch.no_grad():  # large enough for a difference to be seen
        for parameter in made.ahead.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return made.eval()


def by_hand(made, row_T):
    """The loss of one sequence: every prefix is read anew, and nothing but what the paper lets a position see."""
    inputs, model = row_T[:-1], made.network.model
    total = F.cross_entropy(made.network.head(model(inputs[None]))[0], row_T[1:], reduction="sum")
    x = model(inputs[None])
    for number, module in enumerate(made.ahead.layers, 1):
        states = []
        usable = len(row_T) - 1 - number  # positions whose target exists
        for end in range(1, usable + 1):
            following = model.embed_tokens(row_T[number : end + number][None])
            angles, mask = model.sight(inputs[None, :end], None)
            states.append(module(x[:, :end], following, angles, mask)[0][:, -1])
        x = torch.stack(states, 1)
        logits = made.network.head(module.norm(x))[0]
        total = total + made.weight * F.cross_entropy(logits, row_T[number + 1 :], reduction="sum")
    return total


@pytest.mark.parametrize("fields", SHAPES)
@pytest.mark.parametrize("depth", [1, 3])
def test_the_loss_is_that_of_the_paper_position_by_position(fields, depth):
    made = objective(depth, 0.6, **fields)
    assert made.weight == pytest.approx(0.6 / depth)
    rows = tokens()
    with torch.no_grad():
        assert float(made(rows)) == pytest.approx(sum(float(by_hand(made, row)) for row in rows), rel=1e-5)


def test_what_stands_behind_an_end_counts_nothing():
    x = torch.arange(1.0, 7.0).view(1, 6)
    assert moved(x, 2).tolist() == [[3, 4, 5, 6, 0, 0]]
    assert moved(x[..., None].expand(1, 6, 2), 4)[0, :, 1].tolist() == [5, 6, 0, 0, 0, 0]
    assert moved(x, 6).tolist() == moved(x, 7).tolist() == [[0] * 6]


@pytest.mark.parametrize("changed", [4, 8, 12])
def test_no_position_sees_what_it_is_asked_for(changed):
    """A token is an input of later states and a target; what is said before it must not move."""
    made, seen = objective(3), []
    made.costs = lambda logits_NV, targets_N: (seen.append(logits_NV.view(1, 12, -1)), torch.zeros(len(targets_N)))[1]
    one = tokens(rows=1)
    other = one.clone()
    other[0, changed] = (other[0, changed] + 1) % 64
    with torch.no_grad():
        made(one)
        before, seen = seen, []
        made.costs = lambda logits_NV, targets_N: (seen.append(logits_NV.view(1, 12, -1)), torch.zeros(12))[1]
        made(other)
    for number, (a, b) in enumerate(zip(before, seen, strict=True)):
        last = changed - 1 - number  # the position whose answer the token is
        assert torch.equal(a[:, : last + 1], b[:, : last + 1])
        if last + 1 < 12 - number:
            assert not torch.equal(a[:, last + 1 :], b[:, last + 1 :])


def test_documents_of_a_sequence_are_learnt_as_if_each_stood_alone():
    made = objective(2)
    lengths = [5, 1, 7]
    row = tokens(1 + sum(lengths), 1)
    documents = torch.tensor([[0] + [number for number, length in enumerate(lengths) for _ in range(length)]])
    starts = [0, 5, 6]
    with torch.no_grad():
        apart_ = sum(made(row[:, start : start + length + 1]) for start, length in zip(starts, lengths, strict=True))
        assert float(made(row, documents_BT=documents)) == pytest.approx(float(apart_), rel=1e-5)
        assert float(made(row)) != pytest.approx(float(apart_), rel=1e-5)


def test_a_target_that_counts_nothing_counts_nothing_for_those_before_it_either():
    made, rows = objective(2), tokens()
    weights = torch.ones(3, 12)
    weights[:, 6:] = 0
    with torch.no_grad():
        short = made(rows[:, :7])
        assert float(made(rows, weights)) == pytest.approx(float(short), rel=1e-5)


def test_the_next_token_costs_what_it_costs_without_the_others():
    made, plain = objective(2, 1e-9), NextToken(network())
    rows = tokens()
    with torch.no_grad():
        assert float(made(rows)) == pytest.approx(float(plain(rows)), rel=1e-6)
        assert torch.equal(made.network(rows), plain.network(rows))


def test_smoothing_and_the_price_of_logits_hold_for_all_tokens():
    plain, priced = objective(2), TokensAhead(network(), 2, 0.3, 7, label_smoothing=0.1, z_loss=1e-2)
    priced.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert float(priced.eval()(tokens())) > float(plain(tokens()))


def test_recomputed_modules_have_the_same_gradients():
    kept, again = objective(2).train(), objective(2).train()
    again.network.model.recomputed = True
    for made in (kept, again):
        made(tokens()).backward()
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


# -- runs --------------------------------------------------------------------------------------------------------

FIELDS = {"mtp_depth": 2, "dropout": 0.1, "microbatch": 2}


def test_a_run_that_was_interrupted_ends_with_the_same_bytes(world, tmp_path):
    whole = in_process(small_job(world, tmp_path / "whole", **FIELDS))
    job = small_job(world, tmp_path / "halved", **FIELDS)
    with stopping(after=7), pytest.raises(Interrupted):
        in_process(job)
    assert in_process(job).state["files"] == whole.state["files"]
    assert AHEAD in whole.state["files"]
    assert (
        whole.state["files"][AHEAD]
        != in_process(small_job(world, tmp_path / "seed", **FIELDS, seed=2)).state["files"][AHEAD]
    )


def test_the_model_is_that_of_any_run_and_the_modules_lie_beside_it(world, tmp_path):
    model = small_model(world, "ahead", launch=launch_in_process, mtp_depth=1, milestone_every=6)
    plain = small_model(world, "not-ahead", launch=launch_in_process)
    assert set(load_weights(model.local("model.safetensors"))) == set(load_weights(plain.local("model.safetensors")))
    modules = load_weights(model.local(AHEAD))
    assert modules["ahead.layers.0.joined.weight"].shape == (32, 64)
    assert weights_metadata(model.local(AHEAD))["step"] == "12"
    assert AHEAD not in plain.names()
    assert AHEAD in model.part("step-00000006").names()
    moments = load_weights(model.local("optimizer.safetensors"))
    assert set(apart({name.partition(".")[2]: m for name, m in moments.items()})[1]) == set(modules)
    assert replay(model, 9, say=lambda line: None)["equal"], "from a milestone"
    export(model, tmp_path / "hf")  # compares logits with transformers
    assert not (tmp_path / "hf" / AHEAD).exists()


def test_further_tokens_are_learnt(world, tmp_path):
    job = small_job(world, tmp_path, mtp_depth=2, mtp_weight=1.0, steps=40)
    found = losses(in_process(job))
    assert found[-1] < found[0] - 1.0
    alone = losses(in_process(small_job(world, tmp_path / "alone", steps=40)))
    # at the start all tokens cost the same; of 32 targets 31 have one behind them and 30 two
    assert found[0] == pytest.approx(alone[0] * (1 + (31 + 30) / 64), rel=0.01)


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_two_processes_learn_the_same_to_rounding(world, tmp_path, sharding):
    alone = in_process(small_job(world, tmp_path / "alone", microbatch=2, mtp_depth=2))
    both, _ = run(job_of(world, tmp_path / "both", 2, microbatch=2, mtp_depth=2, sharding=sharding))
    assert losses(both) == pytest.approx(losses(alone), abs=2e-5)
    assert set(both.ahead()) == set(alone.ahead())


def test_muon_moves_their_matrices(world, tmp_path):
    done = in_process(small_job(world, tmp_path, mtp_depth=1, optimizer="muon"))
    assert "momentum_buffer.ahead.layers.0.joined.weight" in done.optimizer()


def test_a_recipe_without_them_is_named_as_before():
    assert not {"mtp_depth", "mtp_weight"} & set(PretrainRecipe().identity())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"objective": "masked"}, "needs objective = 'causal'"),
        ({"distil_weight": 0.5}, "set mtp_depth to 0"),
        ({"sequence_length": 2}, "must be below sequence_length"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        small_recipe(**{"mtp_depth": 2, **fields})
