"""Samples: the documents with the lowest doc_ids, which are hashes, so that a corpus that grows changes them little."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from pipelines import doc_ids
from pipelines.documents import DOCUMENTS, read_documents
from pipelines.provenance.artifact import Artifact


def sampled(artifacts: Sequence[Artifact], sample_bytes: int) -> Iterator[tuple[doc_ids.Ids, pa.ChunkedArray]]:
    """Ids and texts of the lowest documents that have ``sample_bytes`` together, at least one, batch by batch."""
    parts = [part for artifact in artifacts for part in artifact.parts()]
    known = [part.table(DOCUMENTS, ["doc_id", "num_bytes"]) for part in parts]
    ids = np.concatenate([np.zeros(0, "S16"), *(doc_ids.as_numpy(table["doc_id"]) for table in known)])
    sizes = np.concatenate([np.zeros(0, np.int64), *(np.asarray(table["num_bytes"]) for table in known)])
    order = doc_ids.order(ids)
    taken = np.zeros(len(ids), np.bool_)
    taken[order[: max(1, int(np.searchsorted(np.cumsum(sizes[order]), sample_bytes, side="right")))]] = True
    start = 0
    for part in parts:
        for documents, texts in read_documents(part):
            chosen = pa.array(taken[start : start + documents.num_rows])
            start += documents.num_rows
            yield doc_ids.as_numpy(documents["doc_id"].filter(chosen)), texts["text"].filter(chosen)
