"""GPT: a decoder of pre-normalised blocks with rotary positions, gated feed-forward and tied embeddings.

Parameter names and arithmetic are those of Llama in transformers (Qwen3 with ``qk_norm``), so that a checkpoint
loads there without conversion and gives the same logits, bit for bit.

Letters of shapes: B sequences, T new tokens, S tokens attended to, D width, H query heads, K key heads,
C channels of a head, V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor, nn

from training.models.recipe import RMS_NORM_EPS, GPTRecipe


@dataclass
class KVCache:
    """Keys and values of the tokens read so far, per block.

    Args:
        starts_B: for prompts of unequal length padded on the left: where each one begins.
    """

    starts_B: Tensor | None = None
    length: int = 0
    keys: list[Tensor] = field(default_factory=list)  # [B, K, S, C] each
    values: list[Tensor] = field(default_factory=list)

    def extend(self, layer: int, keys_BKTC: Tensor, values_BKTC: Tensor) -> tuple[Tensor, Tensor]:
        """Append new tokens of one block; everything of that block comes back."""
        if layer == len(self.keys):
            self.keys.append(keys_BKTC)
            self.values.append(values_BKTC)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], keys_BKTC], dim=2)
            self.values[layer] = torch.cat([self.values[layer], values_BKTC], dim=2)
        return self.keys[layer], self.values[layer]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight, in float32 (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + RMS_NORM_EPS)
        out = self.weight * wide.to(x.dtype)
        device = x.device.type  # autocast would narrow it again for each of the projections that read it
        return out.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else out


def rotary_frequencies(head_width: int, theta: float) -> Tensor:
    """Radians a position for each pair of channels, [C/2] (Su et al. 2021, arXiv:2104.09864, section 3.2.2)."""
    return 1.0 / (theta ** (torch.arange(0, head_width, 2, dtype=torch.int64).float() / head_width))


def rotated(x_BHTC: Tensor, cos_BTC: Tensor, sin_BTC: Tensor) -> Tensor:
    """Turn each pair (channel i, channel i + C/2) by its angle; the pairing is that of transformers."""
    first, second = x_BHTC.chunk(2, dim=-1)
    cos_BHTC, sin_BHTC = cos_BTC[:, None], sin_BTC[:, None]
    return torch.cat((first * cos_BHTC - second * sin_BHTC, second * cos_BHTC + first * sin_BHTC), dim=-1)


class Attention(nn.Module):
    """Causal self-attention; several query heads share one key head (Ainslie et al. 2023, arXiv:2305.13245)."""

    def __init__(self, recipe: GPTRecipe, layer: int) -> None:
        super().__init__()
        self.layer, self.head_width = layer, recipe.head_width
        self.shared = recipe.heads != recipe.kv_heads
        self.q_proj = nn.Linear(recipe.width, recipe.heads * recipe.head_width, bias=False)
        self.k_proj = nn.Linear(recipe.width, recipe.kv_heads * recipe.head_width, bias=False)
        self.v_proj = nn.Linear(recipe.width, recipe.kv_heads * recipe.head_width, bias=False)
        self.o_proj = nn.Linear(recipe.heads * recipe.head_width, recipe.width, bias=False)
        self.q_norm = RMSNorm(recipe.head_width) if recipe.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(recipe.head_width) if recipe.qk_norm else nn.Identity()

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor], cache: KVCache | None, mask: Tensor | None
    ) -> Tensor:
        split = (*x_BTD.shape[:2], -1, self.head_width)
        q_BHTC = self.q_norm(self.q_proj(x_BTD).view(split)).transpose(1, 2)
        k_BKTC = self.k_norm(self.k_proj(x_BTD).view(split)).transpose(1, 2)
        v_BKTC = self.v_proj(x_BTD).view(split).transpose(1, 2)
        q_BHTC, k_BKTC, v_BKTC = rotated(q_BHTC, *angles), rotated(k_BKTC, *angles), v_BKTC.to(angles[0].dtype)
        if cache is not None:
            k_BKTC, v_BKTC = cache.extend(self.layer, k_BKTC, v_BKTC)
        with torch.autocast(x_BTD.device.type, enabled=False):  # the angles have chosen the type
            out_BHTC = F.scaled_dot_product_attention(
                q_BHTC, k_BKTC, v_BKTC, attn_mask=mask, is_causal=mask is None, enable_gqa=self.shared
            )
        return self.o_proj(out_BHTC.transpose(1, 2).reshape(*x_BTD.shape[:2], -1))


class MLP(nn.Module):
    """down(silu(gate(x)) · up(x)), SwiGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(recipe.width, recipe.mlp_width, bias=False)
        self.up_proj = nn.Linear(recipe.width, recipe.mlp_width, bias=False)
        self.down_proj = nn.Linear(recipe.mlp_width, recipe.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x_BTD)) * self.up_proj(x_BTD))


