"""SimCSE beside hidden tokens: the loss by hand, across processes, and embeddings that semantic deduplication can use."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from jobs import Interrupted, in_process, small_job, small_model, stopping
from test_encoder import encoder, tokens

from training.contrast import TEMPERATURE, AlikeTwice, alike, embedded, figures, gathered, longest, pooled, restored
from training.export import export
from training.masking import Edges, Masker
from training.objectives import HiddenTokens
from training.recipes import PretrainRecipe
from training.run import train

CPU = torch.device("cpu")
FIELDS = {"objective": "masked", "attend": "document", "contrast": 1.0, "dropout": 0.1}


def units(rows, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 8, generator=draw, dtype=torch.float64), dim=-1)


def test_the_loss_by_hand():
    one, other, cost = units(5), units(5, 1), 0.0
    for i in range(5):
        powers = [math.exp(float(one[i] @ other[j]) / TEMPERATURE) for j in range(5)]
        cost -= math.log(powers[i] / sum(powers))
    assert alike(one, other).item() == pytest.approx(cost, rel=1e-9)
    assert sum(alike(one[i : i + 1], other, i).item() for i in range(5)) == pytest.approx(cost, rel=1e-9)
    assert alike(one, one[:1].expand(5, -1)).item() == pytest.approx(5 * math.log(5))  # nothing tells them apart


def test_hidden_tokens_come_back_also_where_a_word_is_hidden_whole():
    rows = tokens(6, 24).numpy()
    edges = Edges(np.arange(128) % 3 > 0, np.ones(128, bool))
    for masker in (Masker(0.3, 99, 90, 1), Masker(0.3, 99, 90, 1, edges)):
        hidden = masker.hide(rows, 1, 0)
        assert not np.array_equal(hidden.tokens_BT, rows)
        shown, places, truths, weights = (torch.from_numpy(each) for each in hidden)
        assert torch.equal(restored(shown, places, truths, weights), torch.from_numpy(rows))


def test_the_longest_document_of_a_sequence_is_embedded():
    numbers = torch.tensor([[0, 0, 1, 1, 1, 2], [0, 0, 0, 1, 1, 1], [0, -1, -1, -1, 1, 1]])
    assert longest(numbers).int().tolist() == [[0, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 0, 0]]
    states = torch.arange(12.0).view(1, 6, 2)
    assert torch.allclose(pooled(states, longest(numbers[:1]))[0], torch.tensor([6.0, 7.0]) / math.sqrt(85))


def batch():
    rows = tokens(4, 24)
    shown, places, truths, weights = (
        torch.from_numpy(each) for each in Masker(0.25, 99, 90, 1).hide(rows.numpy(), 1, 0)
    )
    numbers = torch.repeat_interleave(torch.arange(2), torch.tensor([9, 15]))[None].repeat(4, 1)
    return rows, numbers, (shown, weights, None, None, places, truths, numbers)


def test_the_cost_is_that_of_hidden_tokens_plus_the_weight_times_that_of_the_embeddings():
    rows, numbers, inputs = batch()
    network = encoder()  # without dropout both readings are the same
    with torch.no_grad():
        states = network.model(rows[:, 9:])  # the longer document, read alone
        alone = pooled(states, torch.ones(4, 15, dtype=torch.bool))
        wanted = HiddenTokens(network)(*inputs) + 0.5 * 6 * alike(alone, alone)
        assert AlikeTwice(network, 0.5)(*inputs).item() == pytest.approx(wanted.item(), rel=1e-5)
        assert longest(numbers).sum() == 4 * 15


def test_dropout_makes_the_two_readings_differ():
    network = AlikeTwice(encoder(dropout=0.3), 1.0).train()
    torch.manual_seed(0)
    one, other = network(*batch()[2]), network(*batch()[2])
    torch.manual_seed(0)
    assert one != other
    assert network(*batch()[2]) == one


def _share(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    one, other = (units(6, seed).requires_grad_() for seed in (0, 1))
    mine = slice(3 * rank, 3 * rank + 3)
    cost = alike(one[mine], *gathered(other[mine]))
    cost.backward()
    torch.save([cost.detach(), one.grad, other.grad], f"{folder}/{rank}")
    dist.destroy_process_group()


def test_two_processes_see_the_negatives_of_each_other_and_give_the_same_gradients(tmp_path):
    mp.spawn(_share, (str(tmp_path),), nprocs=2)
    one, other = (units(6, seed).requires_grad_() for seed in (0, 1))
    cost = alike(one, other)
    cost.backward()
    shares = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    for found, wanted in zip(map(sum, zip(*shares, strict=True)), (cost, one.grad, other.grad), strict=True):
        assert torch.allclose(found, wanted)


def test_a_run_that_was_killed_ends_with_the_same_bytes_and_is_judged(world, tmp_path):
    whole = in_process(small_job(world, tmp_path / "whole", eval_every=6, **FIELDS))
    first, last = whole.state["evaluations"]
    assert 0 <= last["half_accuracy"] <= 1
    assert last["uniformity"] < first["uniformity"] < 0
    job = small_job(world, tmp_path / "halved", eval_every=6, **FIELDS)
    job.write()
    with pytest.raises(Interrupted), stopping(after=7):
        train(job)
    assert in_process(job).state["files"] == whole.state["files"]


def test_held_out_halves_find_each_other_where_documents_have_words_of_their_own():
    documents = [np.tile([2 * i + 2, 2 * i + 3], 12) for i in range(20)]
    found = figures(encoder(scale=1.0), documents, 24, CPU)
    assert found["half_accuracy"] == 1.0
    assert -4 <= found["uniformity"] < 0
    assert figures(encoder(), documents[:1], 24, CPU) == {"half_accuracy": None, "uniformity": None}
    same = figures(encoder(), [documents[0]] * 4, 24, CPU)
    assert (same["half_accuracy"], same["uniformity"]) == (0.25, pytest.approx(0.0, abs=1e-5))


def test_what_is_exported_embeds_as_the_trainer_did(own_world, tmp_path):
    """By the code of semantic deduplication, from the directory that export writes."""
    from jobs import launch_in_process

    from pipelines import semantic
    from training.export import _network
    from training.models.config import from_hf_config

    sealed = small_model(own_world, launch=launch_in_process, **FIELDS)
    export(sealed, tmp_path / "out")
    texts = ["Return the column in place.", "Sort the frame by name, then read the next table."]
    found = semantic.embedded(texts, tmp_path / "out", 32) / semantic.SCALE
    config = sealed.json("config.json")
    network = _network(from_hf_config(config), tmp_path / "out" / "model.safetensors", config["mask_token_id"])
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    ours = embedded(network, [np.array(tokenizer.encode(text).ids) for text in texts], CPU)
    assert np.abs(ours.numpy() - found).max() < 1e-3  # they are kept in 16 bits


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dropout": 0.0}, "dropout above 0, by which the two readings differ"),
        ({"microbatch": 4}, "microbatch = 0"),
        ({"attend": "sequence"}, "attend = 'document'"),
        ({"sentence_order": 1.0}, "sentence_order = 0"),
    ],
)
def test_what_it_needs_is_said(change, told):
    with pytest.raises(ValueError, match=told):
        PretrainRecipe(**{**FIELDS, **change})
    assert "contrast" not in PretrainRecipe(objective="masked").identity()
