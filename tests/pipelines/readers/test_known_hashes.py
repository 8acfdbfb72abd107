"""Known hashes: a large file is hashed once, and again as soon as anything about it changed."""

from __future__ import annotations

import os
import time

import pytest

from pipelines.provenance.manifest import hashed
from pipelines.readers import known_hashes
from pipelines.readers.known_hashes import known_entry


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hashes, "MIN_BYTES", 10)
    monkeypatch.setattr(known_hashes, "SETTLED_NS", 0)
    (tmp_path / "dump.jsonl").write_bytes(b"some lines\n" * 9)
    return tmp_path


@pytest.fixture
def read(monkeypatch):
    """The files that were read to be hashed."""
    found = []

    def counted(path):
        found.append(path.name)
        return hashed(path)

    monkeypatch.setattr(known_hashes, "hashed", counted)
    return found


def test_a_file_that_did_not_change_is_read_once(place, read):
    first, again = known_entry(place, "dump.jsonl"), known_entry(place, "dump.jsonl")
    assert first == again
    assert (first.bytes, first.blake3) == hashed(place / "dump.jsonl")
    assert read == ["dump.jsonl"]


@pytest.mark.parametrize("change", ["content", "replaced", "touched", "longer"])
def test_whatever_changes_has_the_file_read_again(place, read, change):
    path = place / "dump.jsonl"
    known_entry(place, "dump.jsonl")
    before = path.stat()
    if change == "replaced":
        (place / "other").write_bytes(b"OTHER text\n" * 9)
        os.utime(place / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
        (place / "other").replace(path)
    elif change == "touched":
        os.utime(path)
    else:
        path.write_bytes(b"some LINES\n" * (9 if change == "content" else 10))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the time of change cannot be set back
    found = known_entry(place, "dump.jsonl")
    assert (found.bytes, found.blake3) == hashed(path)
    assert len(read) == 2


def test_a_file_that_changed_a_moment_ago_is_not_remembered(place, read, monkeypatch):
    monkeypatch.setattr(known_hashes, "SETTLED_NS", 60_000_000_000)
    for _ in range(2):
        known_entry(place, "dump.jsonl")
    assert len(read) == 2
    path = place / "dump.jsonl"
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 61_000_000_000)
    for _ in range(2):
        known_entry(place, "dump.jsonl")
    assert len(read) == 3


def test_small_files_are_always_read(place, read, monkeypatch):
    monkeypatch.setattr(known_hashes, "MIN_BYTES", 1000)
    for _ in range(2):
        known_entry(place, "dump.jsonl")
    assert len(read) == 2
    assert not (place / "cache").exists()


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"facts": 1}', b"\xff\xfe"])
def test_a_torn_note_is_no_note(place, read, torn):
    known_entry(place, "dump.jsonl")
    (note,) = (place / "cache" / "hashes").iterdir()
    note.write_bytes(torn)
    assert known_entry(place, "dump.jsonl").blake3 == hashed(place / "dump.jsonl")[1]
    assert len(read) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(place, read, monkeypatch):
    (place / "file").write_text("no directory")
    monkeypatch.setenv("STEMMA_CACHE", str(place / "file"))
    assert known_entry(place, "dump.jsonl").blake3 == known_entry(place, "dump.jsonl").blake3
    assert len(read) == 2
