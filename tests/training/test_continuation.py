"""Continuations by hand: what may be shown, what ends them, and that a batch gives what each gives alone."""

from __future__ import annotations

import itertools
import random

import pytest
import torch
from echo import V, echo, names
from hypothesis import given, settings
from hypothesis import strategies as st

from training.continuation import LOST, Continuation
from training.decoding import Decoder, written
from training.generate import Generator
from training.models.gpt import GPT, initialise
from training.models.recipe import GPTRecipe
from training.sampling import Sampling

END = 0
GREEDY = Sampling(0.0)


def spelled(tokens):
    """Token n is the byte n: characters may be cut in half."""
    return bytes(tokens).decode("utf-8", errors="replace")


def fed(text: bytes, stop=(), max_tokens=1000, end=True):
    """A continuation that was given these bytes one by one, and what could be shown after each."""
    row, shown = Continuation([], max_tokens, GREEDY, spelled, END, stop), []
    for token in [*text, *([END] if end else [])]:
        if not row.ended:
            row.take(token)
            shown.append(row.text)
    return row, shown


def test_half_a_character_is_never_shown():
    row, shown = fed("né 漢!".encode())
    assert row.text == "né 漢!"
    assert not any(LOST in text for text in shown)
    assert shown[1] == "n"  # the first byte of é


def test_half_a_character_that_stays_half_is_shown_as_lost_in_the_end():
    assert fed("n漢".encode()[:-1])[0].text == f"n{LOST}"


def test_a_stop_string_is_found_across_tokens_and_never_shown():
    row, shown = fed(b"one two\n\nthree", stop=["\n\n"])
    assert (row.text, row.finish_reason) == ("one two", "stop")
    assert not any("\n" in text for text in shown)


def test_what_only_began_like_a_stop_string_is_shown_as_soon_as_it_did_not_become_one():
    row, shown = fed(b"a\nb", stop=["\n\n"])
    assert shown == ["a", "a", "a\nb", "a\nb"]
    assert row.text == "a\nb"


def test_what_began_like_a_stop_string_is_shown_at_the_end():
    assert fed(b"a\n", stop=["\n\n"])[0].text == "a\n"
    assert fed(b"a\nxyz", stop=["\n\n"], max_tokens=2)[0].text == "a\n"


def test_the_first_of_several_stop_strings_ends_it():
    assert fed(b"abcdef", stop=["ef", "cd", "de"])[0].text == "ab"
    assert fed(b"xaab", stop=["aab"])[0].text == "x"  # not "xa": the stop string begins where it can


