"""config.json: a network in the keys of transformers 5, and back. No torch here."""

from __future__ import annotations

from typing import Any

from training.models import rope
from training.models.recipe import LAYER_NORM_EPS, RMS_NORM_EPS, VOCAB_MULTIPLE, GPTRecipe

GELU = "gelu_new"  # what transformers calls the tanh form
HEADS = {"gpt2": "GPT2LMHeadModel", "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM",
         "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "eurobert": "EuroBertForMaskedLM"}  # fmt: skip
QWEN = {"qwen2", "qwen3"}


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
    if recipe.blocks == "gpt2":
        return "gpt2"
    if recipe.qk_norm or recipe.qkv_bias:
        return "qwen3" if recipe.qk_norm else "qwen2"
    return "mistral" if recipe.window else "llama"


def from_hf_config(config: dict[str, Any]) -> GPTRecipe:
    """The recipe of a network by its ``config.json``: inverse of :func:`hf_config`, and for models from elsewhere.

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
    rows = config["vocab_size"]
    return GPTRecipe(
        vocab_size=rows,
        vocab_multiple=1 if rows % VOCAB_MULTIPLE else VOCAB_MULTIPLE,
        tied=bool(config.get("tie_word_embeddings", kind == "gpt2")),
        **fields,
    )


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
        "rms_norm_eps": recipe.eps,
        "rope_parameters": rope.parameters(recipe),
        **_window(recipe),
    }


def _window(recipe: GPTRecipe) -> dict[str, Any]:
    """A Mistral's is always on; a Qwen says from which block on it is."""
    if not recipe.window:
        return {}
    on = {"use_sliding_window": True, "max_window_layers": 0} if model_type(recipe) in QWEN else {}
    return {"sliding_window": recipe.window, **on}


def _window_of(config: dict[str, Any]) -> int:
    """Inverse of :func:`_window`.

    Raises:
        ValueError: if only some blocks have one, or transformers would take a default of its own.
    """
    kind, window = config["model_type"], config.get("sliding_window")
    if kind == "mistral" and "sliding_window" not in config:
        raise ValueError("a mistral without sliding_window: transformers takes 4096; write it, or null for none.")
    if kind in QWEN and (not config.get("use_sliding_window") or not window):
        return 0
    layers = set(config.get("layer_types") or ["sliding_attention"])
    if kind in QWEN and (config.get("max_window_layers", 28) != 0 or layers != {"sliding_attention"}):
        raise ValueError(
            f"max_window_layers {config.get('max_window_layers', 28)}: only some blocks have the sliding_window; ours "
            "have it all or none. Its logits would be others than it was trained for."
        )
    return window or 0 if kind in {"mistral", *QWEN} else 0


def _from_llama(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fields of the recipe, and what the configuration must not say otherwise."""
    kind = config["model_type"]
    names = {
        "sequence_length": "max_position_embeddings", "layers": "num_hidden_layers", "width": "hidden_size",
        "heads": "num_attention_heads", "mlp_width": "intermediate_size",
    }  # fmt: skip
    fields = _renamed(config, names)
    fields |= {
        "kv_heads": config.get("num_key_value_heads") or fields["heads"],
        "head_dim": config.get("head_dim") or 0,
        "norm_eps": config.get("rms_norm_eps", RMS_NORM_EPS),
        **rope.fields(_rope(config)),
        "window": _window_of(config),
        "qk_norm": kind == "qwen3",
        "qkv_bias": kind == "qwen2",
        "objective": "masked" if kind == "eurobert" else "causal",
    }
    if fields["head_dim"] * fields["heads"] == fields["width"]:
        fields["head_dim"] = 0
    if fields["norm_eps"] == RMS_NORM_EPS:
        fields["norm_eps"] = 0.0
    return fields, {"attention_bias": False, "hidden_act": "silu", "mlp_bias": False}


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Of transformers 5, or as older files say it: a base at the top, and how it is stretched beside it."""
    if config.get("rope_parameters"):
        return config["rope_parameters"]
    stretched = config.get("rope_scaling") or {}
    kind = stretched.get("rope_type", stretched.get("type", "default"))
    return {"rope_theta": config.get("rope_theta", 10_000.0), **stretched, "rope_type": kind}


def _renamed(config: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    if missing := [name for name in names.values() if name not in config]:
        raise ValueError(f"a {config['model_type']} without {', '.join(missing)}: this config.json is not whole.")
    return {field: config[name] for field, name in names.items()}


def _gpt2(recipe: GPTRecipe) -> dict[str, Any]:
    return {
        "activation_function": GELU,
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "layer_norm_epsilon": recipe.eps,
        "n_embd": recipe.width,
        "n_head": recipe.heads,
        "n_inner": recipe.mlp_width,
        "n_layer": recipe.layers,
        "n_positions": recipe.sequence_length,
        "resid_pdrop": 0.0,
    }


def _from_gpt2(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = {"sequence_length": "n_positions", "layers": "n_layer", "width": "n_embd", "heads": "n_head"}
    fields = _renamed(config, names)
    fields |= {"kv_heads": fields["heads"], "mlp_width": config.get("n_inner") or 4 * fields["width"]}
    if (eps := config.get("layer_norm_epsilon", LAYER_NORM_EPS)) != LAYER_NORM_EPS:
        fields["norm_eps"] = eps
    ours = {
        "activation_function": GELU,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
    }
    return {**fields, "blocks": "gpt2"}, ours
