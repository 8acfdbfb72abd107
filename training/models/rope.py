"""Scaling of rotary positions: frequencies for a longer context than a network was first trained on.

``linear`` slows every pair of channels down (Chen et al. 2023, arXiv:2306.15595). ``llama3`` and ``yarn`` leave those
that turn often within the original context alone, slow down those that hardly turn, and go from one to the other in
between: by turns (Grattafiori et al. 2024, arXiv:2407.21783; constants of Llama 3.1), or by channels, with logits that
are sharpened (Peng et al. 2023, arXiv:2309.00071, sections 3.2 to 3.4). No torch here; tensors come from outside.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from training.models.recipe import GPTRecipe

if TYPE_CHECKING:
    from torch import Tensor

LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}  # turns within the original context
YARN = {"beta_fast": 32.0, "beta_slow": 1.0}  # likewise: alpha and beta of the paper, the other way round
FIXED = {"none": {}, "linear": {}, "llama3": LLAMA3, "yarn": YARN}
LENGTH = "original_max_position_embeddings"
TYPES = {"none": "default", "linear": "linear", "llama3": "llama3", "yarn": "yarn"}


def scaled(frequencies: Tensor, recipe: GPTRecipe) -> tuple[Tensor, float]:
    """Radians a position for each pair of channels, and a factor of cosines and sines."""
    slow = frequencies / recipe.rope_factor
    if recipe.rope_scaling == "none":
        return frequencies, 1.0
    if recipe.rope_scaling == "linear":
        return slow, 1.0
    if recipe.rope_scaling == "llama3":
        low, high = LLAMA3.values()
        turns = frequencies * (recipe.rope_original_length / (2 * math.pi))
        kept = ((turns - low) / (high - low)).clamp(0, 1)
        return slow + (frequencies - slow) * kept, 1.0
    fast_pair, slow_pair = (_pair(recipe, turns) for turns in YARN.values())
    first, last = max(math.floor(fast_pair), 0), min(math.ceil(slow_pair), recipe.head_width - 1)
    pairs = frequencies.new_tensor(range(len(frequencies)))
    kept = 1 - ((pairs - first) / max(last - first, 1e-3)).clamp(0, 1)
    return slow + (frequencies - slow) * kept, sharpened(recipe.rope_factor)


def _pair(recipe: GPTRecipe, turns: float) -> float:
    """The pair of channels (a fraction) that turns so often within the original context; equation 17 solved for it."""
    wavelength = recipe.rope_original_length / turns
    return recipe.head_width * math.log(wavelength / (2 * math.pi)) / (2 * math.log(recipe.rope_theta))


def sharpened(factor: float) -> float:
    """1 / sqrt(t) of YaRN's equation 22: how much longer queries and keys become."""
    return 0.1 * math.log(factor) + 1.0


def parameters(recipe: GPTRecipe) -> dict[str, Any]:
    """``rope_parameters`` of a config.json."""
    found = {"rope_theta": recipe.rope_theta, "rope_type": TYPES[recipe.rope_scaling], **FIXED[recipe.rope_scaling]}
    if recipe.rope_scaling != "none":
        found["factor"] = recipe.rope_factor
    if recipe.rope_original_length:
        found[LENGTH] = recipe.rope_original_length
    return found


def fields(rope: dict[str, Any]) -> dict[str, Any]:
    """Inverse of :func:`parameters`: fields of the recipe.

    Raises:
        ValueError: for a scaling that we do not have, or constants that are not ours.
    """
    names = {there: here for here, there in TYPES.items()}
    kind = names.get(rope.get("rope_type", "default"))
    if kind is None:
        raise ValueError(f"rope_type {rope.get('rope_type')!r}: not ours; expected one of {', '.join(names)}.")
    wanted = (
        "rope_theta",
        *(("factor",) if kind != "none" else ()),
        *((LENGTH,) if kind in {"llama3", "yarn"} else ()),
    )
    if missing := [name for name in wanted if rope.get(name) is None]:
        raise ValueError(f"rope_parameters without {', '.join(missing)}: rope_type {rope['rope_type']!r} needs it.")
    found: dict[str, Any] = {"rope_theta": rope["rope_theta"]}
    if kind != "none":
        found |= {"rope_scaling": kind, "rope_factor": float(rope["factor"])}
    if LENGTH in wanted:
        found["rope_original_length"] = rope[LENGTH]
    ours: dict[str, Any] = {**FIXED[kind], "truncate": True, "partial_rotary_factor": 1.0}
    if kind == "yarn":
        ours["attention_factor"] = sharpened(found["rope_factor"])
    known = {"rope_type", "type", "rope_theta", "factor", LENGTH}
    other = [
        f"{name} {value!r}"
        for name, value in rope.items()
        if name not in known and value is not None and (name not in ours or not math.isclose(value, ours[name]))
    ]
    if other:
        raise ValueError(f"rope_parameters with {', '.join(other)}: not ours; expected {ours}.")
    return found
