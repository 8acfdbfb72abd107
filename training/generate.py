"""Generation: text from a checkpoint, token by token, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pipelines.provenance.artifact import Artifact
from training.continuation import Continuation
from training.decoding import Decoder, last_logits, written
from training.importing import model_files, table
from training.models.cache import KVCache
from training.models.config import from_hf_config
from training.models.gpt import GPT
from training.networks import network_of
from training.sampling import Sampling
from training.weights import not_finite

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_of(path: Path) -> Tokenizer:
    """What splits texts into tokens and back.

    Raises:
        ValueError: if the file describes none.
    """
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the library raises no class of its own
        raise ValueError(f"{path}: no tokenizer.json that tokenizers reads ({error}).") from None


class Generator:
    """A language model with its tokenizer, ready to write."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, eos_id: int, device: str | torch.device = "cpu",
                 start_id: int | None = None) -> None:  # fmt: skip
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.eos_id = eos_id
        self.start_id = eos_id if start_id is None else start_id  # before every prompt; ours begin as they end
        self.context = model.recipe.sequence_length
        # one more than the largest id, which may be more than there are tokens; the embedding may have rows beyond it
        self.num_tokens = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    @classmethod
    def load(cls, source: Artifact | Path, device: str = "cpu") -> Generator:
        """From a sealed model, or a directory with model.safetensors, config.json and tokenizer.json.

        Raises:
            ValueError: if it is no language model of ours, or files of the directory are missing or damaged.
        """

        def path(name: str) -> Path:
            return source.local(name) if isinstance(source, Artifact) else source / name

        if isinstance(source, Path):
            model_files(source)
        config = table(path("config.json"))
        recipe = from_hf_config(config)
        if recipe.objective == "masked":
            raise ValueError(f"{path('config.json')} is an encoder's: it fills in hidden tokens and writes no text.")
        model = network_of(recipe, path("model.safetensors"))
        if broken := not_finite(model.state_dict()):
            raise ValueError(f"{path('model.safetensors')}: {broken} has numbers that are none (NaN or infinite).")
        end = config.get("eos_token_id")
        if end is None or end == []:
            raise ValueError(f"{path('config.json')}: has no eos_token_id, the token that ends a text; add it.")
        end = end[0] if isinstance(end, list) else end  # as models from elsewhere may have it
        return cls(model, tokenizer_of(path("tokenizer.json")), end, device, config.get("bos_token_id"))

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decoder(self) -> Decoder:
        return Decoder(self.model, self.start_id, self.num_tokens)

    def continuation(self, prompt: str | Sequence[int], max_tokens: int = 200, *, stop: Sequence[str] = (),
                     choice: int = 0, logprobs: int | None = None, scores_prompt: bool = False,
                     **sampling: Any) -> Continuation:  # fmt: skip
        """Of a text, which begins a document, or of token ids as they are; nothing of it is written yet.

        Other keywords are those of :class:`Sampling`.

        Raises:
            ValueError: if a stop string is empty, or the sampling impossible.
        """
        if not all(stop):
            raise ValueError("a stop string is empty: every text would end before it begins.")
        text = isinstance(prompt, str)
        return Continuation(
            self.encode(prompt) if text else prompt, max_tokens, Sampling(**sampling), self.tokenizer.decode, self.eos_id,
            stop, choice, logprobs, as_it_is=not text, scores_prompt=scores_prompt,
        )  # fmt: skip

    def generate(self, prompt: str, max_tokens: int = 200, **wishes: Any) -> str:
        """The continuation alone, up to the end of text or a stop string; see :meth:`continuation` for keywords."""
        return self.write([self.continuation(prompt, max_tokens, **wishes)])[0].text

    def write(self, continuations: Sequence[Continuation], batch_size: int = 16) -> list[Continuation]:
        """Complete them together; each becomes what it becomes alone (to rounding: logits differ by about 1e-6)."""
        for _ in written(self.decoder(), continuations, batch_size):
            pass
        return list(continuations)

    def stream(self, prompt: str, max_tokens: int = 200, **wishes: Any) -> Iterator[str]:
        """:meth:`pieces` of one prompt; see :meth:`continuation` for keywords."""
        return self.pieces(self.continuation(prompt, max_tokens, **wishes))

    def pieces(self, one: Continuation) -> Iterator[str]:
        """A continuation as it comes; never half a character, nor the beginning of a stop string."""
        told = 0
        decoder = self.decoder()
        decoder.join([one])
        while decoder.rows:
            decoder.step()
            if len(one.text) > told:
                yield one.text[told:]
                told = len(one.text)

    def tokens(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling) -> Iterator[int]:
        """Ids of the continuation, up to the end of text, which is not among them.

        An empty prompt begins a document. Where prompt and continuation outgrow the context, the older half of it is
        forgotten: the model has never seen positions beyond.
        """
        one = Continuation(prompt, max_tokens, sampling, lambda tokens: "", self.eos_id)
        decoder = self.decoder()
        decoder.join([one])
        while decoder.rows:
            told = len(one.tokens)
            decoder.step()
            yield from one.tokens[told:]

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


def _before(tokens: list[int], end: int) -> list[int]:
    return tokens[: tokens.index(end)] if end in tokens else tokens
