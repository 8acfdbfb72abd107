"""CSV: quoted line ends, ragged rows, stray quotes; every line stands in exactly one record."""

import csv as standard
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.readers.csv import csv_records, sniffed_delimiter
from pipelines.readers.fields import Fields

FIELDS = Fields("text", "id")


def read(folder, data, name="a.csv", fields=FIELDS, limit=1000, delimiter=""):
    (folder / name).write_bytes(data)
    return list(csv_records(folder / name, name, fields, limit, delimiter))


def kinds(records):
    return [r.text or r.problem.split(":")[0] for r in records]


def test_rows_keep_the_line_on_which_they_begin(tmp_path):
    found = read(tmp_path, b'\xef\xbb\xbfid,text\r\n1,"two\r\nlines, ""quoted"""\r\n\r\n2,plain\r\n')
    assert [(r.key, r.text, r.uri) for r in found] == [
        ("1", 'two\r\nlines, "quoted"', "a.csv#L2"),
        ("2", "plain", "a.csv#L5"),
    ]


@pytest.mark.parametrize(("mark", "name"), [(",", "a.csv"), ("\t", "a.tsv"), (";", "a.csv"), ("|", "a.csv")])
def test_the_delimiter_is_found_or_given(tmp_path, mark, name):
    data = mark.join(["id", "text"]).encode() + b"\n" + mark.join(["1", "x"]).encode()
    assert [r.text for r in read(tmp_path, data, name)] == ["x"]
    assert [r.text for r in read(tmp_path, data, name, delimiter=mark)] == ["x"]
    assert sniffed_delimiter(tmp_path / name, name) == mark


def test_ragged_rows_bad_bytes_and_long_rows_are_quarantined_where_they_stand(tmp_path):
    rows = [b"1,good", b"2", b"3,a,b", b"4,\xff\xfe", b"5," + b"x" * 2000, b'6,"' + b"y" * 2000 + b'"', b"7,last"]
    found = read(tmp_path, b"id,text\n" + b"\n".join(rows))
    assert kinds(found) == ["good", "ragged row", "ragged row", "invalid UTF-8", "too large", "too large", "last"]
    assert found[1].problem == "ragged row: a.csv line 3 (bytes 15-16), 1 cells; the first row names 2 columns"
    assert found[3].raw == b"4,\xff\xfe"
    assert len(found[4].raw) == 40


def test_a_quote_that_is_never_closed_spoils_its_own_line_alone(tmp_path):
    found = read(tmp_path, b'id,text\n1,"never closed\n2,good\n3,also good\n')
    assert kinds(found) == ["not CSV", "good", "also good"]
    assert "a quote is never closed" in found[0].problem
    assert found[0].raw == b'1,"never closed'


def test_a_field_far_beyond_the_modules_own_limit_is_read(tmp_path):
    text = "word " * 100_000
    assert read(tmp_path, b"text\n" + text.encode() + b"\n", fields=Fields("text"), limit=1 << 20)[0].text == text


def test_a_missing_column_names_those_that_are_there(tmp_path):
    with pytest.raises(ValueError, match=r"a.csv: has no column 'text'; it has id, body"):
        read(tmp_path, b"id,body\n1,x\n")


def test_an_empty_file_has_no_records_and_one_with_names_alone_neither(tmp_path):
    assert read(tmp_path, b"") == []
    assert read(tmp_path, b"id,text\n") == []


def test_many_stray_quotes_do_not_make_the_reader_slow(tmp_path):
    lines = b'1,"open\n' * 20_000  # each would be read to the end of the file, if it were read anew without limit
    found = read(tmp_path, b"id,text\n" + lines, limit=1 << 20)
    assert all(r.problem for r in found)
    assert found[-1].problem.count("a.csv line") == 1


CELLS = st.text(st.sampled_from('ab",\n é'), max_size=8)


@given(st.lists(st.tuples(CELLS, CELLS.map(lambda text: "x" + text)), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_what_the_standard_module_writes_is_read_back(tmp_path_factory, rows, end):
    out = io.StringIO(newline="")
    writer = standard.writer(out, lineterminator=end)
    writer.writerow(["id", "text"])
    writer.writerows(rows)
    found = read(tmp_path_factory.mktemp("c"), out.getvalue().encode())
    assert [(r.key, r.text, r.problem) for r in found] == [(key, text, "") for key, text in rows]


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=12) | st.sampled_from([b'"', b'a,"b', b"a,b", b'"a"x,b', b"\xff,b"]), max_size=10))
def test_every_line_stands_in_exactly_one_record(tmp_path_factory, rows):
    rows = [row.replace(b"\n", b"") for row in rows]
    data = b"id,text\n" + b"\n".join(rows)
    found = read(tmp_path_factory.mktemp("c"), data)
    starts = [r.position for r in found]
    assert starts == sorted(set(starts))
    assert len(found) <= len(rows)
    if any(row.strip(b"\r") for row in rows):
        assert found
