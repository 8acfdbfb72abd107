from __future__ import annotations

import itertools
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jobs import launch_in_process, small_model

from pipelines.provenance.files import StoreError
from pipelines.provenance.lineage import checkpoint
from training.generate import Generator, Sampling


@pytest.fixture(scope="module")
def artifact(world):
    return small_model(world, "writer", steps=150, length=64, launch=launch_in_process)


@pytest.fixture(scope="module")
def writer(artifact):
    return Generator.load(artifact)


def naive(writer, prompt, count):
    """Greedy by full forward passes, without a cache."""
    tokens = [writer.eos_id, *prompt]
    for _ in range(count):
        with torch.no_grad():
            logits = writer.model(torch.tensor([tokens]))[0, -1, : writer.num_tokens]
        tokens.append(int(logits.argmax()))
        if tokens[-1] == writer.eos_id:
            return tokens[1 + len(prompt) : -1]
    return tokens[1 + len(prompt) :]


def test_it_writes_what_it_has_learnt(writer):
    text = writer.generate("Sort the column of", max_tokens=40, temperature=0)
    assert text.startswith(" the query.\n\nThe")


def test_cached_greedy_text_is_that_of_full_forward_passes(writer):
    prompt = writer.encode("Read the shard")
    assert list(writer.tokens(prompt, 30, Sampling(temperature=0.0))) == naive(writer, prompt, 30)


def test_batched_greedy_text_is_that_of_each_prompt_alone(writer):
    texts = ["Read the shard", "Count", "Merge the buffer from disk.\n\nThe beta buffer number"]
    prompts = [[writer.eos_id, *writer.encode(text)] for text in texts]
    together = writer.greedy(prompts, 20, batch_size=2)
    assert together == [naive(writer, prompt[1:], 20) for prompt in prompts]


def test_the_same_seed_writes_the_same_and_another_something_else(writer):
    first, again, other = (writer.generate("Return", 60, temperature=1.5, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_pieces_of_the_stream_make_the_text(writer):
    pieces = list(writer.stream("Return the", 30, temperature=0.0))
    assert len(pieces) > 3
    assert "".join(pieces) == writer.generate("Return the", 30, temperature=0.0)


def test_it_stops_at_the_end_of_text(writer):
    written = list(writer.tokens(writer.encode("Drop the table by name."), 64, Sampling(temperature=0.0)))
    assert writer.eos_id not in written
    assert len(written) < 64


def test_text_may_outgrow_the_context(writer, monkeypatch):
    monkeypatch.setattr(writer, "eos_id", 0)
    long = writer.encode("Return the column. " * 40)
    assert len(long) > writer.context
    written = list(itertools.islice(writer.tokens(long, 2 * writer.context, Sampling(temperature=1.0)), 80))
    assert 0 < len(written) <= 80


def test_a_plain_directory_works_as_well(artifact, writer, tmp_path):
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        shutil.copyfile(artifact.local(name), tmp_path / name)
    assert Generator.load(tmp_path).generate("Sort", 20, seed=5) == writer.generate("Sort", 20, seed=5)


def test_padding_rows_of_the_embedding_are_never_drawn(writer, monkeypatch):
    monkeypatch.setattr(writer, "num_tokens", 260)
    assert all(token < 260 for token in writer.tokens([], 40, Sampling(temperature=50.0)))


def test_a_milestone_is_named_by_its_step(world, writer):
    small_model(world, "walker", steps=6, launch=launch_in_process, milestone_every=2)
    early, late = (Generator.load(checkpoint(world.store, name)) for name in ("walker@2", "walker"))
    name = "model.embed_tokens.weight"
    assert not torch.equal(early.model.state_dict()[name], late.model.state_dict()[name])
    assert early.generate("Sort", 3, seed=1)
    with pytest.raises(StoreError, match="no checkpoint of step 3; milestones: 2, 4"):
        checkpoint(world.store, "walker@3")
    with pytest.raises(StoreError, match="no checkpoint 'nobody@2'"):
        checkpoint(world.store, "nobody@2")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.integers(0, 12), st.floats(0.05, 1.0))
def test_sampling_keeps_the_fewest_likeliest(logits, top_k, top_p):
    raw = torch.tensor(logits)
    found = Sampling(1.0, top_k, top_p).probabilities(raw)
    assert found.sum().item() == pytest.approx(1.0, abs=1e-5)
    assert raw[found.argmax()].item() == pytest.approx(raw.max().item(), abs=1e-6)
    kept = int((found > 0).sum())
    ties = int((raw == raw.sort(descending=True).values[min(top_k, len(raw)) - 1]).sum()) if top_k else 0
    assert not top_k or kept <= top_k + ties
    if top_k == 0:
        ordered = raw.softmax(-1).sort(descending=True).values
        assert ordered[: kept - 1].sum() < top_p + 1e-5


def test_temperature_zero_takes_the_likeliest():
    assert Sampling(0.0).probabilities(torch.tensor([1.0, 3.0, 2.0])).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"min_p": 1.5},
        {"min_p": -0.1},
        {"repetition_penalty": 0.0},
    ],
)
def test_impossible_sampling_is_refused(fields):
    with pytest.raises(ValueError, match="expected"):
        Sampling(**fields)
