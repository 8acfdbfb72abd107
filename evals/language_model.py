"""Our checkpoint as lm-eval sees a language model: likelihoods, rolling likelihoods, greedy text.

The rule by which text becomes tokens is that of lm-eval's ``hf`` model, so that scores mean the same: trailing spaces
of the context move to the continuation, both are encoded together and split at the length of the encoded context,
an empty context is the end-of-text token, and what is too long loses its beginning. Logits are computed only where
a token is scored: for small models the full [B, T, V] logits are most of the work.

Letters of shapes: B rows, T tokens, N scored positions, D width, V vocabulary. Imports torch and lm_eval.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from pipelines.provenance.artifact import Artifact
from training.generate import Generator

TOKENIZE_AT_ONCE = 64  # tokenizers is 8 times slower on one long list
LOGITS_AT_ONCE = 2**25  # float32 numbers, 128 MB


@dataclass(frozen=True)
class Window:
    """Tokens that are read, and the ones after them whose likelihood is asked for."""

    context: tuple[int, ...]
    targets: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        return (*self.context, *self.targets[:-1])


class StemmaLM(LM):
    """A GPT with its tokenizer.

    Args:
        generator: the model with its tokenizer, on its device.
        info: identity of the checkpoint, for lm-eval's results.
        batch_tokens: tokens of one forward pass, padding included; part of the recipe, for it moves last bits.
        max_new_tokens: longest generated text, where the task does not say.
    """

    def __init__(
        self, generator: Generator, info: dict[str, Any], *, batch_tokens: int = 8192, max_new_tokens: int = 64
    ) -> None:
        super().__init__()
        self.generator, self.info = generator, info
        self.model, self.tokenizer, self.eos_id = generator.model, generator.tokenizer, generator.eos_id
        self.batch_tokens, self.max_new_tokens = batch_tokens, max_new_tokens
        self.max_length = generator.context
        self._device = generator.device

    @classmethod
    def of(cls, checkpoint: Artifact, *, batch_tokens: int, max_new_tokens: int, device: str = "cpu") -> StemmaLM:
        """The model of a checkpoint."""
        info = {"checkpoint": str(checkpoint.key), "checkpoint_digest": checkpoint.digest}
        generator = Generator.load(checkpoint, device)
        return cls(generator, info, batch_tokens=batch_tokens, max_new_tokens=max_new_tokens)

    def get_model_info(self) -> dict[str, Any]:
        """Goes into lm-eval's results; without it only the name of this class would be recorded."""
        return dict(self.info)

    # -- what lm-eval asks ---------------------------------------------------------------------------------------

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        pairs = [(str(context), str(after)) for context, after in self._arguments(requests)]
        windows = [self._windows(*pair) for pair in self._encoded_pairs(pairs)]
        return self._summed(windows)

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        windows = [
            self._rolling([self.eos_id], tokens)
            for tokens in self._encoded([str(text) for (text,) in self._arguments(requests)])
        ]
        return [loglik for loglik, _ in self._summed(windows)]

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy text up to the first stop string, end-of-text, or the limit of new tokens."""
        asked = self._arguments(requests)
        prompts = self._encoded([str(context) for context, _ in asked])
        stops = [_stops(dict(wishes)) for _, wishes in asked]
        limits = [min(int(w.get("max_gen_toks") or self.max_new_tokens), self.max_length - 1) for _, w in asked]
        texts = [""] * len(asked)
        for limit in sorted(set(limits)):
            chosen = [i for i, wanted in enumerate(limits) if wanted == limit]
            rows = max(1, self.batch_tokens // self.max_length)
            written = self.generator.greedy([prompts[i] for i in chosen], limit, rows)
            for index, tokens in zip(chosen, written, strict=True):
                texts[index] = self._stopped(tokens, stops[index])
        return texts

    @staticmethod
    def _arguments(requests: list[Instance]) -> list[tuple[Any, ...]]:
        return [tuple(request.args) for request in requests]

    # -- text to tokens ------------------------------------------------------------------------------------------

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text; every distinct text is encoded once."""
        distinct = list(dict.fromkeys(texts))
        ids: dict[str, list[int]] = {}
        for start in range(0, len(distinct), TOKENIZE_AT_ONCE):
            piece = distinct[start : start + TOKENIZE_AT_ONCE]
            encodings = self.tokenizer.encode_batch(piece, add_special_tokens=False)
            ids.update((text, encoding.ids) for text, encoding in zip(piece, encodings, strict=True))
        return [ids[text] for text in texts]

    def _encoded_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        moved = [(c.rstrip(), c[len(c.rstrip()) :] + after) for c, after in pairs]
        contexts = self._encoded([context for context, _ in moved])
        wholes = self._encoded([context + after for context, after in moved])
        found = []
        for context, whole in zip(contexts, wholes, strict=True):
            after = whole[len(context) :] or whole[-1:]  # a merge over the border leaves one token to score
            found.append((context or [self.eos_id], after))
        return found

    def _windows(self, context: list[int], continuation: list[int]) -> list[Window]:
        """One window, or several where the continuation alone is longer than the model reads; none for no token."""
        if not continuation:
            return []
        if len(continuation) > self.max_length:
            return self._rolling(context, continuation)
        room = self.max_length + 1 - len(continuation)
        return [Window(tuple(context[-room:]), tuple(continuation))]

    def _rolling(self, context: list[int], tokens: list[int]) -> list[Window]:
        """Every token once, each window with one token of context, as lm-eval cuts them."""
        pieces = get_rolling_token_windows(tokens, context[-1], self.max_length, 1)
        return [Window(tuple(c), tuple(t)) for c, t in map(make_disjoint_window, pieces)]

    # -- tokens to likelihoods -----------------------------------------------------------------------------------

    def _summed(self, windows: Sequence[Sequence[Window]]) -> list[tuple[float, bool]]:
        """Log-likelihood of each request, and whether greedy decoding would have said exactly that."""
        distinct = sorted({w for each in windows for w in each}, key=lambda w: (-len(w.inputs), w.inputs, w.targets))
        scored = {}
        for batch in self._batches(distinct):
            scored.update(zip(batch, self._scored(batch), strict=True))
        return [(math.fsum(scored[w][0] for w in each), all(scored[w][1] for w in each)) for each in windows]

    def _batches(self, windows: list[Window]) -> Iterator[list[Window]]:
        """Windows from long to short, ``batch_tokens`` at a time."""
        start = 0
        while start < len(windows):
            rows = max(1, self.batch_tokens // len(windows[start].inputs))
            yield windows[start : start + rows]
            start += rows

    @torch.inference_mode()
    def _scored(self, batch: list[Window]) -> list[tuple[float, bool]]:
        longest = len(batch[0].inputs)
        tokens_BT = torch.tensor(
            [[*w.inputs, *[self.eos_id] * (longest - len(w.inputs))] for w in batch], device=self._device
        )
        x_BTD = self.model.model(tokens_BT)  # padding stands on the right, where causal attention never looks
        wanted_BT = torch.zeros(tokens_BT.shape, dtype=torch.bool, device=self._device)
        for row, window in enumerate(batch):
            wanted_BT[row, len(window.context) - 1 : len(window.inputs)] = True
        targets_N = torch.tensor([t for w in batch for t in w.targets], device=self._device)
        logliks, greedy = self._target_logliks(x_BTD[wanted_BT], targets_N)
        found, at = [], 0
        for window in batch:
            end = at + len(window.targets)
            found.append((math.fsum(logliks[at:end]), all(greedy[at:end])))
            at = end
        return found

    def _target_logliks(self, x_ND: torch.Tensor, targets_N: torch.Tensor) -> tuple[list[float], list[bool]]:
        logliks: list[float] = []
        greedy: list[bool] = []
        rows = max(1, LOGITS_AT_ONCE // self.model.recipe.padded_vocab_size)
        for start in range(0, len(targets_N), rows):
            logits_NV = self.model.head(x_ND[start : start + rows]).float()
            piece_N = targets_N[start : start + rows]
            target_N = logits_NV.gather(1, piece_N[:, None])[:, 0]
            logliks += (target_N - logits_NV.logsumexp(1)).tolist()
            greedy += (logits_NV.argmax(1) == piece_N).tolist()
        return logliks, greedy

    # -- tokens to text ------------------------------------------------------------------------------------------

    def _stopped(self, tokens: list[int], stops: list[str]) -> str:
        text = self.tokenizer.decode(tokens)
        ends = [text.index(stop) for stop in stops if stop and stop in text]
        return text[: min(ends)] if ends else text


def _stops(wishes: dict[str, Any]) -> list[str]:
    """The strings that end a text.

    Raises:
        ValueError: if the task wants the text to be drawn at random.
    """
    if wishes.get("do_sample") and wishes.get("temperature", 1.0):
        raise ValueError("the task asks for sampled text (do_sample: true); only greedy text can be repeated.")
    until = wishes.get("until") or []
    return [until] if isinstance(until, str) else list(until)
