"""Arrow: files by stripes, streams whole, and what is damaged is one record."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.readers import arrow
from pipelines.readers.arrow import arrow_records, stripes
from pipelines.readers.fields import Fields

FIELDS = Fields("text", "id")


def write(path, num_batches=4, rows=3, kind="file", compression=None):
    table = pa.table({"text": [f"t{n}" for n in range(num_batches * rows)], "id": range(num_batches * rows)})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    maker = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with maker(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)


def read(path, stripe=-1, limit=1000):
    return list(arrow_records(path, path.name, FIELDS, limit, stripe))


def read_if_named(path):
    """The records, or None where the damage lies in a column's name."""
    try:
        return read(path)
    except ValueError as error:
        if "has no column" in str(error):
            return None
        raise


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_files_and_streams_are_read_row_by_row(tmp_path, kind, compression):
    write(tmp_path / "a.arrow", kind=kind, compression=compression)
    found = read(tmp_path / "a.arrow")
    assert [(r.text, r.key, r.uri) for r in found] == [(f"t{n}", str(n), f"a.arrow#R{n + 1}") for n in range(12)]


def test_stripes_together_are_the_file(tmp_path, monkeypatch):
    write(tmp_path / "a.arrow", num_batches=10)
    monkeypatch.setattr(arrow, "STRIPE_BYTES", (tmp_path / "a.arrow").stat().st_size // 3)
    num = stripes(tmp_path / "a.arrow", "a.arrow", FIELDS)
    assert num > 2
    parts = [record for stripe in range(num) for record in read(tmp_path / "a.arrow", stripe)]
    assert parts == read(tmp_path / "a.arrow")


def test_a_missing_column_names_those_that_are_there(tmp_path):
    write(tmp_path / "a.arrow")
    with pytest.raises(ValueError, match="has no column 'body'; it has text, id"):
        list(arrow_records(tmp_path / "a.arrow", "a.arrow", Fields("body"), 1000))
    with pytest.raises(ValueError, match="has no column 'body'; it has text, id"):
        stripes(tmp_path / "a.arrow", "a.arrow", Fields("body"))


def test_a_torn_file_is_one_record_and_a_torn_stream_keeps_its_batches(tmp_path):
    for kind in ("file", "stream"):
        write(tmp_path / kind, num_batches=8, kind=kind)
        data = (tmp_path / kind).read_bytes()
        (tmp_path / kind).write_bytes(data[: len(data) // 2])
    [bad] = read(tmp_path / "file")
    assert bad.problem.startswith("not Arrow: file rows 1-end (bytes 0-")
    *good, bad = read(tmp_path / "stream")
    assert len(good) % 3 == 0
    assert good
    assert bad.problem.startswith(f"truncated file: stream rows {len(good) + 1}-")


def test_an_empty_file_is_one_record_with_a_problem(tmp_path):
    (tmp_path / "a.arrow").touch()
    [bad] = read(tmp_path / "a.arrow")
    assert bad.problem.startswith("not Arrow")


def test_what_stands_behind_the_end_of_a_stream_is_not_hidden(tmp_path):
    """A damaged length of a message reads as the mark of the end; the rows behind it must not go unnoticed."""
    write(tmp_path / "a.arrow", kind="stream")
    data = bytearray((tmp_path / "a.arrow").read_bytes())
    second = data.index(b"\xff\xff\xff\xff", 4)
    data[second + 4 : second + 8] = bytes(4)
    (tmp_path / "a.arrow").write_bytes(data)
    [bad] = read(tmp_path / "a.arrow")
    assert bad.problem.startswith("truncated file: a.arrow rows 1-1")


def test_no_single_damaged_byte_of_a_file_or_stream_hides_a_row_or_ends_the_stage(tmp_path):
    """Every byte, zeroed and filled: what is read and what is told together are never nothing."""
    for kind in ("file", "stream"):
        write(tmp_path / "a.arrow", kind=kind)
        whole = (tmp_path / "a.arrow").read_bytes()
        for at, value in itertools.product(range(len(whole)), (0, 255)):
            data = bytearray(whole)
            data[at] = value
            (tmp_path / "a.arrow").write_bytes(data)
            if (found := read_if_named(tmp_path / "a.arrow")) is None:
                continue
            problems = [record.problem for record in found if record.problem]
            assert len(found) - len(problems) == 12 or problems, (kind, at, value)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["file", "stream"]), st.integers(0, 5000), st.binary(min_size=1, max_size=6), st.integers(0, 60))
def test_no_damage_crashes_the_reader_or_hides_the_file(tmp_path_factory, kind, at, noise, cut):
    path = tmp_path_factory.mktemp("a") / "a.arrow"
    write(path, kind=kind)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(noise)] = noise
    path.write_bytes(data[: len(data) - cut])
    found = read_if_named(path)
    assert found is None or 0 < len(found) <= 24 or cut
