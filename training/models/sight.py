"""Sight: whom a token sees, where that is less than its whole sequence.

Two rules, which may hold together. ``window``: so many tokens back, itself among them (Beltagy et al. 2020,
arXiv:2004.05150; Mistral, arXiv:2310.06825, section 2). Documents: those of its own document alone, in sequences that
hold several (Grattafiori et al. 2024, arXiv:2407.21783, section 3.2). A boolean mask for torch's own attention is the
reference; in a compiled network on a GPU FlexAttention skips whole blocks that nobody sees.

Letters of shapes: B sequences, T new tokens, S tokens attended to, H query heads, K key heads, C channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (torch's own custom)
from torch import Tensor

Mask = Any  # Tensor [B or 1, 1, T, S], True where a token sees another; a BlockMask; None: all there is to see


def narrowed(mask: Tensor | None, num_before: int, length: int, device: torch.device, *, causal: bool, window: int = 0,
             documents_BT: Tensor | None = None) -> Tensor | None:  # fmt: skip
    """A mask by both rules on top of ``mask``.

    Args:
        mask: of who may be seen at all; None: everyone, or everyone before if ``causal``.
        num_before: tokens that were read before these, which lie in a cache.
        length: T.
        device: of the tokens.
        causal: nobody looks ahead.
        window: tokens back that are seen, 0: all.
        documents_BT: number of the document that each token belongs to; equal neighbours are one document.
    """
    if not window or num_before + length <= window:
        window = 0
        if documents_BT is None:
            return mask
    keys_S = torch.arange(num_before + length, device=device)
    back_TS = keys_S[num_before:, None] - keys_S
    seen = (back_TS >= 0 if causal else torch.ones_like(back_TS, dtype=torch.bool))[None, None]
    if window:
        seen = seen & (back_TS < window)
    if documents_BT is not None:
        seen = seen & (documents_BT[:, None, :, None] == documents_BT[:, None, None, :])
    return seen if mask is None else seen & mask


def block_mask(documents_BT: Tensor | None, length: int, device: torch.device, *, causal: bool, window: int = 0) -> Any:
    """The same for FlexAttention (Dong et al. 2024, arXiv:2412.05496), which never looks at blocks without a pair."""
    from torch.nn.attention.flex_attention import create_block_mask

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        del h
        seen = q >= k if causal else q == q  # noqa: PLR0124 (a tensor: always true)
        if window:
            seen = seen & (q - k < window)
        return seen if documents_BT is None else seen & (documents_BT[b, q] == documents_BT[b, k])

    num_rows = None if documents_BT is None else len(documents_BT)
    return create_block_mask(sees, num_rows, None, length, length, device=str(device))


def is_blockwise(device: torch.device) -> bool:
    """Whether FlexAttention is used: it has no backward pass on a CPU, and uncompiled it computes every pair."""
    return device.type == "cuda" and torch.compiler.is_compiling()


def attention(q_BHTC: Tensor, k_BKSC: Tensor, v_BKSC: Tensor, mask: Mask, *, causal: bool, shared: bool) -> Tensor:
    """softmax(q kᵀ / sqrt(C)) v over those who are seen, [B, H, T, C].

    ``shared``: several query heads have one key head; ``causal`` is who is seen where there is no mask.
    """
    if mask is None or isinstance(mask, Tensor):
        return F.scaled_dot_product_attention(
            q_BHTC, k_BKSC, v_BKSC, attn_mask=mask, is_causal=causal and mask is None, enable_gqa=shared
        )
    from torch.nn.attention.flex_attention import flex_attention

    found = flex_attention(q_BHTC, k_BKSC, v_BKSC, block_mask=mask, enable_gqa=shared)
    assert isinstance(found, Tensor)
    return found


def positions(documents_BT: Tensor) -> Tensor:
    """Place of each token in its own document, [B, T].

    A document in a packed sequence is then read as it is read alone, which learned positions need and rotary ones,
    which are relative, do not mind.
    """
    places_T = torch.arange(documents_BT.shape[1], device=documents_BT.device)
    is_first = torch.ones_like(documents_BT, dtype=torch.bool)
    is_first[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    return places_T - torch.where(is_first, places_T, 0).cummax(1).values
