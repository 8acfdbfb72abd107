"""What shape a network has. No torch here: recipes are read where nothing is trained."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from pipelines.provenance.recipe import Recipe

RMS_NORM_EPS = 1e-6  # what Qwen3 and Llama's reference configuration in transformers use


class ModelRecipe(Recipe):
    """What every network here has."""

    vocab_size: int = Field(
        default=0, ge=0, description="Rows of the embedding; 0 takes the vocabulary's size. Padded to a multiple of 64."
    )
    sequence_length: int = Field(default=256, ge=2, description="Targets of one training sequence")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the activations dropped before each residual sum"
    )


class GPTRecipe(ModelRecipe):
    """A decoder in the manner of Llama (or Qwen3, with ``qk_norm``)."""

    layers: int = Field(default=4, ge=1, description="Number of blocks")
    width: int = Field(default=128, ge=8, description="Channels of the residual stream")
    heads: int = Field(default=4, ge=1, description="Query heads of each block")
    kv_heads: int = Field(
        default=2, ge=1, description="Key and value heads; fewer than heads is grouped-query attention"
    )
    mlp_width: int = Field(
        default=352, ge=8, description="Channels inside the gated feed-forward; 8/3 of the width by custom"
    )
    rope_theta: float = Field(default=10_000.0, gt=1, description="Base of the rotary frequencies")
    qk_norm: bool = Field(default=False, description="Normalise queries and keys; the export is then a Qwen3")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width {self.width} must be an even multiple of heads ({self.heads}).")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads}).")
        return self

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def padded_vocab_size(self) -> int:
        """A multiple of 64: matrix kernels are faster and the extra rows are never a target."""
        return -(-self.vocab_size // 64) * 64

    @property
    def num_parameters(self) -> int:
        attention = self.width * self.head_width * 2 * (self.heads + self.kv_heads)
        norms = 2 * self.width + (2 * self.head_width if self.qk_norm else 0)
        block = attention + 3 * self.width * self.mlp_width + norms
        return self.padded_vocab_size * self.width + self.layers * block + self.width


def hf_config(recipe: GPTRecipe, eos_id: int, pad_id: int, dtype: str = "float32") -> dict[str, Any]:
    """``config.json`` in the keys of transformers 5."""
    if recipe.vocab_size == 0:
        raise ValueError("vocab_size is 0: set it to the vocabulary's size before a model is described.")
    return {
        "architectures": ["Qwen3ForCausalLM" if recipe.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if recipe.qk_norm else "llama",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": eos_id,  # <|endoftext|> stands before and after every document
        "dtype": dtype,
        "eos_token_id": eos_id,
        "head_dim": recipe.head_width,
        "hidden_act": "silu",
        "hidden_size": recipe.width,
        "initializer_range": 0.02,
        "intermediate_size": recipe.mlp_width,
        "max_position_embeddings": recipe.sequence_length,
        "num_attention_heads": recipe.heads,
        "num_hidden_layers": recipe.layers,
        "num_key_value_heads": recipe.kv_heads,
        "pad_token_id": pad_id,
        "rms_norm_eps": RMS_NORM_EPS,
        "rope_parameters": {"rope_theta": recipe.rope_theta, "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": recipe.padded_vocab_size,
    }


def from_hf_config(config: dict[str, Any]) -> GPTRecipe:
    """The recipe of a network whose ``config.json`` :func:`hf_config` wrote.

    Raises:
        ValueError: if the configuration asks for something that this decoder does not have.
    """
    if config.get("model_type") not in {"llama", "qwen3"} or not config.get("tie_word_embeddings"):
        raise ValueError(
            f"model_type {config.get('model_type')!r} with tie_word_embeddings {config.get('tie_word_embeddings')!r}: "
            "expected a llama or qwen3 with tied embeddings, as Stemma trains them."
        )
    rope = config["rope_parameters"]
    if rope.get("rope_type", "default") != "default" or config.get("rms_norm_eps") != RMS_NORM_EPS:
        raise ValueError(f"rope_type {rope.get('rope_type')!r}, rms_norm_eps {config.get('rms_norm_eps')}: not ours.")
    recipe = GPTRecipe(
        vocab_size=config["vocab_size"],
        sequence_length=config["max_position_embeddings"],
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        mlp_width=config["intermediate_size"],
        rope_theta=rope["rope_theta"],
        qk_norm=config["model_type"] == "qwen3",
    )
    ours = {"attention_bias": False, "head_dim": recipe.head_width, "hidden_act": "silu", "mlp_bias": False}
    other = [f"{name} {config[name]!r}" for name, value in ours.items() if config.get(name) not in (None, value)]
    if other:
        raise ValueError(
            f"{', '.join(other)}: not ours; expected {ours}. Its logits would be others than it was trained for."
        )
    return recipe
