"""Shards as arrays: each file is mapped whole, and its record batches are places in it from which to count."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines import doc_ids

Tokens = NDArray[Any]  # uint16 or uint32, as the shards hold them
I64 = NDArray[np.int64]


class File(NamedTuple):
    """One shard as arrays over the memory map."""

    data: pa.Buffer
    words: I64  # the whole file; offsets and ids are aligned to eight bytes
    tokens: Tokens  # the whole file


class Batches(NamedTuple):
    """Where the record batches with documents lie, [batches] each."""

    file: I64
    size: I64  # documents
    tokens: I64  # how many
    offsets: I64  # of its list offsets, in words of the file
    ids: I64  # of its document ids, in words of the file
    shift: I64  # position in the stream less list offset
    lead: I64  # place in the tokens of the file less position in the stream


def mapped(paths: Sequence[Path]) -> tuple[list[File], Batches]:
    """The shards of a part, in order.

    Raises:
        ValueError: if a file is not a token shard.
    """
    opened = [_opened(path, number) for number, path in enumerate(paths)]
    rows = [place for _, places in opened for place in places]
    file, size, tokens, offsets, ids, values, firsts = np.array(rows, np.int64).reshape(-1, 7).T
    shift = np.cumsum(tokens) - tokens - firsts
    return [file for file, _ in opened], Batches(file, size, tokens, offsets, ids, shift, values - shift)


def _opened(path: Path, number: int) -> tuple[File, list[tuple[int, ...]]]:
    """The file, and of each record batch: file, documents, tokens, where offsets, ids and values lie, first offset."""
    source = pa.memory_map(str(path))
    reader = pa.ipc.open_file(source)
    kind = _token_type(path, reader.schema)
    source.seek(0)
    data = source.read_buffer()
    file = File(
        data, np.frombuffer(data, np.int64, data.size // 8), np.frombuffer(data, kind, data.size // kind.itemsize)
    )
    places = []
    for index in range(reader.num_record_batches):
        batch = reader.get_batch(index)
        if not batch.num_rows:
            continue
        lists, ids = batch.column("tokens"), batch.column("doc_id")
        doc_ids.as_numpy(ids)  # or says that some are missing
        offsets, values = lists.offsets.to_numpy(), lists.values.buffers()[1]
        at, first_id = _place(path, data, lists.buffers()[1]) // 8, _place(path, data, ids.buffers()[1]) // 8
        tokens_at = _place(path, data, values) // kind.itemsize if values is not None and values.size else 0
        first, last = int(offsets[0]), int(offsets[-1])
        places.append((number, batch.num_rows, last - first, at, first_id, tokens_at, first))
    return file, places


def _token_type(path: Path, schema: pa.Schema) -> np.dtype[Any]:
    fields = {field.name: field.type for field in schema}
    kind = fields.get("tokens")
    if kind not in (pa.large_list(pa.uint16()), pa.large_list(pa.uint32())) or fields.get("doc_id") != pa.binary(16):
        raise ValueError(f"{path}: not a token shard; its columns are {', '.join(schema.names)}.")
    return np.dtype(np.uint16 if kind == pa.large_list(pa.uint16()) else np.uint32)


def _place(path: Path, data: pa.Buffer, buffer: pa.Buffer) -> int:
    """Byte of the file at which a column's buffer begins.

    Raises:
        ValueError: if the buffer is a copy: the file is compressed, and cannot be mapped.
    """
    place = buffer.address - data.address
    if not 0 <= place <= data.size or place % 8:
        raise ValueError(f"{path}: its columns are compressed, a token shard is plain; re-materialize token_shards.")
    return place
