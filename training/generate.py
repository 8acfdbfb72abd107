"""Generation: text from a checkpoint, token by token, the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.order import order_key
from training.models.blocks import KVCache
from training.models.config import from_hf_config
from training.models.gpt import GPT
from training.models.names import ours
from training.weights import load_weights

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LOST = "\ufffd"  # what the decoder shows for half a character


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn; temperature 0 takes the likeliest.

    Args:
        temperature: logits are divided by it.
        top_k: draw among that many likeliest; 0 among all.
        top_p: draw among the fewest likeliest that have this probability together (Holtzman et al. 2020).
        seed: of the draws.
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                f"temperature {self.temperature}, top_k {self.top_k}, top_p {self.top_p}: expected temperature >= 0, "
                "top_k >= 0 and 0 < top_p <= 1."
            )

    def probabilities(self, logits_V: Tensor) -> Tensor:
        """Of each token; they sum to 1."""
        if self.temperature == 0:
            return torch.zeros_like(logits_V).index_fill_(0, logits_V.argmax(), 1.0)
        logits_V = logits_V / self.temperature
        if 0 < self.top_k < len(logits_V):
            least = logits_V.topk(self.top_k).values[-1]
            logits_V = logits_V.masked_fill(logits_V < least, -torch.inf)
        ordered, places = logits_V.softmax(-1).sort(descending=True, stable=True)
        ordered[ordered.cumsum(-1) - ordered >= self.top_p] = 0.0  # the likeliest always stays
        kept = torch.zeros_like(ordered).scatter_(0, places, ordered)
        return kept / kept.sum()


class Generator:
    """A language model with its tokenizer, ready to write."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, eos_id: int, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.eos_id = eos_id
        self.context = model.recipe.sequence_length
        # one more than the largest id, which may be more than there are tokens; the embedding may have rows beyond it
        self.num_tokens = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    @classmethod
    def load(cls, source: Artifact | Path, device: str = "cpu") -> Generator:
        """From a sealed model, or a directory with model.safetensors, config.json and tokenizer.json.

        Raises:
            ValueError: if it is no language model of ours.
        """
        from tokenizers import Tokenizer

        def path(name: str) -> Path:
            return source.local(name) if isinstance(source, Artifact) else source / name

        config = json.loads(path("config.json").read_bytes())
        recipe = from_hf_config(config)
        if recipe.objective == "masked":
            raise ValueError(f"{path('config.json')} is an encoder's: it fills in hidden tokens and writes no text.")
        model = GPT(recipe)
        weights = load_weights(path("model.safetensors"))
        if "score.weight" in weights:
            raise ValueError(f"{path('model.safetensors')} is a classifier, it cannot write text.")
        model.load_state_dict(ours(recipe, weights))
        return cls(model, Tokenizer.from_file(str(path("tokenizer.json"))), config["eos_token_id"], device)

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def generate(self, prompt: str, max_tokens: int = 200, **sampling: Any) -> str:
        """The continuation alone; keywords are those of :class:`Sampling`."""
        return "".join(self.stream(prompt, max_tokens, **sampling))

    def stream(self, prompt: str, max_tokens: int = 200, **sampling: Any) -> Iterator[str]:
        """Pieces of the continuation as they come; never half a character."""
        written: list[int] = []
        told = ""
        for token in self.tokens(self.encode(prompt), max_tokens, Sampling(**sampling)):
            written.append(token)
            text = self.tokenizer.decode(written)
            if not text.endswith(LOST):
                yield text[len(told) :]
                told = text
        if written and (text := self.tokenizer.decode(written)) != told:
            yield text[len(told) :]

    @torch.no_grad()
    def tokens(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling) -> Iterator[int]:
        """Ids of the continuation, up to the end of text, which is not among them.

        An empty prompt begins a document. Where prompt and continuation outgrow the context, the older half of it is
        forgotten: the model has never seen positions beyond.
        """
        seen = [self.eos_id, *prompt][-self.context :]
        cache, fresh = KVCache(), seen
        generator = torch.Generator().manual_seed(order_key("sampling", sampling.seed) >> 1)
        for _ in range(max_tokens):
            if cache.length + len(fresh) > self.context:
                seen = seen[-(self.context // 2) :]
                cache, fresh = KVCache(), seen
            logits_V = last_logits(self.model, torch.tensor([fresh], device=self.device), cache, self.num_tokens)[0]
            token = int(torch.multinomial(sampling.probabilities(logits_V.cpu()), 1, generator=generator))
            if token == self.eos_id:
                return
            yield token
            seen, fresh = [*seen, token], [token]

    def greedy(self, prompts: Sequence[Sequence[int]], max_tokens: int, batch_size: int = 32) -> list[list[int]]:
        """See :func:`greedy`."""
        return greedy(self.model, prompts, max_tokens, self.eos_id, self.num_tokens, batch_size)


@torch.no_grad()
def greedy(
    model: GPT, prompts: Sequence[Sequence[int]], max_tokens: int, eos_id: int, num_tokens: int, batch_size: int = 32
) -> list[list[int]]:
    """The likeliest continuations of many prompts, in batches of similar length, each up to its end of text.

    A prompt is cut on the left to leave room for the continuation; nothing is put before it.

    Raises:
        ValueError: if there is no room for any prompt.
    """
    room = model.recipe.sequence_length - max_tokens
    if room < 1:
        raise ValueError(
            f"max_tokens is {max_tokens}, the context {model.recipe.sequence_length}: no room for a prompt."
        )
    cut = [list(prompt)[-room:] or [eos_id] for prompt in prompts]
    order = sorted(range(len(cut)), key=lambda i: (len(cut[i]), i))
    found: list[list[int]] = [[] for _ in cut]
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = _greedy_batch(model, [cut[i] for i in chosen], max_tokens, eos_id, num_tokens)
        for index, tokens in zip(chosen, rows, strict=True):
            found[index] = tokens
    return found


def _greedy_batch(
    model: GPT, prompts: list[list[int]], max_tokens: int, eos_id: int, num_tokens: int
) -> list[list[int]]:
    device = model.model.embed_tokens.weight.device
    width = max(map(len, prompts))
    cache = KVCache(torch.tensor([width - len(prompt) for prompt in prompts], device=device))
    fresh_BT = torch.tensor([[eos_id] * (width - len(p)) + p for p in prompts], device=device)
    written: list[Tensor] = []
    ended_B = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    for _ in range(max_tokens):
        token_B = last_logits(model, fresh_BT, cache, num_tokens).argmax(-1)
        written.append(token_B)
        ended_B |= token_B == eos_id
        if bool(ended_B.all()):
            break
        fresh_BT = token_B[:, None]
    return [_before(row, eos_id) for row in torch.stack(written, 1).tolist()]


def last_logits(model: GPT, tokens_BT: Tensor, cache: KVCache, num_tokens: int) -> Tensor:
    """[B, V] for the token after the last one; V ends with the vocabulary, padding rows are never drawn."""
    x_BTD = model.model(tokens_BT, cache)
    return model.head(x_BTD[:, -1]).float()[:, :num_tokens]


def _before(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
