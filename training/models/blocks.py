"""Blocks: what every network here is made of, before a head says what it is for.

Pre-normalised blocks in one of two shapes. ``llama``: RMSNorm, rotary positions, gated feed-forward, no biases (with
``qk_norm``: Qwen3; with ``qkv_bias``: Qwen2; looking both ways: EuroBERT). ``gpt2``: LayerNorm, learned positions, GELU, biases everywhere.
Arithmetic is that of transformers, so that a checkpoint gives the same logits there (``names.py`` has the names).

Letters of shapes: B sequences, T new tokens, S tokens attended to, D width, H query heads, K key heads,
C channels of a head, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.models import rope, sight
from training.models.cache import KVCache
from training.models.recipe import GPTRecipe

Angles = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) · gain, in float32 (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return _narrowed(self.weight * wide.to(x.dtype))


class LayerNorm(nn.LayerNorm):
    """(x - mean(x)) / sqrt(var(x) + ε) · gain + bias (Ba et al. 2016, arXiv:1607.06450)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        return _narrowed(super().forward(input))


def _narrowed(x: Tensor) -> Tensor:
    """In the type of autocast, which would narrow it again for each of the projections that read it."""
    device = x.device.type
    return x.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else x


def norm(recipe: GPTRecipe) -> RMSNorm | LayerNorm:
    return (LayerNorm if recipe.blocks == "gpt2" else RMSNorm)(recipe.width, recipe.eps)


def rotary_frequencies(head_width: int, theta: float) -> Tensor:
    """Radians a position for each pair of channels, [C/2] (Su et al. 2021, arXiv:2104.09864, section 3.2.2)."""
    return 1.0 / (theta ** (torch.arange(0, head_width, 2, dtype=torch.int64).float() / head_width))


def rotated(x_BHTC: Tensor, cos_BTC: Tensor, sin_BTC: Tensor) -> Tensor:
    """Turn each pair (channel i, channel i + C/2) by its angle; the pairing is that of transformers."""
    first, second = x_BHTC.chunk(2, dim=-1)
    cos_BHTC, sin_BHTC = cos_BTC[:, None], sin_BTC[:, None]
    return torch.cat((first * cos_BHTC - second * sin_BHTC, second * cos_BHTC + first * sin_BHTC), dim=-1)


class Attention(nn.Module):
    """Self-attention; several query heads may share one key head (Ainslie et al. 2023, arXiv:2305.13245)."""

    def __init__(self, recipe: GPTRecipe, layer: int) -> None:
        super().__init__()
        self.layer, self.head_width = layer, recipe.head_width
        self.causal = recipe.objective == "causal"
        self.shared = recipe.heads != recipe.kv_heads
        inside, keys = recipe.heads * recipe.head_width, recipe.kv_heads * recipe.head_width
        bias = recipe.biases or recipe.qkv_bias
        self.q_proj = nn.Linear(recipe.width, inside, bias=bias)
        self.k_proj = nn.Linear(recipe.width, keys, bias=bias)
        self.v_proj = nn.Linear(recipe.width, keys, bias=bias)
        self.o_proj = nn.Linear(inside, recipe.width, bias=recipe.biases)
        self.q_norm = RMSNorm(recipe.head_width, recipe.eps) if recipe.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(recipe.head_width, recipe.eps) if recipe.qk_norm else nn.Identity()

    def forward(self, x_BTD: Tensor, angles: Angles | None, cache: KVCache | None, mask: sight.Mask) -> Tensor:
        split = (*x_BTD.shape[:2], -1, self.head_width)
        q_BHTC = self.q_norm(self.q_proj(x_BTD).view(split)).transpose(1, 2)
        k_BKTC = self.k_norm(self.k_proj(x_BTD).view(split)).transpose(1, 2)
        v_BKTC = self.v_proj(x_BTD).view(split).transpose(1, 2)
        if angles is not None:
            q_BHTC, k_BKTC, v_BKTC = rotated(q_BHTC, *angles), rotated(k_BKTC, *angles), v_BKTC.to(angles[0].dtype)
        else:
            q_BHTC, k_BKTC, v_BKTC = (x.to(_attention_dtype(x.device)) for x in (q_BHTC, k_BKTC, v_BKTC))
        if cache is not None:
            k_BKTC, v_BKTC = cache.extend(self.layer, k_BKTC, v_BKTC)
        with torch.autocast(x_BTD.device.type, enabled=False):  # the type is chosen above
            causal = self.causal and q_BHTC.shape[2] > 1  # a token alone sees everything before it
            out_BHTC = sight.attention(q_BHTC, k_BKTC, v_BKTC, mask, causal=causal, shared=self.shared)
        return self.o_proj(out_BHTC.transpose(1, 2).reshape(*x_BTD.shape[:2], -1))


