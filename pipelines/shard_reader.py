"""The token stream of one part, memory-mapped: tokens by position, documents by position, position by document.

The stream is the concatenation of all rows of all shards in order. Nothing is read on opening but where each record
batch begins (8,192 documents), so that a part of 50 million documents opens in a second and holds no index in memory:
the shard, whose rows are sorted by doc_id, is its own index of 24 bytes a document.

Needs only numpy and pyarrow; the trainer's loader and the lineage queries share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import doc_ids
from pipelines.provenance.artifact import Artifact

Tokens = NDArray[Any]  # uint16 or uint32, as the shards hold them
I64 = NDArray[np.int64]


class Span(NamedTuple):
    """A document in the token stream."""

    doc_id: bytes
    start: int  # of its first token, in the stream of the part
    length: int  # with its end-of-text token


class _Batch(NamedTuple):
    """One record batch: arrays over the memory map."""

    ids: doc_ids.Ids
    offsets: I64  # [documents + 1], into tokens
    tokens: Tokens


class ShardReader:
    """Reads the shards of one part.

    Args:
        paths: the shards, in order.

    Raises:
        ValueError: if a file is not a token shard, or the shards hold different types of tokens.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self._batches = [batch for path in self.paths for batch in _batches(path)]
        types = sorted({str(batch.tokens.dtype) for batch in self._batches})
        if len(types) > 1:
            raise ValueError(f"{self.paths[0].parent}: shards hold {' and '.join(types)} tokens, expected one type.")
        self.dtype = np.dtype(types[0] if types else np.uint16)
        self._token_starts = np.cumsum([0, *(len(b.tokens) for b in self._batches)], dtype=np.int64)
        self._first_ids = np.array([b.ids[0] for b in self._batches], "S16")

    @classmethod
    def open(cls, part: Artifact) -> ShardReader:
        """The reader of a part of ``token_shards`` or ``heldout_shards``."""
        return cls([part.local(name) for name in part.names(".arrow") if name.startswith("shard-")])

    @property
    def num_tokens(self) -> int:
        return int(self._token_starts[-1])

    @property
    def num_docs(self) -> int:
        return sum(len(batch.ids) for batch in self._batches)

    def num_sequences(self, length: int) -> int:
        """Sequences of ``length`` targets (length + 1 tokens, stride length) that the stream holds."""
        return max(0, self.num_tokens - 1) // length

    def tokens(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop) of the stream: a view of the memory map where they lie in one record batch.

        Raises:
            ValueError: if the range leaves the stream.
        """
        self._check(start, stop)
        found = [
            batch.tokens[max(0, start - first) : stop - first]
            for batch, first in self._overlapping(start, stop)
        ]  # fmt: skip
        if len(found) == 1:
            return found[0]
        return np.concatenate(found) if found else np.zeros(0, self.dtype)

    def rows(self, starts: I64, length: int) -> Tokens:
        """[len(starts), length] tokens: one row from each start, gathered batch by batch."""
        starts = np.asarray(starts, np.int64).reshape(-1)
        out = np.empty((len(starts), length), self.dtype)
        if len(starts) == 0 or length == 0:
            return out
        self._check(int(starts.min()), int(starts.max()) + length)
        homes = np.searchsorted(self._token_starts, starts, side="right") - 1
        inside = starts + length <= self._token_starts[homes + 1]
        for home in np.unique(homes[inside]):
            chosen = np.flatnonzero(inside & (homes == home))
            windows = np.lib.stride_tricks.sliding_window_view(self._batches[home].tokens, length)
            out[chosen] = windows[starts[chosen] - self._token_starts[home]]
        for row in np.flatnonzero(~inside):
            out[row] = self.tokens(int(starts[row]), int(starts[row]) + length)
        return out

    def sequences(self, indices: I64, length: int) -> Tokens:
        """[len(indices), length + 1]: sequence i holds tokens i·length to i·length + length, both included."""
        return self.rows(np.asarray(indices, np.int64) * length, length + 1)

    def documents(self, start: int, stop: int) -> list[Span]:
        """The documents that have a token in [start, stop), in order.

        Raises:
            ValueError: if the range leaves the stream.
        """
        self._check(start, stop)
        found = []
        for batch, first in self._overlapping(start, stop):
            low = int(np.searchsorted(batch.offsets, start - first, side="right")) - 1
            high = int(np.searchsorted(batch.offsets, stop - first, side="left"))
            for row in range(max(0, low), min(high, len(batch.ids))):
                begin, end = int(batch.offsets[row]), int(batch.offsets[row + 1])
                if begin < end:
                    found.append(Span(doc_ids.as_bytes(batch.ids, row), first + begin, end - begin))
        return found

    def position(self, doc_id: bytes) -> Span | None:
        """Where a document lies in the stream, by binary search; None if this part does not hold it."""
        if len(doc_id) != doc_ids.WIDTH:
            raise ValueError(f"a doc_id has 16 bytes, this one has {len(doc_id)}.")
        wanted = np.frombuffer(doc_id, "S16")
        home = int(np.searchsorted(self._first_ids, wanted, side="right")[0]) - 1
        if home < 0:
            return None
        batch = self._batches[home]
        row = int(doc_ids.positions(batch.ids, wanted)[0])
        if row < 0:
            return None
        begin, end = int(batch.offsets[row]), int(batch.offsets[row + 1])
        return Span(doc_id, int(self._token_starts[home]) + begin, end - begin)

    def _check(self, start: int, stop: int) -> None:
        if not 0 <= start <= stop <= self.num_tokens:
            where = self.paths[0].parent if self.paths else "no shards"
            raise ValueError(f"{where}: tokens [{start}, {stop}) asked for, the part holds [0, {self.num_tokens}).")

    def _overlapping(self, start: int, stop: int) -> list[tuple[_Batch, int]]:
        """(batch, its first token) of the record batches that a non-empty range touches."""
        if start == stop:
            return []
        low = int(np.searchsorted(self._token_starts, start, side="right")) - 1
        high = int(np.searchsorted(self._token_starts, stop, side="left"))
        return [(self._batches[index], int(self._token_starts[index])) for index in range(low, high)]


def _batches(path: Path) -> list[_Batch]:
    reader = pa.ipc.open_file(pa.memory_map(str(path)))
    fields = {field.name: field.type for field in reader.schema}
    kind = fields.get("tokens")
    if kind not in (pa.large_list(pa.uint16()), pa.large_list(pa.uint32())) or fields.get("doc_id") != pa.binary(16):
        raise ValueError(f"{path}: not a token shard; its columns are {', '.join(reader.schema.names)}.")
    batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
    return [_opened(batch) for batch in batches if batch.num_rows]


def _opened(batch: pa.RecordBatch) -> _Batch:
    lists = batch.column("tokens")
    offsets = lists.offsets.to_numpy()
    tokens = lists.values.to_numpy()[offsets[0] : offsets[-1]]
    return _Batch(doc_ids.as_numpy(batch.column("doc_id")), offsets - offsets[0] if offsets[0] else offsets, tokens)
