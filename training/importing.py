"""Importing: a model from elsewhere becomes an artifact, its logits compared with those that transformers computes.

The directory is one that transformers reads: config.json, tokenizer.json and safetensors, whole or in pieces. Weights
are kept in float32, which holds what bfloat16 and float16 say, so that a run can go on from them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from pydantic import Field

from pipelines.hub_file import PREFIX, HubFileError, hub_file
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from training.models.config import from_hf_config
from training.models.recipe import GPTRecipe

if TYPE_CHECKING:
    from torch import Tensor

IMPORT_VERSION = "1"
CONFIG, TOKENIZER, WEIGHTS, INDEX = "config.json", "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
TOLERANCE = 1e-5  # of logits, as for an export; equal kernels give 0.0
PROBED = 64  # tokens of each of two sequences that are compared: a context of 131,072 would take minutes


class ImportRecipe(Recipe):
    """Which model; where it lies is no part of it."""

    files_digest: str = Field(pattern="^[0-9a-f]{64}$", description="of names and blake3 of the files that are read")
    origin: str = Field(default="", description="where they stand on the Hugging Face hub; empty: a directory at hand")
    licence: str = Field(default="", description="SPDX expression of the weights' licence; empty: not stated")


class ModelDirectoryError(ValueError):
    """A directory holds no model that can be imported."""


def model_files(directory: Path) -> list[Path]:
    """The files of a directory that make the model, in the order of their names.

    Raises:
        ModelDirectoryError: naming what is missing, and what is there instead.
    """
    whole = not (directory / INDEX).exists()
    names = [CONFIG, TOKENIZER, *([WEIGHTS] if whole else [INDEX, *_pieces(directory)])]
    if missing := [name for name in names if not (directory / name).is_file()]:
        there = sorted(path.name for path in directory.iterdir()) if directory.is_dir() else []
        pickled = any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in there)
        raise ModelDirectoryError(
            f"{directory}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; there "
            f"{'is' if len(there) == 1 else 'are'} {', '.join(there) or 'no files'}. "
            + ("Pickled weights run whatever code is in them and are not read. " if pickled else "")
            + "Save the model with save_pretrained of transformers, its tokenizer too."
        )
    return [directory / name for name in sorted(names)]


def model_directory(path: str, root: Path) -> tuple[Path, str]:
    """Where a model lies, and its name on the hub if it comes from there, fetched file by file if need be.

    Args:
        path: a directory, or ``hf://OWNER/NAME@COMMIT``.
        root: where a relative path begins.

    Raises:
        HubFileError: if a name on the hub leads to no model.
    """
    if not path.startswith(PREFIX):
        return root / path, ""
    config = hub_file(path, CONFIG)
    if config.file != CONFIG:
        raise HubFileError(f"{path!r} names a file; a model is {PREFIX}{config.repo}@{config.revision}.")
    directory = config.local().parent
    config._replace(file=TOKENIZER).local()
    if not (directory / WEIGHTS).is_file():  # in the cache in one piece: the hub would be asked for an index every time
        try:
            config._replace(file=INDEX).local()
        except HubFileError:  # it lies in one piece
            config._replace(file=WEIGHTS).local()
        else:
            for name in _pieces(directory):
                config._replace(file=name).local()
    return directory, f"{PREFIX}{config.repo}@{config.revision}"


def files_digest(directory: Path) -> str:
    """Of names and contents of :func:`model_files`; large files that did not change are not read again."""
    from pipelines.readers.known_hashes import known_entry

    entries = [known_entry(path.parent, path.name) for path in model_files(directory)]
    return digest(canonical_json([[entry.path, entry.blake3] for entry in entries]))


def shape_of(directory: Path) -> GPTRecipe:
    """The network that ``config.json`` describes.

    Raises:
        ModelDirectoryError: if it is none of ours.
    """
    config = table(directory / CONFIG)
    try:
        return from_hf_config(config)
    except (ValueError, KeyError, TypeError) as error:
        raise ModelDirectoryError(f"{directory / CONFIG}: {error}") from None


def import_model(directory: Path, recipe: ImportRecipe, draft: Draft) -> Artifact:
    """Take a model in, and prove that our network computes what transformers computes with it.

    Raises:
        ModelDirectoryError: if the files are not those of the recipe, no network of ours, or logits differ.
    """
    from training.weights import save_weights

    if (found := files_digest(directory)) != recipe.files_digest:
        raise ModelDirectoryError(
            f"{directory}: its files have digest {found[:12]}…, the recipe says {recipe.files_digest[:12]}…. Run again."
        )
    shape, config = shape_of(directory), table(directory / CONFIG)
    weights, difference = compared(directory, shape)
    if not difference <= TOLERANCE:
        raise ModelDirectoryError(
            f"{directory}: our logits differ by {difference:.1e} from those of transformers, allowed are {TOLERANCE}. "
            "Its config.json asks for something that our networks do not do."
        )
    save_weights(draft.path(WEIGHTS), weights, {"imported": recipe.files_digest})
    tokenizer = (directory / TOKENIZER).read_bytes()
    draft.path(TOKENIZER).write_bytes(tokenizer)
    draft.write_json(CONFIG, _completed(config, directory))
    return draft.seal(
        counts={"parameters": shape.num_parameters},
        facts={
            "architecture": next(iter(config.get("architectures") or []), config["model_type"]),
            "parameters": shape.num_parameters,
            "context": shape.sequence_length,
            "vocab_size": shape.vocab_size,
            "dtype": str(config.get("dtype") or config.get("torch_dtype") or "float32"),
            "tokenizer": blake3(tokenizer).hexdigest(),
            "origin": recipe.origin,
            "licence": recipe.licence,
            "max_logit_difference": difference,
        },
    )


def _completed(config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """The configuration with one token that ends a text, and one that fills up."""
    end = config.get("eos_token_id")
    end = end[0] if isinstance(end, list) and end else end
    if not isinstance(end, int):
        raise ModelDirectoryError(f"{directory / CONFIG}: has no eos_token_id, the token that ends a text; add it.")
    fill = config.get("pad_token_id")
    return {**config, "dtype": "float32", "eos_token_id": end, "pad_token_id": end if fill is None else fill}


def compared(directory: Path, shape: GPTRecipe) -> tuple[dict[str, Tensor], float]:
    """The weights as transformers names them, in float32, and how far our logits are from those that it computes."""
    import torch
    import transformers
    from safetensors import SafetensorError

    from training.models.encoder import Encoder
    from training.models.gpt import GPT
    from training.models.names import ours
    from training.weights import not_finite

    loader: Any = (
        transformers.AutoModelForMaskedLM if shape.objective == "masked" else transformers.AutoModelForCausalLM
    )
    try:
        theirs, info = loader.from_pretrained(
            str(directory), output_loading_info=True, local_files_only=True, dtype=torch.float32, use_safetensors=True
        )
    except SafetensorError as error:
        raise ModelDirectoryError(
            f"{directory}: its weights are not whole ({error}). Fetch or copy them again."
        ) from None
    if absent := sorted(map(str, info["missing_keys"])):
        raise ModelDirectoryError(f"{directory}: its weights lack {', '.join(absent[:3])}; the files are not whole.")
    weights = {
        name: weight for name, weight in theirs.state_dict().items() if not (shape.tied and name == "lm_head.weight")
    }
    if broken := not_finite(weights):
        raise ModelDirectoryError(f"{directory}: {broken} of its weights has numbers that are none (NaN or infinite).")
    network = Encoder(shape, mask_id=-1) if shape.objective == "masked" else GPT(shape)
    network.load_state_dict(ours(shape, weights), assign=True)
    length = min(PROBED, shape.sequence_length)
    tokens_BT = (torch.arange(2 * length) * 7919 % shape.vocab_size).view(2, length)
    with torch.no_grad():
        there, here = theirs.eval()(tokens_BT).logits, network.eval()(tokens_BT)
    return weights, float((there - here).abs().max())


def _pieces(directory: Path) -> list[str]:
    return sorted(set(table(directory / INDEX).get("weight_map", {}).values()))


def table(path: Path) -> dict[str, Any]:
    """What a JSON file of a model holds.

    Raises:
        ModelDirectoryError: if it is no JSON, or no table.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelDirectoryError(f"{path}: cannot be read ({error}).") from None
    if not isinstance(found, dict):
        raise ModelDirectoryError(f"{path}: holds no table.")
    return found
