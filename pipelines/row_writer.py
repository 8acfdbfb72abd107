"""A table on disk that is pushed row by row, for stages that write several tables in one pass over their input."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
from blake3 import blake3

from pipelines.provenance.tables import BATCH_ROWS


class RowWriter:
    """Writes the bytes that ``tables.write_batches`` would write for the same rows.

    Attributes:
        num_rows: rows that were added.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.num_rows = 0
        self._pending: list[pa.RecordBatch] = []
        self._num_pending = 0
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)
        self._hasher = blake3(str([(f.name, str(f.type)) for f in schema]).encode())

    def add(self, table: pa.Table) -> None:
        """Append rows; every full ``BATCH_ROWS`` of them go to disk."""
        self.num_rows += table.num_rows
        for batch in table.cast(self.schema).to_batches():
            start = 0
            while start < batch.num_rows:
                taken = min(BATCH_ROWS - self._num_pending, batch.num_rows - start)
                self._pending.append(batch.slice(start, taken))
                self._num_pending += taken
                start += taken
                if self._num_pending == BATCH_ROWS:
                    self._flush()

    def _flush(self) -> None:
        rows = pa.Table.from_batches(self._pending, self.schema)
        # take() copies: a plain slice would drag its parent's offsets and validity bits into the file
        whole = rows.take(pa.array(range(rows.num_rows), pa.int64())).combine_chunks()
        batch = whole.to_batches()[0]
        self._writer.write_batch(batch)
        self._hasher.update(batch.replace_schema_metadata(None).serialize())
        self._pending, self._num_pending = [], 0

    @property
    def digest(self) -> str:
        """Logical digest of the rows, as ``tables.rows_digest``; complete once the writer is closed."""
        return self._hasher.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._num_pending:
            self._flush()
        self._writer.close()
        self._sink.close()
