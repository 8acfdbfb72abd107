"""The protocol: what a request may ask, what an answer looks like, and how an error is told, as OpenAI's clients know it.

Fields beyond OpenAI's (``top_k``, ``min_p``, ``repetition_penalty``) have the names that vLLM gives them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from training.continuation import Continuation
from training.generate import Generator

DEFAULT_TOKENS = 16  # of a completion, as OpenAI has it; a chat may use what is left of the context

StopText = Annotated[str, Field(max_length=1000)]
Stops = StopText | Annotated[list[StopText], Field(max_length=16)] | None
Neutral = Annotated[float, Field(ge=0, le=0)] | None  # a field that exists but changes nothing here


class ApiError(Exception):
    """An answer that says what was wrong with the request."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None,
                 kind: str = "invalid_request_error", headers: dict[str, str] | None = None) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class StreamOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    include_usage: bool = False


class Asked(BaseModel):
    """What completions and chats have in common. A field that nobody knows is an error, as with OpenAI."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=-1)  # -1: all, as vLLM says it
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    n: int | None = Field(default=None, ge=1)
    stop: Stops = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    frequency_penalty: Neutral = None
    presence_penalty: Neutral = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def sampling(self) -> dict[str, Any]:
        """Keywords of :class:`training.sampling.Sampling`; without a seed every answer is another."""
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_k": max(0, self.top_k or 0),
            "top_p": self.top_p or 1.0,
            "min_p": self.min_p or 0.0,
            "repetition_penalty": self.repetition_penalty or 1.0,
            "seed": secrets.randbits(32) if self.seed is None else self.seed,
        }

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionAsked(Asked):
    """The body of ``/v1/completions``."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1)]
        | Annotated[list[int], Field(min_length=1)]
        | Annotated[list[list[int]], Field(min_length=1)]
    ) = ""
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=5)
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _simple(self) -> Self:
        if self.stream and self.echo and self.logprobs is not None:
            raise ValueError("echo with logprobs is answered whole; leave stream out")
        return self

    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        given: list[Any] = list(self.prompt)
        return [given] if isinstance(given[0], int) else given


class TextPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    role: str
    content: str | list[TextPart]

    def plain(self) -> dict[str, str]:
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": text}


class ChatAsked(Asked):
    """The body of ``/v1/chat/completions``."""

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: Literal[False] | None = None


A = TypeVar("A", bound=Asked)


def parsed(kind: type[A], body: bytes) -> A:
    """A request.

    Raises:
        ApiError: that names the field and what was expected.
    """
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] == "json_invalid":
            raise ApiError(400, f"the body is no JSON: {first['msg']}.") from None
        param = str(first["loc"][0]) if first["loc"] else None
        if first["type"] == "extra_forbidden":
            raise ApiError(400, f"Unrecognized request argument supplied: {param}", param=param) from None
        raise ApiError(400, f"{param or 'body'}: {first['msg']}; found {first['input']!r:.80}.", param=param) from None


def rows_of(asked: Asked, prompts: Sequence[str | list[int]], generator: Generator, limit: int) -> list[Continuation]:
    """Continuations of every prompt, its choices behind each other, none with more than ``limit`` tokens.

    Raises:
        ApiError: if one does not fit into the context or is not allowed.
    """
    rows = []
    for prompt in prompts:
        tokens = generator.encode(prompt) if isinstance(prompt, str) else prompt
        if any(not 0 <= token < generator.num_tokens for token in tokens):
            raise ApiError(400, f"prompt: a token outside the vocabulary of {generator.num_tokens}.", param="prompt")
        wanted = _max_tokens(asked, len(tokens), generator.context, limit)
        ranked: dict[str, Any] = {}
        if isinstance(asked, CompletionAsked):
            ranked = {"logprobs": asked.logprobs, "scores_prompt": bool(asked.echo)}
        for choice in range(asked.n or 1):
            try:
                row = generator.continuation(
                    prompt, wanted, stop=asked.stops, choice=choice, **ranked, **asked.sampling
                )
            except ValueError as error:
                raise ApiError(400, str(error)) from None
            rows.append(row)
    return rows


def _max_tokens(asked: Asked, num_prompt: int, context: int, limit: int) -> int:
    chat = isinstance(asked, ChatAsked)
    wanted = (
        asked.max_completion_tokens if isinstance(asked, ChatAsked) and asked.max_tokens is None else asked.max_tokens
    )
    if wanted is None:
        wanted = min(limit, max(1, context - num_prompt)) if chat else min(limit, DEFAULT_TOKENS)
    if wanted > limit:
        raise ApiError(400, f"max_tokens is {wanted}; this server writes at most {limit}.", param="max_tokens")
    if num_prompt + wanted > context:
        raise ApiError(
            400,
            f"This model's maximum context length is {context} tokens. However, you requested {num_prompt + wanted} "
            f"tokens ({num_prompt} in the prompt, {wanted} in the completion). Please reduce either.",
            param="messages" if chat else "prompt", code="context_length_exceeded",
        )  # fmt: skip
    return wanted


def usage(rows: Sequence[Continuation], choices: int) -> dict[str, int]:
    """Each prompt counts once, whatever it has choices."""
    prompt = sum(len(row.prompt) for row in rows[::choices])
    written = sum(len(row.tokens) for row in rows)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
