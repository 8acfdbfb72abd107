"""The band index: under which band hashes the survivors of a source can be found, kept with the part of that source.

A source that is added later meets them there: neither the signatures of the earlier sources are read again, nor their
bands hashed and sorted. 8 bytes a band and survivor.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.pieces import TableWriter
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.tables import read_batches
from pipelines.selection import MAPPED_BYTES
from pipelines.signatures import SIGNATURES
from pipelines.survival import Corpus

BANDS = "bands.arrow"
BANDS_SCHEMA = pa.schema([("hash", pa.uint64())])  # a record batch a band, its rows the kept documents by doc_id
I64, U64 = NDArray[np.int64], NDArray[np.uint64]


class BandHashes:
    """The band hashes of the documents of some sources, on disk, from where they come back one band at a time.

    A document with the words of an earlier one follows it, and one without words is nobody's near-duplicate: of both
    there are no hashes.
    """

    def __init__(
        self, corpus: Corpus, signatures: Sequence[Artifact], first: int, bands: int, rows: int, scratch: Path
    ) -> None:
        self.bands, self.first = bands, first
        self._corpus, self._file = corpus, tempfile.TemporaryFile(prefix="bands-", dir=scratch)  # noqa: SIM115
        self._begins: list[list[int]] = []
        self._numbers: list[list[I64]] = []
        for (row_of, number), signature in zip(corpus.sources[first:], signatures[first:], strict=True):
            self._begins.append([])
            self._numbers.append([])
            self._write(row_of, number, signature, rows)
        self._file.flush()  # pread knows nothing of what Python has buffered

    def _write(self, row_of: I64, number: I64, signature: Artifact, rows: int) -> None:
        """Hash the documents of a source, band by band within each batch."""
        from pipelines import stars

        number_of = np.empty_like(number)
        number_of[row_of] = number
        start = 0
        for batch in read_batches(signature.local(SIGNATURES), ["signature", "num_words"]):
            here = number_of[start : start + batch.num_rows]
            start += batch.num_rows
            wanted = (self._corpus.alike[here] == here) & (np.asarray(batch["num_words"]) > 0)
            values = batch["signature"].chunk(0).flatten().to_numpy().reshape(batch.num_rows, -1)
            self._begins[-1].append(self._file.tell())
            self._numbers[-1].append(here[wanted])
            self._file.write(stars.band_hashes(values[wanted], self.bands, rows).T.tobytes())

    def column(self, band: int, ranks: Sequence[int]) -> tuple[U64, I64]:
        """The hashes of one band, and the numbers of their documents, of some sources."""
        where = [(b, n) for rank in ranks for b, n in zip(*self._of(rank), strict=True)]
        column, at = np.empty(sum(len(numbers) for _, numbers in where), np.uint64), 0
        for begin, numbers in where:
            data = os.pread(self._file.fileno(), 8 * len(numbers), begin + 8 * band * len(numbers))
            column[at : at + len(numbers)] = np.frombuffer(data, np.uint64)
            at += len(numbers)
        return column, np.concatenate([np.zeros(0, np.int64), *(numbers for _, numbers in where)])

    def _of(self, rank: int) -> tuple[list[int], list[I64]]:
        return self._begins[rank - self.first], self._numbers[rank - self.first]

    def write_index(self, rank: int, stays: NDArray[np.bool_], draft: Draft) -> None:
        """The index of one source; ``stays`` says so of its documents, by doc_id. One without words has hash 0."""
        place = np.cumsum(stays) - 1
        number = self._corpus.sources[rank][1]
        begin = int(number[0]) if len(number) else 0  # numbers of a source follow one another
        draft.path(BANDS)
        with TableWriter(draft.directory, {BANDS: BANDS_SCHEMA}) as tables:
            for band in range(self.bands):
                hashes, numbers = self.column(band, [rank])
                here = stays[numbers - begin]
                row = np.zeros(int(stays.sum()), np.uint64)
                row[place[(numbers - begin)[here]]] = hashes[here]
                tables.write(BANDS, pa.table([row], schema=BANDS_SCHEMA))

    def close(self) -> None:
        self._file.close()


class SettledIndex:
    """The index of sources that were settled before, band by band."""

    def __init__(self, corpus: Corpus, parts: Sequence[Artifact]) -> None:
        self._parts = parts
        self._kept = [
            number[np.asarray(part.table(fates.FILE, ["survivor"])["survivor"].is_null())]
            for (_, number), part in zip(corpus.sources, parts, strict=False)
        ]
        self._readers: dict[int, pa.ipc.RecordBatchFileReader] = {}
        self._touched = 0

    def met(self, band: int, values: U64) -> tuple[U64, I64]:
        """Hashes of one band that stand among these sorted values, and the numbers of the documents that have them."""
        from pipelines import stars

        hashes, docs = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
        for rank, numbers in enumerate(self._kept):
            if len(numbers):
                column = self._column(rank, band)
                at = stars.also_in(column, values)
                hashes.append(column[at])
                docs.append(numbers[at])
        return np.concatenate(hashes), np.concatenate(docs)

    def _column(self, rank: int, band: int) -> U64:
        """Through one map of each file, opened anew after ``MAPPED_BYTES``: what was read of a map stays resident."""
        if self._touched > MAPPED_BYTES:
            self._readers, self._touched = {}, 0
        if rank not in self._readers:
            self._readers[rank] = pa.ipc.open_file(pa.memory_map(str(self._parts[rank].local(BANDS))))
        column = self._readers[rank].get_batch(band)["hash"].to_numpy()
        self._touched += column.nbytes
        return column
