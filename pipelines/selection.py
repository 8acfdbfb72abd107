"""Some documents of a part, written as a part of their own: filtered, put into another order, or both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS, TEXTS
from pipelines.pieces import BATCH_BYTES, TableWriter
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import BATCH_ROWS, read_batches, rows_digest

I64 = NDArray[np.int64]
MAPPED_BYTES = 64 << 20  # of batches that are read through one map of their file


def ids(part: Artifact) -> doc_ids.Ids:
    """The doc_ids of a part in the order of its rows."""
    return doc_ids.as_numpy(part.table(DOCUMENTS, ["doc_id"])["doc_id"])


def by_doc_id(part: Artifact, keep: NDArray[np.bool_]) -> I64:
    """Rows of the documents to keep, in the order of their doc_ids."""
    order = doc_ids.order(ids(part))
    return order[keep[order]]


def write_rows(
    part: Artifact,
    rows: I64,
    draft: Draft,
    edited: Callable[[pa.Table, pa.Table], tuple[pa.Table, pa.Table]] | None = None,
) -> tuple[int, str]:
    """Write these rows of a part, in this order, as ``documents.arrow`` and ``texts.arrow``.

    Args:
        part: whose rows they are.
        rows: numbers of rows.
        draft: where to write.
        edited: documents and texts as they shall be written, row by row; as they are if left out.

    Returns:
        Bytes of text, and the logical digest of the documents, which holds the SHA-256 of every text.
    """
    sizes = np.asarray(part.table(DOCUMENTS, ["num_bytes"])["num_bytes"])[rows]
    documents, texts = _Batches(part.local(DOCUMENTS)), _Batches(part.local(TEXTS))
    num_bytes = 0
    with TableWriter(draft.directory, {DOCUMENTS: documents.schema, TEXTS: texts.schema}) as tables:
        for start, stop in pairwise(_cuts(sizes)):
            both = documents.take(rows[start:stop]), texts.take(rows[start:stop])
            both = edited(*both) if edited else both
            num_bytes += int(np.asarray(both[0]["num_bytes"]).sum())
            tables.write(DOCUMENTS, both[0])
            tables.write(TEXTS, both[1])
    return num_bytes, rows_digest(read_batches(draft.path(DOCUMENTS)))


def _cuts(sizes: I64) -> list[int]:
    """Where batches begin, so that none has more than ``BATCH_ROWS`` rows or (but for a single one) ``BATCH_BYTES``."""
    ends, cuts = np.cumsum(sizes), [0]
    while cuts[-1] < len(sizes):
        start = cuts[-1]
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + BATCH_BYTES, side="right"))
        cuts.append(max(start + 1, min(stop, start + BATCH_ROWS)))
    return cuts


class _Batches:
    """The record batches of a memory-mapped file, as one table from which rows are taken in any order.

    Taking from the whole table at once would copy all its text first; here only the batches that hold a row are
    touched, and of them only the rows. What was touched stays resident as long as the map, so that is opened anew
    after ``MAPPED_BYTES``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader, self._touched = pa.ipc.open_file(pa.memory_map(str(path))), 0
        self.schema = self._reader.schema
        sizes = (self._reader.get_batch(index).num_rows for index in range(self._reader.num_record_batches))
        self._starts = np.cumsum([0, *sizes])

    def take(self, rows: I64) -> pa.Table:
        homes = np.searchsorted(self._starts, rows, side="right") - 1
        by_home = np.argsort(homes, kind="stable")
        together = pa.Table.from_batches(list(self._taken(rows[by_home], homes[by_home])), self.schema)
        if (homes[1:] >= homes[:-1]).all():
            return together
        place = np.empty(len(rows), np.int64)
        place[by_home] = np.arange(len(rows))
        return together.combine_chunks().take(pa.array(place))

    def _taken(self, rows: I64, homes: I64) -> Iterator[pa.RecordBatch]:
        for home in np.unique(homes):
            begin, end = np.searchsorted(homes, [home, home + 1])
            batch = self._batch(int(home))
            yield batch.take(pa.array(rows[begin:end] - self._starts[home]))

    def _batch(self, index: int) -> pa.RecordBatch:
        if self._touched > MAPPED_BYTES:
            self._reader, self._touched = pa.ipc.open_file(pa.memory_map(str(self._path))), 0
        batch = self._reader.get_batch(index)
        self._touched += batch.nbytes
        return batch
