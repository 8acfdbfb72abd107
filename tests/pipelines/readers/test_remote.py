"""Remote: files behind a URL are listed without being read, fetched once, and pinned by what the store tells."""

import os
import time

import fsspec
import pyarrow as pa
import pytest
from pyarrow import parquet

from pipelines.readers import remote
from pipelines.readers.remote import Remote, make_room
from pipelines.sources import IngestRecipe, Unit, listing, located, origin_of, source_records, units


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "cache"))
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def recipe(reader="jsonl", **others):
    return IngestRecipe(reader=reader, source="far", snapshot="1", **others)


def texts(url, reader="jsonl"):
    return [r.text for r in source_records(recipe(reader), listing(recipe(reader), url))]


def test_a_directory_and_a_single_file_are_read(memory):
    memory.pipe("/data/b/two.jsonl", b'{"text": "zwei"}')
    memory.pipe("/data/a.jsonl", b'{"text": "eins"}')
    memory.pipe("/data/notes.pdf", b"")
    assert texts("memory://data") == ["eins", "zwei"]
    assert texts("memory://data/b/two.jsonl") == ["zwei"]
    assert listing(recipe(), "memory://data").ignored == ["notes.pdf"]


def test_the_origin_follows_the_content_that_the_store_tells_of(memory):
    memory.pipe("/data/a.jsonl", b'{"text": "eins"}')
    before = origin_of(recipe(), "memory://data")
    assert origin_of(recipe(), "memory://data") == before
    memory.pipe("/data/a.jsonl", b'{"text": "zwei"}')
    assert origin_of(recipe(), "memory://data") != before


def test_listing_fetches_nothing_and_reading_fetches_once(memory, tmp_path, monkeypatch):
    memory.pipe("/data/a.jsonl", b'{"text": "eins"}')
    fetched = []
    genuine = type(memory).get_file
    monkeypatch.setattr(type(memory), "get_file", lambda *a, **k: (fetched.append(a[1]), genuine(*a, **k))[1])
    found = listing(recipe(), "memory://data")
    assert fetched == []
    for _ in range(2):
        assert [r.text for r in source_records(recipe(), found)] == ["eins"]
    assert fetched == ["/data/a.jsonl"]


def test_a_file_that_changed_its_size_after_planning_is_refused(memory):
    memory.pipe("/data/a.jsonl", b'{"text": "eins"}')
    found = listing(recipe(), "memory://data")
    memory.pipe("/data/a.jsonl", b'{"text": "longer"}')
    with pytest.raises(ValueError, match="has 18 bytes, it was listed with 16"):
        list(source_records(recipe(), found))


def test_row_groups_of_a_remote_parquet_file_are_units(memory, tmp_path):
    parquet.write_table(pa.table({"text": list("abcde")}), tmp_path / "a.parquet", row_group_size=2)
    memory.pipe("/data/a.parquet", (tmp_path / "a.parquet").read_bytes())
    found = listing(recipe("parquet"), "memory://data")
    assert [unit[:2] for unit in units(recipe("parquet"), found)] == [
        ("a.parquet", 0),
        ("a.parquet", 1),
        ("a.parquet", 2),
    ]
    assert not (tmp_path / "cache").exists()
    assert texts("memory://data", "parquet") == list("abcde")


def test_the_cache_stays_within_its_limit_and_keeps_what_was_used_last(memory, tmp_path):
    old, new = tmp_path / "cache/remote/old", tmp_path / "cache/remote/new"
    old.parent.mkdir(parents=True)
    for path, age in ((old, 9000), (new, 0)):
        path.write_bytes(bytes(1000))
        os.utime(path, (time.time() - age, time.time() - age))
    make_room(500, limit=2000)
    assert (old.exists(), new.exists()) == (False, True)
    make_room(5000, limit=2000)
    assert new.exists()  # it may be open


def test_errors_say_what_is_missing_and_which_extra_brings_it(memory, monkeypatch):
    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ValueError, match=r"pip install -e '.\[s3\]'"):
        Remote("s3://bucket/data").listed("jsonl")
    with pytest.raises(ValueError, match=r"pip install -e '.\[gs\]'"):
        Remote("gs://bucket/data").listed("jsonl")


def test_an_unknown_protocol_and_an_empty_place_say_so(memory):
    with pytest.raises(ValueError, match="nosuch://x: "):
        Remote("nosuch://x").listed("jsonl")
    with pytest.raises(ValueError, match="no such file or directory"):
        Remote("memory://empty").listed("jsonl")


def test_what_a_store_tells_nothing_of_is_fetched_and_hashed(memory, monkeypatch):
    memory.pipe("/data/a.jsonl", b'{"text": "eins"}')
    before = listing(recipe(), "memory://data").origin
    monkeypatch.setattr(remote, "TIMES", ())
    hashed = listing(recipe(), "memory://data")
    assert hashed.origin != before
    assert listing(recipe(), "memory://data").origin == hashed.origin


def test_a_spec_names_paths_beside_it_urls_and_names_of_the_hub(tmp_path):
    assert located(tmp_path, "data", "jsonl") == tmp_path / "data"
    assert located(tmp_path, "s3://bucket/x", "jsonl") == "s3://bucket/x"
    assert located(tmp_path, "user/name", "hub") == "user/name"
    (tmp_path / "user/name").mkdir(parents=True)
    assert located(tmp_path, "user/name", "hub") == tmp_path / "user/name"
    assert located(tmp_path, "", "installed-docs") is None
    assert Unit("a") == ("a", -1, 0, None)
