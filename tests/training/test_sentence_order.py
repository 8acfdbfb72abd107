"""Halves of a document in order or exchanged: how it is asked, what it costs, and that it can be learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jobs import Interrupted, in_process, small_job, stopping
from test_encoder import encoder

from training.masking import Masker
from training.objectives import HiddenTokens
from training.pretraining import Pretraining
from training.recipes import PretrainRecipe
from training.run import train
from training.sentence_order import ADDED, LEAST, SentenceOrder

END, PAD, MASK = 0, 1, 99
ORDER = SentenceOrder(1.0, MASK, END, PAD, seed=3)
TOKENS = np.arange(2, 50)[None].repeat(64, 0)
NUMBERS = np.repeat([[0, 1, 2]], [8, 30, 10], axis=1).repeat(64, 0)


def test_a_question_is_a_mask_one_half_an_end_of_text_and_the_other_half():
    asked = ORDER.asked(TOKENS, NUMBERS, 1, 0)
    one, other = TOKENS[0, 8:22].tolist(), TOKENS[0, 22:36].tolist()  # thirty tokens, of which two make room
    for row, truth in zip(asked.tokens_BT.tolist(), asked.truths_B.tolist(), strict=True):
        assert row[:8] + row[38:] == TOKENS[0, :8].tolist() + TOKENS[0, 38:].tolist()
        halves = [one, other] if truth == END else [other, one]
        assert row[8:38] == [MASK, *halves[0], END, *halves[1]]
    assert set(asked.truths_B.tolist()) == {END, PAD}
    assert 20 < (asked.truths_B == PAD).sum() < 44
    assert asked.places_B.tolist() == [8] * 64


def test_the_order_depends_on_seed_step_and_place_alone():
    whole = ORDER.asked(TOKENS, NUMBERS, 7, 0)
    halves = [ORDER.asked(TOKENS[:32], NUMBERS[:32], 7, 0), ORDER.asked(TOKENS[32:], NUMBERS[32:], 7, 32)]
    assert np.array_equal(whole.tokens_BT, np.concatenate([half.tokens_BT for half in halves]))
    for step, order in ((8, ORDER), (7, SentenceOrder(1.0, MASK, END, PAD, seed=4))):
        assert not np.array_equal(order.asked(TOKENS, NUMBERS, step, 0).truths_B, whole.truths_B)


def test_nothing_is_asked_where_every_document_is_short_or_only_fills_up():
    numbers = np.repeat([[0, 1, -1]], [LEAST - 1, LEAST - 2, 48 - 2 * LEAST + 3], axis=1).repeat(64, 0)
    asked = ORDER.asked(TOKENS, numbers, 1, 0)
    assert np.array_equal(asked.tokens_BT, TOKENS)
    hidden = ORDER.joined(Masker(0.15, MASK, 99, 3).hide(asked.tokens_BT, 1, 0), asked)
    assert (hidden.weights_BK[:, -1] == 0).all()
    numbers[:, LEAST - 1] = 0  # one token more is enough
    assert ORDER.asked(TOKENS, numbers, 1, 0).is_asked_B.all()
    assert ADDED < LEAST


def test_the_answer_is_one_more_hidden_token_and_is_never_shown():
    asked = ORDER.asked(TOKENS, NUMBERS, 1, 0)
    before = Masker(0.5, MASK, 99, 3).hide(asked.tokens_BT, 1, 0)
    hidden = ORDER.joined(before, asked)
    assert hidden.places_BK.shape == (64, 24 + 1)
    assert (hidden.tokens_BT[:, 8] == MASK).all()
    assert np.array_equal(hidden.truths_BK[:, -1], asked.truths_B)
    assert (hidden.weights_BK[:, -1] == 24).all()  # divided by 24 hidden tokens a sequence, the mean answer counts 1
    twice = before.places_BK == 8
    assert twice.any()
    assert (hidden.weights_BK[:, :-1][twice] == 0).all()
    assert (hidden.weights_BK[:, :-1][~twice] == 1).all()


def test_the_cost_is_that_of_hidden_tokens_plus_the_weight_times_that_of_the_answer():
    network = encoder()
    asked = ORDER.asked(TOKENS[:4], NUMBERS[:4], 1, 0)
    hidden = SentenceOrder(0.5, MASK, END, PAD, 3).joined(Masker(0.15, MASK, 99, 3).hide(asked.tokens_BT, 1, 0), asked)
    tokens, places, truths, weights = (torch.from_numpy(each) for each in hidden)
    with torch.no_grad():
        found = HiddenTokens(network)(tokens, weights, None, None, places, truths)
        costs = -network(tokens).log_softmax(-1).gather(1, places[..., None].expand(-1, -1, 128))
        costs = costs.gather(2, truths[..., None])[..., 0]
    mean = (costs[:, :-1] * weights[:, :-1]).sum() / costs[:, :-1].numel() + 0.5 * costs[:, -1].mean()
    assert found.item() / costs[:, :-1].numel() == pytest.approx(mean.item(), rel=1e-5)


def test_an_encoder_that_looks_learns_the_order_and_one_that_does_not_guesses():
    """Documents that begin with low tokens and end with high ones: whoever sees a half knows which it is."""
    draw, cpu = np.random.default_rng(0), torch.device("cpu")
    low, high = (draw.integers(first, first + 4, (132, 8)) for first in (10, 60))
    rows = np.concatenate([low, high], 1)
    network = encoder(scale=1.0).train()
    documents = list(rows[32:])
    assert 0.3 <= ORDER.accuracy(network, documents, 24, cpu) <= 0.7
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for step in range(60):
        asked = ORDER.asked(rows[:32], np.zeros_like(rows[:32]), step, 0)
        tokens, places, truths = (torch.from_numpy(each) for each in (asked.tokens_BT, asked.places_B, asked.truths_B))
        network.hidden_losses(tokens, places[:, None], truths[:, None]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert ORDER.accuracy(network.eval(), documents, 24, cpu) > 0.95
    assert ORDER.accuracy(network, [documents[0][: LEAST - 1]], 24, cpu) is None


@pytest.mark.parametrize("attend", ["sequence", "document"])
def test_a_run_that_was_killed_ends_with_the_same_bytes_and_is_judged(world, tmp_path, attend):
    fields = {"objective": "masked", "sentence_order": 1.0, "attend": attend, "eval_every": 6}
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    assert 0 <= whole.state["evaluations"][0]["order_accuracy"] <= 1
    job = small_job(world, tmp_path / "halved", **fields)
    job.write()
    with pytest.raises(Interrupted), stopping(after=7):
        train(job)
    assert in_process(job).state["files"] == whole.state["files"]
    recipe = PretrainRecipe.model_validate(job.recipe)
    inputs = Pretraining(job, recipe, torch.device("cpu"), 0, 1).batches.batch(1).inputs
    assert (inputs.documents_BT is None) == (attend == "sequence")
    assert (inputs.weights_BT[:, -1] > 0).any()


def test_the_question_is_for_encoders():
    with pytest.raises(ValueError, match="sentence_order is asked of an encoder"):
        PretrainRecipe(sentence_order=1.0)
    assert "sentence_order" not in PretrainRecipe(objective="masked").identity()