class Block(nn.Module):
    def __init__(self, recipe: GPTRecipe, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(recipe, layer)
        self.mlp = MLP(recipe)
        self.input_layernorm = RMSNorm(recipe.width)
        self.post_attention_layernorm = RMSNorm(recipe.width)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(
        self, x_BTD: Tensor, angles: tuple[Tensor, Tensor], cache: KVCache | None, mask: Tensor | None
    ) -> Tensor:
        x_BTD = x_BTD + self.dropout(self.self_attn(self.input_layernorm(x_BTD), angles, cache, mask))
        return x_BTD + self.dropout(self.mlp(self.post_attention_layernorm(x_BTD)))


class Decoder(nn.Module):
    """Tokens to the normalised residual stream."""

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(recipe.padded_vocab_size, recipe.width)
        self.layers = nn.ModuleList(Block(recipe, layer) for layer in range(recipe.layers))
        self.norm = RMSNorm(recipe.width)
        self.register_buffer("frequencies", rotary_frequencies(recipe.head_width, recipe.rope_theta), persistent=False)

    def forward(self, tokens_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        x_BTD = self.embed_tokens(tokens_BT)
        angles = self._angles(tokens_BT, cache)
        mask = _mask(tokens_BT, cache)
        for block in self.layers:
            x_BTD = block(x_BTD, angles, cache, mask)
        if cache is not None:
            cache.length += tokens_BT.shape[1]
        return self.norm(x_BTD)

    def _angles(self, tokens_BT: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        before = cache.length if cache else 0
        positions_BT = torch.arange(before, before + tokens_BT.shape[1], device=tokens_BT.device)[None]
        if cache is not None and cache.starts_B is not None:
            positions_BT = positions_BT - cache.starts_B[:, None]
        with torch.autocast(tokens_BT.device.type, enabled=False):  # bf16 cannot tell position 257 from 256
            angles_BTC = positions_BT[..., None].float() * self.get_buffer("frequencies")
            cos_BTC, sin_BTC = angles_BTC.cos(), angles_BTC.sin()
        dtype = _attention_dtype(tokens_BT.device)
        return cos_BTC.to(dtype), sin_BTC.to(dtype)


def _attention_dtype(device: torch.device) -> torch.dtype:
    """bf16 where a GPU multiplies in it. On a CPU always fp32: the backward kernel of attention takes twice as long in
    bf16 (31 against 17 ms for 16 x 4 heads x 256 x 32 on one core), and this is the more exact of the two.
    """
    narrow = device.type != "cpu" and torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if narrow else torch.float32


def _mask(tokens_BT: Tensor, cache: KVCache | None) -> Tensor | None:
    """Who may look at whom, [B or 1, 1, T, S]; None is plain causal, which has the fastest kernel."""
    if cache is None or (cache.length == 0 and cache.starts_B is None):
        return None
    num_new, device = tokens_BT.shape[1], tokens_BT.device
    keys_S = torch.arange(cache.length + num_new, device=device)
    mask_BTS = (keys_S[None] <= keys_S[cache.length :, None])[None]
    if cache.starts_B is not None:
        own = torch.eye(num_new, len(keys_S), dtype=torch.bool, device=device).roll(cache.length, 1)
        mask_BTS = mask_BTS & (keys_S[None, None] >= cache.starts_B[:, None, None]) | own  # padding sees itself: no NaN
    return mask_BTS[:, None]


class GPT(nn.Module):
    """The decoder with its embedding as the output head."""

    def __init__(self, recipe: GPTRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = Decoder(recipe)

    def forward(self, tokens_BT: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits for the token after each one, [B, T, V]; rows of V beyond the vocabulary are padding."""
        return self.head(self.model(tokens_BT, cache))

    def head(self, x_BTD: Tensor) -> Tensor:
        return F.linear(x_BTD, self.model.embed_tokens.weight)

    def loss(self, tokens_BT: Tensor, weights_BT: Tensor | None = None) -> Tensor:
        """Summed negative log-likelihood in nats of tokens 1… given those before.

        Args:
            tokens_BT: [B, T + 1], inputs and targets in one.
            weights_BT: [B, T], how much each target counts; 0 leaves it out, None counts all.
        """
        return (self.losses(tokens_BT) * (1.0 if weights_BT is None else weights_BT)).sum()

    def losses(self, tokens_BT: Tensor) -> Tensor:
        """Negative log-likelihood of each target, float32 [B, T], for tokens [B, T + 1]."""
        logits_BTV = self(tokens_BT[:, :-1])
        targets_BT = tokens_BT[:, 1:]
        flat = F.cross_entropy(logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), reduction="none")
        return flat.view(targets_BT.shape)


def initialise(model: nn.Module, layers: int, seed: int) -> None:
    """Normal weights of deviation 0.02, the two projections that write to the residual stream smaller by sqrt(2 L).

    GPT-2's scheme (Radford et al. 2019, section 2.3). One generator, parameters in the order of their names, on the
    CPU: the start is the same wherever the model is moved afterwards.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in sorted(model.named_parameters()):
        if weight.ndim < 2:
            continue
        writes = name.endswith(("o_proj.weight", "down_proj.weight"))
        with torch.no_grad():
            weight.normal_(0.0, 0.02 / math.sqrt(2 * layers) if writes else 0.02, generator=generator)
