"""Decoding: continuations that a model writes together, a token each at every step; they come and go between steps.

What one draws depends on its own seed and place alone, so that it becomes the same text whoever stands beside it.

Letters of shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from training.continuation import Continuation, Ranks
from training.models.cache import KVCache, starts
from training.models.gpt import GPT
from training.sampling import Sampling


class Decoder:
    """A model and the continuations that it is writing.

    Args:
        model: on its device.
        start_id: the token that stands before every prompt, as it began every document.
        num_tokens: of the vocabulary; rows of the embedding beyond are never drawn.
    """

    def __init__(self, model: GPT, start_id: int, num_tokens: int) -> None:
        self.model, self.start_id, self.num_tokens = model, start_id, num_tokens
        self.context = model.recipe.sequence_length
        self.device = model.model.embed_tokens.weight.device
        self.rows: list[Continuation] = []
        self._cache = KVCache()
        self._logits_BV = torch.empty(0)  # for the next token of each row

    def join(self, rows: Iterable[Continuation]) -> None:
        """More rows; of a prompt that is longer than the context its end is read."""
        rows = list(rows)
        for row in rows:
            if row.scores_prompt and row.logprobs is not None:
                row.prompt_ranks = self._scored(row, row.logprobs)
        self._read_anew([(row, self.context) for row in rows if not row.ended])

    @torch.inference_mode()
    def step(self) -> list[Continuation]:
        """Every row gets a token, and those that end leave; all that got one come back."""
        self._leave()
        stepped = list(self.rows)
        tokens = self._drawn()
        for row, token in zip(stepped, tokens, strict=True):
            row.take(token)
        self._leave()
        if self.rows:
            self._read(dict(zip(stepped, tokens, strict=True)))
        return stepped

    def _leave(self) -> None:
        ended = [row for row in self.rows if row.ended]
        if ended:
            self._keep([index for index, row in enumerate(self.rows) if not row.ended])

    def _keep(self, indexes: list[int]) -> None:
        self.rows = [self.rows[index] for index in indexes]
        if not indexes:
            self._cache, self._logits_BV = KVCache(), torch.empty(0)
            return
        self._logits_BV = self._logits_BV[indexes]
        self._cache.keep(indexes)

    def _read(self, tokens: dict[Continuation, int]) -> None:
        """The model reads what was drawn.

        A row whose context is full forgets its older half: the model has never seen positions beyond.
        """
        full = [row for row, length in zip(self.rows, self._cache.lengths(), strict=True) if length == self.context]
        if full:
            self._keep([index for index, row in enumerate(self.rows) if row not in full])
        if self.rows:
            fresh_BT = torch.tensor([[tokens[row]] for row in self.rows], device=self.device)
            self._logits_BV = last_logits(self.model, fresh_BT, self._cache, self.num_tokens)
        self._read_anew([(row, self.context // 2) for row in full])

    @torch.inference_mode()
    def _read_anew(self, rows: list[tuple[Continuation, int]]) -> None:
        """Rows join with so many of their last tokens."""
        if not rows:
            return
        texts = [row.begun_by(self.start_id)[-most:] for row, most in rows]
        lengths = [len(text) for text in texts]
        cache = KVCache(starts(lengths, self.device))
        padded = [[self.start_id] * (max(lengths) - len(text)) + text for text in texts]
        logits_BV = last_logits(self.model, torch.tensor(padded, device=self.device), cache, self.num_tokens)
        if self.rows:
            self._cache.join(cache)
            self._logits_BV = torch.cat([self._logits_BV, logits_BV])
        else:
            self._cache, self._logits_BV = cache, logits_BV
        self.rows += [row for row, _ in rows]

    def _drawn(self) -> list[int]:
        """One token of each row; rows that draw by the same rule do so at once."""
        alike: dict[Sampling, list[int]] = defaultdict(list)
        for index, row in enumerate(self.rows):
            alike[row.sampling].append(index)
        found = [0] * len(self.rows)
        for sampling, indexes in alike.items():
            rows = [self.rows[index] for index in indexes]
            logits_BV = self._logits_BV if len(alike) == 1 else self._logits_BV[indexes]
            seen_BV = self._seen(rows) if sampling.repetition_penalty != 1 else None
            tokens_B = sampling.draw(logits_BV, [row.number for row in rows], seen_BV)
            for index, token in zip(indexes, tokens_B.tolist(), strict=True):
                found[index] = token
        self._rank(found)
        return found

    def _seen(self, rows: list[Continuation]) -> Tensor:
        seen_BV = torch.zeros(len(rows), self.num_tokens, dtype=torch.bool)
        for index, row in enumerate(rows):
            seen_BV[index, row.seen] = True
        return seen_BV.to(self.device)

    @torch.inference_mode()
    def _scored(self, row: Continuation, count: int) -> list[Ranks | None]:
        """Of each token of a prompt that the context has room for, given those before it."""
        tokens = row.begun_by(self.start_id)[: self.context + 1]
        found: list[Ranks | None] = [None] if len(tokens) == len(row.prompt) else []
        if len(tokens) < 2:
            return found
        x_TD = self.model.model(torch.tensor([tokens[:-1]], device=self.device))[0]
        for start in range(0, len(x_TD), 64):  # a text of logits at once would be large
            logits_TV = self.model.head(x_TD[start : start + 64]).float()[:, : self.num_tokens]
            found += [ranks(row_V, tokens[start + place + 1], count) for place, row_V in enumerate(logits_TV)]
        return found

    def _rank(self, tokens: list[int]) -> None:
        for index, (row, token) in enumerate(zip(self.rows, tokens, strict=True)):
            if row.logprobs is not None and token != row.eos_id:
                row.ranks.append(ranks(self._logits_BV[index], token, row.logprobs))


def ranks(logits_V: Tensor, token: int, count: int) -> Ranks:
    logprobs_V = logits_V.log_softmax(-1)
    values, places = logprobs_V.topk(min(count, len(logprobs_V)))
    return Ranks(float(logprobs_V[token]), dict(zip(places.tolist(), values.tolist(), strict=True)))


def written(decoder: Decoder, rows: Iterable[Continuation], batch_size: int) -> Iterator[Continuation]:
    """Each continuation as soon as it has ended; ``batch_size`` of them are written at a time."""
    waiting = deque(rows)
    while waiting or decoder.rows:
        fresh = [waiting.popleft() for _ in range(min(len(waiting), batch_size - len(decoder.rows)))]
        yield from (row for row in fresh if row.ended)
        decoder.join(fresh)
        yield from (row for row in decoder.step() if row.ended)


def last_logits(model: GPT, tokens_BT: Tensor, cache: KVCache, num_tokens: int) -> Tensor:
    """[B, V] for the token after the last one; V ends with the vocabulary, padding rows are never drawn."""
    x_BTD = model.model(tokens_BT, cache)
    return model.head(x_BTD[:, -1]).float()[:, :num_tokens]
