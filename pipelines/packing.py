"""Packing: which documents share a sequence.

Concatenate-and-cut, the default, reads a part as one stream and cuts it where a sequence is full, whoever stands
there. Best-fit packing (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", arXiv:2404.10830, best fit
decreasing) cuts only documents that are longer than a sequence, and puts the pieces together so that little room is
left over, which is filled up with the padding token and not learned from.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.layouts import FILL

I64 = NDArray[np.int64]


class Packed(NamedTuple):
    """Segments of a best-fit layout, sequence after sequence, each of length + 1 tokens."""

    starts: I64  # in the stream of the part, or FILL
    lengths: I64
    num_sequences: int
    num_filled: int  # tokens that only fill up


def cut_docs(sizes: I64, length: int) -> int:
    """How many documents concatenate-and-cut shows whole in no sequence; those in the tail, which is never read, too.

    Args:
        sizes: tokens of each document, in the order of the stream.
        length: targets of a sequence; it holds one token more, and neighbours share one.
    """
    stops = np.cumsum(sizes)
    starts = stops - sizes
    last = max(0, int(sizes.sum()) - 1) // length  # sequences
    homes = np.maximum(np.minimum(starts // length, last - 1), 0)
    return int(((stops > homes * length + length + 1) | (last == 0))[sizes > 0].sum())


def packed(starts: I64, sizes: I64, length: int) -> Packed:
    """Best fit decreasing of all documents into sequences of ``length`` targets.

    Of a document of more than length + 1 tokens each piece begins with the last token of the piece before, so that
    every token but the first of a document is learned exactly once an epoch.

    Args:
        starts: where each document begins in the stream of its part.
        sizes: tokens of each.
        length: targets of a sequence.
    """
    from pipelines.packing_kernel import best_fit

    starts, sizes = _pieces(starts, sizes, length)
    order = np.argsort(-sizes, kind="stable")
    found, rooms = best_fit(sizes[order], length + 1)
    bins = np.empty(len(order), np.int64)
    bins[order] = found
    open_bins = np.flatnonzero(rooms)
    bins = np.concatenate([bins, open_bins])
    places = np.concatenate([starts, np.full(len(open_bins), np.iinfo(np.int64).max)])  # what fills up comes last
    placed = np.lexsort(
        (places, bins)
    )  # documents of one sequence in the order of the shards: longest first is no order
    places[len(starts) :] = FILL
    return Packed(places[placed], np.concatenate([sizes, rooms[open_bins]])[placed], len(rooms), int(rooms.sum()))


def _pieces(starts: I64, sizes: I64, length: int) -> tuple[I64, I64]:
    """(start, tokens) of what is put into sequences: documents, or if they are too long pieces that overlap by a token."""
    counts = np.where(sizes > length + 1, -(-(sizes - 1) // length), sizes > 0).astype(np.int64)
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = np.minimum(length + 1, np.repeat(sizes, counts) - number * length)
    return np.repeat(starts, counts) + number * length, taken
