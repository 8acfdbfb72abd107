"""Which tokens an encoder must guess: the same everywhere, as many as the recipe says, whole words if wished."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.masking import Edges, Masker, with_mask_token, word_edges

MASK = 500


def rows(count, length, seed=0):
    return np.random.default_rng(seed).integers(4, 500, (count, length))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(2, 200), st.floats(0.01, 0.9), st.integers(1, 10**6))
def test_exactly_the_share_is_hidden_and_everything_else_stays(count, length, ratio, step):
    masker, tokens = Masker(ratio, MASK, 500, seed=3), rows(count, length)
    hidden = masker.hide(tokens, step, 0)
    assert hidden.places_BK.shape == (count, max(1, round(ratio * length)))
    for row in range(count):
        places = hidden.places_BK[row]
        assert len(set(places.tolist())) == len(places)
        assert np.array_equal(hidden.truths_BK[row], tokens[row, places])
        others = np.setdiff1d(np.arange(length), places)
        assert np.array_equal(hidden.tokens_BT[row, others], tokens[row, others])
    assert (hidden.weights_BK == 1.0).all()


def test_eighty_ten_ten():
    hidden = Masker(0.15, MASK, 500, seed=1).hide(rows(200, 512), 1, 0)
    shown = np.take_along_axis(hidden.tokens_BT, hidden.places_BK, 1)
    masked, kept = (shown == MASK).mean(), (shown == hidden.truths_BK).mean()
    assert masked == pytest.approx(0.8, abs=0.01)
    assert kept == pytest.approx(0.1, abs=0.01)
    others = shown[(shown != MASK) & (shown != hidden.truths_BK)]
    assert others.max() < 500
    assert len(set(others.tolist())) > 400  # from the whole vocabulary


def test_what_is_hidden_depends_on_seed_step_and_place_alone():
    tokens = rows(8, 64)
    one = Masker(0.15, MASK, 500, seed=1)
    whole, halves = one.hide(tokens, 7, 0), [one.hide(tokens[:4], 7, 0), one.hide(tokens[4:], 7, 4)]
    for a, b, c in zip(whole, *halves, strict=True):
        assert np.array_equal(a, np.concatenate([b, c]))
    for other in (one.hide(tokens, 8, 0), Masker(0.15, MASK, 500, seed=2).hide(tokens, 7, 0)):
        assert not np.array_equal(other.places_BK, whole.places_BK)
    assert len({tuple(places) for places in whole.places_BK.tolist()}) == 8


def test_every_place_is_hidden_about_as_often():
    masker = Masker(0.15, MASK, 500, seed=1)
    counts = np.zeros(40)
    for step in range(1, 301):
        np.add.at(counts, masker.hide(rows(4, 40), step, 0).places_BK, 1)
    assert counts.mean() == 180
    assert 120 < counts.min() < counts.max() < 240


VOCAB = {"<|endoftext|>": 0, "the": 1, "\u0120col": 2, "umn": 3, ".": 4, "\u0120": 5, "\u010a\u010a": 6, "\u0120of": 7}
BYTE_LEVEL = {"model": {"type": "BPE", "vocab": VOCAB}, "added_tokens": [{"content": "<|endoftext|>", "id": 0}]}


def test_words_of_a_byte_level_vocabulary():
    edges = word_edges(BYTE_LEVEL, 8)
    #        the  col umn  .   of  the  nl  the eot the
    found = edges.words(np.array([1, 2, 3, 4, 7, 1, 6, 1, 0, 1]))
    assert found.tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 6, 7]


def test_words_of_a_wordpiece_vocabulary_go_on_only_where_the_piece_says_so():
    model = {"vocab": {"sort": 0, "##ed": 1, "table": 2}, "continuing_subword_prefix": "##"}
    edges = word_edges({"model": model, "added_tokens": []}, 3)
    assert edges.words(np.array([0, 1, 2, 0, 1, 1])).tolist() == [0, 0, 1, 2, 2, 2]


def test_whole_words_are_hidden_or_shown():
    continues = np.zeros(500, bool)
    continues[250:] = True
    edges = Edges(continues, np.ones(500, bool))
    masker, tokens = Masker(0.2, MASK, 500, 1, edges), rows(20, 120)
    hidden = masker.hide(tokens, 1, 0)
    size = masker.num_hidden(120)
    for row in range(20):
        words, weights = edges.words(tokens[row]), hidden.weights_BK[row]
        places = hidden.places_BK[row][weights > 0]
        assert 0 < len(places) <= size
        assert weights.sum() == pytest.approx(size)  # a sequence weighs the same, however its words fall
        chosen = set(words[places].tolist())
        assert sorted(places.tolist()) == [t for t in range(120) if words[t] in chosen]


def test_a_text_of_one_word_is_hidden_as_far_as_it_goes():
    edges = Edges(np.ones(500, bool), np.ones(500, bool))
    hidden = Masker(0.25, MASK, 500, 1, edges).hide(rows(2, 40), 1, 0)
    assert hidden.places_BK.tolist() == [list(range(10))] * 2


def test_a_vocabulary_without_a_mask_token_gets_one_behind_its_tokens_and_tokenizers_reads_it():
    from tokenizers import Tokenizer, models

    plain = json.loads(Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[])).to_str())
    found, number = with_mask_token(plain, 2)
    tokenizer = Tokenizer.from_str(json.dumps(found))
    assert (number, tokenizer.token_to_id("<|mask|>"), tokenizer.get_vocab_size()) == (2, 2, 3)
    assert tokenizer.encode("a<|mask|>b").ids == [0, 2, 1]
    assert with_mask_token(found, 3) == (found, 2)  # its own is taken
    bert = {"added_tokens": [{"content": "[MASK]", "id": 103}]}
    assert with_mask_token(bert, 30_522) == (bert, 103)
