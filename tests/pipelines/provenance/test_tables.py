"""Tables on disk have the same bytes however their producer chunked, sliced or masked the rows."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.provenance.tables import (
    BATCH_ROWS,
    TableError,
    read_batches,
    read_table,
    rows_digest,
    write_batches,
    write_table,
)

SCHEMA = pa.schema([
    ("doc_id", pa.binary(16)), ("text", pa.large_string()), ("reason", pa.string()), ("value", pa.float64()),
    ("count", pa.int64()), ("sure", pa.bool_()), ("tokens", pa.large_list(pa.uint16())),
    ("signature", pa.list_(pa.uint32(), 3)),
])  # fmt: skip
ROWS = st.lists(
    st.fixed_dictionaries({
        "doc_id": st.none() | st.binary(min_size=16, max_size=16),
        "text": st.none() | st.text(max_size=5), "reason": st.none() | st.text(max_size=3),
        "value": st.none() | st.floats(), "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "sure": st.none() | st.booleans(), "tokens": st.none() | st.lists(st.integers(0, 65535), max_size=3),
        "signature": st.none() | st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3),
    }),
    max_size=40,
)  # fmt: skip


def written(path, tables, schema=SCHEMA) -> bytes:
    write_batches(path, schema, tables)
    return path.read_bytes()


def chunked(rows: list[dict], cuts: list[int]) -> list[pa.Table]:
    """The same rows as slices of one padded table, so that offsets and validity bits of strangers lie around them."""
    padded = pa.Table.from_pylist([*rows[-1:], *rows, *rows[:1]], schema=SCHEMA).slice(min(1, len(rows)), len(rows))
    edges = [0, *sorted(cut % (len(rows) + 1) for cut in cuts), len(rows)]
    return [padded.slice(start, end - start) for start, end in pairwise(edges)]


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 100), max_size=5))
def test_bytes_and_rows_digest_do_not_depend_on_the_chunking(tmp_path_factory, rows, cuts):
    path = tmp_path_factory.mktemp("t") / "t.arrow"
    whole, pieces = pa.Table.from_pylist(rows, schema=SCHEMA), chunked(rows, cuts)
    assert written(path, pieces) == written(path, [whole])
    assert (
        rows_digest(pieces) == rows_digest([whole]) == rows_digest(whole.slice(n, 1) for n in range(len(rows)))
        or not rows
    )
    assert read_table(path).to_pylist() == whole.to_pylist() or "nan" in repr(rows)


@pytest.mark.parametrize(
    "sizes", [[20_000], [BATCH_ROWS, 20_000 - BATCH_ROWS], [1, 9_999, 0, 10_000], [37] * 540 + [20]]
)
def test_long_tables_are_cut_into_batches_of_one_length(tmp_path, sizes):
    numbers = pa.table(
        {"n": pa.array(range(20_000)), "text": pa.array([f"t{n}" for n in range(20_000)], pa.large_string())}
    )
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    pieces = [numbers.slice(start, size) for start, size in zip(starts, sizes, strict=True)]
    assert write_batches(tmp_path / "t.arrow", numbers.schema, pieces) == 20_000
    write_table(tmp_path / "whole.arrow", numbers)
    assert (tmp_path / "t.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()
    assert [batch.num_rows for batch in read_batches(tmp_path / "t.arrow")] == [8192, 8192, 3616]
    assert rows_digest(pieces) == rows_digest(read_batches(tmp_path / "t.arrow"))


def test_golden_bytes_freeze_the_format(tmp_path):
    table = pa.table({"n": pa.array([1, None, 3], pa.int64()), "t": pa.array(["a", "", None], pa.large_string())})
    write_table(tmp_path / "t.arrow", table)
    assert hashlib.sha256((tmp_path / "t.arrow").read_bytes()).hexdigest() == GOLDEN_FILE
    assert rows_digest([table]) == GOLDEN_ROWS


GOLDEN_FILE = "affdd4d0638a55552b255b2466c7da34fea21f1f04b6248da63441399d7f12c5"
GOLDEN_ROWS = "d9d49714bfa513e365b069eb4d32d9d8c33bca740ba6a366032f1dadf099530b"


def test_the_rows_digest_knows_names_types_values_and_order():
    table = pa.table({"n": pa.array([1, 2], pa.int64())})
    others = [
        pa.table({"m": pa.array([1, 2], pa.int64())}),
        pa.table({"n": pa.array([1, 2], pa.int32())}),
        pa.table({"n": pa.array([2, 1], pa.int64())}),
        pa.table({"n": pa.array([1, 2, None], pa.int64())}),
        table.slice(0, 0),
    ]
    assert len({rows_digest([t]) for t in [table, *others]}) == 6
    assert rows_digest([table.replace_schema_metadata({"made": "today"})]) == rows_digest([table])


def test_an_empty_table_keeps_its_columns(tmp_path):
    write_table(tmp_path / "t.arrow", SCHEMA.empty_table())
    assert read_table(tmp_path / "t.arrow").schema == SCHEMA
    assert list(read_batches(tmp_path / "t.arrow")) == []
    assert read_table(tmp_path / "t.arrow", ["text", "doc_id"]).column_names == ["text", "doc_id"]


def test_rows_of_another_schema_are_refused_and_not_dropped(tmp_path):
    with pytest.raises(ValueError, match="names"):
        write_batches(tmp_path / "t.arrow", SCHEMA, [pa.table({"n": [1]})])


@pytest.mark.parametrize("keep", [0, 1, 100, -1, -20])
def test_a_torn_file_is_named(tmp_path, keep):
    write_table(tmp_path / "t.arrow", pa.table({"n": list(range(100))}))
    data = (tmp_path / "t.arrow").read_bytes()
    (tmp_path / "torn.arrow").write_bytes(data[:keep])
    for read in (read_table, lambda path: list(read_batches(path))):
        with pytest.raises(TableError, match=r"torn\.arrow: is no whole Arrow file"):
            read(tmp_path / "torn.arrow")


@pytest.mark.parametrize("num_batches", [1, 3, 4, 5, 9])
def test_batches_are_the_file_however_often_it_is_mapped_anew(tmp_path, monkeypatch, num_batches):
    monkeypatch.setattr("pipelines.provenance.tables.BATCH_ROWS", 3)
    table = pa.table({"n": list(range(3 * num_batches))})
    write_table(tmp_path / "t", table)
    whole = [batch["n"].to_pylist() for batch in read_batches(tmp_path / "t")]
    assert whole == [list(range(start, start + 3)) for start in range(0, 3 * num_batches, 3)]
    for every in (1, 2, 100):
        monkeypatch.setattr("pipelines.provenance.tables.MAPPED_BATCHES", every)
        assert [batch["n"].to_pylist() for batch in read_batches(tmp_path / "t")] == whole


def test_a_file_that_is_cut_while_it_is_read_is_no_whole_table(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.provenance.tables.BATCH_ROWS", 3)
    monkeypatch.setattr("pipelines.provenance.tables.MAPPED_BATCHES", 1)
    write_table(tmp_path / "t", pa.table({"n": list(range(9))}))
    batches = read_batches(tmp_path / "t")
    assert next(batches)["n"].to_pylist() == [0, 1, 2]
    (tmp_path / "other").write_bytes((tmp_path / "t").read_bytes()[:-30])
    (tmp_path / "other").replace(tmp_path / "t")
    with pytest.raises(TableError, match="is no whole Arrow file"):
        next(batches)
