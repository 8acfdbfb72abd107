"""Sampling: distributions by hand, those of transformers, and that what is drawn follows them."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
import torch
from echo import LOG_AGAIN, V, echo, names, silent
from tokenizers import Tokenizer

from training.generate import Generator, greedy
from training.sampling import Sampling, number, place

HALVES = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()


def probabilities(logits=HALVES, **fields):
    return Sampling(**{"temperature": 1.0, **fields}).probabilities(logits.clone()).tolist()


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 4}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_k": 99}, [0.5, 0.25, 0.15, 0.1]),
        ({"top_p": 0.3}, [1, 0, 0, 0]),  # the likeliest stays even where it is more than was asked for
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.8}, [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
        ({"top_k": 2, "top_p": 0.6}, [1, 0, 0, 0]),  # of the two that are left the first has 2/3
        ({"top_k": 2, "top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"min_p": 0.4}, [2 / 3, 1 / 3, 0, 0]),  # less than 0.4 of 0.5 goes
        ({"min_p": 0.19}, [0.5, 0.25, 0.15, 0.1]),
        ({"min_p": 1.0}, [1, 0, 0, 0]),
        ({"min_p": 0.4, "top_k": 1}, [1, 0, 0, 0]),
        ({"temperature": 0.0}, [1, 0, 0, 0]),
        ({"temperature": 0.0, "top_k": 3, "top_p": 0.9}, [1, 0, 0, 0]),
    ],
)
def test_known_distributions(fields, wanted):
    assert probabilities(**fields) == pytest.approx(wanted, abs=1e-6)


def test_a_temperature_is_a_power_of_the_probabilities():
    squares = [p**2 for p in (0.5, 0.25, 0.15, 0.1)]
    assert probabilities(temperature=0.5) == pytest.approx([p / sum(squares) for p in squares], abs=1e-6)
    roots = [math.sqrt(p) for p in (0.5, 0.25, 0.15, 0.1)]
    assert probabilities(temperature=2.0) == pytest.approx([p / sum(roots) for p in roots], abs=1e-6)


def test_the_order_of_the_tokens_does_not_matter():
    turned = HALVES[[2, 0, 3, 1]]
    assert probabilities(turned, top_k=2) == pytest.approx([0, 2 / 3, 0, 1 / 3], abs=1e-6)
    assert probabilities(turned, top_p=0.8) == pytest.approx([0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9], abs=1e-6)


def test_of_equal_logits_the_first_is_the_likeliest():
    assert probabilities(torch.zeros(5), temperature=0.0) == [1, 0, 0, 0, 0]
    assert probabilities(torch.zeros(5), top_p=0.5) == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0], abs=1e-6)


def test_adding_to_all_logits_changes_nothing():
    assert probabilities(HALVES + 300.0, top_p=0.8) == pytest.approx(probabilities(top_p=0.8), abs=1e-4)


def test_a_repetition_penalty_lowers_what_the_text_has_already():
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])
    seen = torch.tensor([[True, True, False, False]])
    wanted = torch.tensor([[1.0, -4.0, 1.0, 0.0]]).softmax(-1)
    assert torch.allclose(Sampling(1.0, repetition_penalty=2.0).probabilities(logits, seen), wanted)
    assert torch.equal(
        Sampling(0.0, repetition_penalty=3.0).probabilities(logits, seen), torch.tensor([[0.0, 0, 1, 0]])
    )
    assert torch.equal(Sampling(1.0).probabilities(logits, seen), Sampling(1.0).probabilities(logits))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "min_p", "penalty"),
    [
        (0.7, 0, 0.9, 0.0, 1.0), (1.3, 10, 1.0, 0.0, 1.0), (1.0, 8, 0.6, 0.0, 1.0), (2.0, 0, 0.2, 0.0, 1.0),
        (1.0, 0, 1.0, 0.1, 1.0), (1.5, 20, 0.9, 0.05, 1.0), (1.0, 0, 1.0, 0.0, 1.3), (0.8, 12, 0.95, 0.02, 0.7),
    ],
)  # fmt: skip
def test_it_is_what_transformers_draws_from(seed, temperature, top_k, top_p, min_p, penalty):
    from transformers.generation import logits_process as theirs

    draw = torch.Generator().manual_seed(seed)
    logits_BV = torch.randn(3, 50, generator=draw) * 2
    texts_BT = torch.randint(50, (3, 12), generator=draw)
    scores = theirs.RepetitionPenaltyLogitsProcessor(penalty)(texts_BT, logits_BV)
    scores = theirs.TemperatureLogitsWarper(temperature)(None, scores)
    scores = theirs.TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    scores = theirs.TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
    scores = theirs.MinPLogitsWarper(min_p)(None, scores) if min_p else scores
    seen_BV = torch.zeros(3, 50, dtype=torch.bool).scatter_(1, texts_BT, value=True)
    ours = Sampling(temperature, top_k, top_p, min_p, penalty).probabilities(logits_BV, seen_BV)
    assert torch.allclose(ours, scores.softmax(-1), atol=1e-6)
    assert torch.allclose(
        ours[1], Sampling(temperature, top_k, top_p, min_p, penalty).probabilities(logits_BV[1], seen_BV[1])
    )


def test_a_number_falls_on_the_cumulated_probabilities_and_never_on_an_impossible_token():
    probabilities = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]])
    found = [int(place(probabilities, [at])) for at in (0.0, 0.25, 0.499, 0.5, 0.75, 1 - 2**-52)]
    assert found == [1, 1, 1, 3, 3, 3]
    assert place(probabilities.expand(2, 5), [0.1, 0.9]).tolist() == [1, 3]


@pytest.mark.parametrize("fields", [{}, {"top_k": 9}, {"top_p": 0.8}, {"top_k": 9, "top_p": 0.8}, {"temperature": 0.0}])
def test_a_token_is_drawn_in_the_order_of_the_vocabulary_whatever_is_left_out(fields):
    logits_BV = torch.randn(40, 30, generator=torch.Generator().manual_seed(1)) * 2
    rule, numbers = Sampling(**{"temperature": 1.0, **fields}), [index / 40 for index in range(40)]
    assert torch.equal(rule.draw(logits_BV, numbers), place(rule.probabilities(logits_BV), numbers))


def test_numbers_are_uniform_and_differ_by_seed_choice_and_place():
    numbers = [number(seed, choice, place) for seed in range(10) for choice in range(10) for place in range(20)]
    assert len(set(numbers)) == 2000
    tenths = Counter(int(10 * each) for each in numbers)
    assert set(tenths) == set(range(10))
    assert all(abs(count - 200) < 5 * math.sqrt(2000 * 0.1 * 0.9) for count in tenths.values())


# -- what is drawn ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread():
    """Networks this small are slower on several; the room's own fixture puts the number back."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def echoing():
    return Generator(echo(), names(), 0)


