"""Parquet: a unit a row group, a bad row spoils itself, a bad row group spoils its own rows."""

import contextlib
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipelines.readers.fields import Fields
from pipelines.readers.parquet import parquet_records, row_groups

LIMIT = 1 << 20


def read(folder, fields, group=-1, limit=LIMIT):
    return list(parquet_records(folder / "a.parquet", "a.parquet", fields, limit, group))


def test_parquet_rows_and_their_problems(tmp_path):
    texts = pa.array([b"eins", None, b"\xff\xfe", b"vier"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 4, texts.buffers())  # a string column that holds a bad string
    parquet.write_table(pa.table({"text": broken, "id": ["a", "b", "c", None]}), tmp_path / "a.parquet")
    one, none, bad, four = read(tmp_path, Fields("text", "id"))
    assert (one.text, one.key, one.uri) == ("eins", "a", "a.parquet#R1")
    assert none.problem == "no text: a.parquet row 2, field 'text' is missing or null"
    assert bad.problem == "invalid UTF-8: a.parquet row 3, byte 0 of the text"
    assert (four.text, four.key) == ("vier", "")


def test_a_parquet_file_without_the_column_names_those_it_has(tmp_path):
    parquet.write_table(pa.table({"content": ["x"], "url": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'text'; it has content, url"):
        read(tmp_path, Fields("text"))


def test_a_torn_parquet_file_is_one_record(tmp_path):
    parquet.write_table(pa.table({"text": ["x"] * 100}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    [bad] = read(tmp_path, Fields("text"))
    assert bad.problem.startswith(f"not Parquet: a.parquet rows 1-end (bytes 0-{len(data) // 2})")


def test_row_groups_together_are_the_file_and_rows_keep_their_numbers(tmp_path):
    parquet.write_table(pa.table({"text": [f"t{n}" for n in range(25)]}), tmp_path / "a.parquet", row_group_size=10)
    sizes = row_groups(tmp_path / "a.parquet", "a.parquet", Fields("text"))
    parts = [record for group in range(len(sizes)) for record in read(tmp_path, Fields("text"), group)]
    assert len(sizes) == 3
    assert parts == read(tmp_path, Fields("text"))
    assert [r.position for r in parts] == list(range(1, 26))


def test_a_damaged_row_group_is_one_record_and_the_others_are_read(tmp_path):
    texts = [str(np.random.default_rng(n).bytes(40)) for n in range(300)]
    parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=100, compression="zstd")
    chunk = parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(1).column(0)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    begin = chunk.dictionary_page_offset or chunk.data_page_offset
    data[begin : begin + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    (tmp_path / "a.parquet").write_bytes(data)
    found = read(tmp_path, Fields("text"))
    assert [r.problem.split(" (")[0] for r in found if r.problem] == ["truncated file: a.parquet rows 101-200"]
    assert [r.text for r in found if not r.problem] == texts[:100] + texts[200:]


def test_dictionaries_bytes_structs_and_numbers_are_read(tmp_path):
    table = pa.table(
        {
            "text": pa.array(["a", "b", "a"]).dictionary_encode(),
            "meta": [{"id": 1}, {"id": None}, None],
            "big": pa.array([b"x", None, b"z"], pa.large_binary()),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    found = read(tmp_path, Fields("text", "meta.id", url="big"))
    assert [(r.text, r.key, r.url) for r in found] == [("a", "1", "x"), ("b", "", ""), ("a", "", "z")]


def test_a_text_above_the_limit_is_quarantined_by_its_hash(tmp_path):
    parquet.write_table(pa.table({"text": ["ok", "é" * 600]}), tmp_path / "a.parquet")
    good, bad = read(tmp_path, Fields("text"), limit=1000)
    assert (good.text, bad.text, len(bad.raw)) == ("ok", "", 40)
    assert bad.problem == "too large: a.parquet row 2, 1200 bytes; max_record_bytes is 1000"


def test_no_single_damaged_byte_hides_a_row_or_ends_the_stage(tmp_path):
    """Every byte, zeroed and filled: fifty rows, or a record that says what is wrong."""
    parquet.write_table(pa.table({"text": [f"text {n}" for n in range(50)]}), tmp_path / "a.parquet", row_group_size=20)
    whole = (tmp_path / "a.parquet").read_bytes()
    for at, value in itertools.product(range(len(whole)), (0, 255)):
        data = bytearray(whole)
        data[at] = value
        (tmp_path / "a.parquet").write_bytes(data)
        try:
            found = read(tmp_path, Fields("text"))
        except ValueError as error:
            if "has no column" in str(error):  # the damage lies in a column's name
                continue
            raise
        assert len(found) == 50 or any(record.problem for record in found), (at, value)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=8), st.integers(0, 60))
def test_no_damage_crashes_the_reader_or_hides_the_file(tmp_path_factory, at, noise, cut):
    folder = tmp_path_factory.mktemp("p")
    parquet.write_table(pa.table({"text": [f"text {n}" for n in range(50)]}), folder / "a.parquet", row_group_size=20)
    data = bytearray((folder / "a.parquet").read_bytes())
    at %= len(data)
    data[at : at + len(noise)] = noise
    (folder / "a.parquet").write_bytes(data[: len(data) - cut])
    with contextlib.suppress(ValueError):  # "has no column": the damage may lie in a column's name
        assert 1 <= len(read(folder, Fields("text"))) <= 60
