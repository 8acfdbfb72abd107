"""Networks whose answers are known by hand: one that knows nothing, and one that says every token again."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from training.models.gpt import GPT
from training.models.recipe import GPTRecipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer

V = 64  # tokens, and channels: one channel for each token
AGAIN = 8.0  # logit of the same token: a one-hot row normalised to a mean square of 1 has sqrt(64) at its place
LOG_AGAIN = AGAIN - math.log(math.exp(AGAIN) + V - 1)  # log-likelihood of saying the same token again
LOG_OTHER = -math.log(math.exp(AGAIN) + V - 1)  # of any one of the others

NAMES = ["<|endoftext|>", "<|pad|>", *(f"w{number}" for number in range(2, V))]


def silent(context: int = 16, width: int = V) -> GPT:
    """All weights of the blocks are 0: every token goes through unchanged. The embedding is 0 too: all logits are 0."""
    recipe = GPTRecipe(
        vocab_size=V, sequence_length=context, layers=2, width=width, heads=2, kv_heads=1, mlp_width=8
    )  # fmt: skip
    network = GPT(recipe).eval()
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim == 2:
                weight.zero_()
    return network


def echo(context: int = 16) -> GPT:
    """Gives the token that it has just read the logit 8 and every other one 0, wherever it stands."""
    network = silent(context)
    with torch.no_grad():
        network.model.embed_tokens.weight.copy_(torch.eye(V))
    return network


def names() -> Tokenizer:
    """A tokenizer of 64 words, ``w2`` to ``w63``: token 7 is "w7", so that a test can write down ids as text."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({name: index for index, name in enumerate(NAMES)}, unk_token=NAMES[1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in NAMES[:2]])
    return tokenizer
