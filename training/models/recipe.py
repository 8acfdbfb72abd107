"""What shape a network has. No torch here: recipes are read where nothing is trained."""

from __future__ import annotations

from operator import not_
from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.provenance.recipe import Recipe

RMS_NORM_EPS = 1e-6  # what Qwen3 and Llama's reference configuration in transformers use
LAYER_NORM_EPS = 1e-5  # GPT-2's
VOCAB_MULTIPLE = 64  # matrix kernels are faster, and the extra rows are never a target


class ModelRecipe(Recipe):
    """What every network here has."""

    vocab_size: int = Field(
        default=0, ge=0, description="Rows of the embedding; 0 takes the vocabulary's size. Padded to a multiple of 64."
    )
    vocab_multiple: int = Field(
        default=VOCAB_MULTIPLE,
        ge=1,
        exclude_if=lambda multiple: multiple == VOCAB_MULTIPLE,
        description="What the rows of the embedding are padded to a multiple of; 1 for a model that came without padding",
    )
    sequence_length: int = Field(default=256, ge=2, description="Targets of one training sequence")
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="Share of the activations dropped before each residual sum"
    )


class GPTRecipe(ModelRecipe):
    """A decoder in the manner of Llama, Qwen3 (with ``qk_norm``) or GPT-2, or an encoder in that of EuroBERT."""

    objective: Literal["causal", "masked"] = Field(
        default="causal",
        description="causal: a decoder learns the next token; masked: an encoder learns hidden ones and sees all others",
    )
    blocks: Literal["llama", "gpt2"] = Field(
        default="llama",
        description="llama: RMSNorm, rotary positions, gated feed-forward; gpt2: LayerNorm, learned positions, GELU, "
        "biases",
    )
    tied: bool = Field(default=True, description="The embedding is the output head too")
    layers: int = Field(default=4, ge=1, description="Number of blocks")
    width: int = Field(default=128, ge=8, description="Channels of the residual stream")
    heads: int = Field(default=4, ge=1, description="Query heads of each block")
    kv_heads: int = Field(
        default=2, ge=1, description="Key and value heads; fewer than heads is grouped-query attention"
    )
    mlp_width: int = Field(
        default=352, ge=8, description="Channels inside the gated feed-forward; 8/3 of the width by custom"
    )
    head_dim: int = Field(
        default=0, ge=0, exclude_if=not_, description="Channels of a head; 0: the width shared out over the heads"
    )
    qkv_bias: bool = Field(
        default=False,
        exclude_if=not_,
        description="Biases on queries, keys and values alone; the export is then a Qwen2",
    )
    norm_eps: float = Field(
        default=0.0, ge=0, lt=1, exclude_if=not_, description="ε of the norms; 0: 1e-6, and GPT-2's 1e-5"
    )
    rope_theta: float = Field(default=10_000.0, gt=1, description="Base of the rotary frequencies")
    rope_scaling: Literal["none", "linear", "llama3", "yarn"] = Field(
        default="none",
        exclude_if=lambda value: value == "none",
        description="How rotary positions are stretched over a longer context than the first one",
    )
    rope_factor: float = Field(
        default=1.0, exclude_if=lambda value: value == 1, ge=1, description="How many times longer the context is"
    )
    rope_original_length: int = Field(
        default=0, exclude_if=not_, ge=0, description="Length of the first context, for rope_scaling llama3 and yarn"
    )
    window: int = Field(
        default=0, exclude_if=not_, ge=0, description="Tokens back that a token sees, itself among them; 0: all"
    )
    qk_norm: bool = Field(default=False, description="Normalise queries and keys; the export is then a Qwen3")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        alone = self.width // self.heads
        if self.head_dim % 2 or (not self.head_dim and (self.width % self.heads or alone % 2)):
            raise ValueError(
                f"width {self.width} must be an even multiple of heads ({self.heads}), or head_dim ({self.head_dim}) even."
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads}).")
        return self

    @model_validator(mode="after")
    def _exists(self) -> Self:
        """No shape that transformers could not load."""
        if self.blocks == "gpt2" and self.kv_heads != self.heads:
            raise ValueError(f"a gpt2 shares no key heads: set kv_heads to heads ({self.heads}), not {self.kv_heads}.")
        if self.blocks == "gpt2" and (self.qk_norm or self.qkv_bias or self.head_dim or self.objective == "masked"):
            raise ValueError("a gpt2 is a decoder without qk_norm, qkv_bias and head_dim; blocks = 'llama' has them.")
        if self.objective == "masked" and (self.qk_norm or self.qkv_bias):
            raise ValueError("an encoder has no qk_norm and qkv_bias: EuroBERT, which it is exported as, lacks them.")
        if self.qkv_bias and (self.qk_norm or self.head_dim):
            raise ValueError("qkv_bias is Qwen2's, which has neither qk_norm nor a head_dim of its own.")
        if self.window and (self.blocks == "gpt2" or self.objective == "masked"):
            raise ValueError("a window is for decoders with blocks = 'llama': neither GPT-2 nor EuroBERT has one.")
        if self.window == 1:  # the cache of transformers 5.23 keeps everything then, and writes other text
            raise ValueError("a window of 1 shows a token nothing but itself: set 2 or more, or 0 for all.")
        return self

    @model_validator(mode="after")
    def _stretches(self) -> Self:
        kind, by_length = self.rope_scaling, self.rope_scaling in {"llama3", "yarn"}
        if kind != "none" and self.blocks == "gpt2":
            raise ValueError(f"rope_scaling {kind!r}: a gpt2 has learned positions, not rotary ones.")
        if (kind != "none") != (self.rope_factor > 1):
            raise ValueError(f"rope_scaling {kind!r} with rope_factor {self.rope_factor}: give both, or neither.")
        if by_length != bool(self.rope_original_length):
            raise ValueError(
                f"rope_scaling {kind!r} with rope_original_length {self.rope_original_length}: llama3 and yarn need "
                "the length of the context before it was stretched, the others do not."
            )
        return self

    @property
    def biases(self) -> bool:
        return self.blocks == "gpt2"

    @property
    def head_width(self) -> int:
        return self.head_dim or self.width // self.heads

    @property
    def eps(self) -> float:
        return self.norm_eps or (LAYER_NORM_EPS if self.blocks == "gpt2" else RMS_NORM_EPS)

    @property
    def padded_vocab_size(self) -> int:
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    @property
    def num_matrix_parameters(self) -> int:
        """Weights of the matrices that every token is multiplied with; the embedding counts once, as the head."""
        attention = self.width * self.head_width * 2 * (self.heads + self.kv_heads)
        matrices = 2 if self.blocks == "gpt2" else 3
        return self.layers * (attention + matrices * self.width * self.mlp_width) + self.padded_vocab_size * self.width

    @property
    def num_parameters(self) -> int:
        norms = (2 * self.layers + 1) * self.width * (2 if self.biases else 1)
        heads = 2 * self.head_width * self.layers if self.qk_norm else 0
        of_heads = (
            self.layers * self.head_width * (self.heads + 2 * self.kv_heads) if self.biases or self.qkv_bias else 0
        )
        biases = of_heads + (self.layers * (2 * self.width + self.mlp_width) if self.biases else 0)
        positions = self.sequence_length * self.width if self.blocks == "gpt2" else 0
        second = 0 if self.tied else self.padded_vocab_size * self.width
        return self.num_matrix_parameters + norms + heads + biases + positions + second
