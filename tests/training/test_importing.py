"""Models from elsewhere: small ones of every family, made by transformers with random weights."""

from __future__ import annotations

import json

import pytest
import torch

from pipelines.hub_file import HubFileError
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.verify import verify_artifact
from training.importing import (
    CONFIG,
    IMPORT_VERSION,
    INDEX,
    TOKENIZER,
    WEIGHTS,
    ImportRecipe,
    ModelDirectoryError,
    files_digest,
    import_model,
    model_directory,
    model_files,
    shape_of,
)
from training.models.config import from_hf_config, hf_config
from training.models.recipe import GPTRecipe
from training.weights import load_weights

SIZES = {
    "vocab_size": 301, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 96, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip
GPT2 = {"vocab_size": 301, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 80, "bos_token_id": 0,
        "eos_token_id": 0}  # fmt: skip
FAMILIES = {
    "llama": ("LlamaConfig", {**SIZES, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}),
    "qwen2": ("Qwen2Config", {**SIZES, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**SIZES, "head_dim": 16}),
    "mistral": ("MistralConfig", {**SIZES, "head_dim": 16, "sliding_window": 8}),
    "gpt2": ("GPT2Config", {**GPT2, "layer_norm_epsilon": 1e-6}),
}


def saved(directory, family: str, **fields):
    """A model of a family with weights far from its start, so that nothing is hidden by their being small."""
    import transformers

    kind, sizes = FAMILIES[family]
    config = getattr(transformers, kind)(**{**sizes, **fields})
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, 0.0, 0.2)
    model.save_pretrained(directory, max_shard_size="20KB" if family == "qwen3" else "5GB")
    (directory / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": {"vocab": {}}}))
    return model


def imported(store, directory, name="theirs"):
    recipe = ImportRecipe(files_digest=files_digest(directory), licence="MIT")
    key = Key("imported_model", name)
    make = lambda draft: import_model(directory, recipe, draft)  # noqa: E731
    return build(store, key, IMPORT_VERSION, recipe, [], make).artifact


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_every_family_is_taken_in_with_its_logits(family, tmp_path, own_world):
    theirs = saved(tmp_path / "model", family)
    artifact = imported(own_world.store, tmp_path / "model")
    assert artifact.facts["max_logit_difference"] <= 1e-5
    assert artifact.facts["parameters"] == sum(weight.numel() for weight in theirs.parameters())
    assert (artifact.facts["licence"], artifact.facts["vocab_size"]) == ("MIT", 301)
    assert verify_artifact(artifact) == []
    assert all(weight.dtype == torch.float32 for weight in load_weights(artifact.local("model.safetensors")).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_of_every_family_goes_there_and_back(family, tmp_path):
    saved(tmp_path / "model", family)
    shape = shape_of(tmp_path / "model")
    assert from_hf_config(hf_config(shape, 0, 1)) == shape
    assert hf_config(shape, 0, 1)["model_type"] == family


def test_weights_in_half_precision_are_kept_as_they_are(tmp_path, own_world):
    import transformers

    theirs = saved(tmp_path / "model", "llama").to(torch.bfloat16)
    theirs.save_pretrained(tmp_path / "model")
    artifact = imported(own_world.store, tmp_path / "model")
    assert artifact.facts["dtype"] == "bfloat16"
    kept = load_weights(artifact.local("model.safetensors"))
    assert torch.equal(kept["model.norm.weight"], theirs.model.norm.weight.float())
    loaded = transformers.AutoConfig.for_model(**artifact.json("config.json"))
    assert str(loaded.dtype).removeprefix("torch.") == "float32"


def test_a_config_of_an_older_transformers_says_the_same(tmp_path):
    saved(tmp_path / "model", "llama", rope_parameters={"rope_type": "default", "rope_theta": 500000.0})
    path = tmp_path / "model" / "config.json"
    config, shape = json.loads(path.read_bytes()), shape_of(tmp_path / "model")
    theta = config.pop("rope_parameters")["rope_theta"]
    path.write_text(json.dumps({**config, "rope_theta": theta, "rope_scaling": None}))
    assert shape_of(tmp_path / "model") == shape
    assert shape.rope_theta == 500000.0


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"attention_bias": True}, "attention_bias True"), ({"mlp_bias": True}, "mlp_bias True"),
     ({"hidden_act": "gelu"}, "hidden_act 'gelu'"), ({"model_type": "mamba"}, "model_type 'mamba'")],
)  # fmt: skip
def test_a_network_that_is_none_of_ours_is_refused_by_name(fields, told, tmp_path):
    saved(tmp_path / "model", "llama")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **fields}))
    with pytest.raises(ModelDirectoryError, match=told):
        shape_of(tmp_path / "model")


