"""Continuing: a run that begins from the weights of another one, or of a model from elsewhere.

The base must mean the same by every token: an id that stands for another text would be unlearnt first. A vocabulary
may have more tokens than the base; their rows of the embedding begin as those of a new network do. The optimiser
begins anew. No torch here but inside functions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.provenance.artifact import Artifact
from training.models.config import from_hf_config

if TYPE_CHECKING:
    from torch import nn

ROWS = ("model.embed_tokens.weight", "lm_head.weight")  # one a token
POSITIONS = "model.embed_positions.weight"


def check(base: Artifact, vocabulary: Artifact, sequence_length: int) -> None:
    """That a run with this vocabulary and sequence length can begin from a base.

    Raises:
        ValueError: saying which token means something else, or that positions would be missing.
    """
    shape = from_hf_config(base.json("config.json"))
    if shape.blocks == "gpt2" and sequence_length > shape.sequence_length:
        raise ValueError(
            f"{base.key} has learnt {shape.sequence_length} positions, the mixture's sequence_length is "
            f"{sequence_length}. Set it to {shape.sequence_length} or less."
        )
    theirs, ours = base.json("tokenizer.json"), vocabulary.json("tokenizer.json")
    if other := _difference(theirs, ours):
        raise ValueError(
            f"the vocabulary {vocabulary.key.partition} is not the one that {base.key} was trained with: {other}. Give "
            "the run a vocabulary that is taken from the base: [vocabularies.NAME] path = its tokenizer.json."
        )


def _difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    """The first thing by which two tokenizers give other ids; what is only added behind does not count."""
    before, after = _ids(theirs), _ids(ours)
    for token, number in sorted(before.items(), key=lambda pair: pair[1]):
        if after.get(token) != number:
            there = f"has the id {after[token]}" if token in after else "does not exist"
            return f"its token {token!r}, id {number}, {there}"
    if theirs["model"].get("merges") != ours["model"].get("merges"):
        return "it merges other pairs"
    return "" if theirs.get("normalizer") == ours.get("normalizer") else "it normalises texts in another way"


def _ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    vocab = tokenizer["model"]["vocab"]
    pieces = vocab if isinstance(vocab, dict) else {entry[0]: number for number, entry in enumerate(vocab)}
    return pieces | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def begin_from(network: nn.Module, path: Path) -> None:
    """Put the weights of a base into a network that may have more tokens or fewer positions; others must fit.

    Raises:
        ValueError: if one is missing or has another shape.
    """
    import torch

    from training.models.names import ours
    from training.weights import load_weights

    weights = ours(network.recipe, load_weights(path))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, held in network.state_dict().items():
            given = weights.get(name)
            if given is not None and name in ROWS:
                held = held[: len(given)]  # noqa: PLW2901 (a view: what is behind it stays as it began)
            if given is not None and name == POSITIONS:
                given = given[: len(held)]
            if given is None or given.shape != held.shape:
                found = "nothing" if given is None else list(given.shape)
                raise ValueError(f"{path}: holds {found} for {name}, the network has {list(held.shape)}.")
            held.copy_(given)