class GatedMLP(nn.Module):
    """down(silu(gate(x)) · up(x)), SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(recipe.width, recipe.mlp_width, bias=False)
        self.up_proj = nn.Linear(recipe.width, recipe.mlp_width, bias=False)
        self.down_proj = nn.Linear(recipe.mlp_width, recipe.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class GeluMLP(nn.Module):
    """down(gelu(up(x))) in the tanh form of GPT-2 (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.up_proj = nn.Linear(recipe.width, recipe.mlp_width)
        self.down_proj = nn.Linear(recipe.mlp_width, recipe.width)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x_BTD), approximate="tanh"))


class Block(nn.Module):
    def __init__(self, recipe: GPTRecipe, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(recipe, layer)
        self.mlp = GeluMLP(recipe) if recipe.blocks == "gpt2" else GatedMLP(recipe)
        self.input_layernorm = norm(recipe)
        self.post_attention_layernorm = norm(recipe)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, x_BTD: Tensor, angles: Angles | None, cache: KVCache | None, mask: sight.Mask) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.self_attn(self.input_layernorm(x_BTD), angles, cache, mask))
        return x_BTD + self.dropout(self.mlp(self.post_attention_layernorm(x_BTD)))


class Trunk(nn.Module):
    """Tokens to the normalised residual stream.

    ``recomputed``: activations of a block are computed again in the backward pass instead of kept.
    """

    recomputed = False

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.causal, self.window = recipe.objective == "causal", recipe.window
        self.embed_tokens = nn.Embedding(recipe.padded_vocab_size, recipe.width)
        self.layers = nn.ModuleList(Block(recipe, layer) for layer in range(recipe.layers))
        self.norm = norm(recipe)
        self.embed_positions = None
        if recipe.blocks == "gpt2":
            self.embed_positions = nn.Embedding(recipe.sequence_length, recipe.width)
        unscaled = rotary_frequencies(recipe.head_width, recipe.rope_theta)
        frequencies, self.sharpness = rope.scaled(unscaled, recipe)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, tokens_BT: Tensor, cache: KVCache | None = None, lengths_B: Tensor | None = None,
                documents_BT: Tensor | None = None) -> Tensor:  # fmt: skip
        """The stream, [B, T, D].

        Args:
            tokens_BT: new ones.
            cache: of those before.
            lengths_B: tokens of each row that are no padding; only who looks ahead needs to know.
            documents_BT: number of the document of each token, which then sees no other document.
        """
        # the residual stream is float32, also where a sharded embedding is gathered in bf16
        x_BTD = self.embed_tokens(tokens_BT).float()
        if self.embed_positions is not None:
            positions_BT = _positions(tokens_BT, cache, documents_BT).clamp(min=0)  # padding on the left: 0
            x_BTD = x_BTD + self.embed_positions(positions_BT)
        angles, mask = self.sight(tokens_BT, documents_BT, cache, lengths_B)
        for block in self.layers:
            if self.recomputed and self.training:
                x_BTD = checkpoint(block, x_BTD, angles, cache, mask, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, angles, cache, mask)
        if cache is not None:
            cache.length += tokens_BT.shape[1]
        return self.norm(x_BTD)

    def sight(self, tokens_BT: Tensor, documents_BT: Tensor | None, cache: KVCache | None = None,
              lengths_B: Tensor | None = None) -> tuple[Angles | None, sight.Mask]:  # fmt: skip
        """By how much queries and keys are turned (None: positions are learned), and who sees whom."""
        angles = None if self.embed_positions is not None else self._angles(tokens_BT, cache, documents_BT)
        return angles, self._mask(tokens_BT, cache, lengths_B, documents_BT)

    def _mask(self, tokens_BT: Tensor, cache: KVCache | None, lengths_B: Tensor | None,
              documents_BT: Tensor | None) -> sight.Mask:  # fmt: skip
        assert cache is None or documents_BT is None, "text is written one document at a time"
        mask = _causal_mask(tokens_BT, cache) if self.causal else _padding_mask(tokens_BT, lengths_B)
        length, device, rules = tokens_BT.shape[1], tokens_BT.device, {"causal": self.causal, "window": self.window}
        narrow = documents_BT is not None or 0 < self.window < length
        if narrow and mask is None and cache is None and not self.recomputed and sight.is_blockwise(device):
            return sight.block_mask(documents_BT, length, device, **rules)
        num_before = cache.length if cache else 0
        return sight.narrowed(mask, num_before, length, device, documents_BT=documents_BT, **rules)

    def _angles(self, tokens_BT: Tensor, cache: KVCache | None, documents_BT: Tensor | None = None) -> Angles:
        positions_BT = _positions(tokens_BT, cache, documents_BT)
        with torch.autocast(tokens_BT.device.type, enabled=False):  # bf16 cannot tell position 257 from 256
            angles_BTC = positions_BT[..., None].float() * self.get_buffer("frequencies")
            cos_BTC, sin_BTC = angles_BTC.cos() * self.sharpness, angles_BTC.sin() * self.sharpness
        dtype = _attention_dtype(tokens_BT.device)
        return cos_BTC.to(dtype), sin_BTC.to(dtype)


