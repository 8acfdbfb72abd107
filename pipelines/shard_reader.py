"""The token stream of one part, memory-mapped: tokens by position, documents by position, position by document.

The stream is the concatenation of all rows of all shards in order. Nothing is read on opening but where each record
batch begins (8,192 documents), so that a part of 50 million documents opens in a second and holds no index in memory:
the shard, whose rows are sorted by doc_id, is its own index of 24 bytes a document. Many positions are answered
together: each file is one array, in which the record batches are places to count from.

Needs only numpy and pyarrow; the trainer's loader and the lineage queries share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipelines import doc_ids
from pipelines.provenance.artifact import Artifact
from pipelines.shard_files import I64, Tokens, mapped


class Span(NamedTuple):
    """A document in the token stream."""

    doc_id: bytes
    start: int  # of its first token, in the stream of the part
    length: int  # with its end-of-text token


class Excerpts(NamedTuple):
    """Documents under ranges of a stream, one row for each document of each range, in order."""

    ranges: I64  # which range
    ids: doc_ids.Ids
    starts: I64  # where in the document the excerpt begins, in tokens
    lengths: I64  # in tokens

    def doc_ids(self) -> list[bytes]:
        data = self.ids.tobytes()
        return [data[at : at + doc_ids.WIDTH] for at in range(0, len(data), doc_ids.WIDTH)]

    @classmethod
    def empty(cls) -> Excerpts:
        none = np.zeros(0, np.int64)
        return cls(none, np.zeros(0, "S16"), none, none)


class ShardReader:
    """Reads the shards of one part.

    Args:
        paths: the shards, in order.

    Raises:
        ValueError: if a file is not a token shard, or the shards hold different types of tokens.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._files, self._batches = mapped(self.paths)
        types = sorted({str(file.tokens.dtype) for file in self._files})
        if len(types) > 1:
            raise ValueError(f"{self.paths[0].parent}: shards hold {' and '.join(types)} tokens, expected one type.")
        self.dtype = np.dtype(types[0] if types else np.uint16)
        self._token_starts = np.concatenate([[0], np.cumsum(self._batches.tokens)]).astype(np.int64)
        self._row_starts = np.concatenate([[0], np.cumsum(self._batches.size)]).astype(np.int64)
        self._first_ids = np.concatenate(
            [np.zeros(0, "S16"), *(self._ids(n)[:1] for n in range(len(self._batches.size)))]
        )
        self._windows: dict[tuple[int, int], Tokens] = {}

    @classmethod
    def open(cls, part: Artifact) -> ShardReader:
        """The reader of a part of ``token_shards`` or ``heldout_shards``."""
        return cls([part.local(name) for name in part.names(".arrow") if name.startswith("shard-")])

    @property
    def num_tokens(self) -> int:
        return int(self._token_starts[-1])

    @property
    def num_docs(self) -> int:
        return int(self._row_starts[-1])

    def batches(self) -> Iterator[tuple[doc_ids.Ids, I64, Tokens]]:
        """Ids, offsets and tokens of some documents after others, [documents], [documents + 1] and [tokens]."""
        for home, size in enumerate(self._batches.size.tolist()):
            at, file = int(self._batches.offsets[home]), self._files[self._batches.file[home]]
            begin, end = (self._token_starts[home : home + 2] + self._batches.lead[home]).tolist()
            offsets = file.words[at : at + size + 1]
            yield self._ids(home), offsets - offsets[0], file.tokens[begin:end]

    def num_sequences(self, length: int) -> int:
        """Sequences of ``length`` targets (length + 1 tokens, stride length) that the stream holds."""
        return max(0, self.num_tokens - 1) // length

    def tokens(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop) of the stream: a view of the memory map where they lie in one record batch.

        Raises:
            ValueError: if the range leaves the stream.
        """
        self._check(start, stop)
        found = []
        for home in self._overlapping(start, stop):
            begin, end = self._token_starts[home], self._token_starts[home + 1]
            lead = self._batches.lead[home]
            tokens = self._files[self._batches.file[home]].tokens
            found.append(tokens[max(start, begin) + lead : min(stop, end) + lead])
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.zeros(0, self.dtype)

    def rows(self, starts: I64, length: int) -> Tokens:
        """[len(starts), length] tokens: one row from each start, gathered file by file."""
        starts = np.asarray(starts, np.int64).reshape(-1)
        if len(starts) == 0 or length == 0:
            return np.empty((len(starts), length), self.dtype)
        self._check(int(starts.min()), int(starts.max()) + length)
        homes = np.searchsorted(self._token_starts, starts, side="right") - 1
        places, inside = starts + self._batches.lead[homes], starts + length <= self._token_starts[homes + 1]
        if len(self._files) == 1 and inside.all():
            return self._window(0, length)[places]
        out = np.empty((len(starts), length), self.dtype)
        files = self._batches.file[homes]
        for file in np.unique(files[inside]).tolist():
            chosen = np.flatnonzero(inside & (files == file))
            out[chosen] = self._window(file, length)[places[chosen]]
        for row in np.flatnonzero(~inside):
            out[row] = self.tokens(int(starts[row]), int(starts[row]) + length)
        return out

    def gathered(self, starts: I64, lengths: I64) -> Tokens:
        """The tokens of some ranges, one after another."""
        some = np.flatnonzero(lengths > 0)
        starts, stops = starts[some], starts[some] + lengths[some]
        if not len(some):
            return np.zeros(0, self.dtype)
        self._check(int(starts.min()), int(stops.max()))
        firsts = np.searchsorted(self._token_starts, starts, side="right") - 1
        counts = np.searchsorted(self._token_starts, stops, side="left") - firsts  # record batches under the range
        homes = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - firsts, counts)
        low = np.maximum(np.repeat(starts, counts), self._token_starts[homes])
        sizes = np.minimum(np.repeat(stops, counts), self._token_starts[homes + 1]) - low
        places = np.repeat(low + self._batches.lead[homes] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        files = self._batches.file[homes]
        if (files == files[0]).all():
            return self._files[files[0]].tokens[places]
        out, files = np.empty(len(places), self.dtype), np.repeat(files, sizes)
        for file in np.unique(files).tolist():
            chosen = files == file
            out[chosen] = self._files[file].tokens[places[chosen]]
        return out

    def boundaries(self) -> I64:
        """[documents + 1]: where each document begins in the stream, and the end."""
        found = [np.zeros(1, np.int64)]
        for home in range(len(self._batches.size)):
            at, size = self._batches.offsets[home], self._batches.size[home]
            words = self._files[self._batches.file[home]].words
            found.append(words[at + 1 : at + size + 1] + self._batches.shift[home])
        return np.concatenate(found)

    def sequences(self, indices: I64, length: int) -> Tokens:
        """[len(indices), length + 1]: sequence i holds tokens i·length to i·length + length, both included."""
        return self.rows(np.asarray(indices, np.int64) * length, length + 1)

    def documents(self, start: int, stop: int) -> list[Span]:
        """The documents that have a token in [start, stop), in order.

        Raises:
            ValueError: if the range leaves the stream.
        """
        self._check(start, stop)
        _, ids, begins, ends = self._documents(np.array([start]), np.array([stop]))
        data, lengths = ids.tobytes(), (ends - begins).tolist()
        return [
            Span(data[16 * row : 16 * row + 16], begin, length)
            for row, (begin, length) in enumerate(zip(begins.tolist(), lengths, strict=True))
        ]

    def excerpts(self, starts: I64, stops: I64) -> Excerpts:
        """What documents show in each range [start, stop) of the stream, range by range.

        Raises:
            ValueError: if a range leaves the stream.
        """
        starts, stops = np.asarray(starts, np.int64).reshape(-1), np.asarray(stops, np.int64).reshape(-1)
        if len(starts) == 0:
            return Excerpts.empty()
        if (stops < starts).any():
            raise ValueError("a range of tokens ends before it begins.")
        self._check(int(starts.min()), int(stops.max()))
        ranges, ids, begins, ends = self._documents(starts, stops)
        shown = np.maximum(begins, starts[ranges])
        return Excerpts(ranges, ids, shown - begins, np.minimum(ends, stops[ranges]) - shown)

    def position(self, doc_id: bytes) -> Span | None:
        """Where a document lies in the stream, by binary search; None if this part does not hold it."""
        if len(doc_id) != doc_ids.WIDTH:
            raise ValueError(f"a doc_id has 16 bytes, this one has {len(doc_id)}.")
        wanted = np.frombuffer(doc_id, "S16")
        home = int(np.searchsorted(self._first_ids, wanted, side="right")[0]) - 1
        if home < 0:
            return None
        row = int(doc_ids.positions(self._ids(home), wanted)[0])
        if row < 0:
            return None
        at = int(self._batches.offsets[home]) + row
        begin, end = self._files[self._batches.file[home]].words[at : at + 2].tolist()
        return Span(doc_id, begin + int(self._batches.shift[home]), end - begin)

    def places(self, doc_id: bytes) -> list[tuple[int, int, int]]:
        """(position in the stream, first token of the document there, tokens), in one piece or, if empty, in none."""
        span = self.position(doc_id)
        return [(span.start, 0, span.length)] if span is not None and span.length else []

    def _ids(self, home: int) -> doc_ids.Ids:
        """The ids of one record batch."""
        data, at = self._files[self._batches.file[home]].data, int(self._batches.ids[home])
        return np.frombuffer(data, "S16", int(self._batches.size[home]), 8 * at)

    # -- inside ----------------------------------------------------------------------------------------------

    def _documents(self, starts: I64, stops: I64) -> tuple[I64, doc_ids.Ids, I64, I64]:
        """(range, id, first token, end) of every document that has a token in a range."""
        some = np.flatnonzero(stops > starts)
        if not len(some):
            return Excerpts.empty()
        ends = self._rows_at(np.concatenate([starts[some], stops[some] - 1]))
        counts = ends[len(some) :] - ends[: len(some)] + 1
        before = np.cumsum(counts) - counts
        rows = np.arange(counts.sum()) - np.repeat(before - ends[: len(some)], counts)
        ranges, (ids, begin, end) = np.repeat(some, counts), self._described(rows)
        if (full := begin < end).all():
            return ranges, ids, begin, end
        return ranges[full], ids[full], begin[full], end[full]

    def _rows_at(self, points: I64) -> I64:
        """The document under each token of the stream, counted through all files; by bisection of all together."""
        homes = np.searchsorted(self._token_starts, points, side="right") - 1
        at, wanted, files = self._batches.offsets[homes], points - self._batches.shift[homes], self._batches.file[homes]
        low, high = np.zeros(len(points), np.int64), self._batches.size[homes] - 1
        for file in self._files_of(files):
            chosen = slice(None) if file.alone else file.chosen
            some_low, some_high, base, goal = low[chosen], high[chosen], at[chosen], wanted[chosen]
            for _ in range(int(some_high.max()).bit_length()):
                middle = (some_low + some_high + 1) >> 1
                reached = file.words[base + middle] <= goal
                some_low = np.where(reached, middle, some_low)
                some_high = np.where(reached, some_high, middle - 1)
            low[chosen] = some_low
        return self._row_starts[homes] + low

    def _described(self, rows: I64) -> tuple[doc_ids.Ids, I64, I64]:
        """Id, first token and end in the stream of documents, counted through all files."""
        homes = np.searchsorted(self._row_starts, rows, side="right") - 1
        local = rows - self._row_starts[homes]
        offsets, ids, shift = (
            column[homes] for column in (self._batches.offsets, self._batches.ids, self._batches.shift)
        )
        pairs, begin, end = (
            np.empty((len(rows), 2), np.int64),
            np.empty(len(rows), np.int64),
            np.empty(len(rows), np.int64),
        )
        for file in self._files_of(self._batches.file[homes]):
            chosen = slice(None) if file.alone else file.chosen
            at, first = offsets[chosen] + local[chosen], ids[chosen] + 2 * local[chosen]
            begin[chosen], end[chosen] = file.words[at], file.words[at + 1]
            pairs[chosen, 0], pairs[chosen, 1] = file.words[first], file.words[first + 1]
        return pairs.reshape(-1).view("S16"), begin + shift, end + shift

    def _files_of(self, files: I64) -> Iterator[_Chosen]:
        if len(self._files) == 1:
            yield _Chosen(self._files[0].words, np.zeros(0, np.int64), alone=True)
            return
        for file in np.unique(files).tolist():
            yield _Chosen(self._files[file].words, np.flatnonzero(files == file), alone=False)

    def _window(self, file: int, length: int) -> Tokens:
        """Every run of ``length`` tokens of a file, as a view."""
        if (file, length) not in self._windows:
            self._windows[file, length] = np.lib.stride_tricks.sliding_window_view(self._files[file].tokens, length)
        return self._windows[file, length]

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.num_tokens:
            where = self.paths[0].parent if self.paths else "no shards"
            raise ValueError(f"{where}: tokens [{start}, {stop}) asked for, the part holds [0, {self.num_tokens}).")

    def _overlapping(self, start: int, stop: int) -> range:
        """The record batches that a range touches."""
        if start == stop:
            return range(0)
        low = int(np.searchsorted(self._token_starts, start, side="right")) - 1
        return range(low, int(np.searchsorted(self._token_starts, stop, side="left")))


class _Chosen(NamedTuple):
    """Of some queries those that one file answers."""

    words: I64
    chosen: I64
    alone: bool  # there is no other file: all of them
