"""py3langid's model, read over the bytes of an Arrow column by numba.

The library walks each text byte by byte in Python and multiplies with a BLAS whose sums depend on its number of
threads. This kernel does the same arithmetic in one stated order in float64, so the same text has the same
probability in every process; tests hold it against the library's own answers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from pipelines.language_model import UNITS, Model

Floats = npt.NDArray[np.float64]


def scores(
    texts: pa.Array | pa.ChunkedArray, model: Model, wanted: str
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """For each text: number of the likeliest label (or their count, if nothing is known), its probability, and
    the probability of the wanted label (1.0 if none is wanted or nothing is known).
    """
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    column = texts.cast(pa.large_binary())
    offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    offsets = offsets - offsets[0]
    found = np.empty(data.size, np.int32)
    _walk(data, offsets, np.argsort(np.diff(offsets), kind="stable"), model.next_row, model.states, found)
    number = model.labels.index(wanted) if wanted else -1
    return _scores(found, offsets, number, model.label_of, model.weights_512, model.prior, len(model.labels))


@njit(cache=True, nogil=True)
def _walk(data, offsets, order, next_row, states, found):
    """The feature that ends at each byte. Every step waits for a table that no cache holds: four texts of like size,
    which is what ``order`` is for, wait at once (2.3 times as fast).
    """
    fours = order.size // 4 * 4
    for number in range(0, fours, 4):
        a, b, c, d = order[number], order[number + 1], order[number + 2], order[number + 3]
        one, two, three, four = offsets[a], offsets[b], offsets[c], offsets[d]
        least = offsets[a + 1] - one
        s = t = u = v = np.uint32(0)
        for at in range(least):
            s, t = _next(s, data[one + at], next_row, states), _next(t, data[two + at], next_row, states)
            u, v = _next(u, data[three + at], next_row, states), _next(v, data[four + at], next_row, states)
            found[one + at], found[two + at] = states[s, 1], states[t, 1]
            found[three + at], found[four + at] = states[u, 1], states[v, 1]
        for text, state in ((b, t), (c, u), (d, v)):
            _walk_on(data, offsets[text] + least, offsets[text + 1], state, next_row, states, found)
    for text in order[fours:]:
        _walk_on(data, offsets[text], offsets[text + 1], np.uint32(0), next_row, states, found)


@njit(cache=True, nogil=True)
def _walk_on(data, start, end, state, next_row, states, found):
    for at in range(start, end):
        state = _next(state, data[at], next_row, states)
        found[at] = states[state, 1]


@njit(cache=True, nogil=True)
def _next(state, byte, next_row, states):
    return next_row[(np.int64(states[state, 0]) << 8) + byte]


@njit(cache=True, nogil=True)
def _scores(found, offsets, wanted, label_of, weights, prior, num_labels):
    num_texts, none = offsets.size - 1, weights.shape[0]
    best = np.full(num_texts, num_labels, np.int64)
    probability, sought = np.ones(num_texts), np.ones(num_texts)
    counts, touched = np.zeros(none + 1, np.int64), np.empty(found.size + 1, np.int32)
    logs = np.log1p(np.arange(64).astype(np.float64))
    score, mass = np.empty(prior.size), np.empty(num_labels)
    for text in range(num_texts):
        start, end = offsets[text], offsets[text + 1]
        num_touched = _count(found, start, end, none, counts, touched)
        if num_touched == 0:
            continue
        for c in range(prior.size):
            score[c] = np.float64(prior[c]) * UNITS
        for feature in touched[:num_touched]:
            times = counts[feature]
            weight = logs[times] if times < logs.size else np.log1p(np.float64(times))
            for c in range(prior.size):
                score[c] += weight * weights[feature, c]
            counts[feature] = 0
        total = _masses(score, end - start, label_of, mass)
        first = np.argmax(mass)
        best[text], probability[text] = first, mass[first] / total
        sought[text] = mass[wanted] / total if wanted >= 0 else 1.0
    return best, probability, sought


@njit(cache=True, nogil=True)
def _count(found, start, end, none, counts, touched):
    """Count the features of a text, and list each where it is first seen; how many there are."""
    num_touched = 0
    counts[none] = 1  # never new
    for at in range(start, end):
        touched[num_touched] = found[at]
        num_touched += counts[found[at]] == 0
        counts[found[at]] += 1
    return num_touched


@njit(cache=True, nogil=True)
def _masses(score, num_bytes, label_of, mass):
    """The share of each label, and the sum of all: a softmax whose temperature is the root of the length, which keeps
    it calibrated from words to pages.
    """
    top, scale = score.max(), 1.0 / np.sqrt(np.float64(num_bytes))
    mass[:] = 0.0
    total = 0.0
    for c in range(score.size):
        share = np.exp((score[c] - top) / UNITS * scale)
        mass[label_of[c]] += share
        total += share
    return total