def _positions(tokens_BT: Tensor, cache: KVCache | None, documents_BT: Tensor | None) -> Tensor:
    if documents_BT is not None:
        return sight.positions(documents_BT)
    before = cache.length if cache else 0
    positions_BT = torch.arange(before, before + tokens_BT.shape[1], device=tokens_BT.device)[None]
    if cache is not None and cache.starts_B is not None:
        positions_BT = positions_BT - cache.starts_B[:, None]
    return positions_BT


def _attention_dtype(device: torch.device) -> torch.dtype:
    """bf16 where a GPU multiplies in it. On a CPU always fp32: the backward kernel of attention takes twice as long in
    bf16 (31 against 17 ms for 16 x 4 heads x 256 x 32 on one core), and this is the more exact of the two.
    """
    narrow = device.type != "cpu" and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if narrow else torch.float32


def _causal_mask(tokens_BT: Tensor, cache: KVCache | None) -> Tensor | None:
    """Who may look at whom, [B or 1, 1, T, S]; None is plain causal (one token: everything before it), the fastest."""
    if cache is None or (cache.starts_B is None and (cache.length == 0 or tokens_BT.shape[1] == 1)):
        return None
    num_new, device = tokens_BT.shape[1], tokens_BT.device
    keys_S = torch.arange(cache.length + num_new, device=device)
    mask_BTS = (keys_S[None] <= keys_S[cache.length :, None])[None]
    if cache.starts_B is not None:
        own = torch.eye(num_new, len(keys_S), dtype=torch.bool, device=device).roll(cache.length, 1)
        mask_BTS = mask_BTS & (keys_S[None, None] >= cache.starts_B[:, None, None]) | own  # padding sees itself: no NaN
    return mask_BTS[:, None]


def _padding_mask(tokens_BT: Tensor, lengths_B: Tensor | None) -> Tensor | None:
    """Everyone looks at all that is no padding, [B, 1, 1, S]; None: there is none."""
    if lengths_B is None:
        return None
    keys_S = torch.arange(tokens_BT.shape[1], device=tokens_BT.device)
    return (keys_S[None] < lengths_B[:, None])[:, None, None]
