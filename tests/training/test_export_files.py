"""What an export says of itself, and what makes it an error: keys, tokens, nothing left behind."""

from __future__ import annotations

import json

import pytest
import torch
from echo import echo, names

import training.export
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from training.export import ExportError, export, generation_config, readme, tokenizer_config
from training.models.config import hf_config
from training.weights import save_weights


def model_of(root, change=None, licences=(), facts=None, config=None, name="demo"):
    """The echo as a sealed checkpoint, trained on sources of some licences."""
    store = Store(root)
    shards = store.draft(Key("token_shards", "small"), "1", {}, [])
    parts = []
    for number, licence in enumerate(licences):
        part = store.draft(Key("token_shards", "small", f"source{number}/1"), "1", {}, [])
        parts.append(part.seal(facts={"licence": licence}))
    inputs = [shards.seal(parts=parts)] if licences else []
    draft = store.draft(Key("pretrained_model", name), "1", {}, inputs)
    network = echo()
    weights = dict(network.state_dict())
    if change:
        change(weights)
    save_weights(draft.path("model.safetensors"), weights, {})
    draft.write_json("config.json", hf_config(network.recipe, 0, 1) | (config or {}))
    names().save(str(draft.path("tokenizer.json")))
    return draft.seal(facts={"step": 7, "heldout_bpb": 1.25} if facts is None else facts)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("model.norm.weight"), r"missing_keys.*model\.norm\.weight"),
        (lambda w: w.update({"model.extra": torch.ones(1)}), r"unexpected_keys.*model\.extra"),
    ],
    ids=["missing", "left over"],
)
def test_weights_that_transformers_fills_up_or_passes_over_are_no_export(tmp_path, change, told):
    """transformers only warns: a missing gain becomes 1, and what is left over is dropped."""
    with pytest.raises(ExportError, match=rf"{told}.*expected no missing and no unexpected key"):
        export(model_of(tmp_path / "store", change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_transformers_reads_in_another_way_is_no_export(tmp_path, monkeypatch):
    def with_one_token_more(*given):
        return {**tokenizer_config(*given), "additional_special_tokens": ["column"]}

    monkeypatch.setattr(training.export, "tokenizer_config", with_one_token_more)
    with pytest.raises(ExportError, match="AutoTokenizer splits a sample into"):
        export(model_of(tmp_path / "store"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_loses_text_is_exported_as_it_is(tmp_path):
    """64 words cannot spell the sample; what a vocabulary loses is counted where it is taken in."""
    export(model_of(tmp_path / "store"), tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").exists()


def test_the_readme_tells_the_facts_there_are_and_no_others(tmp_path):
    model = model_of(tmp_path, facts={"step": 7, "heldout_bpb": 1.25, "bigram_bpb": None})
    told = readme(model, model.json("config.json"))
    assert told.startswith(
        "# demo\n\nA LlamaForCausalLM trained with Stemma: 2 blocks, 64 wide, vocabulary 64, context 16."
    )
    assert "| step | 7 |\n| heldout_bpb | 1.25 |\n" in told
    assert "bigram_bpb" not in told
    assert 'AutoModelForCausalLM.from_pretrained(".")' in told
    assert model.digest in told


def test_the_readme_counts_sources_by_licence(tmp_path):
    model = model_of(tmp_path, licences=["MIT", "CC-BY-4.0", "MIT", "", None])
    told = readme(model, model.json("config.json"))
    assert "Trained on 1 sources under CC-BY-4.0.\nTrained on 2 sources under MIT.\n" in told
    assert "Trained on 2 sources under not stated." in told


def test_a_classifier_is_loaded_as_one(tmp_path):
    model = model_of(tmp_path, config={"architectures": ["LlamaForSequenceClassification"]})
    assert 'AutoModelForSequenceClassification.from_pretrained(".")' in readme(model, model.json("config.json"))


def test_a_writer_is_padded_on_the_left_and_a_classifier_on_the_right(tmp_path):
    model = model_of(tmp_path)
    config, tokenizer = model.json("config.json"), model.json("tokenizer.json")
    found = tokenizer_config(config, tokenizer)
    assert (found["padding_side"], found["model_max_length"]) == ("left", 16)
    assert (found["eos_token"], found["pad_token"]) == ("<|endoftext|>", "<|pad|>")
    assert found["clean_up_tokenization_spaces"] is False
    classifier = tokenizer_config({**config, "architectures": ["LlamaForSequenceClassification"]}, tokenizer)
    assert classifier["padding_side"] == "right"


def test_generation_ends_where_documents_end(tmp_path):
    model = model_of(tmp_path)
    found = generation_config(model.json("config.json"), model.json("tokenizer.json"))
    assert found == {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}


def test_an_export_into_an_empty_directory_that_fails_leaves_none(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ExportError):
        export(model_of(tmp_path / "store", lambda w: w.pop("model.norm.weight")), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_read_where_the_directory_is_in_use(tmp_path):
    model = model_of(tmp_path / "store")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; give a new directory"):
        export(model, tmp_path / "out")
    assert json.dumps([p.name for p in (tmp_path / "out").iterdir()]) == '["notes"]'
