"""Layouts: the tokens of a part in another arrangement than they lie in its shards.

A layout is a list of segments (from where in the part's stream, how many tokens); one after another they are a stream
of their own, which is cut into sequences as any other. Some documents of a part (those of one language, say) are its
segments where they lie; best-fit packing puts whole documents together so that few are cut. A layout is stored with
the mixture, 16 bytes a segment, and read in both directions.

Needs only numpy and pyarrow; the trainer's loader and the lineage queries share it.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.plan import PlanPart
from pipelines.provenance.tables import read_table
from pipelines.shard_reader import I64, Excerpts, ShardReader, Tokens

FILL = -1  # as the start of a segment: no token of any document, but the fill token
SEGMENTS = pa.schema([
    ("start", pa.int64()),  # in the stream of the part; FILL for tokens that only fill a sequence up
    ("end", pa.int64()),  # in the stream of the layout
])  # fmt: skip


def segments_table(starts: I64, lengths: I64) -> pa.Table:
    """Segments that follow each other both here and there are one."""
    starts, lengths = starts[lengths > 0], lengths[lengths > 0]
    if len(starts):
        apart = (starts[1:] != starts[:-1] + lengths[:-1]) | (starts[1:] == FILL) | (starts[:-1] == FILL)
        firsts = np.concatenate([[0], np.flatnonzero(apart) + 1])
        starts, lengths = starts[firsts], np.add.reduceat(lengths, firsts)
    return pa.table([pa.array(starts, pa.int64()), pa.array(np.cumsum(lengths), pa.int64())], schema=SEGMENTS)


def stream(part: Artifact, mixture: Artifact, planned: PlanPart) -> ShardReader | LaidOut:
    """The tokens of a part of a plan, as the plan counts them.

    Args:
        part: of ``token_shards``, named ``planned.shards``.
        mixture: whose plan it is.
        planned: which part.
    """
    shards = ShardReader.open(part)
    return LaidOut(shards, Layout(mixture.local(planned.layout)), planned.fill) if planned.layout else shards


class Layout:
    """Where the tokens of an arrangement lie in the part's stream, and back.

    Args:
        path: of the segments.
    """

    def __init__(self, path: Path) -> None:
        table = read_table(path)
        self._starts, self._ends = (_joined(table[name]) for name in SEGMENTS.names)

    @property
    def num_tokens(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def pieces(self, starts: I64, stops: I64) -> tuple[I64, I64, I64]:
        """(range, place in the part's stream or FILL, tokens) of each piece of each range, in order.

        Raises:
            ValueError: if a range leaves the arrangement.
        """
        starts, stops = np.asarray(starts, np.int64).reshape(-1), np.asarray(stops, np.int64).reshape(-1)
        if len(starts) and (starts.min() < 0 or int(stops.max()) > self.num_tokens or (stops < starts).any()):
            low, high = starts.min(), stops.max()
            raise ValueError(f"tokens [{low}, {high}) asked for, the layout holds [0, {self.num_tokens}).")
        firsts = np.searchsorted(self._ends, starts, side="right")
        counts = np.where(stops > starts, np.searchsorted(self._ends, stops, side="left") - firsts + 1, 0)
        before = np.cumsum(counts) - counts
        ranges = np.repeat(np.arange(len(starts)), counts)
        segments = np.arange(counts.sum()) - np.repeat(before - firsts, counts)
        begins = self._begins(segments)
        low, high = np.maximum(begins, starts[ranges]), np.minimum(self._ends[segments], stops[ranges])
        places = self._starts[segments]
        return ranges, np.where(places == FILL, FILL, places + low - begins), high - low

    def found(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """(place here, place in the part's stream, tokens) of all that lies in [start, stop) of the part's stream."""
        order, firsts, lasts = self._by_start
        some = slice(int(np.searchsorted(lasts, start, side="right")), int(np.searchsorted(firsts, stop, side="left")))
        begins, ends = np.maximum(firsts[some], start), np.minimum(lasts[some], stop)
        places = self._ends[order[some]] - (lasts[some] - begins)
        return sorted(zip(places.tolist(), begins.tolist(), (ends - begins).tolist(), strict=True))

    @cached_property
    def _by_start(self) -> tuple[I64, I64, I64]:
        """Segments in the order of the part's stream: number here, first token and end there, both ascending.

        Pieces of one document overlap by a token, and each but the first is of at least two.
        """
        order = np.argsort(self._starts, kind="stable")
        order = order[int(np.searchsorted(self._starts[order], 0)) :]  # FILL comes first
        firsts = self._starts[order]
        return order, firsts, firsts + self._ends[order] - self._begins(order)

    def _begins(self, segments: I64) -> I64:
        return np.where(segments > 0, self._ends[segments - 1], 0)


class LaidOut:
    """A part's stream in the arrangement of a layout; answers as :class:`ShardReader` does.

    Args:
        shards: the part as it lies.
        layout: the arrangement.
        fill: token that stands where no document does.
    """

    def __init__(self, shards: ShardReader, layout: Layout, fill: int = 0) -> None:
        self.shards, self.layout, self.fill = shards, layout, fill

    @property
    def num_tokens(self) -> int:
        return self.layout.num_tokens

    def tokens(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop) of the arrangement."""
        return self.rows(np.array([start]), stop - start)[0]

    def rows(self, starts: I64, length: int) -> Tokens:
        """[len(starts), length] tokens: one row from each start."""
        starts = np.asarray(starts, np.int64).reshape(-1)
        _, places, sizes = self.layout.pieces(starts, starts + length)
        filled = places == FILL
        tokens = self.shards.gathered(np.where(filled, 0, places), np.where(filled, 0, sizes))
        if filled.any():
            out = np.full(len(starts) * length, self.fill, self.shards.dtype)
            out[np.repeat(~filled, sizes)] = tokens
            tokens = out
        return tokens.reshape(len(starts), length)

    def excerpts(self, starts: I64, stops: I64) -> Excerpts:
        """What documents show in each range; what only fills a sequence up shows nothing."""
        ranges, places, sizes = self.layout.pieces(starts, stops)
        real = places != FILL
        seen = self.shards.excerpts(places[real], places[real] + sizes[real])
        return seen._replace(ranges=ranges[real][seen.ranges])

    def num_filled(self, starts: I64, length: int) -> int:
        """How many tokens of some rows only fill up."""
        _, places, sizes = self.layout.pieces(starts, np.asarray(starts, np.int64) + length)
        return int(sizes[places == FILL].sum())

    def places(self, doc_id: bytes) -> list[tuple[int, int, int]]:
        """(position in the arrangement, first token of the document there, tokens) of each segment with a part of it."""
        span = self.shards.position(doc_id)
        if span is None or span.length == 0:
            return []
        found = self.layout.found(span.start, span.start + span.length)
        return [(here, place - span.start, size) for here, place, size in found]


def _joined(column: Any) -> I64:
    """A column as one array; without a copy if it is one chunk."""
    return column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()