def test_weights_that_compute_something_else_are_refused(tmp_path, own_world, monkeypatch):
    saved(tmp_path / "model", "llama")
    shape = GPTRecipe(**{**shape_of(tmp_path / "model").model_dump(), "norm_eps": 0.1})
    monkeypatch.setattr("training.importing.shape_of", lambda directory: shape)
    with pytest.raises(ModelDirectoryError, match="our logits differ by"):
        imported(own_world.store, tmp_path / "model")
    assert own_world.store.get(Key("imported_model", "theirs")) is None


def test_torn_weights_are_refused_with_the_directory(tmp_path, own_world):
    saved(tmp_path / "model", "llama")
    torn = tmp_path / "model" / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:5000])
    with pytest.raises(ModelDirectoryError, match=r"model: its weights are not whole"):
        imported(own_world.store, tmp_path / "model")


def test_weights_that_are_no_numbers_are_refused_by_name(tmp_path, own_world):
    theirs = saved(tmp_path / "model", "llama")
    theirs.model.norm.weight.data[3] = float("nan")
    theirs.save_pretrained(tmp_path / "model")
    with pytest.raises(ModelDirectoryError, match=r"model\.norm\.weight of its weights has numbers that are none"):
        imported(own_world.store, tmp_path / "model")


def test_a_config_that_is_no_json_is_told_with_its_path_once(tmp_path):
    saved(tmp_path / "model", "llama")
    (tmp_path / "model" / "config.json").write_text('{"a": 1')
    with pytest.raises(ModelDirectoryError, match=r"config\.json: cannot be read") as told:
        shape_of(tmp_path / "model")
    assert str(told.value).count("config.json") == 1


def test_pickled_weights_are_not_read(tmp_path):
    saved(tmp_path / "model", "llama")
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(
        ModelDirectoryError, match=r"model.safetensors is missing; there are .*pytorch_model.bin.*Pickled"
    ):
        model_files(tmp_path / "model")


def test_a_piece_that_is_missing_is_named(tmp_path):
    saved(tmp_path / "model", "qwen3")
    first = next(path for path in model_files(tmp_path / "model") if path.name.startswith("model-"))
    first.unlink()
    with pytest.raises(ModelDirectoryError, match=f"{first.name} is missing"):
        model_files(tmp_path / "model")


def test_other_files_than_the_recipe_says_are_refused(tmp_path, own_world):
    saved(tmp_path / "model", "gpt2")
    recipe = ImportRecipe(files_digest="0" * 64)
    with pytest.raises(ModelDirectoryError, match="the recipe says 000000000000"):
        build(own_world.store, Key("imported_model", "x"), "1", recipe, [],
              lambda draft: import_model(tmp_path / "model", recipe, draft))  # fmt: skip


def test_a_text_must_have_an_end(tmp_path, own_world):
    saved(tmp_path / "model", "llama", eos_token_id=None)
    with pytest.raises(ModelDirectoryError, match="has no eos_token_id"):
        imported(own_world.store, tmp_path / "model")


def test_a_model_of_the_hub_comes_from_its_cache(tmp_path, monkeypatch):
    """The layout that the hub's client keeps; nothing is asked of the network."""
    commit, repo = "c" * 40, tmp_path / "hub" / "models--someone--small"
    snapshot = repo / "snapshots" / commit
    snapshot.mkdir(parents=True)
    saved(snapshot, "qwen3")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    directory, origin = model_directory(f"hf://someone/small@{commit}", tmp_path)
    assert (directory, origin) == (snapshot, f"hf://someone/small@{commit}")
    assert shape_of(directory).qk_norm
    with pytest.raises(ValueError, match="names main"):
        model_directory("hf://someone/small@main", tmp_path)
    with pytest.raises(ValueError, match="is not in the cache"):
        model_directory(f"hf://someone/other@{commit}", tmp_path)


def test_a_model_of_the_hub_in_one_piece_is_asked_for_once(tmp_path, monkeypatch):
    """Its pieces do not exist, which the cache does not remember: every plan would ask the network again."""
    commit, asked = "c" * 40, []

    def local(file):
        asked.append(file.file)
        if file.file == INDEX:
            raise HubFileError("no such file")
        (tmp_path / file.file).touch()
        return tmp_path / file.file

    monkeypatch.setattr("pipelines.hub_file.HubFile.local", local)
    model_directory(f"hf://someone/small@{commit}", tmp_path)
    assert asked == [CONFIG, TOKENIZER, INDEX, WEIGHTS]
    asked.clear()
    assert model_directory(f"hf://someone/small@{commit}", tmp_path)[0] == tmp_path
    assert asked == [CONFIG, TOKENIZER]
