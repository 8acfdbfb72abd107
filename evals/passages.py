"""Three tasks cut from held-out documents: which continuation is the true one, the last word, bits per byte.

Every choice is made by a keyed hash of the document's id, so that the same documents give the same suite anywhere.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

_WORD = re.compile(r"\S+")
_LETTERS = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"([^\W\d_]+)([.!?])(?=\s|$)")
_NEIGHBOURS = 16  # distractors come from the passages nearest in length: this many on either side


@dataclass(frozen=True)
class Passage:
    """A held-out document: id, the part (source) and the file that it stands in, and its text."""

    doc_id: bytes
    source: str
    file: str
    text: str

    @property
    def cluster(self) -> str:
        return f"{self.source}:{self.file}"


@dataclass(frozen=True)
class Item:
    """One item of a task: what lm-eval reads (``doc``), and ``text``, which must not be seen in training."""

    task: str
    passage: Passage
    text: str
    doc: dict[str, Any]

    @property
    def item_id(self) -> str:
        return f"{self.task}-{self.passage.doc_id.hex()}"


def rank(seed: int, task: str, doc_id: bytes) -> bytes:
    """Place of a document in the draw for one task: the items with the lowest ranks are taken."""
    return blake3(f"stemma-suite/1:{seed}:{task}:".encode() + doc_id).digest(length=16)


# -- last word -------------------------------------------------------------------------------------------------


def last_word(passage: Passage, min_context: int, max_context: int, min_letters: int) -> Item | None:
    """The first sentence whose last word occurs earlier in the passage, as in LAMBADA (Paperno et al. 2016).

    Args:
        passage: where to look.
        min_context: words that must stand before the target.
        max_context: words of context that are kept, counted back from the target.
        min_letters: the shortest target, so that it is not a function word.
    """
    for match in _SENTENCE_END.finditer(passage.text):
        # the target must be a word of its own: "module.", not the "py." of "setup.py."
        if len(match[1]) < min_letters or not passage.text[: match.start()][-1:].isspace():
            continue
        before = list(_WORD.finditer(passage.text, 0, match.start()))
        if len(before) < min_context:
            continue
        start, end = before[-max_context:][0].start(), before[-1].end()
        context, target = passage.text[start:end], passage.text[end : match.end(1)]
        if match[1].lower() in _LETTERS.findall(context.lower()):
            return Item("lastword", passage, context + target, {"context": context, "target": target})
    return None


# -- bits per byte ---------------------------------------------------------------------------------------------


def whole_passage(passage: Passage, max_words: int) -> Item:
    """The beginning of a document, cut after ``max_words`` words."""
    words = list(_WORD.finditer(passage.text))[:max_words]
    text = passage.text[words[0].start() : words[-1].end()]
    return Item("bpb", passage, text, {"text": text})


# -- continuation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Split:
    """A passage cut in two: the context, and the true continuation with the white space before it."""

    passage: Passage
    context: str
    space: str
    continuation: str


def split(passage: Passage, min_words: int, context_words: int, continuation_words: int) -> Split | None:
    """The first words as context and the next ones as continuation; None if the passage is too short."""
    words = list(_WORD.finditer(passage.text))[: context_words + continuation_words]
    if len(words) < max(min_words, continuation_words + 1):
        return None
    cut = len(words) - continuation_words
    text = passage.text
    return Split(
        passage,
        text[words[0].start() : words[cut - 1].end()],
        text[words[cut - 1].end() : words[cut].start()],
        text[words[cut].start() : words[-1].end()],
    )


def continuations(splits: Sequence[Split], pool: Sequence[Split], num_choices: int, seed: int) -> Iterator[Item]:
    """Multiple-choice items: the true continuation among those of other files.

    Distractors have as many words as the truth, stand among its neighbours in length, come from the same source
    where there are enough, and begin with the same white space. The place of the truth is a hash of the item.
    """
    near = {
        source: _Lengths([s for s in pool if s.passage.source == source])
        for source in sorted({s.passage.source for s in splits})
    }
    everywhere = _Lengths(pool)
    for item in splits:
        chosen = near[item.passage.source].distractors(item, num_choices - 1, seed, [])
        if len(chosen) < num_choices - 1:
            chosen = everywhere.distractors(item, num_choices - 1, seed, chosen)
        if len(chosen) == num_choices - 1:
            yield _choice_item(item, chosen, seed)


def _choice_item(item: Split, distractors: Sequence[str], seed: int) -> Item:
    gold = int.from_bytes(rank(seed, "gold", item.passage.doc_id)[:8], "little") % (len(distractors) + 1)
    bodies = [*distractors[:gold], item.continuation, *distractors[gold:]]
    doc = {"context": item.context, "choices": [item.space + body for body in bodies], "gold": gold}
    return Item("continuation", item.passage, item.context + item.space + item.continuation, doc)


class _Lengths:
    """Passages sorted by the length of their continuations."""

    def __init__(self, splits: Sequence[Split]) -> None:
        size: Callable[[Split], tuple[int, bytes]] = lambda s: (len(s.continuation.encode()), s.passage.doc_id)  # noqa: E731
        self._splits = sorted(splits, key=size)
        self._sizes = [size(s)[0] for s in self._splits]

    def distractors(self, item: Split, wanted: int, seed: int, chosen: list[str]) -> list[str]:
        """``chosen`` and as many more as are wanted and found, none equal to the truth or to one another."""
        middle = bisect.bisect_left(self._sizes, len(item.continuation.encode()))
        taken = {_plain(text) for text in (item.continuation, *chosen)}
        found = list(chosen)
        for reach in (_NEIGHBOURS, len(self._splits)):
            window = self._splits[max(0, middle - reach) : middle + reach]
            for other in sorted(window, key=lambda s: rank(seed, item.passage.doc_id.hex(), s.passage.doc_id)):
                if len(found) == wanted:
                    return found
                if other.passage.cluster != item.passage.cluster and _plain(other.continuation) not in taken:
                    taken.add(_plain(other.continuation))
                    found.append(other.continuation)
        return found


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
