"""config.json: a network in the keys of transformers 5, and back. No torch here."""

from __future__ import annotations

from typing import Any

from training.models.recipe import LAYER_NORM_EPS, RMS_NORM_EPS, GPTRecipe

GELU = "gelu_new"  # what transformers calls the tanh form
HEADS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM",
         "eurobert": "EuroBertForMaskedLM"}  # fmt: skip


def hf_config(
    recipe: GPTRecipe, eos_id: int, pad_id: int, dtype: str = "float32", mask_id: int | None = None
) -> dict[str, Any]:
    """``config.json`` of a language model; an encoder has a ``mask_id``."""
    if recipe.vocab_size == 0:
        raise ValueError("vocab_size is 0: set it to the vocabulary's size before a model is described.")
    kind = model_type(recipe)
    config = {
        "architectures": [HEADS[kind]],
        "model_type": kind,
        "bos_token_id": eos_id,  # <|endoftext|> stands before and after every document
        "dtype": dtype,
        "eos_token_id": eos_id,
        "initializer_range": 0.02,
        "pad_token_id": pad_id,
        "tie_word_embeddings": recipe.tied,
        "use_cache": True,
        "vocab_size": recipe.padded_vocab_size,
        **(_gpt2(recipe) if kind == "gpt2" else _llama(recipe)),
    }
    return config if mask_id is None else config | {"mask_token_id": mask_id}


def model_type(recipe: GPTRecipe) -> str:
    """What transformers calls the family."""
    if recipe.objective == "masked":
        return "eurobert"
    return "gpt2" if recipe.blocks == "gpt2" else "qwen3" if recipe.qk_norm else "llama"


def from_hf_config(config: dict[str, Any]) -> GPTRecipe:
    """The recipe of a network whose ``config.json`` :func:`hf_config` wrote.

    Raises:
        ValueError: if the configuration asks for something that our networks do not have.
    """
    kind = config.get("model_type")
    if kind not in HEADS:
        raise ValueError(f"model_type {kind!r}: expected {', '.join(HEADS)}, as Stemma trains them.")
    fields, ours = _from_gpt2(config) if kind == "gpt2" else _from_llama(config)
    other = [f"{name} {config[name]!r}" for name, value in ours.items() if config.get(name) not in (None, value)]
    if other:
        raise ValueError(
            f"{', '.join(other)}: not ours; expected {ours}. Its logits would be others than it was trained for."
        )
    return GPTRecipe(vocab_size=config["vocab_size"], tied=bool(config.get("tie_word_embeddings", True)), **fields)


def _llama(recipe: GPTRecipe) -> dict[str, Any]:
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "head_dim": recipe.head_width,
        "hidden_act": "silu",
        "hidden_size": recipe.width,
        "intermediate_size": recipe.mlp_width,
        "max_position_embeddings": recipe.sequence_length,
        "num_attention_heads": recipe.heads,
        "num_hidden_layers": recipe.layers,
        "num_key_value_heads": recipe.kv_heads,
        "rms_norm_eps": RMS_NORM_EPS,
        "rope_parameters": {"rope_theta": recipe.rope_theta, "rope_type": "default"},
    }


def _from_llama(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the recipe, and what the configuration must not say otherwise."""
    rope = config["rope_parameters"]
    if rope.get("rope_type", "default") != "default" or config.get("rms_norm_eps") != RMS_NORM_EPS:
        raise ValueError(f"rope_type {rope.get('rope_type')!r}, rms_norm_eps {config.get('rms_norm_eps')}: not ours.")
    fields = {
        "sequence_length": config["max_position_embeddings"],
        "layers": config["num_hidden_layers"],
        "width": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
        "mlp_width": config["intermediate_size"],
        "rope_theta": rope["rope_theta"],
        "qk_norm": config["model_type"] == "qwen3",
        "objective": "masked" if config["model_type"] == "eurobert" else "causal",
    }
    head_width = fields["width"] // fields["heads"]
    return fields, {"attention_bias": False, "head_dim": head_width, "hidden_act": "silu", "mlp_bias": False}


def _gpt2(recipe: GPTRecipe) -> dict[str, Any]:
    return {
        "activation_function": GELU,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "layer_norm_epsilon": LAYER_NORM_EPS,
        "n_embd": recipe.width,
        "n_head": recipe.heads,
        "n_inner": recipe.mlp_width,
        "n_layer": recipe.layers,
        "n_positions": recipe.sequence_length,
        "resid_pdrop": 0.0,
    }


def _from_gpt2(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = {"sequence_length": "n_positions", "layers": "n_layer", "width": "n_embd", "heads": "n_head"}
    missing = [name for name in names.values() if name not in config]
    if missing:
        raise ValueError(f"a gpt2 without {', '.join(missing)}: this config.json is not whole.")
    fields = {field: config[name] for field, name in names.items()}
    fields |= {"kv_heads": fields["heads"], "mlp_width": config.get("n_inner") or 4 * fields["width"]}
    ours = {
        "activation_function": GELU,
        "layer_norm_epsilon": LAYER_NORM_EPS,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
    }
    return {**fields, "blocks": "gpt2"}, ours
