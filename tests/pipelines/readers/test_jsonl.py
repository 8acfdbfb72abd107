"""JSON lines: what cannot be read becomes a record with a problem, and the reader goes on."""

import gzip
import json

import pytest
import zstandard
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.readers.fields import Fields
from pipelines.readers.jsonl import jsonl_records
from pipelines.readers.streams import MAGIC

FIELDS = Fields("text", "id", "license")
LIMIT = 1 << 20


def jsonl(folder, data, name="a.jsonl", limit=LIMIT):
    (folder / name).write_bytes(data)
    return list(jsonl_records(folder / name, name, FIELDS, limit))


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


def test_a_byte_order_mark_is_no_part_of_the_first_record(tmp_path):
    assert jsonl(tmp_path, b"\xef\xbb\xbf" + row("a"))[0].text == "a"


def test_every_field_that_is_mapped_is_kept_and_dots_lead_into_objects(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"body": "x", "n": 1, "meta": {"url": "http://a.b/", "when": "2026"}, "t.t": "dotted", "g": None})
    )
    fields = Fields("body", "n", "", "g", "meta.url", "t.t", "meta.when")
    [found] = jsonl_records(tmp_path / "a.jsonl", "a.jsonl", fields, LIMIT)
    assert (found.text, found.key, found.group, found.url) == ("x", "1", "", "http://a.b/")
    assert (found.title, found.date) == ("dotted", "2026")


@pytest.mark.parametrize(
    "key", ["12345678901234567890123", "-0", "1e3", "1.10", "true", "[1,2]", "18446744073709551616"]
)
def test_a_key_that_is_no_string_is_the_one_that_python_reads(tmp_path, key):
    [found] = jsonl(tmp_path, b'{"text": "x", "id": ' + key.encode() + b"}")
    assert found.key == str(json.loads(key))


def test_what_is_no_strict_json_but_python_reads_stays_a_record(tmp_path):
    infinite, doubled = jsonl(tmp_path, b'{"text": "a", "x": NaN}\n{"text": "b", "text": "c"}')
    assert (infinite.text, doubled.text) == ("a", "c")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "id", "a"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(JSON, st.booleans(), st.binary(max_size=3), st.integers(0, 40))
def test_a_line_gives_what_the_standard_parser_gives(tmp_path_factory, value, is_ascii, noise, at):
    folder = tmp_path_factory.mktemp("j")
    data = json.dumps(value, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass").replace(b"\n", b" ")
    data = (data[:at] + noise + data[at:]).replace(b"\n", b" ")
    assume(not data.startswith(tuple(MAGIC)))  # bytes that say they are compressed are decompressed
    try:
        found = json.loads(data.decode())
    except ValueError:
        found = None
    records = jsonl(folder, data)
    if not data.strip():
        assert records == []
    elif isinstance(found, dict) and isinstance(found.get("text"), str):
        assert (records[0].text, records[0].problem) == (found["text"], "")
        stated = "" if found.get("id") is None else str(found["id"])
        assert records[0].key == stated.encode("utf-8", "backslashreplace").decode()
    else:
        assert len(records) == 1
        assert records[0].problem
        assert records[0].raw == data.removeprefix(b"\xef\xbb\xbf")