def test_drawn_tokens_follow_the_distribution_and_so_does_the_length_of_texts():
    """Four tokens alike, one of them the end: texts of 3 tokens on average (geometric, variance 12), others alike."""
    writer = Generator(silent(), names(), 0)
    writer.num_tokens = 4
    texts = [list(writer.tokens([9], 100, Sampling(1.0, seed=seed))) for seed in range(150)]
    found = Counter(token for text in texts for token in text)
    assert set(found) == {1, 2, 3}  # the end is not among them
    assert abs(found.total() / 150 - 3) < 4 * math.sqrt(12 / 150)
    for count in found.values():
        assert abs(count / found.total() - 1 / 3) < 4 * math.sqrt(2 / 9 / found.total())


def test_a_vocabulary_with_gaps_is_written_to_its_largest_id():
    """As rank files of tiktoken have them: 33 tokens, the last of which is number 63."""
    body = json.loads(names().to_str())
    vocab = body["model"]["vocab"]
    body["model"]["vocab"] = {name: number for name, number in vocab.items() if number < 32 or number == V - 1}
    writer = Generator(echo(), Tokenizer.from_str(json.dumps(body)), 0)
    assert writer.generate(f"w{V - 1}", 3, temperature=0) == " ".join([f"w{V - 1}"] * 3)


def test_the_echo_says_its_last_token_until_it_may_say_no_more(echoing):
    assert list(echoing.tokens([5, 9], 6, Sampling(0.0))) == [9] * 6
    assert list(echoing.tokens([5, 9], 0, Sampling(0.0))) == []
    assert echoing.generate("w5 w9", 3, temperature=0) == "w9 w9 w9"


def test_an_empty_prompt_begins_a_document_and_the_echo_ends_it_at_once(echoing):
    assert list(echoing.tokens([], 6, Sampling(0.0))) == []
    assert echoing.generate("", 6, temperature=0) == ""


def test_the_echo_goes_on_when_its_context_is_full(echoing):
    assert list(echoing.tokens([5, 9], 60, Sampling(0.0))) == [9] * 60  # the context has 16
    assert list(echoing.tokens([5] * 90 + [7], 20, Sampling(0.0))) == [7] * 20


def test_a_low_temperature_hardly_leaves_the_likeliest(echoing):
    """At temperature 1 the echo repeats itself with probability e^8 / (e^8 + 63) = 0.979."""
    same = Counter(next(echoing.tokens([9], 1, Sampling(1.0, seed=seed))) == 9 for seed in range(200))
    expected = math.exp(LOG_AGAIN)
    assert abs(same[True] / 200 - expected) < 4 * math.sqrt(expected * (1 - expected) / 200)
    assert all(next(echoing.tokens([9], 1, Sampling(0.3, seed=seed))) == 9 for seed in range(20))


def test_greedy_text_needs_no_seed_and_drawn_text_repeats_with_it(echoing):
    assert list(echoing.tokens([9], 9, Sampling(0.0, seed=1))) == list(echoing.tokens([9], 9, Sampling(0.0, seed=2)))
    drawn = [list(echoing.tokens([9], 30, Sampling(9.0, seed=seed))) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


# -- many prompts at once --------------------------------------------------------------------------------------


def test_prompts_of_all_lengths_are_answered_in_their_order():
    prompts = [[5], [6, 7, 8], [], [9] * 40, [4, 4]]
    found = greedy(echo(), prompts, 3, 0, V, batch_size=2)
    # an empty prompt is the end of text, which the echo says again: nothing
    assert found == [[5] * 3, [8] * 3, [], [9] * 3, [4] * 3]
    assert greedy(echo(), [], 3, 0, V) == []


def test_a_prompt_that_is_too_long_loses_its_beginning():
    """Context 16, 10 new tokens: six are left of the prompt, and the echo reads the last."""
    assert greedy(echo(), [[5] * 30 + [7]], 10, 0, V) == [[7] * 10]


def test_without_room_for_a_prompt_nothing_is_written():
    assert greedy(echo(), [[5]], 15, 0, V) == [[5] * 15]
    with pytest.raises(ValueError, match="max_tokens is 16, the context 16: no room for a prompt"):
        greedy(echo(), [[5]], 16, 0, V)


def test_one_that_has_ended_does_not_stop_the_others():
    assert greedy(echo(), [[0], [5]], 4, 0, V, batch_size=2) == [[], [5] * 4]


def test_tokens_beyond_the_vocabulary_are_never_said():
    assert greedy(silent(), [[9]], 3, 63, 10) == [[0] * 3]
    assert greedy(echo(), [[40]], 3, 63, 10) == [[0] * 3]  # 40 is the likeliest, but no token
