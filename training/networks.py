"""Networks from weight files: a decoder, plain or compressed, that computes as its file asks."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from training.models.gpt import GPT
from training.models.names import ours
from training.models.recipe import GPTRecipe
from training.quantisation import with_dynamic_projections
from training.weights import load_weights, weights_metadata

COMPRESSION = "compression"  # in the header of a compressed file: the method


def network_of(recipe: GPTRecipe, path: Path) -> GPT:
    """The decoder of a weight file, ready to be asked.

    Matrices of a compressed file are restored to float32; where its activations are quantised too (``int8_dynamic``) its
    projections multiply the stored integers.

    Raises:
        ValueError: if the file holds a classifier.
    """
    weights = load_weights(path)
    if "score.weight" in weights:
        raise ValueError(f"{path} is a classifier, it cannot write text.")
    network = GPT(recipe)
    network.load_state_dict(ours(recipe, weights))
    if weights_metadata(path).get(COMPRESSION) == "int8_dynamic":
        with_dynamic_projections(network, load_file(str(path)))
    return network.eval()
