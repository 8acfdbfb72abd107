"""Sniff: formats by name or content, and which field is which."""

import bz2
import contextlib
import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipelines.readers.sniff import found_fields, sniffed, sniffed_reader

ROWS = [{"doc_id": str(n), "body": "words " * 40, "url": f"http://a.b/{n}", "n": n, "license": "MIT"} for n in range(5)]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.mark.parametrize(
    ("data", "reader"),
    [
        (jsonl(ROWS), "jsonl"),
        (gzip.compress(jsonl(ROWS), mtime=0), "jsonl"),
        (b"id;text\n1;eins\n2;zwei\n", "csv"),
        (b"WARC/1.0\r\nWARC-Type: warcinfo\r\n", "warc"),
        (b"filedesc://a.arc 0.0.0.0 20140216050221 text/plain 75\n", "warc"),
        (bz2.compress(b'<mediawiki xml:lang="en">'), "wikipedia"),
        (b"\n<!DOCTYPE html><html>", "html"),
        ("Ein Märchen ohne Endung.\n\nEs war einmal".encode(), "text"),
    ],
)
def test_content_tells_the_reader_where_the_name_does_not(tmp_path, data, reader):
    (tmp_path / "data.x").write_bytes(data)
    assert sniffed_reader(tmp_path / "data.x") == reader
    assert sniffed(tmp_path / "data.x").reader == reader


def test_fields_are_found_by_their_names_in_every_kind_of_table(tmp_path):
    expected = {"text_field": "body", "id_field": "doc_id", "url_field": "url", "license_field": "license"}
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl(ROWS)))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "b.parquet")
    lines = ["\t".join(ROWS[0]), *("\t".join(map(str, row.values())) for row in ROWS)]
    (tmp_path / "c.tsv").write_text("\n".join(lines))
    for name in ("a.jsonl.gz", "b.parquet", "c.tsv"):
        found = sniffed(tmp_path / name)
        assert (found.fields, found.columns) == (expected, tuple(ROWS[0]))
    assert (found.reader, found.delimiter) == ("csv", "\t")
    assert sniffed(tmp_path / "a.jsonl.gz").compression == ".gz"


def test_the_longest_strings_are_the_text_where_no_name_says_so():
    rows = [{"a": "x", "b": "long " * 9, "c": 10**60}]
    assert found_fields(["a", "b", "c"], rows) == {"text_field": "b"}
    assert found_fields(["n"], [{"n": 1}]) == {}


def test_a_name_whose_values_are_no_text_is_not_the_text():
    rows = [{"text": {"nested": "x"}, "body": "words"}]
    assert found_fields(["text", "body"], rows)["text_field"] == "body"


def test_most_files_of_a_directory_decide(tmp_path):
    for name in ("a.jsonl", "b.jsonl", "README.md", ".hidden.parquet"):
        (tmp_path / name).write_bytes(jsonl(ROWS))
    assert sniffed_reader(tmp_path) == "jsonl"


def test_what_nobody_knows_is_told_with_what_is_known(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\x00\x01\x02")
    with pytest.raises(ValueError, match=r"no file with a suffix that is known .*--reader"):
        sniffed(tmp_path)
    with pytest.raises(ValueError, match="no such file"):
        sniffed(tmp_path / "missing")


@settings(max_examples=100)
@given(
    st.binary(max_size=200),
    st.sampled_from(["a.jsonl", "a.csv", "a.parquet", "a.arrow", "a.xml", "a.bin", "a.warc.gz"]),
)
@example(b"\r\x00", "a.csv")
def test_arbitrary_bytes_are_sniffed_or_refused(tmp_path_factory, data, name):
    path = tmp_path_factory.mktemp("s") / name
    path.write_bytes(data)
    with contextlib.suppress(ValueError):  # "name the reader with --reader"
        assert sniffed(path).reader
