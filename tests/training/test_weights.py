"""Weight files: any tensor comes back, by our reader and the library's, and what does not fit is told."""

from __future__ import annotations

import json
import shutil
import struct

import pytest
import torch
from echo import NAMES, V, echo, names
from safetensors import safe_open
from safetensors.torch import save_file

from training.generate import Generator
from training.models.config import hf_config
from training.weights import load_weights, save_weights, weights_metadata


def header_of(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), length, len(data)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 0, 4), (2, 3, 4)])
def test_every_shape_and_type_comes_back(tmp_path, dtype, shape):
    tensor = torch.arange(max(1, torch.Size(shape).numel())).to(dtype)[: torch.Size(shape).numel()].view(shape)
    save_weights(tmp_path / "w", {"t": tensor}, {})
    found = load_weights(tmp_path / "w")["t"]
    assert (found.dtype, found.shape) == (dtype, tensor.shape)
    assert torch.equal(found, tensor)


def test_views_are_written_as_they_read_not_as_they_lie(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    views = {"turned": base.T, "column": base[:, 1], "every_other": base[::2], "grad": base.clone().requires_grad_()}
    save_weights(tmp_path / "w", views, {})
    found = load_weights(tmp_path / "w")
    assert all(torch.equal(found[name], view) for name, view in views.items())


def test_numbers_at_the_edge_keep_their_bits(tmp_path):
    edge = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 1e-45, 3.4e38])
    save_weights(tmp_path / "w", {"edge": edge}, {})
    assert load_weights(tmp_path / "w")["edge"].view(torch.int32).tolist() == edge.view(torch.int32).tolist()


def test_the_file_is_laid_out_as_the_format_asks(tmp_path):
    tensors = {"b": torch.zeros(3, dtype=torch.bfloat16), "a": torch.ones(2, 2), "c": torch.ones(5)}
    save_weights(tmp_path / "w", tensors, {"run": "demo"})
    header, length, size = header_of(tmp_path / "w")
    assert length % 8 == 0
    assert header.pop("__metadata__") == {"format": "pt", "run": "demo"}
    assert {name: each["data_offsets"] for name, each in header.items()} == {"a": [0, 16], "b": [16, 22], "c": [22, 42]}
    assert size == 8 + length + 42
    assert header["b"]["dtype"] == "BF16"


def test_the_librarys_own_files_are_read_and_named(tmp_path):
    tensors = {"x": torch.ones(2, 3)}
    save_file(tensors, tmp_path / "theirs", {"format": "pt", "by": "safetensors"})
    assert torch.equal(load_weights(tmp_path / "theirs")["x"], tensors["x"])
    assert weights_metadata(tmp_path / "theirs") == {"format": "pt", "by": "safetensors"}
    save_weights(tmp_path / "ours", tensors, {"by": "us"})
    with safe_open(tmp_path / "ours", "pt") as opened:
        assert (opened.keys(), opened.metadata()) == (["x"], {"format": "pt", "by": "us"})


def test_metadata_of_any_language_come_back(tmp_path):
    save_weights(tmp_path / "w", {"x": torch.ones(1)}, {"run": 'naïve "漢字" \\'})
    assert weights_metadata(tmp_path / "w")["run"] == 'naïve "漢字" \\'


def test_a_type_that_the_trainer_does_not_have_is_refused_by_name_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"head\.weight is torch\.float64; expected one of .*torch\.float32"):
        save_weights(tmp_path / "w", {"a": torch.ones(1), "head.weight": torch.ones(2, dtype=torch.float64)}, {})
    assert not (tmp_path / "w").exists()


def written(path, header):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


def test_a_file_without_metadata_says_nothing_of_itself(tmp_path):
    assert weights_metadata(written(tmp_path / "w", {})) == {}


@pytest.mark.parametrize("metadata", [None, "text", 7, [1, 2]])
def test_metadata_that_are_no_table_are_no_weight_file(tmp_path, metadata):
    with pytest.raises(ValueError, match="not a safetensors file"):
        weights_metadata(written(tmp_path / "w", {"__metadata__": metadata}))


@pytest.mark.parametrize("kept", [0, 4, 8, 20])
def test_a_file_cut_inside_its_header_is_no_weight_file(tmp_path, kept):
    save_weights(tmp_path / "w", {"x": torch.ones(4)}, {"run": "demo"})
    (tmp_path / "w").write_bytes((tmp_path / "w").read_bytes()[:kept])
    with pytest.raises(ValueError, match="not a safetensors file"):
        weights_metadata(tmp_path / "w")


# -- weights that do not fit the network -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A model directory: the echo, its configuration and its tokenizer."""
    network = echo()
    save_weights(tmp_path / "model.safetensors", network.state_dict(), {})
    (tmp_path / "config.json").write_text(json.dumps(hf_config(network.recipe, 0, 1)))
    names().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def changed(folder, change):
    path = folder / "model.safetensors"
    weights = load_weights(path)
    change(weights)
    path.unlink()  # what was read is still mapped
    save_weights(path, weights, {})
    return folder


def test_a_model_directory_is_the_model(folder):
    assert Generator.load(folder).generate("w7", 3, temperature=0) == "w7 w7 w7"
    assert len(NAMES) == V


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.pop("model.norm.weight"), r"Missing key.*model\.norm\.weight"),
        (lambda w: w.update({"model.extra": torch.ones(1)}), r"Unexpected key.*model\.extra"),
        (lambda w: w.update({"model.norm.weight": torch.ones(3)}), r"size mismatch for model\.norm\.weight"),
    ],
)
def test_weights_that_do_not_fit_are_named(folder, change, told):
    with pytest.raises(RuntimeError, match=told):
        Generator.load(changed(folder, change))


def test_a_classifier_writes_no_text(folder):
    with pytest.raises(ValueError, match="is a classifier, it cannot write text"):
        Generator.load(changed(folder, lambda w: w.update({"score.weight": torch.ones(2, V)})))


def test_a_torn_weight_file_is_not_loaded(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"model\.safetensors: no safetensors file, or not all of one"):
        Generator.load(folder)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("tokenizer.json", None, r"tokenizer\.json is missing; there are config\.json, model\.safetensors"),
        ("model.safetensors", None, r"model\.safetensors is missing"),
        ("tokenizer.json", "{", r"tokenizer\.json: no tokenizer\.json that tokenizers reads"),
        ("config.json", '{"a": 1', r"config\.json: cannot be read"),
        ("config.json", "[]", r"config\.json: holds no table"),
    ],
)
def test_a_directory_that_is_not_whole_is_refused_with_the_file(folder, name, content, told):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(ValueError, match=told):
        Generator.load(folder)


def test_weights_that_are_no_numbers_are_named_before_anything_is_written(folder):
    with pytest.raises(ValueError, match=r"model\.norm\.weight has numbers that are none"):
        Generator.load(changed(folder, lambda w: w["model.norm.weight"].fill_(float("nan"))))


def test_half_precision_weights_are_read_into_the_networks_own(folder):
    changed(folder, lambda w: w.update({name: tensor.bfloat16() for name, tensor in w.items()}))
    generator = Generator.load(folder)
    assert {weight.dtype for weight in generator.model.parameters()} == {torch.float32}
    assert generator.generate("w7", 3, temperature=0) == "w7 w7 w7"


def test_a_directory_elsewhere_is_the_same_model(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("copy") / "model"
    shutil.copytree(folder, elsewhere)
    assert Generator.load(elsewhere).generate("w9", 2, temperature=0) == "w9 w9"
