"""Files: what a path holds, and what of it a reader reads."""

import os

import pytest

from pipelines.readers.files import listed_files, reader_of


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


def test_links_in_a_circle_and_links_to_nowhere_end_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("{}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/circle").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.jsonl").symlink_to(tmp_path / "self.jsonl")
    (tmp_path / "lost.jsonl").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked.jsonl").symlink_to(tmp_path / "a.jsonl")
    assert listed_files(tmp_path, "jsonl")[1] == ["a.jsonl", "linked.jsonl"]


def test_pipes_and_sockets_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert listed_files(tmp_path, "jsonl")[1:] == ([], [])


def test_ten_thousand_files_are_listed_in_order(tmp_path):
    for folder in range(100):
        (tmp_path / f"{folder:02}").mkdir()
        for file in range(100):
            (tmp_path / f"{folder:02}/{file:02}.txt").touch()
    _, wanted, ignored = listed_files(tmp_path, "text")
    assert (len(wanted), wanted[0], wanted[-1], ignored) == (10_000, "00/00.txt", "99/99.txt", [])
    assert wanted == sorted(wanted)


@pytest.mark.parametrize(
    ("name", "reader"),
    [
        ("a.JSONL.GZ", "jsonl"), ("a.tsv.bz2", "csv"), ("x.warc.wet.gz", "warc"), ("d.xml.bz2", "wikipedia"),
        ("a.arrow", "arrow"), ("a.parquet.gz", ""), ("a.htm", "html"), ("a.md", "text"), ("a.pdf", ""),
    ],
)  # fmt: skip
def test_a_name_tells_its_reader(name, reader):
    assert reader_of(name) == reader
