"""Words and sentences exactly as spaCy's English tokenizer finds them, at the speed of a kernel.

spaCy splits each piece between white space by itself. The kernel of :mod:`pipelines.filters.spacy_kernel` splits the
plain pieces by the same rules; the others, one in a hundred of technical text, are split by spaCy, each different one
once in a process. The words of FineWeb's filters are these, without those of white space; its sentences are those of
spaCy's sentencizer.

spaCy fails on the word IS_ALPHA from the second time on, and datatrove then removes it from the text. Here it is a
word like any other, so that no document depends on those before it.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.chunk_vocabulary import ChunkVocabulary, documents_to_ask, expanded
from pipelines.filters.spacy_kernel import MAX_CODE, PUNCT, TERMINATOR, decoded, split
from pipelines.filters.spacy_rules import SEPARATOR, character_classes, spacy_rules
from pipelines.filters.spans import Words
from pipelines.words import text_buffers

if TYPE_CHECKING:
    from spacy.tokens import Doc

RULE = "spacy-en"
ASKED_AT_ONCE = 1_000  # pieces in one text for spaCy: bounds its memory

I64 = NDArray[np.int64]

_OF_THREAD = threading.local()  # a vocabulary a thread: spaCy's tokenizer is not for two at once either


def spacy_words(texts: pa.Array, vocabulary: ChunkVocabulary | None = None) -> Words:
    """The words of a column of texts, equal to datatrove's ``word_tokenize`` for English.

    ``vocabulary`` is that of the thread if none is given.
    """
    data, rows = text_buffers(texts)
    rules = spacy_rules()
    starts, ends, offsets, deferred = split(data, rows, rules.tables)
    if not deferred.size:
        return Words(starts, ends, offsets)
    vocabulary = _vocabulary() if vocabulary is None else vocabulary
    vocabulary.trim()
    piece_starts, piece_ends = starts[deferred], ends[deferred]
    unseen = vocabulary.unseen(data, piece_starts, piece_ends)
    for first in range(0, len(unseen), ASKED_AT_ONCE):
        some = unseen[first : first + ASKED_AT_ONCE]
        _ask(vocabulary, [data[a:b].tobytes() for a, b in zip(piece_starts[some], piece_ends[some], strict=True)])
    numbers = vocabulary.numbers(data, piece_starts, piece_ends)
    pieces = vocabulary.pieces
    starts, ends, offsets, spans = expanded(starts, ends, offsets, deferred, numbers, pieces)
    asked = documents_to_ask(data, starts, ends, offsets, spans, pieces.has_case[numbers], rules.tables.parts)
    words = Words(starts, ends, offsets)
    return _with_whole_documents(words, data, rows, asked) if asked.size else words


def spacy_sentence_counts(texts: pa.Array, words: Words | None = None) -> I64:
    """Number of sentences of each text, equal to the length of datatrove's ``split_into_sentences``: at least 1.

    ``words`` are those of :func:`spacy_words` if they are at hand.
    """
    data, rows = text_buffers(texts)
    return _sentence_counts(data, rows, *(spacy_words(texts) if words is None else words), character_classes())


def _vocabulary() -> ChunkVocabulary:
    if not hasattr(_OF_THREAD, "vocabulary"):
        _OF_THREAD.vocabulary = ChunkVocabulary()
    return _OF_THREAD.vocabulary


def _ask(vocabulary: ChunkVocabulary, pieces: Sequence[bytes]) -> None:
    """Let spaCy split pieces that the vocabulary lacks."""
    rules = spacy_rules()
    sizes = np.array([len(piece) for piece in pieces], np.int64)
    joined = SEPARATOR.encode().join(pieces)
    firsts = np.concatenate([[0], np.cumsum(sizes + 1)])  # of the pieces, with the separators between them
    with rules.language.memory_zone():
        starts, ends, is_trigger = _tokens(joined.decode())
    piece = np.searchsorted(firsts, starts, side="right") - 1
    word_offsets = np.concatenate([[0], np.cumsum(np.bincount(piece, minlength=len(pieces)))])
    has_case = np.bincount(piece, is_trigger, minlength=len(pieces)) > 0
    vocabulary.add(
        np.frombuffer(b"".join(pieces), np.uint8),
        np.concatenate([[0], np.cumsum(sizes)]),
        (starts - firsts[piece], ends - firsts[piece], word_offsets),
        has_case,
    )


def _tokens(text: str) -> tuple[I64, I64, NDArray[np.bool_]]:
    """Byte spans of spaCy's tokens that are not white space, and which are words of special cases."""
    rules = spacy_rules()
    # IS_ALPHA names an attribute, and spaCy's table of strings breaks; X is of the same classes as A
    doc: Doc = rules.language.tokenizer(text.replace("IS_ALPHA", "IS_ALPHX"))
    bounds = doc.to_array(["IDX", "LENGTH"]).astype(np.int64)
    visible = np.array([not word.is_space for word in doc], np.bool_)
    triggers = np.array([word.text in rules.triggers for word in doc], np.bool_)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    places = np.concatenate([[0], np.cumsum(sizes)])
    starts, lengths = bounds[visible, 0], bounds[visible, 1]
    return places[starts], places[starts + lengths], triggers[visible]


def _with_whole_documents(words: Words, data: NDArray[np.uint8], rows: I64, documents: I64) -> Words:
    """The words with those of some documents as spaCy finds them in the whole text."""
    starts, ends, counts = [], [], np.diff(words.offsets)
    at = 0
    for doc in documents:
        with spacy_rules().language.memory_zone():
            own_starts, own_ends, _ = _tokens(data[rows[doc] : rows[doc + 1]].tobytes().decode())
        starts += [words.starts[at : words.offsets[doc]], own_starts + rows[doc]]
        ends += [words.ends[at : words.offsets[doc]], own_ends + rows[doc]]
        counts[doc] = len(own_starts)
        at = words.offsets[doc + 1]
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Words(
        np.concatenate([*starts, words.starts[at:]]), np.concatenate([*ends, words.ends[at:]]), offsets
    )


@njit(cache=True, nogil=True)
def _is_all(data, start, end, classes, flag):  # noqa: ANN001, ANN202
    at = start
    while at < end:
        code, at = decoded(data, at)
        if code >= MAX_CODE or not classes[code] & flag:
            return False
    return True


@njit(cache=True, nogil=True)
def _sentence_counts(data, rows, starts, ends, offsets, classes):  # noqa: ANN001, ANN202
    """A sentence begins at the first token after a terminator that is no punctuation: a word, or white space.

    White space is a token of its own unless it is one single space; so it is at the end of a text, too.
    """
    counts = np.ones(rows.size - 1, np.int64)
    for doc in range(rows.size - 1):
        at, was_terminator = rows[doc], False
        for word in range(offsets[doc], offsets[doc + 1] + 1):
            is_last = word == offsets[doc + 1]
            end = rows[doc + 1] if is_last else starts[word]
            is_token = end > at and not (end == at + 1 and data[at] == 0x20)
            if was_terminator and is_token:
                counts[doc] += 1
                was_terminator = False
            if is_last:
                break
            at = ends[word]
            code, after = decoded(data, starts[word])
            is_terminator = after == at and code < MAX_CODE and classes[code] & TERMINATOR != 0
            if was_terminator and not is_terminator and not _is_all(data, starts[word], at, classes, PUNCT):
                counts[doc] += 1
                was_terminator = False
            elif is_terminator:
                was_terminator = True
    return counts
