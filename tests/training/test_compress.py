"""Compressed models as artifacts: sealed, smaller, measured, and taken by whatever takes a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from jobs import ONE_THREAD, Interrupted, launch_in_process, small_model, stopping
from pydantic import ValidationError
from safetensors.torch import load_file

from evals.language_model import StemmaLM
from pipelines.consumption import recompute_consumption
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build, rematerialize
from pipelines.provenance.trace import Tracer
from pipelines.provenance.verify import verify_artifact
from training.compress import COMPRESSION_VERSION, CompressionRecipe, compress
from training.export import export
from training.generate import Generator
from training.models.config import from_hf_config
from training.networks import network_of
from training.weights import load_weights, weights_metadata


@pytest.fixture(scope="module")
def base(world):
    return small_model(world, "wide", steps=60, launch=launch_in_process, width=64, mlp_width=96)


def making(base, recipe: CompressionRecipe, launch: Any = launch_in_process) -> Any:
    return lambda draft: compress(base, recipe, draft, numerics=ONE_THREAD, launch=launch, say=lambda line: None)


def compressed(base, name: str, launch: Any = launch_in_process, **fields: Any):
    recipe = CompressionRecipe(**fields)
    key = Key("compressed_model", name)
    return build(
        base.store, key, COMPRESSION_VERSION, recipe, [base], making(base, recipe, launch), numerics=ONE_THREAD
    ).artifact


@pytest.fixture(scope="module")
def eight(base):
    return compressed(base, "eight", method="int8")


METHODS = {
    "int8": ({"method": "int8"}, 0.35, 0.02),
    "int4": ({"method": "int4"}, 0.3, 0.3),
    "dynamic": ({"method": "int8_dynamic"}, 0.35, 0.03),
    "pruned": ({"method": "prune", "sparsity": 0.6}, 0.8, 2.0),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_compressed_model_is_smaller_and_says_what_it_costs(base, name):
    fields, ratio, error = METHODS[name]
    found = compressed(base, name, **fields)
    assert verify_artifact(found) == []
    facts = found.facts
    assert facts["bytes"] == found.entry("model.safetensors").bytes == round(facts["bytes_ratio"] * facts["base_bytes"])
    assert facts["bytes_ratio"] < ratio
    assert 0 < facts["logits_error"] < error
    assert facts["base_heldout_bpb"] == pytest.approx(base.facts["heldout_bpb"], abs=1e-4)
    assert facts["heldout_bpb"] == pytest.approx(facts["base_heldout_bpb"], rel=error)
    assert [i.manifest for i in found.manifest.inputs] == [base.digest]
    header = weights_metadata(found.local("model.safetensors"))
    assert (header["compression"], header["base"]) == (fields["method"], base.digest)
    assert Generator.load(found).generate("Sort the", 8, temperature=0.0)


def test_compressing_again_gives_the_same_bytes(base, eight):
    again = rematerialize(eight, making(base, CompressionRecipe(method="int8")))
    assert again.identical, again.files


def test_the_logits_error_is_that_of_the_restored_weights(base, eight):
    shape = from_hf_config(base.json("config.json"))
    here, there = (network_of(shape, each.local("model.safetensors")) for each in (base, eight))
    tokens = torch.arange(64).view(2, 32)
    with torch.no_grad():
        off, whole = (here(tokens) - there(tokens)).norm(), here(tokens).norm()
    assert 0 < float(off / whole) < 0.05
    stored = load_file(eight.local("model.safetensors"))
    assert stored["model.layers.0.mlp.up_proj.weight.int8"].dtype == torch.int8
    assert "model.layers.0.mlp.up_proj.weight" in load_weights(eight.local("model.safetensors"))


def test_evaluations_read_it_as_one_more_checkpoint(eight):
    model = StemmaLM.of(eight, batch_tokens=512, max_new_tokens=4)
    assert model.get_model_info()["checkpoint_digest"] == eight.digest


def test_transformers_loads_the_export_with_the_compressed_models_logits(eight, tmp_path):
    facts = export(eight, tmp_path / "out")
    assert facts["max_logit_difference"] <= 1e-5
    plain = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in plain.values()} == {torch.float32}
    assert "a compression (int8) of `pretrained_model[wide]`" in (tmp_path / "out" / "README.md").read_text()


def test_quantised_activations_are_no_export(base, tmp_path):
    with pytest.raises(ValueError, match="activations are quantised as they come"):
        export(compressed(base, "dynamic", method="int8_dynamic"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_joined_matrices_of_a_gpt2_are_quantised_and_exported(world, tmp_path):
    gpt2 = small_model(world, "joined", steps=2, launch=launch_in_process, blocks="gpt2", kv_heads=2)
    found = compressed(gpt2, "small-gpt2", method="int8")
    assert found.facts["logits_error"] < 0.05
    assert export(found, tmp_path / "out")["max_logit_difference"] <= 1e-5
    with pytest.raises(ValueError, match="int8_dynamic is for llama's shape"):
        compressed(gpt2, "dynamic-gpt2", method="int8_dynamic")


PRUNED = {"method": "prune", "sparsity": 0.7, "scope": "global", "recovery_steps": 8}


def test_recovery_wins_back_some_of_the_loss_and_keeps_the_zeros(base):
    found = compressed(base, "recovered", **PRUNED)
    facts = found.facts
    assert facts["sparsity"] == pytest.approx(0.7, abs=1e-3)
    assert facts["heldout_bpb"] < facts["unrecovered_bpb"]
    assert found.table("losses.arrow").num_rows == 8


def test_a_recovery_that_was_killed_gives_the_bytes_of_one_that_was_not(base, own_world):
    wide = small_model(own_world, "wide", steps=60, launch=launch_in_process, width=64, mlp_width=96)
    assert wide.digest == base.digest
    with pytest.raises(Interrupted), stopping(after=6):
        compressed(wide, "recovered", **PRUNED)
    assert compressed(wide, "recovered", **PRUNED).digest == compressed(base, "recovered", **PRUNED).digest


def test_what_cannot_be_is_refused(base, world):
    with pytest.raises(ValueError, match="rows of 64 cannot be cut into groups of 48"):
        compressed(base, "odd", method="int4", group=48)
    with pytest.raises(ValidationError, match="integers are not trained"):
        CompressionRecipe(method="int8", recovery_steps=3)
    encoder = small_model(world, "unfit", steps=1, launch=launch_in_process, objective="masked")
    with pytest.raises(ValueError, match="is an encoder; compression is for decoders"):
        compressed(encoder, "hidden", method="int8")


def test_the_recovery_of_a_pruned_model_can_be_audited(base, eight):
    """It reads the mixture of its run in an order of its own; integers read nothing."""
    found = compressed(base, "audited", method="prune", sparsity=0.6, recovery_steps=5)
    tracer = Tracer(found)
    assert tracer.num_steps == 5
    assert recompute_consumption(tracer.plan, tracer.readers, 5) == found.facts["recovery_consumption"]
    read = tracer.documents(5)[0]
    assert 5 in {each.step for each in tracer.reads(read.doc_id)}
    with pytest.raises(ValueError, match=r"eight.* was made smaller without any training. Its base, .* is wide"):
        Tracer(eight)
