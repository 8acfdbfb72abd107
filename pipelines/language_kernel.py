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

from pipelines.language_model import Model

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
    data = np.frombuffer(column.buffers()[2] or b"", np.uint8)
    number = model.labels.index(wanted) if wanted else -1
    return _scores(data, offsets, number, *model[1:7], len(model.labels))


@njit(cache=True, nogil=True)
def _scores(data, offsets, wanted, label_of, next_row, row_of, feature, weights, prior, num_labels):
    num_texts = offsets.size - 1
    best = np.full(num_texts, num_labels, np.int64)
    probability, sought = np.ones(num_texts), np.ones(num_texts)
    counts = np.zeros(weights.shape[0], np.int64)
    touched = np.empty(weights.shape[0], np.int64)
    score, mass = np.empty(prior.size), np.empty(num_labels)
    fetched = np.zeros(1, np.float32)
    for text in range(num_texts):
        num_touched, state = 0, 0
        for place in range(offsets[text], offsets[text + 1]):
            state = next_row[(np.int64(row_of[state]) << 8) + data[place]]
            found = feature[state]
            if found >= 0:
                if counts[found] == 0:
                    touched[num_touched] = found
                    num_touched += 1
                    # the table of weights is beyond any cache: its row comes while the walk goes on (a fifth faster)
                    for c in range(0, prior.size, 16):
                        fetched[0] += weights[found, c]
                counts[found] += 1
        if num_touched == 0:
            continue
        for c in range(prior.size):
            score[c] = prior[c]
        for i in range(num_touched):
            weight = np.log1p(np.float64(counts[touched[i]]))
            row = weights[touched[i]]
            for c in range(prior.size):
                score[c] += weight * row[c]
            counts[touched[i]] = 0
        # the softmax's temperature is the root of the length, which keeps it calibrated from words to pages
        top, scale = score.max(), 1.0 / np.sqrt(np.float64(offsets[text + 1] - offsets[text]))
        mass[:] = 0.0
        total = 0.0
        for c in range(prior.size):
            share = np.exp((score[c] - top) * scale)
            mass[label_of[c]] += share
            total += share
        first = np.argmax(mass)
        best[text], probability[text] = first, mass[first] / total
        sought[text] = mass[wanted] / total if wanted >= 0 else 1.0
    return best, probability, sought
