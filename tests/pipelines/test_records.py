"""Readers: what cannot be read becomes a record with a problem, and the reader goes on."""

import gzip
import json

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipelines.records import Fields, jsonl_records, lines, listed_files, parquet_records, text_records

FIELDS = Fields("text", "id", "license")
LIMIT = 1 << 20


def jsonl(folder, data, name="a.jsonl", limit=LIMIT):
    (folder / name).write_bytes(data)
    return list(jsonl_records(folder, name, FIELDS, limit))


def row(text, **others):
    return json.dumps({"text": text, **others}).encode() + b"\n"


def test_lines_become_records_with_place_key_and_licence(tmp_path):
    one, two = jsonl(tmp_path, row("eins", id=7, license="mit") + b"\r\n" + row("zwei"))
    assert (one.text, one.key, one.licence, one.uri) == ("eins", "7", "mit", "a.jsonl#L1")
    assert (two.text, two.position) == ("zwei", 3)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{not json}", "not JSON: a.jsonl line 2 (bytes 14-24), character 1"),
        (b"[1]", "not an object: a.jsonl line 2 (bytes 14-17), a JSON list"),
        (b'{"id": 1}', "no text: a.jsonl line 2 (bytes 14-23), field 'text' is missing or null"),
        (b'{"text": 5}', "text is not a string: a.jsonl line 2 (bytes 14-25), field 'text' is int"),
        (b'{"text": "\xff"}', "invalid UTF-8: a.jsonl line 2 (bytes 14-27), byte 24"),
        (b"[" * 100_000, "not JSON: a.jsonl line 2 (bytes 14-100014), RecursionError"),
    ],
)
def test_a_bad_line_says_what_is_wrong_and_where(tmp_path, line, problem):
    first, bad, last = jsonl(tmp_path, row("a") + line + b"\n" + row("b"))
    assert bad.problem == problem
    assert bad.raw == line
    assert (first.text, last.text) == ("a", "b")


@pytest.mark.parametrize("cut", [1, 8, 30])
def test_a_truncated_gzip_keeps_what_was_whole_and_quarantines_the_rest_once(tmp_path, cut):
    whole = b"".join(row(f"text {n} " + "x" * (n * 37 % 101)) for n in range(3000))
    found = jsonl(tmp_path, gzip.compress(whole)[:-cut], "a.jsonl.gz")
    *good, bad = found
    assert all(not r.problem for r in good)
    assert [r.text for r in good] == [json.loads(line)["text"] for line in whole.splitlines()][: len(good)]
    assert bad.problem.startswith(f"truncated file: a.jsonl.gz line {len(good) + 1} (bytes ")
    assert "-end)" in bad.problem


def test_a_damaged_gzip_member_is_torn_at_its_place(tmp_path):
    data = bytearray(gzip.compress(b"".join(row(f"{n}") for n in range(100)), compresslevel=0))
    data[-8] ^= 1  # the checksum
    *good, bad = jsonl(tmp_path, bytes(data), "a.jsonl.gz")
    assert "damaged gzip" in bad.problem
    assert len(good) <= 100


def test_members_and_frames_that_follow_each_other_are_one_file(tmp_path):
    twice = gzip.compress(row("a")) + gzip.compress(row("b")) + b"\0" * 512
    assert [r.text for r in jsonl(tmp_path, twice, "a.jsonl.gz")] == ["a", "b"]
    frames = zstandard.compress(row("a")) + zstandard.compress(row("b"))
    assert [r.text for r in jsonl(tmp_path, frames, "a.jsonl.zst")] == ["a", "b"]