@settings(max_examples=200, deadline=None)
@given(st.text("ab\n", max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_a_text_ends_where_the_first_stop_string_begins_and_grows_until_there(text, stops):
    """A whole text that has just grown by the token that completes a stop string is cut before its first place."""
    row, shown = fed(text.encode(), stops)
    size = next((n for n in range(len(text) + 1) if any(stop in text[:n] for stop in stops)), None)
    wanted = text if size is None else text[: min(text[:size].find(s) for s in stops if s in text[:size])]
    assert row.text == wanted
    assert all(after.startswith(before) for before, after in itertools.pairwise(shown))


def test_why_it_ended():
    assert fed(b"abc")[0].finish_reason == "stop"
    assert fed(b"abc", max_tokens=3, end=False)[0].finish_reason == "length"
    assert fed(b"abc", max_tokens=2, end=False)[0].tokens == [*b"ab"]
    assert not fed(b"abc", end=False)[0].ended
    assert Continuation([], 0, GREEDY, spelled, END).finish_reason == "length"


# -- together --------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def random_writer(context=24, **fields):
    """A network of random weights, large enough that texts differ."""
    shape = {"vocab_size": V, "sequence_length": context, "layers": 2, "width": 32, "heads": 4, "kv_heads": 2,
             "mlp_width": 48, "tied": False}  # fmt: skip
    recipe = GPTRecipe(**{**shape, **fields})
    network = GPT(recipe)
    initialise(network, recipe.layers, 1)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 2:
                weight.mul_(6.0)
    return Generator(network, names(), END)


PROMPTS = ["w5", "w6 w7 w8 w9 w10 w11", "", "w2 w3", "w9 w9 w9 w9 w9 w9 w9 w9 w9", "w40"]


@pytest.mark.parametrize(
    ("fields", "batch_size"),
    [({}, 1), ({}, 2), ({}, 6), ({"blocks": "gpt2", "kv_heads": 4}, 2), ({"window": 5}, 3)],
)
def test_a_batch_gives_what_each_gives_alone(fields, batch_size):
    """Also those that outgrow the context of 24, that end at once and that join a batch which others have left."""
    writer, wishes = random_writer(**fields), {"temperature": 1.2, "top_p": 0.9, "seed": 5}
    limits = [7, 40, 12, 0, 30, 3]
    alone = [writer.write([writer.continuation(p, n, **wishes)])[0] for p, n in zip(PROMPTS, limits, strict=True)]
    rows = [writer.continuation(prompt, n, **wishes) for prompt, n in zip(PROMPTS, limits, strict=True)]
    together = writer.write(rows, batch_size)
    assert [row.tokens for row in together] == [row.tokens for row in alone]
    assert [row.finish_reason for row in together] == [row.finish_reason for row in alone]
    assert sum(len(row.tokens) for row in together) > 40


@pytest.mark.parametrize("seed", [1, 2])
def test_it_is_the_same_text_whoever_joins_and_leaves_when(seed):
    """Joins, cancellations, rules, prompts and lengths at random; texts of up to twice the context."""
    writer, chance = random_writer(qk_norm=True, window=9), random.Random(seed)

    def asked(number):
        one = random.Random(100 * seed + number)
        prompt = [one.randrange(2, V) for _ in range(one.randrange(1, 30))]
        rule = {
            "temperature": one.choice([0.0, 1.0, 1.4]),
            "top_k": one.choice([0, 5]),
            "min_p": one.choice([0.0, 0.05]),
        }
        return writer.continuation(prompt, one.randrange(1, 48), repetition_penalty=one.choice([1.0, 1.3]), **rule)

    waiting, decoder = [asked(number) for number in range(8)], writer.decoder()
    rows = list(waiting)
    while waiting or decoder.rows:
        if waiting and chance.random() < 0.3:
            decoder.join([waiting.pop() for _ in range(min(len(waiting), chance.randrange(1, 4)))])
        if decoder.rows and chance.random() < 0.05:
            chance.choice(decoder.rows).cancelled = True
        decoder.step()
    for number, row in enumerate(rows):
        alone = writer.write([asked(number)])[0].tokens
        assert row.tokens == (alone[: len(row.tokens)] if row.cancelled else alone)


def test_every_one_in_a_batch_draws_by_its_own_rule():
    writer = random_writer()
    rules = [{"temperature": 0.0}, {"temperature": 1.5, "seed": 3}, {"temperature": 1.5, "seed": 4}, {"top_k": 2},
             {"temperature": 0.0, "repetition_penalty": 9.0}]  # fmt: skip
    alone = [writer.generate("w5 w6", 12, **rule) for rule in rules]
    rows = writer.write([writer.continuation("w5 w6", 12, **rule) for rule in rules])
    assert [row.text for row in rows] == alone
    assert len(set(alone)) == len(rules)


def test_choices_of_one_seed_differ_and_the_first_is_that_of_the_seed():
    writer = random_writer()
    found = [writer.continuation("w5", 12, temperature=1.5, seed=3, choice=choice) for choice in (0, 1, 2)]
    texts = [row.text for row in writer.write(found)]
    assert len(set(texts)) == 3
    assert texts[0] == writer.generate("w5", 12, temperature=1.5, seed=3)


def test_they_come_back_as_soon_as_they_have_ended():
    writer = Generator(echo(), names(), END)
    rows = [writer.continuation("w5", count, temperature=0.0) for count in (3, 1, 0, 2)]
    assert [len(row.tokens) for row in written(writer.decoder(), rows, 4)] == [0, 1, 2, 3]


def test_one_that_is_cancelled_leaves_and_the_others_go_on():
    writer = random_writer()
    rows = [writer.continuation(prompt, 9, temperature=1.0, seed=1) for prompt in PROMPTS[:3]]
    decoder: Decoder = writer.decoder()
    decoder.join(rows)
    decoder.step()
    rows[1].cancelled = True
    while decoder.rows:
        assert rows[1] not in decoder.step()
    assert len(rows[1].tokens) == 1
    assert rows[0].text == writer.generate(PROMPTS[0], 9, temperature=1.0, seed=1)


def test_a_repetition_penalty_counts_prompt_and_continuation_but_not_what_stands_before_them():
    from transformers import RepetitionPenaltyLogitsProcessor

    writer, penalty = random_writer(), RepetitionPenaltyLogitsProcessor(1.7)
    tokens = writer.encode("w6 w7")
    for _ in range(12):
        with torch.no_grad():
            logits = writer.model(torch.tensor([[END, *tokens]]))[:, -1]
        tokens.append(int(penalty(torch.tensor([tokens]), logits).argmax()))
    row = writer.write([writer.continuation("w6 w7", 12, temperature=0.0, repetition_penalty=1.7)])[0]
    assert row.seen == tokens
    assert row.text != writer.generate("w6 w7", 12, temperature=0.0)


def test_ranks_are_the_log_probabilities_of_the_model_whatever_the_sampling():
    writer = Generator(echo(), names(), END)
    row = writer.write([writer.continuation("w9", 2, temperature=0.1, logprobs=2)])[0]
    wanted = torch.tensor([8.0] + [0.0] * (V - 1)).log_softmax(0)
    assert [rank.logprob for rank in row.ranks] == pytest.approx([wanted[0].item()] * 2, abs=1e-4)
    assert next(iter(row.ranks[0].likeliest)) == 9
    assert len(row.ranks[0].likeliest) == 2


def test_before_a_prompt_stands_the_token_that_begins_texts():
    """Of models from elsewhere, which may begin with another token than they end with."""
    assert Generator(echo(), names(), END, start_id=7).generate("", 2, temperature=0) == "w7 w7"
    assert Generator(echo(), names(), END).generate("", 2, temperature=0) == ""
    writer = random_writer()
    text, tokens = (writer.write([writer.continuation(p, 9, temperature=0)])[0].tokens for p in ("w5 w6", [5, 6]))
    begun = writer.write([writer.continuation([END, 5, 6], 9, temperature=0)])[0].tokens
    assert text == begun != tokens  # token ids are read as they are


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match="stop string is empty"):
        random_writer().continuation("w5", stop=["", "x"])
