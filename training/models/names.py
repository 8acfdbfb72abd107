"""Names: the weights of a network under the names that transformers gives them, and back.

Llama, Qwen3 and EuroBERT have ours. GPT-2 joins queries, keys and values in one matrix and keeps matrices transposed.
Weight files always have the names of transformers: a checkpoint loads there as it lies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from training.models.recipe import GPTRecipe

OUTSIDE = {
    "model.embed_tokens.weight": "transformer.wte.weight",
    "model.embed_positions.weight": "transformer.wpe.weight",
    "model.norm.weight": "transformer.ln_f.weight",
    "model.norm.bias": "transformer.ln_f.bias",
}
NORMS = {"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2"}
MATRICES = {"self_attn.o_proj": "attn.c_proj", "mlp.up_proj": "mlp.c_fc", "mlp.down_proj": "mlp.c_proj"}
JOINED, SPLIT = "attn.c_attn", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
BLOCK = re.compile(r"(?:model\.layers|transformer\.h)\.(\d+)\.(.+)\.(weight|bias)")


def published(recipe: GPTRecipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network's ``state_dict``, named as transformers names them."""
    return _to_gpt2(weights) if recipe.blocks == "gpt2" else dict(weights)


def ours(recipe: GPTRecipe, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of :func:`published`."""
    return _from_gpt2(weights) if recipe.blocks == "gpt2" else dict(weights)


def _to_gpt2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, weight in weights.items():
        match = BLOCK.fullmatch(name)
        if not match:
            found[OUTSIDE.get(name, name)] = weight
            continue
        layer, module, kind = match.groups()
        before = f"transformer.h.{layer}"
        if module in NORMS:
            found[f"{before}.{NORMS[module]}.{kind}"] = weight
        elif module in MATRICES:
            found[f"{before}.{MATRICES[module]}.{kind}"] = weight.t()
        elif module == SPLIT[0]:  # .t() of a bias is the bias
            joined = torch.cat([weights[f"model.layers.{layer}.{each}.{kind}"] for each in SPLIT])
            found[f"{before}.{JOINED}.{kind}"] = joined.t()
    return {name: weight.contiguous() for name, weight in found.items()}


def _from_gpt2(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    outside, norms, matrices = ({there: here for here, there in t.items()} for t in (OUTSIDE, NORMS, MATRICES))
    found = {}
    for name, weight in weights.items():
        match = BLOCK.fullmatch(name)
        if not match:
            found[outside.get(name, name)] = weight
            continue
        layer, module, kind = match.groups()
        before = f"model.layers.{layer}"
        if module == JOINED:
            for each, piece in zip(SPLIT, weight.t().chunk(3), strict=True):
                found[f"{before}.{each}.{kind}"] = piece
        elif module in norms:
            found[f"{before}.{norms[module]}.{kind}"] = weight
        else:
            found[f"{before}.{matrices.get(module, module)}.{kind}"] = weight.t()
    return found