def test_a_truncated_zstd_file_is_one_torn_record_after_the_whole_ones(tmp_path):
    whole = zstandard.compress(b"".join(row(f"text {n * 7919}") for n in range(50_000)))
    *good, bad = jsonl(tmp_path, whole[: len(whole) // 2], "a.jsonl.zst")
    assert len(good) > 1000
    assert "truncated zstd" in bad.problem


def test_a_line_beyond_the_limit_is_hashed_and_counted_but_not_held(tmp_path):
    a, bad, b = jsonl(tmp_path, row("a") + row("x" * 5000) + row("b"), limit=1000)
    assert bad.problem == "too large: a.jsonl line 2 (bytes 14-5026), 5012 bytes; max_record_bytes is 1000"
    assert len(bad.raw) == 40
    assert (a.text, b.text) == ("a", "b")


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40), max_size=8), st.integers(1, 9), st.booleans())
def test_every_byte_is_in_exactly_one_line_whatever_the_chunks(tmp_path_factory, parts, chunk_bytes, ends):
    folder = tmp_path_factory.mktemp("lines")
    data = b"\n".join(parts) + (b"\n" if ends else b"")
    data = data.removeprefix(b"\xef\xbb\xbf")
    (folder / "f").write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.records.CHUNK_BYTES", chunk_bytes)
        found = list(lines(folder / "f", 1000))
    if chunk_bytes > 2:
        expected = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        assert [line.data for line in found] == (expected if expected[-1] else expected[:-1])
    for line in found:
        assert data[line.offset : line.offset + line.size] == line.data


def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path):
    assert jsonl(tmp_path, b"\xef\xbb\xbf" + row("a"))[0].text == "a"
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfHello")
    assert next(text_records(tmp_path, "a.txt", LIMIT)).text == "Hello"


def test_text_files_are_documents_with_their_path_as_key(tmp_path):
    (tmp_path / "a.md").write_text("# Title\n")
    (tmp_path / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"hello hello")[:-3])
    (tmp_path / "d.txt").write_bytes(b"x" * 2000)
    found = {n: next(text_records(tmp_path, n, 1000)) for n in ("a.md", "b.txt", "c.txt.gz", "d.txt")}
    assert (found["a.md"].text, found["a.md"].key, found["a.md"].group) == ("# Title\n", "a.md", "a.md")
    kinds = [found[n].problem.split(":")[0] for n in ("b.txt", "c.txt.gz", "d.txt")]
    assert kinds == ["invalid UTF-8", "truncated file", "too large"]


def test_parquet_rows_and_their_problems(tmp_path):
    texts = pa.array([b"eins", None, b"\xff\xfe", b"vier"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 4, texts.buffers())  # a string column that holds a bad string
    parquet.write_table(pa.table({"text": broken, "id": ["a", "b", "c", None]}), tmp_path / "a.parquet")
    one, none, bad, four = parquet_records(tmp_path, "a.parquet", Fields("text", "id"))
    assert (one.text, one.key, one.uri) == ("eins", "a", "a.parquet#R1")
    assert none.problem == "no text: a.parquet row 2, field 'text' is missing or null"
    assert bad.problem == "invalid UTF-8: a.parquet row 3, byte 0 of the text"
    assert (four.text, four.key) == ("vier", "")


def test_a_parquet_file_without_the_column_names_those_it_has(tmp_path):
    parquet.write_table(pa.table({"content": ["x"], "url": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has no column 'text'; it has content, url"):
        list(parquet_records(tmp_path, "a.parquet", Fields("text")))


def test_a_torn_parquet_file_is_one_record(tmp_path):
    parquet.write_table(pa.table({"text": ["x"] * 100}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    [bad] = parquet_records(tmp_path, "a.parquet", Fields("text"))
    assert bad.problem.startswith(f"not Parquet: a.parquet rows 1-end (bytes 0-{len(data) // 2})")


def test_a_directory_is_read_in_sorted_order_and_tells_what_it_ignores(tmp_path):
    for name in ("b.jsonl", "sub/a.jsonl.gz", "a.ndjson", "notes.pdf", ".hidden.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    _, wanted, ignored = listed_files(tmp_path, "jsonl")
    assert wanted == ["a.ndjson", "b.jsonl", "sub/a.jsonl.gz"]
    assert ignored == [".hidden.jsonl", "notes.pdf"]


def test_a_path_where_nothing_is_says_so(tmp_path):
    with pytest.raises(ValueError, match="no such file or directory"):
        listed_files(tmp_path / "missing", "jsonl")
