"""Features of texts as hashed n-grams, and logistic regression over them, in one stated order of float64 additions.

This module compiles kernels: import it inside functions, never where the graph is defined.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from pipelines.utf8_kernel import decoded
from pipelines.words import LENGTH_SALT, WORD_BASE, character_table, gram_hash, mixed, text_buffers, word_hashes

SPACE = 32  # stands for every run of characters that belong to no word, and around the text
NEWTON_STEPS, NEWTON_TOLERANCE = 50, 1e-12


class Features(NamedTuple):
    """Rows of a sparse matrix: the buckets of each document in the order of their first appearance."""

    buckets: NDArray[np.int32]  # [features]
    values: NDArray[np.float32]  # [features]: 1 + ln(count), each row of Euclidean length 1
    offsets: NDArray[np.int64]  # [docs + 1]


def features(texts: pa.Array, word_ngrams: int, char_ngram: int, bits: int) -> Features:
    """Word 1- to ``word_ngrams``-grams and character ``char_ngram``-grams (0: none), hashed to 2^bits buckets."""
    words, starts = word_hashes(texts)
    data, offsets = text_buffers(texts)
    if char_ngram:
        grams, gram_starts = _char_grams(data, offsets, character_table(), char_ngram)
    else:
        grams, gram_starts = np.zeros(0, np.uint64), np.zeros(len(offsets), np.int64)
    return Features(*_rows(words, starts, grams, gram_starts, word_ngrams, 1 << bits))


@njit(cache=True, nogil=True)
def _char_grams(data, offsets, table, n):
    """Hashes of the n characters that begin at each place, in lower case; a shorter text is one gram."""
    num_docs = offsets.size - 1
    longest = 0
    for doc in range(num_docs):
        longest = max(longest, offsets[doc + 1] - offsets[doc])
    codes = np.empty(longest + 2, np.uint32)
    hashes = np.empty(offsets[num_docs] - offsets[0] + 2 * num_docs, np.uint64)
    starts = np.empty(num_docs + 1, np.int64)
    count = 0
    for doc in range(num_docs):
        starts[doc] = count
        at, end = offsets[doc], offsets[doc + 1]
        codes[0] = SPACE
        size = 1
        while at < end:
            code, at = decoded(data, at)
            lower = table[code] if code < table.size else np.uint32(0)
            if lower != 0:
                codes[size] = lower
                size += 1
            elif codes[size - 1] != SPACE:
                codes[size] = SPACE
                size += 1
        if codes[size - 1] != SPACE:
            codes[size] = SPACE
            size += 1
        if size == 1:
            continue  # nothing but separators
        length = min(n, size)
        state, power = np.uint64(0), np.uint64(1)
        for place in range(length):
            state = state * WORD_BASE + np.uint64(codes[place])
        for _ in range(length - 1):
            power *= WORD_BASE
        hashes[count] = mixed(state ^ (np.uint64(length) * LENGTH_SALT))
        count += 1
        for place in range(length, size):
            state = (state - np.uint64(codes[place - length]) * power) * WORD_BASE + np.uint64(codes[place])
            hashes[count] = mixed(state ^ (np.uint64(length) * LENGTH_SALT))
            count += 1
    starts[num_docs] = count
    return hashes[:count].copy(), starts


@njit(cache=True, nogil=True)
def _rows(words, word_starts, grams, gram_starts, word_ngrams, num_buckets):
    num_docs = word_starts.size - 1
    most = grams.size + words.size * word_ngrams
    buckets, values = np.empty(most, np.int32), np.empty(most, np.float32)
    offsets = np.zeros(num_docs + 1, np.int64)
    counts = np.zeros(num_buckets, np.int32)
    mask = np.uint64(num_buckets - 1)
    size = 0
    for doc in range(num_docs):
        first = size
        begin, end = word_starts[doc], word_starts[doc + 1]
        for n in range(1, word_ngrams + 1):
            for word in range(begin, end - n + 1):
                bucket = np.int64(gram_hash(words, word, n) & mask)
                if counts[bucket] == 0:
                    buckets[size] = bucket
                    size += 1
                counts[bucket] += 1
        for gram in range(gram_starts[doc], gram_starts[doc + 1]):
            bucket = np.int64(grams[gram] & mask)
            if counts[bucket] == 0:
                buckets[size] = bucket
                size += 1
            counts[bucket] += 1
        squares = 0.0
        for i in range(first, size):
            count = counts[buckets[i]]
            value = 1.0 if count == 1 else 1.0 + np.log(np.float64(count))
            counts[buckets[i]] = 0
            values[i] = value
            squares += value * value
        scale = 1.0 / np.sqrt(squares) if size > first else 0.0
        for i in range(first, size):
            values[i] = values[i] * scale
        offsets[doc + 1] = size
    return buckets[:size].copy(), values[:size].copy(), offsets


@njit(cache=True, nogil=True)
def margins(buckets, values, offsets, weights, bias):
    """w·x + b of each row, summed in float64 in the order of the row."""
    out = np.empty(offsets.size - 1)
    for row in range(out.size):
        total = np.float64(bias)
        for i in range(offsets[row], offsets[row + 1]):
            total += np.float64(weights[buckets[i]]) * np.float64(values[i])
        out[row] = total
    return out


@njit(cache=True, nogil=True)
def fitted(buckets, values, offsets, labels, order, cost, num_buckets, max_epochs, tolerance):
    """Weights, bias and epochs of L2-regularised logistic regression, by ascent along one document's dual at a time.

    Minimises ½ (|w|² + b²) + cost · sum of ln(1 + exp(-y (w·x + b))) (Yu, Huang & Lin 2011). A document's dual variable
    is cost · s(t), s the logistic function; its best t solves t + y (w·x + b) + |x|² (cost · s(t) - alpha) = 0, which
    rises everywhere, so Newton's method between two bounds finds it. No learning rate, no random number.

    ``labels`` are +1 or -1 (float64); ``order`` has the rows in the order in which every epoch visits them. It ends
    when no dual variable moved by more than ``tolerance`` of the cost.
    """
    weights, bias = np.zeros(num_buckets), 0.0
    alpha = np.zeros(labels.size)
    epochs = 0
    for _ in range(max_epochs):
        epochs += 1
        furthest = 0.0
        for row in order:
            first, last, y = offsets[row], offsets[row + 1], labels[row]
            margin, squares = bias, 1.0
            for i in range(first, last):
                value = np.float64(values[i])
                margin += weights[buckets[i]] * value
                squares += value * value
            old = alpha[row]
            low, high = -y * margin - squares * (cost - old), -y * margin + squares * old
            t = 0.5 * (low + high)
            for _ in range(NEWTON_STEPS):
                share = 1.0 / (1.0 + np.exp(-t))
                residual = t + y * margin + squares * (cost * share - old)
                if abs(residual) < NEWTON_TOLERANCE:
                    break
                if residual > 0:
                    high = t
                else:
                    low = t
                t -= residual / (1.0 + squares * cost * share * (1.0 - share))
                if t <= low or t >= high:
                    t = 0.5 * (low + high)
            new = cost / (1.0 + np.exp(-t))
            step = (new - old) * y
            for i in range(first, last):
                weights[buckets[i]] += step * np.float64(values[i])
            bias += step
            alpha[row] = new
            furthest = max(furthest, abs(new - old))
        if furthest <= tolerance * cost:
            break
    return weights, bias, epochs
