"""Whole runs of other shapes and objectives than the demo's: trained, sealed, resumed to the bit, exported."""

from __future__ import annotations

import json

import pytest
from jobs import Interrupted, in_process, launch_in_process, shards_of, small_job, small_model, stopping, tuned

from pipelines.provenance.manifest import file_entry
from training.export import export
from training.generate import Generator

SHAPES = {
    "masked": {"objective": "masked"},
    "whole-words": {"objective": "masked", "whole_words": True, "mask_ratio": 0.3, "tied": False},
    "gpt2": {"blocks": "gpt2", "kv_heads": 2},
    "untied": {"tied": False},
    "muon": {"optimizer": "muon", "decay_embeddings": False, "schedule": "wsd"},
    "smooth": {"label_smoothing": 0.1, "z_loss": 1e-4, "schedule": "linear", "dropout": 0.1},
}


def digests(checkpoint):
    names = ("model.safetensors", "optimizer.safetensors", "losses.arrow")
    files = [file_entry(checkpoint.path, name).blake3 for name in names]
    return [*files, checkpoint.state["consumption"], checkpoint.state["evaluations"]]


@pytest.mark.parametrize("name", SHAPES)
def test_a_run_that_is_killed_and_goes_on_ends_with_the_bytes_of_one_that_was_not(world, tmp_path, name):
    fields = {**SHAPES[name], "microbatch": 3, "eval_every": 6}
    whole = in_process(small_job(world, tmp_path / "whole", **fields))
    job = small_job(world, tmp_path / "cut", **fields)
    for after in (3, 7):  # before the first checkpoint, and between two
        with stopping(after), pytest.raises(Interrupted):
            in_process(job)
    assert digests(in_process(job)) == digests(whole)
    losses = whole.losses()["loss"].to_pylist()
    assert losses[-1] < losses[0]


def test_hidden_tokens_do_not_depend_on_how_a_batch_is_cut(world, tmp_path):
    """Each place of the global batch has its own: microbatches change last bits of sums, never what is asked."""
    one = in_process(small_job(world, tmp_path / "one", objective="masked"))
    other = in_process(small_job(world, tmp_path / "other", objective="masked", microbatch=1))
    pairs = zip(one.losses()["loss"].to_pylist(), other.losses()["loss"].to_pylist(), strict=True)
    assert all(a == pytest.approx(b, abs=1e-4) for a, b in pairs)


@pytest.fixture(scope="module")
def encoder(world):
    return small_model(world, "encoder", steps=400, launch=launch_in_process, **SHAPES["masked"])


def test_an_encoder_is_sealed_with_a_tokenizer_that_has_its_mask(world, encoder):
    config, tokenizer = encoder.json("config.json"), encoder.json("tokenizer.json")
    size = int(world.vocabulary.facts["size"])
    assert config["architectures"] == ["EuroBertForMaskedLM"]
    assert config["mask_token_id"] == size
    assert config["vocab_size"] > size
    assert tokenizer["added_tokens"][-1]["content"] == "<|mask|>"
    assert encoder.facts["heldout_bpb"] < encoder.facts["unigram_bpb"]  # with both sides in sight
    assert json.loads(encoder.local("heldout.json").read_bytes())["evaluations"][-1]["by_part"]


def test_an_encoder_is_exported_and_fills_in_what_is_hidden(encoder, tmp_path):
    facts = export(encoder, tmp_path / "out")
    assert facts["architecture"] == "EuroBertForMaskedLM"
    assert facts["max_logit_difference"] <= 1e-5
    assert "generation_config.json" not in facts["files"]
    from transformers import pipeline

    fill = pipeline("fill-mask", model=str(tmp_path / "out"), tokenizer=str(tmp_path / "out"), device="cpu")
    found = fill("Sort the column by name.\n\nThe alpha<|mask|> number 3 is sorted.", top_k=3)
    assert len(found) == 3
    assert "AutoModelForMaskedLM" in (tmp_path / "out" / "README.md").read_text()


def test_an_encoder_writes_no_text_and_is_no_base_for_what_a_decoder_learns(world, encoder):
    with pytest.raises(ValueError, match="writes no text"):
        Generator.load(encoder)
    with pytest.raises(ValueError, match="is an encoder; fine-tunes start from a decoder"):
        tuned(world, encoder, shards_of(world, "of-encoder"), "of-encoder")


def test_a_gpt2_is_exported_under_its_own_names_fine_tuned_and_exported_again(world, tmp_path):
    model = small_model(world, "gpt2", steps=60, length=64, launch=launch_in_process, **SHAPES["gpt2"])
    facts = export(model, tmp_path / "out")
    assert facts["architecture"] == "GPT2LMHeadModel"
    assert facts["max_logit_difference"] <= 1e-5
    classifier = tuned(world, model, shards_of(world, "of-gpt2"), "of-gpt2", epochs=1)
    facts = export(classifier, tmp_path / "classifier")
    assert facts["architecture"] == "GPT2ForSequenceClassification"
    assert facts["max_logit_difference"] <= 1e-5
    assert Generator.load(model).generate("Sort the", 8, temperature=0.0)
