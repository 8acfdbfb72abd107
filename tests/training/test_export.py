from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from jobs import launch_in_process, shards_of, small_model, tuned
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from training import export as exporting
from training.export import ExportError, export
from training.generate import Generator


@pytest.fixture(scope="module")
def model(world):
    return small_model(world, "exported", steps=150, length=64, launch=launch_in_process)


def test_transformers_loads_the_export_and_gives_the_same_logits_and_text(model, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    facts = export(model, tmp_path / "out")
    assert facts["architecture"] == "LlamaForCausalLM"
    assert facts["max_logit_difference"] <= 1e-5
    assert facts["files"] == sorted(p.name for p in (tmp_path / "out").iterdir())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = Generator.load(model)
    prompt = "Sort the column of"
    ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert ids[0].tolist() == ours.encode(prompt)
    start = torch.cat([torch.tensor([[0]]), ids], dim=1)
    written = theirs.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=20, do_sample=False)
    assert tokenizer.decode(written[0, start.shape[1] :]) == ours.generate(prompt, 20, temperature=0.0)
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|pad|>")


def test_the_export_gives_embeddings_that_are_the_mean_of_our_states(model, tmp_path):
    from pipelines.semantic import SCALE, embedded

    export(model, tmp_path / "out")
    texts = ["Sort the column of", "a table", ""]
    vectors = embedded(texts, tmp_path / "out", 8) / SCALE
    ours = Generator.load(model)
    for text, vector in zip(texts[:2], vectors, strict=False):
        with torch.no_grad():
            state_D = ours.model.model(torch.tensor([ours.encode(text)[:8]]))[0].mean(0)
        assert torch.allclose(torch.tensor(vector), (state_D / state_D.norm()).double(), atol=1e-4)
    assert not vectors[2].any()


def test_a_qwen3_is_exported_where_queries_and_keys_are_normalised(world, tmp_path):
    model = small_model(world, "qwen", steps=4, launch=launch_in_process, qk_norm=True)
    facts = export(model, tmp_path / "out")
    assert facts["architecture"] == "Qwen3ForCausalLM"
    assert facts["max_logit_difference"] <= 1e-5


def test_a_classifier_is_exported_with_its_classes(world, model, tmp_path):
    shards = shards_of(world, "for-export")
    artifact = tuned(world, model, shards, "for-export", epochs=1)
    assert export(artifact, tmp_path / "out")["architecture"] == "LlamaForSequenceClassification"
    from transformers import AutoModelForSequenceClassification

    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    assert theirs.config.id2label == {0: "docs.alpha", 1: "docs.beta"}
    rows, found = shards.table("test.arrow")["tokens"].to_pylist(), artifact.table("predictions.arrow")
    width = max(map(len, rows))
    padded = torch.tensor([row + [1] * (width - len(row)) for row in rows])
    with torch.no_grad():
        probabilities = theirs(padded, attention_mask=(padded != 1).long()).logits.softmax(-1)
    assert torch.allclose(probabilities, torch.tensor(found["probabilities"].to_pylist()), atol=1e-5)


def test_the_export_carries_its_lineage(world, model, tmp_path):
    export(model, tmp_path / "out")
    lineage = json.loads((tmp_path / "out" / "lineage.json").read_bytes())["artifacts"]
    assert lineage[0]["manifest"] == model.digest
    named = {(each["asset"], each["part"]) for each in lineage}
    assert {("token_shards", "docs.beta/2.1"), ("training_documents", "docs.alpha/1.0"), ("mixture", "")} <= named
    card = (tmp_path / "out" / "README.md").read_text()
    assert model.digest in card
    assert "Trained on 2 sources under MIT." in card
    assert str(model.facts["heldout_bpb"]) in card


def test_rows_beyond_the_vocabulary_are_never_generated(model, tmp_path):
    tokenizer = model.json("tokenizer.json")
    config = model.json("config.json")
    size = Generator.load(model).num_tokens
    wider = exporting.generation_config({**config, "vocab_size": size + 3}, tokenizer)
    assert wider["suppress_tokens"] == [size, size + 1, size + 2]
    assert "suppress_tokens" not in exporting.generation_config({**config, "vocab_size": size}, tokenizer)
    unigram = {"model": {"vocab": [[str(n), 0.0] for n in range(size)]}, "added_tokens": []}
    assert exporting.generation_config({**config, "vocab_size": size + 3}, unigram) == wider


def test_other_logits_than_ours_are_an_error_and_leave_nothing(model, tmp_path, monkeypatch):
    honest = exporting._network

    def wrong(*asked):
        network = honest(*asked)
        with torch.no_grad():
            network.model.layers[0].mlp.down_proj.weight.mul_(1.001)
        return network

    monkeypatch.setattr(exporting, "_network", wrong)
    with pytest.raises(ExportError, match="logits in transformers differ by"):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_directory_that_is_in_use_is_left_alone(model, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ValueError, match="is not empty"):
        export(model, tmp_path)
    assert (tmp_path / "mine.txt").exists()


def test_a_tokenizer_that_changes_texts_is_compared_with_itself(tmp_path):
    """As one from elsewhere may: it need not give a text back, but transformers must do with it what we do."""
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "return": 1, "the": 2}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[UNK]"])
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        folder.mkdir()
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    artifact = SimpleNamespace(local=lambda name: ours / name, key="some[model]")
    exporting._check_tokenizer(artifact, theirs)
    tokenizer.normalizer = normalizers.Strip()
    tokenizer.save(str(theirs / "tokenizer.json"))
    with pytest.raises(ExportError, match="splits a sample into"):
        exporting._check_tokenizer(artifact, theirs)
