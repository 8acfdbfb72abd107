from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import doc_ids
from pipelines.provenance import tables
from pipelines.shard_reader import ShardReader, Span


def write_shards(folder, documents, cuts, kind=None):
    """documents: (doc_id, tokens) in order; cuts: at which documents a new shard begins."""
    kind = kind or pa.uint16()
    paths = []
    for number, (start, stop) in enumerate(zip([0, *cuts], [*cuts, len(documents)], strict=True)):
        rows = documents[start:stop]
        schema = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(kind))])
        columns = [pa.array([d for d, _ in rows], pa.binary(16)), pa.array([t for _, t in rows], pa.large_list(kind))]
        paths.append(folder / f"shard-{number:05d}.arrow")
        tables.write_table(paths[-1], pa.table(columns, schema=schema))
    return paths


ids = st.binary(min_size=16, max_size=16) | st.builds(lambda b: b + bytes(12), st.binary(min_size=4, max_size=4))
documents = st.dictionaries(ids, st.lists(st.integers(0, 65535), max_size=9), max_size=30).map(
    lambda d: sorted(d.items())
)


@settings(max_examples=60)
@given(documents, st.data())
def test_reader_agrees_with_a_plain_list(tmp_path_factory, documents, data):
    """Ids with zero bytes at the end, empty documents, empty shards and batches of three rows included."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(documents)), max_size=3)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_ROWS", 3)
        reader = ShardReader(write_shards(tmp_path_factory.mktemp("s"), documents, cuts))
    stream = [t for _, tokens in documents for t in tokens]
    starts = np.cumsum([0, *(len(t) for _, t in documents)]).tolist()
    assert (reader.num_tokens, reader.num_docs) == (len(stream), len(documents))
    for start in range(len(stream) + 1):
        for stop in range(start, min(len(stream), start + 25) + 1):
            assert reader.tokens(start, stop).tolist() == stream[start:stop]
            expected = [
                Span(doc, at, len(tokens))
                for (doc, tokens), at in zip(documents, starts, strict=False)
                if max(at, start) < min(at + len(tokens), stop)
            ]
            assert reader.documents(start, stop) == expected
    for (doc, tokens), at in zip(documents, starts, strict=False):
        assert reader.position(doc) == Span(doc, at, len(tokens))
    for stranger in data.draw(st.lists(ids, max_size=5)):
        if stranger not in dict(documents):
            assert reader.position(stranger) is None


@settings(max_examples=40)
@given(documents, st.integers(1, 12), st.data())
def test_gathered_rows_are_the_slices(tmp_path_factory, documents, length, data):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_ROWS", 4)
        reader = ShardReader(write_shards(tmp_path_factory.mktemp("s"), documents, [len(documents) // 2]))
    room = reader.num_tokens - length
    starts = data.draw(st.lists(st.integers(0, room), max_size=8)) if room >= 0 else []
    rows = reader.rows(np.array(starts, np.int64), length)
    assert rows.shape == (len(starts), length)
    assert rows.dtype == np.uint16
    assert [row.tolist() for row in rows] == [reader.tokens(s, s + length).tolist() for s in starts]


def test_sequences_share_one_token_and_leave_the_tail(tmp_path):
    reader = ShardReader(write_shards(tmp_path, [(bytes(16), list(range(11)))], []))
    assert reader.num_sequences(4) == 2
    assert reader.num_sequences(10) == 1
    assert reader.num_sequences(11) == 0
    assert reader.sequences(np.array([1, 0]), 4).tolist() == [[4, 5, 6, 7, 8], [0, 1, 2, 3, 4]]


def test_tokens_inside_one_batch_are_a_view_of_the_map(tmp_path):
    reader = ShardReader(write_shards(tmp_path, [(bytes(16), list(range(1000)))], []))
    first, second = reader.tokens(10, 20), reader.tokens(10, 20)
    assert np.shares_memory(first, second)
    assert not first.flags.writeable


def test_large_vocabularies_come_as_uint32(tmp_path):
    reader = ShardReader(write_shards(tmp_path, [(bytes(16), [70_000, 1])], [], pa.uint32()))
    assert reader.dtype == np.uint32
    assert reader.tokens(0, 2).tolist() == [70_000, 1]


def test_ranges_outside_the_stream_are_refused(tmp_path):
    reader = ShardReader(write_shards(tmp_path, [(bytes(16), [1, 2, 3])], []))
    for start, stop in [(-1, 2), (0, 4), (3, 2)]:
        with pytest.raises(ValueError, match=r"the part holds \[0, 3\)"):
            reader.tokens(start, stop)
    with pytest.raises(ValueError, match="asked for"):
        reader.rows(np.array([2]), 2)
    with pytest.raises(ValueError, match="16 bytes"):
        reader.position(b"short")


def test_other_files_are_refused(tmp_path):
    tables.write_table(tmp_path / "shard-00000.arrow", pa.table({"text": ["a"]}))
    with pytest.raises(ValueError, match="not a token shard; its columns are text"):
        ShardReader([tmp_path / "shard-00000.arrow"])
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    paths = write_shards(one, [(bytes(16), [1])], []) + write_shards(two, [(bytes(16), [1])], [], pa.uint32())
    with pytest.raises(ValueError, match="uint16 and uint32"):
        ShardReader(paths)


@given(st.lists(ids, unique=True, max_size=20), st.lists(ids, max_size=5))
def test_ids_sort_and_search_as_python_bytes(known, strangers):
    column = pa.chunked_array([known[:3], known[3:]], pa.binary(16))
    array = doc_ids.as_numpy(column)
    ordered = array[doc_ids.order(array)]
    assert doc_ids.as_arrow(ordered).to_pylist() == sorted(known)
    wanted = known + strangers
    found = doc_ids.positions(ordered, doc_ids.as_numpy(pa.array(wanted, pa.binary(16))))
    assert found.tolist() == [sorted(known).index(w) if w in known else -1 for w in wanted]
