"""Export: a checkpoint as a directory that transformers loads, checked by loading it and comparing logits.

Names and shapes that fit prove nothing: others have shipped conversions with wrong logits that passed such checks.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.lineage import ancestors
from pipelines.provenance.recipe import canonical_json
from pipelines.tokenizer_file import size_of
from training.models.classifier import GPTClassifier
from training.models.config import from_hf_config
from training.models.encoder import Encoder
from training.models.gpt import GPT
from training.models.names import ours
from training.models.recipe import GPTRecipe
from training.networks import COMPRESSION
from training.weights import load_weights, save_weights, weights_metadata

TOLERANCE = 1e-5  # of logits; equal kernels give 0.0
SAMPLE = "Return the index of the first column. Raises ValueError if é or 漢字 is not found.\n\n    >>> x[0]"
DECODER = "AutoModelForCausalLM"
LOADERS = {"ForSequenceClassification": "AutoModelForSequenceClassification", "ForMaskedLM": "AutoModelForMaskedLM"}
CARD_FACTS = ("step", "tokens", "parameters", "heldout_bpb", "heldout_bpb_clean", "bigram_bpb", "task", "loss")


class ExportError(RuntimeError):
    """What transformers loads is not what was trained."""


def export(artifact: Artifact, out: Path) -> dict[str, Any]:
    """Write a pretrained or fine-tuned model for transformers.

    Returns:
        ``architecture``, ``files``, and ``max_logit_difference`` between our network and the one that was loaded.

    Raises:
        ExportError: if a key is missing or left over, or logits or tokens differ; the directory is removed.
        ValueError: if the directory is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty; give a new directory.")
    out.mkdir(parents=True, exist_ok=True)
    try:
        return _exported(artifact, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _exported(artifact: Artifact, out: Path) -> dict[str, Any]:
    config = artifact.json("config.json")
    _write_plain(artifact.local("model.safetensors"), out / "model.safetensors")
    shutil.copyfile(artifact.local("tokenizer.json"), out / "tokenizer.json")
    _write(out / "config.json", config)
    _write(out / "tokenizer_config.json", tokenizer_config(config, artifact.json("tokenizer.json")))
    if _loader(config) == DECODER:
        _write(out / "generation_config.json", generation_config(config, artifact.json("tokenizer.json")))
    _write(out / "lineage.json", lineage(artifact))
    (out / "README.md").write_text(readme(artifact, config), encoding="utf-8")
    difference = logit_difference(out)
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{artifact.key}: logits in transformers differ by {difference:.1e}, allowed are {TOLERANCE}."
        )
    _check_tokenizer(artifact, out)
    files = sorted(path.name for path in out.iterdir())
    return {"architecture": config["architectures"][0], "files": files, "max_logit_difference": difference}


def _write_plain(source: Path, out: Path) -> None:
    """A weight file that transformers loads: the same bytes, or restored float32 weights of a compressed one.

    Raises:
        ValueError: if its activations are quantised, which plain weights cannot say.
    """
    header = weights_metadata(source)
    method = header.get(COMPRESSION, "")
    if method == "int8_dynamic":
        raise ValueError(
            "its activations are quantised as they come (int8_dynamic), which transformers cannot do from plain weights: "
            "export the base, or a compression with method = 'int8'."
        )
    if method:
        save_weights(out, load_weights(source), {name: value for name, value in header.items() if name != "format"})
    else:
        shutil.copyfile(source, out)


