from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import small_job

from training.baselines import NGrams, baselines
from training.heldout import (
    HeldoutDocument,
    bits_per_byte,
    document_losses,
    load_documents,
    piece_losses,
    pieces,
    scores,
    scores_by_part,
)
from training.models.gpt import GPT, initialise

STREAM = np.array([1, 2, 1, 2, 1, 3, 0])  # with <|endoftext|> = 0 before it


def document(tokens, num_bytes=10, overlap=0.0, part="p"):
    return HeldoutDocument(part, np.array(tokens, np.int64), num_bytes, overlap)


def test_unigram_adds_one_to_every_count():
    grams = NGrams([STREAM], 4, 0)
    assert grams.probabilities(np.array([1, 2, 3, 0]), 1).tolist() == [4 / 11, 3 / 11, 2 / 11, 2 / 11]


def test_bigram_by_hand():
    # pairs: 01 12 21 12 21 13 30 -> counts 12: 2, 21: 2, 01 13 30: 1; D = 3 / (3 + 2 * 2) = 3/7
    grams = NGrams([STREAM], 4, 0)
    discount = 3 / 7
    assert grams.counts[2].discount == discount
    one, two = 4 / 11, 3 / 11
    after_one = ((2 - discount) + discount * 2 * two) / 3  # "1" is followed 3 times, by two kinds
    start = ((1 - discount) + discount * 1 * one) / 1
    unseen = (0 + discount * 1 * (4 / 11)) / 1  # 3 is followed only by 0
    found = grams.probabilities(np.array([1, 2]), 2)
    assert found.tolist() == pytest.approx([start, after_one], rel=1e-12)
    assert grams.probabilities(np.array([3, 1]), 2)[1] == pytest.approx(unseen, rel=1e-12)
    bits = -(math.log2(start) + math.log2(after_one))
    assert grams.bits_per_byte([document([1, 2], num_bytes=4)], 2) == round(bits / 4, 6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.lists(st.integers(0, 4), max_size=3))
