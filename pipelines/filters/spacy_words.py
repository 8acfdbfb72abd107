"""Words and sentences exactly as spaCy's English tokenizer finds them, at the speed of a kernel.

spaCy splits each piece between white space by itself. The kernel of :mod:`pipelines.filters.spacy_kernel` splits
nearly all of them; the others, mostly URLs, are split by spaCy's own expressions, each different one once in a
process. Special cases are then recognised in the words of the whole text. The words of FineWeb's filters are these, without those of white space; its sentences are those of
spaCy's sentencizer.

spaCy fails on the word IS_ALPHA from the second time on, and datatrove then removes it from the text. Here it is a
word like any other, so that no document depends on those before it.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.filters.chunk_vocabulary import ChunkVocabulary, expanded
from pipelines.filters.spacy_kernel import MAX_CODE, PUNCT, TERMINATOR, split
from pipelines.filters.spacy_rules import character_classes, piece_words, spacy_rules
from pipelines.filters.spans import Words, column_of
from pipelines.filters.special_cases import with_special_cases
from pipelines.utf8_kernel import decoded
from pipelines.words import pieces, text_buffers

RULE = "spacy-en"

I64 = NDArray[np.int64]

_OF_THREAD = threading.local()  # a vocabulary is not for two at once


def spacy_words(texts: pa.Array, vocabulary: ChunkVocabulary | None = None) -> Words:
    """The words of a column of texts, equal to datatrove's ``word_tokenize`` for English.

    ``vocabulary`` is that of the thread if none is given.
    """
    vocabulary = _vocabulary() if vocabulary is None else vocabulary
    found = [_words(piece, vocabulary) for piece in pieces(texts)]
    if len(found) == 1:
        return found[0]
    counts = [np.diff(words.offsets) for words in found]
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *counts]))
    none = np.zeros(0, np.int64)
    return Words(
        np.concatenate([none, *(words.starts for words in found)]),
        np.concatenate([none, *(words.ends for words in found)]),
        offsets,
    )


def _words(texts: pa.Array, vocabulary: ChunkVocabulary) -> Words:
    data, rows = text_buffers(texts)
    rules = spacy_rules()
    starts, ends, offsets, deferred = split(data, rows, rules.tables)
    if deferred.size:
        vocabulary.trim()
        piece_starts, piece_ends = starts[deferred], ends[deferred]
        unseen = vocabulary.unseen(data, piece_starts, piece_ends)
        if unseen.size:
            spans = zip(piece_starts[unseen], piece_ends[unseen], strict=True)
            _learn(vocabulary, [data[start:end].tobytes() for start, end in spans])
        numbers = vocabulary.numbers(data, piece_starts, piece_ends)
        starts, ends, offsets = expanded(starts, ends, offsets, deferred, numbers, vocabulary.pieces)
    return Words(*with_special_cases(data, starts, ends, offsets, rules.case_words, rules.tables))


def spacy_sentence_counts(texts: pa.Array, lines: I64 | None = None, words: Words | None = None) -> I64:
    """Number of sentences of each text, equal to the length of datatrove's ``split_into_sentences``: at least 1.

    With ``lines``, int64 [2, lines], those of each of these spans within the texts instead. ``words`` are those of
    :func:`spacy_words` if they are at hand.
    """
    texts = texts if lines is None else column_of(texts, lines)
    data, rows = text_buffers(texts)
    return _sentence_counts(data, rows, *(spacy_words(texts) if words is None else words), character_classes())


def _vocabulary() -> ChunkVocabulary:
    if not hasattr(_OF_THREAD, "vocabulary"):
        _OF_THREAD.vocabulary = ChunkVocabulary()
    return _OF_THREAD.vocabulary


def _learn(vocabulary: ChunkVocabulary, unseen: list[bytes]) -> None:
    """Split pieces that the vocabulary lacks."""
    rules = spacy_rules()
    words = [piece_words(piece.decode(), rules.tokenizer, rules.cases) for piece in unseen]
    sizes = np.array([len(word.encode()) for row in words for word in row], np.int64)
    counts = np.array([len(row) for row in words], np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(piece) for piece in unseen])])
    ends = np.cumsum(sizes) - np.repeat(offsets[:-1], counts)
    word_offsets = np.concatenate([[0], np.cumsum(counts)])
    vocabulary.add(np.frombuffer(b"".join(unseen), np.uint8), offsets, (ends - sizes, ends, word_offsets))


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