def tokenizer_config(config: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """``tokenizer_config.json`` for a tokenizer.json of the tokenizers library."""
    names = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    mask = {"mask_token": names[config["mask_token_id"]]} if "mask_token_id" in config else {}
    return {
        "clean_up_tokenization_spaces": False,  # it would eat the space before a full stop, in code above all
        "eos_token": names[config["eos_token_id"]],
        "model_max_length": from_hf_config(config).sequence_length,
        "pad_token": names[config["pad_token_id"]],
        "padding_side": "left" if _loader(config) == DECODER else "right",
        "tokenizer_class": "PreTrainedTokenizerFast",
        **mask,
    }


def generation_config(config: dict[str, Any], tokenizer: dict[str, Any]) -> dict[str, Any]:
    """``generation_config.json``; rows of the embedding beyond the vocabulary are never to be drawn."""
    beyond = list(range(size_of(tokenizer), config["vocab_size"]))
    wanted = {name: config[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return wanted | ({"suppress_tokens": beyond} if beyond else {})


def lineage(artifact: Artifact) -> dict[str, Any]:
    """Everything that the model was made from, by digest; the first entry is the model."""
    found = [
        {**a.key._asdict(), "manifest": a.digest, "content": a.content, "version": a.manifest.version}
        for a in ancestors(artifact)
    ]
    return {"schema": "stemma-lineage/1", "artifacts": found}


def readme(artifact: Artifact, config: dict[str, Any]) -> str:
    """A model card in a few lines."""
    facts = [f"| {name} | {artifact.facts[name]} |" for name in CARD_FACTS if artifact.facts.get(name) is not None]
    loader, recipe = _loader(config), from_hf_config(config)
    shape = f"{recipe.layers} blocks, {recipe.width} wide, vocabulary {recipe.vocab_size}"
    lines = [
        f"# {artifact.key.partition}", "",
        f"A {config['architectures'][0]} trained with Stemma: {shape}, context {recipe.sequence_length}.",
        *_compressed(artifact), "", "| | |", "|---|---|", *facts, "",
        "```python",
        f"from transformers import AutoTokenizer, {loader}",
        f'model = {loader}.from_pretrained(".")',
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        "```", "",
        *_licences(artifact), "",
        f"Identity: `{artifact.key.asset}` manifest `{artifact.digest}`.",
        "`lineage.json` lists every artifact behind it by digest; `stemma audit` opens them.", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _compressed(artifact: Artifact) -> list[str]:
    if artifact.key.asset != "compressed_model":
        return []
    method, base = artifact.facts["method"], artifact.input("pretrained_model").key
    return [
        "",
        f"Its weights are those of a compression ({method}) of `{base}`, restored to 32 bits: its logits, not its size.",
    ]


def _licences(artifact: Artifact) -> list[str]:
    """Sources of the training text by licence, as their shards state it."""
    found: dict[str, list[str]] = {}
    for part in ancestors(artifact):
        if part.key.asset == "token_shards" and "licence" in part.facts:
            found.setdefault(part.facts["licence"] or "not stated", []).append(part.key.part)
    return [f"Trained on {len(found[name])} sources under {name}." for name in sorted(found)]


def logit_difference(out: Path) -> float:
    """Largest difference between our logits and those of what transformers loads from a directory."""
    import transformers

    config = json.loads((out / "config.json").read_bytes())
    loader: Any = getattr(transformers, _loader(config))  # its annotation says nothing of the pair that comes back
    theirs, info = loader.from_pretrained(
        str(out), output_loading_info=True, local_files_only=True, dtype=torch.float32
    )
    wrong = {name: sorted(map(str, keys)) for name, keys in info.items() if keys}
    if wrong:
        raise ExportError(f"{out}: transformers loads it with {wrong}; expected no missing and no unexpected key.")
    recipe = from_hf_config(config)
    ours = _network(recipe, out / "model.safetensors", config.get("mask_token_id", -1))
    tokens_BT = _probe(recipe, config)
    with torch.no_grad():
        there = theirs.eval()(tokens_BT).logits
        if isinstance(ours, GPTClassifier):
            here = ours(tokens_BT, torch.full((len(tokens_BT),), tokens_BT.shape[1] - 1))
        else:
            here = ours(tokens_BT)
    return float((there - here).abs().max())


def _network(recipe: GPTRecipe, path: Path, mask_id: int = -1) -> nn.Module:
    weights = load_weights(path)
    head = weights.get("score.weight")
    if recipe.objective == "masked":
        network: nn.Module = Encoder(recipe, mask_id)
    else:
        network = GPT(recipe) if head is None else GPTClassifier(recipe, len(head))
    network.load_state_dict(ours(recipe, weights))
    return network.eval()


def _probe(recipe: GPTRecipe, config: dict[str, Any]) -> torch.Tensor:
    """Two sequences of the whole context that visit all of the vocabulary they can, without padding tokens."""
    numbers_T = torch.arange(2 * recipe.sequence_length) * 7919 % recipe.padded_vocab_size
    numbers_T[numbers_T == config["pad_token_id"]] = config["eos_token_id"]
    return numbers_T.view(2, -1)


def _check_tokenizer(artifact: Artifact, out: Path) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    tokenizer = Tokenizer.from_file(str(artifact.local("tokenizer.json")))
    ours = tokenizer.encode(SAMPLE, add_special_tokens=False).ids
    loaded = AutoTokenizer.from_pretrained(str(out), local_files_only=True)
    theirs = loaded(SAMPLE, add_special_tokens=False, verbose=False)["input_ids"]
    if theirs != ours or loaded.decode(theirs) != tokenizer.decode(ours, skip_special_tokens=False):
        raise ExportError(f"{out}: AutoTokenizer splits a sample into {len(theirs)} other tokens than our {len(ours)}.")


def _loader(config: dict[str, Any]) -> str:
    """The class of transformers that loads it."""
    architecture = config["architectures"][0]
    return next((loader for ending, loader in LOADERS.items() if architecture.endswith(ending)), DECODER)


def _write(path: Path, value: Any) -> None:
    path.write_bytes(canonical_json(value))
