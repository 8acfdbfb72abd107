"""A continuation: one text in the making, from its prompt to why it ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from training.sampling import Sampling, number

LOST = "\ufffd"  # what the decoder shows for half a character


@dataclass(eq=False)
class Continuation:
    """What goes on after a prompt, token by token.

    Args:
        prompt: token ids.
        max_tokens: it ends with so many, for the reason ``length``.
        decode: ids to text.
        eos_id: the token that ends it, for the reason ``stop``, and is none of its own.
        stop: strings that end it as well, and are no part of its text.
        choice: number among several of the same prompt and seed, whose draws differ.
        logprobs: so many likeliest tokens of each place are kept with their log-probabilities; None keeps none.
        as_it_is: nothing stands before the prompt; else it begins a document, as one without any token always does.
        scores_prompt: the same is kept for the tokens of the prompt.
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    decode: Callable[[list[int]], str]
    eos_id: int
    stop: Sequence[str] = ()
    choice: int = 0
    logprobs: int | None = None
    as_it_is: bool = False
    scores_prompt: bool = False
    prompt_ranks: list[Ranks | None] = field(default_factory=list)  # None: of what nothing stands before
    tokens: list[int] = field(default_factory=list)
    ranks: list[Ranks] = field(default_factory=list)  # one for each token, if asked for
    text: str = ""  # what may be shown: no half character, no beginning of a stop string
    finish_reason: str = ""
    cancelled: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            self.finish_reason = "length"

    @property
    def ended(self) -> bool:
        return bool(self.finish_reason) or self.cancelled

    @property
    def seen(self) -> list[int]:
        return [*self.prompt, *self.tokens]

    def begun_by(self, start_id: int) -> list[int]:
        """All that the model reads of it so far."""
        return self.seen if self.as_it_is and self.prompt else [start_id, *self.seen]

    @property
    def number(self) -> float:
        """In [0, 1), for the next token."""
        return number(self.sampling.seed, self.choice, len(self.tokens))

    def take(self, token: int) -> None:
        """The next token, drawn."""
        if token == self.eos_id:
            self._end("stop", self.decode(self.tokens))
            return
        self.tokens.append(token)
        text = self.decode(self.tokens)
        if (at := _first(text, self.stop, len(self.text))) is not None:
            self._end("stop", text[:at])
        elif len(self.tokens) >= self.max_tokens:
            self._end("length", text)
        else:
            self.text = max(self.text, _showable(text, self.stop), key=len)

    def _end(self, reason: str, text: str) -> None:
        self.finish_reason, self.text = reason, text


@dataclass(frozen=True)
class Ranks:
    """Log-probability of a token by the model itself, whatever the sampling, and those of the likeliest."""

    logprob: float
    likeliest: dict[int, float]


def _first(text: str, stops: Sequence[str], begin: int) -> int | None:
    """Where the first stop string stands; none begins in what was shown already."""
    places = [at for stop in stops if (at := text.find(stop, begin)) >= 0]
    return min(places, default=None)


def _showable(text: str, stops: Sequence[str]) -> str:
    """Without half a character at the end, nor what may become a stop string."""
    text = text.rstrip(LOST)
    sizes = ((stop, size) for stop in stops for size in range(1, min(len(stop), len(text) + 1)))
    held = [size for stop, size in sizes if text.endswith(stop[:size])]
    return text[: len(text) - max(held, default=0)]