def test_probabilities_of_all_next_tokens_sum_to_one(stream, context):
    grams = NGrams([np.array(stream)], 5, 0)
    for order in (1, 2, 3):
        total = sum(grams.probabilities(np.array([*context, token]), order)[-1] for token in range(5))
        assert total == pytest.approx(1.0, rel=1e-9)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_counts_are_those_of_a_dictionary(stream):
    grams = NGrams([np.array(stream)], 5, 0)
    wanted = Counter(zip([0, *stream], stream, strict=False))
    found = {
        (int(g) // 5, int(g) % 5): int(c) for g, c in zip(grams.counts[2].grams, grams.counts[2].counts, strict=True)
    }
    assert found == wanted


def test_higher_orders_code_the_small_world_better(world, tmp_path):
    job = small_job(world, tmp_path)
    documents = load_documents(job.heldout)
    readers = {part.name: part.reader() for part in job.parts}
    found = baselines(readers, documents, 320, 0, 10**9)
    assert found["unigram_bpb"] > found["bigram_bpb"] > found["trigram_bpb"] > 0
    told = []
    fewer = baselines(readers, documents, 320, 0, 2000, told.append)
    assert fewer["bigram_bpb"] > found["bigram_bpb"]
    assert "count 2,000 of" in told[0]


def test_a_vocabulary_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        NGrams([STREAM], 2**21 + 1, 0)


def test_pieces_cover_every_target_once_after_one_end_of_text():
    found = pieces([document([5, 6, 7, 8, 0]), document([9, 0])], length=2, eos_id=0)
    assert [p.tokens.tolist() for p in found] == [[0, 5, 6], [6, 7, 8], [8, 0], [0, 9, 0]]
    assert document_losses([document([]), document([])], found, [1.0, 2.0, 4.0, 8.0]) == [7.0, 8.0]


def test_bits_per_byte_weighs_documents_by_their_bytes():
    documents = [document([1], num_bytes=2), document([1], num_bytes=6, overlap=0.7, part="q")]
    losses = [math.log(2) * 4, math.log(2) * 6]
    assert bits_per_byte(losses, documents) == 1.25
    found = scores(documents, losses, clean_overlap=0.5)
    assert found == {"bpb": 1.25, "bpb_clean": 2.0, "docs": 2, "docs_clean": 1}
    assert scores_by_part(documents, losses) == {"p": {"bpb": 2.0, "docs": 1}, "q": {"bpb": 1.0, "docs": 1}}
    assert scores(documents, losses, clean_overlap=1.0)["bpb_clean"] == 1.25
    assert scores([], [], 0.5)["bpb"] is None


def test_batched_losses_are_those_of_each_document_alone(world, tmp_path):
    job = small_job(world, tmp_path)
    network = GPT(job.model).eval()
    initialise(network, 2, 1)
    documents = load_documents(job.heldout)
    assert len(documents) == sum(part.counts["docs"] for part in world.heldout_shards.parts())
    together = document_losses(
        documents, pieces(documents, 32, 0), piece_losses(network, pieces(documents, 32, 0), "cpu")
    )
    for each, loss in zip(documents, together, strict=True):
        cut = pieces([each], 32, 0)
        assert sum(piece_losses(network, cut, "cpu")) == pytest.approx(loss, rel=1e-5)
        assert sum(len(p.tokens) - 1 for p in cut) == len(each.tokens)


def test_documents_that_do_not_go_with_their_shards_are_refused(own_world, tmp_path):
    job = small_job(own_world, tmp_path)
    wrong = job.heldout[0].model_copy(update={"shards": job.heldout[1].shards})
    with pytest.raises(ValueError, match=r"documents\.arrow lists"):
        load_documents([wrong])
    with pytest.raises(ValueError, match=r"has no documents\.arrow"):
        load_documents([job.parts[0]])


def test_trigram_by_hand():
    # triples of 0 0 1 2 1 2 1 3 0: 001 012 121 212 121 213 130 -> 121: 2, the six others once; D = 5 / (5 + 2 * 1)
    grams = NGrams([STREAM], 4, 0)
    discount = 5 / 7
    assert grams.counts[3].discount == discount
    lower = grams.probabilities(np.array([1, 2, 1, 2, 1, 3]), 2)
    found = grams.probabilities(np.array([1, 2, 1, 2, 1, 3]), 3)
    assert found[0] == pytest.approx((1 - discount) + discount * lower[0], rel=1e-12)  # 0 0 is always followed by 1
    assert found[2] == pytest.approx((2 - discount) / 2 + discount * lower[2] / 2, rel=1e-12)  # 12: twice, one kind
    # 21 is followed by 2 and by 3
    assert found[3] == pytest.approx((1 - discount) / 2 + discount * 2 * lower[3] / 2, rel=1e-12)
    assert found[5] == pytest.approx((1 - discount) / 2 + discount * 2 * lower[5] / 2, rel=1e-12)


def test_a_pair_never_seen_leaves_all_to_the_bigram():
    grams = NGrams([STREAM], 4, 0)
    tokens = np.array([3, 3, 1])  # 3 3 never occurs, so that neither does 3 3 1
    assert grams.probabilities(tokens, 3)[2] == grams.probabilities(tokens, 2)[2]


def test_streams_do_not_run_into_each_other():
    """Two parts: the last token of one is not followed by the first of the other; each begins a document."""
    apart, together = NGrams([np.array([1, 2]), np.array([3, 3])], 5, 0), NGrams([np.array([1, 2, 3, 3])], 5, 0)
    pairs = [{(int(g) // 5, int(g) % 5) for g in grams.counts[2].grams} for grams in (apart, together)]
    assert pairs == [{(0, 1), (1, 2), (0, 3), (3, 3)}, {(0, 1), (1, 2), (2, 3), (3, 3)}]


def test_counts_do_not_depend_on_the_order_of_the_parts():
    one, other = np.array([1, 2, 1, 0]), np.array([3, 1, 2, 0, 2])
    documents = [document([1, 2, 3, 0])]
    for order in (1, 2, 3):
        assert NGrams([one, other], 4, 0).bits_per_byte(documents, order) == NGrams([other, one], 4, 0).bits_per_byte(
            documents, order
        )


def test_a_text_is_coded_shorter_by_the_grams_of_itself_than_by_those_of_another():
    own, other = np.array([1, 2, 3] * 30 + [0]), np.array([3, 2, 1] * 30 + [0])
    documents = [document([1, 2, 3] * 5 + [0], num_bytes=16)]
    for order in (2, 3):
        assert NGrams([own], 4, 0).bits_per_byte(documents, order) < NGrams([other], 4, 0).bits_per_byte(
            documents, order
        )


def test_without_training_tokens_every_token_costs_log2_of_the_vocabulary():
    grams = NGrams([np.zeros(0, np.uint16)], 64, 0)
    documents = [document([5, 9, 0], num_bytes=6)]
    assert [grams.bits_per_byte(documents, order) for order in (1, 2, 3)] == [3.0, 3.0, 3.0]  # 3 tokens, 18 bits


def test_the_largest_vocabulary_fits_three_times_into_a_word():
    last = 2**21 - 1
    grams = NGrams([np.array([last, last, last, last], np.uint32)], 2**21, last)
    assert grams.counts[3].grams.tolist() == [2**63 - 1]
    assert grams.counts[3].counts.tolist() == [4]
    assert grams.probabilities(np.array([last]), 3)[0] > 0.9


class Stream:
    """As much of a shard reader as the baselines use."""

    def __init__(self, tokens):
        self.stream, self.num_tokens = np.array(tokens, np.uint16), len(tokens)

    def tokens(self, start, stop):
        return self.stream[start:stop]


def test_where_there_are_too_many_tokens_every_part_gives_its_share():
    """300 of 400 tokens: three quarters of the beginning of each part."""
    readers = {"b": Stream([1] * 75 + [2] * 25), "a": Stream([3] * 225 + [2] * 75)}
    told = []
    found = baselines(readers, [document([1, 3, 2, 0])], 4, 0, 300, told.append)
    wanted = NGrams([np.array([3] * 225), np.array([1] * 75)], 4, 0)
    assert found["unigram_bpb"] == wanted.bits_per_byte([document([1, 3, 2, 0])], 1)
    assert told == ["the n-gram baselines count 300 of 400 training tokens"]
    told.clear()
    baselines(readers, [document([1])], 4, 0, 400, told.append)
    assert told == []


def test_without_held_out_text_there_is_no_score():
    assert baselines({"a": Stream([1, 2])}, [], 4, 0, 10) == {
        "unigram_bpb": None, "bigram_bpb": None, "trigram_bpb": None
    }  # fmt: skip


@pytest.mark.parametrize("stream", [[1, 2, 3], [1, 1, 1, 1, 1], []], ids=["all once", "never once", "none"])
def test_too_few_counts_for_an_estimate_discount_half_an_occurrence(stream):
    """A discount of 1 would take everything from what was seen once, one of 0 leave nothing for what was not."""
    assert NGrams([np.array(stream, np.int64)], 4, 1).counts[2].discount == 0.5
