"""Units: the same records whether a source is read whole or unit by unit; and no bytes that a reader cannot end."""

import gzip
import json
import tracemalloc
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pipelines.provenance.manifest import FileEntry
from pipelines.readers import crawl, pages
from pipelines.readers.streams import Stream
from pipelines.sources import IngestRecipe, Listing, Unit, listing, source_records, unit_records, units

READERS = ["jsonl", "csv", "parquet", "arrow", "text", "html", "warc", "wikipedia"]


def recipe(reader, **others):
    return IngestRecipe(reader=reader, source="mine", snapshot="1", **others)


def write(folder):
    folder.mkdir()
    for name in ("b", "a"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": f"{name}{n}"}) + "\n" for n in range(5)))
        parquet.write_table(
            pa.table({"text": [f"{name}{n}" for n in range(5)]}), folder / f"{name}.parquet", row_group_size=2
        )


@pytest.mark.parametrize(("reader", "expected"), [("jsonl", 2), ("parquet", 6)])
def test_units_stand_in_the_order_of_the_records(tmp_path, reader, expected):
    write(tmp_path / "d")
    found = listing(recipe(reader), tmp_path / "d")
    cut = units(recipe(reader), found)
    assert len(cut) == expected
    assert cut == units(recipe(reader), found)
    apart = [record for unit in cut for record in unit_records(recipe(reader), found, unit)]
    assert apart == list(source_records(recipe(reader), found))
    assert [r.text for r in apart] == [f"{name}{n}" for name in "ab" for n in range(5)]
    assert all(unit.num_bytes > 0 for unit in cut)


def test_a_large_file_of_lines_is_many_units(tmp_path, monkeypatch):
    lines = [json.dumps({"text": f"line {n}"}) if n % 7 else "no JSON" for n in range(500)]
    (tmp_path / "f.jsonl").write_text("\n".join(lines))
    found = listing(recipe("jsonl"), tmp_path)
    whole = list(source_records(recipe("jsonl"), found))
    monkeypatch.setattr("pipelines.sources.PIECE_BYTES", 1000)
    monkeypatch.setattr("pipelines.readers.streams.CHUNK_BYTES", 100)
    cut = units(recipe("jsonl"), found)
    assert len(cut) > 5
    assert sum(unit.num_bytes for unit in cut) == (tmp_path / "f.jsonl").stat().st_size
    assert [record for unit in cut for record in unit_records(recipe("jsonl"), found, unit)] == whole
    assert [record.uri for record in whole] == [f"f.jsonl#L{n}" for n in range(1, 501)]


def test_the_first_records_of_a_large_file_of_lines_are_there_before_its_end_is_read(tmp_path, monkeypatch):
    """A look at a dump of 100 GB, as ``stemma source add`` takes it, is no reading of it."""
    (tmp_path / "f.jsonl").write_text('{"text": "a line"}\n' * 500)
    monkeypatch.setattr("pipelines.sources.PIECE_BYTES", 1000)
    monkeypatch.setattr("pipelines.readers.streams.CHUNK_BYTES", 100)
    read, stream = [], Stream.__iter__
    monkeypatch.setattr(Stream, "__iter__", lambda self: (read.append(len(c)) or c for c in stream(self)))
    found = listing(recipe("jsonl"), tmp_path, is_hashed=False)
    assert [r.uri for r in islice(source_records(recipe("jsonl"), found), 3)] == [f"f.jsonl#L{n}" for n in (1, 2, 3)]
    assert sum(read) <= 200


def test_every_group_of_units_is_sent_its_own_files_in_time_linear_in_their_number():
    entries = [FileEntry(path=f"{n}.txt", bytes=1, blake3="0" * 64) for n in range(500)]
    looked_at = []

    class Files(list):
        def __iter__(self):
            looked_at.append(len(self))
            return super().__iter__()

    groups = [
        [Unit("3.txt", 0), Unit("3.txt", 1)],
        [Unit("3.txt", 2), Unit("4.txt")],
        *([Unit("0.txt")] for _ in "abc"),
    ]
    apart = list(Listing(Path(), Files(entries), ["ignored"]).apart(groups))
    assert [[f.path for f in one.files] for one in apart] == [["3.txt"], ["3.txt", "4.txt"], *[["0.txt"]] * 3]
    assert not any(one.ignored for one in apart)
    assert sum(looked_at) == 500


def test_the_files_of_a_distribution_are_units_with_its_licence():
    said = IngestRecipe(reader="installed-docs", source="pypi-docs.blake3", snapshot=_version("blake3"))
    found = listing(said, None)
    cut = units(said, found)
    assert cut == [Unit(file.path, -1, file.bytes) for file in found.files]
    apart = [record for unit in cut for record in unit_records(said, next(found.apart([[unit]])), unit)]
    assert apart == list(source_records(said, found))
    assert {record.licence for record in apart} == {found.licence}


def _version(name):
    from importlib import metadata

    return metadata.version(name)


def test_a_column_that_is_missing_is_told_before_any_record_is_read(tmp_path):
    write(tmp_path / "d")
    said = recipe("parquet", text_field="body")
    with pytest.raises(ValueError, match=r"a\.parquet: has no column 'body'; it has text"):
        units(said, listing(said, tmp_path / "d"))


def test_a_file_that_cannot_be_opened_is_told_with_its_name(tmp_path, monkeypatch):
    write(tmp_path / "d")

    def refused(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.open", refused)
    with pytest.raises(ValueError, match=r"a.jsonl: cannot be read \(permission denied\)"):
        listing(recipe("jsonl"), tmp_path / "d")


@pytest.mark.parametrize("reader", ["jsonl", "csv", "text", "wikipedia", "warc", "html"])
def test_one_endless_line_is_quarantined_in_bounded_memory(tmp_path, reader):
    with gzip.open(tmp_path / "big.gz", "wb", compresslevel=1) as file:
        for number in range(64):  # MiB; its ratio stays below the limit
            file.write(bytes([97 + number % 26]) * (1 << 19) + b"ab" * (1 << 18))
    said = recipe(reader, max_record_bytes=1 << 20)
    tracemalloc.start()
    found = list(source_records(said, listing(said, tmp_path / "big.gz")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 << 20
    assert [r.problem.split(":")[0] for r in found] in (["too large"], ["not a record"], ["not a page"], ["not CSV"])
    assert len(found[0].raw) == 40


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(READERS), st.binary(max_size=300), st.sampled_from(["", ".gz", ".zst", ".bz2"]))
def test_arbitrary_bytes_end_in_texts_or_reasons_whatever_the_reader(tmp_path_factory, reader, data, suffix):
    path = tmp_path_factory.mktemp("u") / f"data{suffix}"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        for module in (crawl, pages):
            patch.setattr(module, "page_record", lambda place, payload, *others: place._replace(text=repr(payload)))
        try:
            found = list(source_records(recipe(reader), listing(recipe(reader), path)))
        except ValueError as error:  # a table without the column is the recipe's mistake
            found = []
            no_column = "has no column" in str(error)
            assert no_column
    assert len(found) <= len(data) + 1
    for record in found:
        assert not (record.problem and record.text)
        assert record.problem == "" or ": " in record.problem
        assert record.file == path.name
        record.uri.encode()
