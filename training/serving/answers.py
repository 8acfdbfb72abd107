"""Answers: continuations in the shapes that clients of OpenAI read, whole or piece by piece."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from training.continuation import Continuation, Ranks
from training.serving.engine import Piece


@dataclass
class Answer:
    """To one request for completions.

    Args:
        model: its name.
        fingerprint: of the weights, so that an answer says by which artifact it was written.
        decode: ids to text.
        echo: texts begin with their prompts.
    """

    model: str
    fingerprint: str
    decode: Callable[[list[int]], str]
    echo: bool = False
    id: str = field(default_factory=lambda: f"cmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    whole_object = chunk_object = "text_completion"

    def envelope(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "id": self.id, "object": kind, "created": self.created, "model": self.model,
            "system_fingerprint": self.fingerprint, "choices": choices, **more,
        }  # fmt: skip

    def whole(self, rows: Sequence[Continuation], usage: dict[str, int]) -> dict[str, Any]:
        choices = [self.choice(index, row) for index, row in enumerate(rows)]
        return self.envelope(self.whole_object, choices, usage=usage)

    def choice(self, index: int, row: Continuation) -> dict[str, Any]:
        before = list(row.prompt) if self.echo else []
        logprobs = None
        if row.logprobs is not None:
            logprobs = self.logprobs([*before, *row.tokens], [*row.prompt_ranks, *row.ranks])
        text = self.decode(before) + row.text
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": row.finish_reason}

    def first(self, index: int, row: Continuation) -> dict[str, Any] | None:
        """The chunk before anything is written, if there is one."""
        if not self.echo:
            return None
        return self._chunk({"index": index, "text": self.decode(list(row.prompt)), "logprobs": None})

    def chunk(self, index: int, piece: Piece) -> dict[str, Any]:
        logprobs = None if piece.row.logprobs is None else self.logprobs(piece.tokens, piece.ranks)
        return self._chunk({"index": index, "text": piece.text, "logprobs": logprobs}, piece.finish_reason)

    def _chunk(self, choice: dict[str, Any], finish_reason: str = "") -> dict[str, Any]:
        return self.envelope(self.chunk_object, [choice | {"finish_reason": finish_reason or None}])

    def logprobs(self, tokens: Sequence[int], ranks: Sequence[Ranks | None]) -> dict[str, Any]:
        """By token; a token that is half a character has the mark of what is lost for its text."""
        texts = [self.decode([token]) for token in tokens]
        offsets = list(itertools.accumulate(map(len, texts), initial=0))[:-1]
        return {
            "tokens": texts,
            "token_logprobs": [rank and rank.logprob for rank in ranks],
            "top_logprobs": [rank and {self.decode([t]): v for t, v in rank.likeliest.items()} for rank in ranks],
            "text_offset": offsets,
        }


@dataclass
class ChatAnswer(Answer):
    """To one request for a chat."""

    id: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    whole_object, chunk_object = "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, row: Continuation) -> dict[str, Any]:
        message = {"role": "assistant", "content": row.text}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": row.finish_reason}

    def first(self, index: int, row: Continuation) -> dict[str, Any]:
        del row
        return self._chunk({"index": index, "delta": {"role": "assistant", "content": ""}})

    def chunk(self, index: int, piece: Piece) -> dict[str, Any]:
        return self._chunk(
            {"index": index, "delta": {"content": piece.text} if piece.text else {}}, piece.finish_reason
        )
