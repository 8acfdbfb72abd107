"""Bits per byte: models whose score is known by hand, and what the score must not depend on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from echo import LOG_AGAIN, LOG_OTHER, V, echo, silent
from hypothesis import given, settings
from hypothesis import strategies as st

from training import heldout
from training.heldout import HeldoutDocument, bits_per_byte, document_losses, piece_losses, pieces, scores
from training.models.gpt import initialise
from training.pretraining import _sample


def document(tokens, num_bytes=10, overlap=0.0, part="p"):
    return HeldoutDocument(part, np.array(tokens, np.int64), num_bytes, overlap)


def losses_of(network, documents, length=16):
    cut = pieces(documents, length, 0)
    return document_losses(documents, cut, piece_losses(network, cut, "cpu"))


def learnt(seed=0):
    network = silent()
    initialise(network, 2, seed)
    return network


def random_documents(count=12, seed=0):
    draw = np.random.default_rng(seed)
    return [document([*draw.integers(1, V, int(size)), 0], int(size) * 3) for size in draw.integers(1, 90, count)]


def test_a_model_that_knows_nothing_pays_log2_of_its_vocabulary_for_every_token():
    documents = [document([5, 9, 13, 0], num_bytes=12), document([7] * 39 + [0], num_bytes=100)]
    found = scores(documents, losses_of(silent(), documents), 0.5)
    assert found["bpb"] == round((4 + 40) * math.log2(V) / 112, 6)  # 44 tokens of 6 bits over 112 bytes


def test_the_end_of_text_before_a_document_is_free_and_the_one_behind_it_is_paid_for():
    echoing = echo()
    # 0 -> 7, 7 -> 7, 7 -> 0: once again, twice another
    assert losses_of(echoing, [document([7, 7, 0])])[0] == pytest.approx(-(LOG_AGAIN + 2 * LOG_OTHER), rel=1e-4)
    # a document of nothing but its end is what the end of text before it makes the echo expect
    assert losses_of(echoing, [document([0])])[0] == pytest.approx(-LOG_AGAIN, rel=1e-2)


def test_the_first_token_of_a_piece_is_predicted_from_the_last_one_of_the_piece_before():
    """Runs of the same token across the border between two pieces: the echo is right there as well."""
    tokens = [9] * 40 + [0]
    found = losses_of(echo(8), [document(tokens)], length=8)[0]
    assert found == pytest.approx(-(39 * LOG_AGAIN + 2 * LOG_OTHER), rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(1, 20))
def test_every_token_of_every_document_is_a_target_once(sizes, length):
    documents = [document(range(100 * i, 100 * i + size)) for i, size in enumerate(sizes)]
    cut = pieces(documents, length, -1)
    for index, each in enumerate(documents):
        targets = [t for piece in cut if piece.document == index for t in piece.tokens[1:]]
        assert targets == each.tokens.tolist()
    assert all(1 <= len(piece.tokens) - 1 <= length for piece in cut)


def test_the_score_does_not_depend_on_batches_or_on_the_order_of_documents(monkeypatch):
    network, documents = learnt(), random_documents()
    wanted = losses_of(network, documents)
    assert len({round(loss, 3) for loss in wanted}) == len(wanted)
    for tokens in (1, 40, 200):
        monkeypatch.setattr(heldout, "BATCH_TOKENS", tokens)
        assert losses_of(network, documents) == pytest.approx(wanted, rel=1e-5)
    assert losses_of(network, documents[::-1])[::-1] == pytest.approx(wanted, rel=1e-5)


def test_processes_share_out_the_batches_and_together_have_all(monkeypatch):
    """Two ranks, one after the other: what each has computed is gathered by hand."""
    monkeypatch.setattr(heldout, "BATCH_TOKENS", 60)
    network, documents = learnt(), random_documents()
    cut = pieces(documents, 16, 0)
    shares: list = []

    def gather(into, mine):
        shares.append(mine)
        into[:] = [*shares, *[[]] * (len(into) - len(shares))]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert len(piece_losses(network, cut, "cpu", 0, 2)) < len(cut)
    assert piece_losses(network, cut, "cpu", 1, 2) == piece_losses(network, cut, "cpu")
    assert not {index for index, _ in shares[0]} & {index for index, _ in shares[1]}


def test_bits_per_byte_do_not_depend_on_how_text_is_cut_into_tokens():
    """The same bytes as 4 tokens of 6 bits or as 8 tokens of 3 bits cost the same."""
    few, many = document([1, 2, 3, 0], 20), document([1, 2, 3, 4, 5, 6, 7, 0], 20)
    assert bits_per_byte([4 * 6 * math.log(2)], [few]) == bits_per_byte([8 * 3 * math.log(2)], [many]) == 1.2


def test_scores_of_two_halves_make_the_whole_by_their_bytes():
    documents, losses = random_documents(), list(np.random.default_rng(1).uniform(1, 90, 12))
    half = documents[:6], documents[6:]
    sizes = [sum(d.num_bytes for d in part) for part in half]
    parts = [bits_per_byte(losses[:6], half[0]), bits_per_byte(losses[6:], half[1])]
    whole = (parts[0] * sizes[0] + parts[1] * sizes[1]) / sum(sizes)
    assert bits_per_byte(losses, documents) == pytest.approx(whole, abs=1e-6)


def test_the_order_of_the_sum_does_not_move_the_last_digit():
    documents = [document([1], num_bytes=3)] * 3
    assert bits_per_byte([1e16, 1.0, -1e16], documents) == bits_per_byte([1.0, 1e16, -1e16], documents)


def test_a_document_at_the_limit_of_overlap_is_not_clean():
    documents = [document([1], overlap=overlap) for overlap in (0.0, 0.49, 0.5, 1.0)]
    assert scores(documents, [1.0] * 4, 0.5)["docs_clean"] == 2
    nothing = scores(documents[2:], [1.0] * 2, 0.5)
    assert (nothing["bpb_clean"], nothing["docs_clean"], nothing["docs"]) == (None, 0, 2)


def test_an_evaluation_on_the_way_looks_at_a_fair_share_of_all_parts():
    documents = list(range(100))
    assert _sample(documents, 10) == list(range(0, 100, 10))
    assert _sample(documents, 30) == list(range(0, 100, 4))  # never more than asked for
    assert _sample(documents, 100) == _sample(documents, 1000) == documents
    assert _sample(documents, 1) == [0]
    assert _sample([], 10) == []
