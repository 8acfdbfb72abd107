"""Documents: their ids and their columns.

A document is one row of ``documents.arrow`` (what is known about it) and the row at the same place of
``texts.arrow`` (its text, kept apart so that it can be redacted while everything else still verifies).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import doc_ids
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.tables import read_batches

DOCUMENTS, TEXTS, PAGES, FILES = "documents.arrow", "texts.arrow", "pages.arrow", "files.arrow"

RAW_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("key", pa.string()),  # the record's own name inside its source; empty if it has none
        ("uri", pa.string()),  # relative to the source, never a path of the machine that read it
        ("file", pa.string()),
        ("position", pa.int64()),  # line or row, from 1
        ("group", pa.string()),  # documents of one group are held out together or not at all
        ("licence", pa.string()),  # SPDX expression
        ("url", pa.string()),  # where the record was published; empty if it does not say
        ("num_bytes", pa.int64()),  # of the text in UTF-8
        ("sha256", pa.binary(32)),  # of the text in UTF-8
    ]
)
CLEAN_SCHEMA = pa.schema(
    [
        *[field for field in RAW_SCHEMA if field.name != "sha256"],
        ("language", pa.string()),
        ("num_words", pa.int64()),
        ("sha256_in", pa.binary(32)),
        ("sha256_out", pa.binary(32)),
    ]
)
TEXTS_SCHEMA = pa.schema([("doc_id", pa.binary(16)), ("text", pa.large_string())])
PAGES_SCHEMA = pa.schema(
    [
        ("doc_id", pa.binary(16)),
        ("title", pa.string()),
        ("date", pa.string()),  # as the record gives it
        ("language", pa.string()),  # a hint of the publisher's, not a finding
        ("links", pa.list_(pa.string())),
    ]
)
FILES_SCHEMA = pa.schema([("path", pa.string()), ("bytes", pa.int64()), ("blake3", pa.string())])


_EIGHT = (8).to_bytes(8, "little")


class Record(NamedTuple):
    """One record as a reader found it: a text, or a problem with the raw bytes that have it.

    ``raw`` names the record where its text in UTF-8 does not: the bytes that have a problem; SHA-256 and size (8
    bytes, little-endian) of a record too large to hold, and of a page or article from which the text was extracted.
    """

    file: str
    position: int
    uri: str
    text: str = ""
    key: str = ""
    group: str = ""  # empty: the record is a group of its own
    licence: str = ""
    problem: str = ""  # "kind: where (detail)"; never a piece of the content
    raw: bytes = b""
    url: str = ""  # where the text was published, as the data state it
    title: str = ""
    date: str = ""  # as the data state it
    language: str = ""  # a hint of the data (ISO 639), not what was identified
    links: tuple[str, ...] = ()


def doc_id(source: str, record_key: str, raw: bytes, ordinal: int) -> bytes:
    """The stable name of a document: 16 bytes of SHA-256 over four length-prefixed fields.

    Neither snapshot, file nor position enters, so a record keeps its id when the next snapshot brings it again
    or when files are split differently.

    Args:
        source: name of the source without its snapshot.
        record_key: name of the record inside the source, or "".
        raw: its text in UTF-8 as the source gave it; the bytes themselves where they are no text.
        ordinal: number among records that are equal in all of the above, from 0.
    """
    name, key = source.encode(), record_key.encode("utf-8", "surrogatepass")
    sizes = [len(field).to_bytes(8, "little") for field in (name, key, raw)]
    hasher = hashlib.sha256(b"".join((sizes[0], name, sizes[1], key, sizes[2])))
    hasher.update(raw)
    hasher.update(_EIGHT + ordinal.to_bytes(8, "little"))
    return hasher.digest()[:16]


def problem_of(record: Record) -> tuple[str, bytes]:
    """What is wrong with a text that decoded well, or ""; and its bytes."""
    where = f"{record.file} {record.position}"
    try:
        data = record.text.encode()
    except UnicodeEncodeError as error:
        raw = record.text.encode("utf-8", "surrogatepass")
        return f"lone surrogate: {where} (character {error.start} of the text)", raw
    if "\0" in record.text:
        return f"NUL byte: {where} (character {record.text.index(chr(0))} of the text)", data
    return "", data


def read_documents(artifact: Artifact) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Documents and texts, aligned, batch by batch."""
    pairs = zip(read_batches(artifact.local(DOCUMENTS)), read_batches(artifact.local(TEXTS)), strict=True)
    for documents, texts in pairs:
        assert documents["doc_id"].equals(texts["doc_id"]), f"{artifact.key}: documents and texts are not aligned"
        yield documents, texts


def documents_digest(documents: Iterator[pa.Table], settled: Iterator[pa.Table]) -> str:
    """Logical digest over (doc_id, SHA-256 of the text) and (doc_id, fate), each in the order of the ids.

    It stays the same when the same records are split into files differently, or come in another order.

    Args:
        documents: tables of two columns: doc_id, and the SHA-256 of each text.
        settled: tables of two columns: doc_id and fate.
    """
    hasher = hashlib.sha256()
    for tables, width in ((documents, 32), (settled, 1)):
        found = [(doc_ids.as_numpy(table[0]), _fixed(table[1], width)) for table in tables]
        ids = np.concatenate([ids for ids, _ in found]) if found else np.zeros(0, "S16")
        cells = np.concatenate([cells for _, cells in found]) if found else np.zeros(0, f"V{width}")
        order = doc_ids.order(ids)
        hasher.update(len(ids).to_bytes(8, "little"))
        hasher.update(ids[order].tobytes())
        hasher.update(cells[order].tobytes())
    return hasher.hexdigest()


def _fixed(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Cells of fixed width: digests as they are, fates by their number."""
    if width == 1:
        numbers = pc.index_in(column, pa.array(fates.FATES)).cast(pa.uint8())
        return np.ascontiguousarray(numbers.to_numpy()).view("V1")
    whole = column.combine_chunks()
    whole = whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole
    if len(whole) == 0:
        return np.zeros(0, f"V{width}")
    return np.frombuffer(whole.buffers()[1], f"V{width}", count=len(whole), offset=whole.offset * width)
