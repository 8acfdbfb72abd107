"""Files: whole or not at all, never replaced, and the same answers from a disk and from an object store."""

from __future__ import annotations

import errno
import os
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import Workshop

from pipelines.provenance import files as files_module
from pipelines.provenance.files import WRITING, Files, LocalFiles, RemoteFiles, StoreError, disk_is_full, open_files
from pipelines.provenance.files import unwritable as told
from pipelines.provenance.store import Store


@pytest.fixture(params=["local", "memory"])
def files(request, tmp_path) -> Files:
    return open_files(tmp_path / "root" if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def everything(files: Files) -> dict[str, bytes]:
    return {path: files.read(path) for path in files.walk("") if not path.startswith(f"{WRITING}/")}


# -- one file ----------------------------------------------------------------------------------------------------


def test_of_many_who_create_one_name_one_wins_and_its_bytes_stand(files):
    bodies = [bytes([number]) * 50_000 for number in range(12)]
    barrier = threading.Barrier(len(bodies))

    def put(body: bytes) -> bool:
        barrier.wait()
        return files.create("refs/a/1.json", body)

    with ThreadPoolExecutor(len(bodies)) as pool:
        won = list(pool.map(put, bodies))
    assert won.count(True) == 1
    assert everything(files) == {"refs/a/1.json": bodies[won.index(True)]}


def test_a_name_that_was_removed_can_be_created_again(files):
    assert files.create("a", b"1")
    files.remove("a")
    assert files.create("a", b"2")
    assert not files.create("a", b"3")
    assert files.read("a") == b"2"


@given(body=st.binary(max_size=200), durable=st.booleans())
@settings(max_examples=20, deadline=None)
def test_bytes_come_back_whatever_they_are(tmp_path_factory, body, durable):
    for files in (LocalFiles(tmp_path_factory.mktemp("f")), RemoteFiles(f"memory://{uuid.uuid4().hex}")):
        assert files.create("x/y", body, durable=durable)
        with files.open("x/y") as stream:
            assert files.read("x/y") == stream.read() == body
        assert files.size("x/y") == len(body)


@pytest.mark.parametrize("step", ["write", "link"])
def test_a_writer_that_fails_half_way_leaves_no_file_and_no_scratch(tmp_path, monkeypatch, step):
    files = LocalFiles(tmp_path)

    def full(*_arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        monkeypatch.setattr("os.fsync", full)
    else:
        monkeypatch.setattr("os.link", full)
    with pytest.raises(OSError, match="No space left"):
        files.create("a/b", b"half")
    assert everything(files) == {}
    assert os.listdir(tmp_path / WRITING) == []


def test_a_file_where_a_folder_should_be_is_an_error_and_no_answer(tmp_path):
    files = LocalFiles(tmp_path)
    files.create("a", b"1")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        files.create("a/b", b"2")
    assert everything(files) == {"a": b"1"}


# -- folders -----------------------------------------------------------------------------------------------------


def test_a_folder_is_no_prefix(files):
    """'a' and 'ab' begin alike; neither listing nor removing one may touch the other."""
    for path in ("a/1", "ab/2", "a.json", "a/b/3"):
        files.create(path, path.encode())
    assert sorted(files.walk("a")) == ["a/1", "a/b/3"]
    assert files.names("a") == ["1", "b"]
    files.remove("a")
    assert everything(files) == {"ab/2": b"ab/2", "a.json": b"a.json"}


def test_a_file_has_no_names_in_it(files):
    files.create("a/b.json", b"1")
    assert files.names("a/b.json") == files.names("a/b.json/c") == []


def test_roots_that_begin_alike_are_two_stores(tmp_path):
    for base in (str(tmp_path), f"memory://{uuid.uuid4().hex}"):
        one, other = open_files(f"{base}/one"), open_files(f"{base}/one-more")
        one.create("x", b"1")
        other.create("x", b"2")
        assert (everything(one), everything(other)) == ({"x": b"1"}, {"x": b"2"})
        one.remove("x")
        assert everything(other) == {"x": b"2"}


@settings(max_examples=20, deadline=None)
@given(st.sets(st.lists(st.sampled_from(["a", "b", "a.b", "%2F", "ü "]), min_size=1, max_size=3).map("/".join)))
def test_a_disk_and_an_object_store_list_the_same(tmp_path_factory, paths):
    paths = {p for p in paths if not any(other.startswith(f"{p}/") for other in paths)}  # a file is no folder
    pair = LocalFiles(tmp_path_factory.mktemp("f")), RemoteFiles(f"memory://{uuid.uuid4().hex}")
    for files in pair:
        for path in sorted(paths):
            files.create(path, path.encode())
    for folder in {"", "a", "a/b", *(p.rpartition("/")[0] for p in paths)}:
        inside = {p for p in paths if p.startswith(f"{folder}/") or not folder}
        below = {p[len(folder) + bool(folder) :].split("/")[0] for p in inside}
        for files in pair:
            assert [name for name in files.names(folder) if name != WRITING] == sorted(below)
            assert {p for p in files.walk(folder) if not p.startswith(WRITING)} == inside


# -- addresses ---------------------------------------------------------------------------------------------------


def test_an_address_without_a_protocol_is_a_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for address in (tmp_path / "s", f"{tmp_path}/s", f"file://{tmp_path}/s", "~/s", "s"):
        files = open_files(address)
        assert files.local_root == tmp_path / "s"
        assert files.url == str(tmp_path / "s")


def test_a_slash_at_the_end_of_an_address_changes_nothing():
    address = f"memory://{uuid.uuid4().hex}"
    open_files(address).create("x", b"1")
    assert everything(open_files(f"{address}/")) == {"x": b"1"}
    assert open_files(f"{address}/").url == address


def test_without_fsspec_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(StoreError, match=r"the store s3://bucket needs fsspec: pip install -e '\.\[s3\]'"):
        open_files("s3://bucket")


def test_a_full_disk_is_told_from_other_refusals():
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        assert disk_is_full(OSError(code, "x"))
    assert disk_is_full(RuntimeError("polars: No space left on device (os error 28)"))
    assert not disk_is_full(OSError(errno.EACCES, "x"))
    assert not disk_is_full(RuntimeError("os error 2"))
    assert "is full; nothing unfinished was published" in str(told("raw[a]", "/s", OSError(errno.ENOSPC, "x")))
    refused = str(told("raw[a]", "/s", PermissionError(errno.EACCES, "Permission denied")))
    assert refused.startswith("raw[a]: the store /s cannot be written: ")
    assert refused.endswith("Check --store and its permissions.")


# -- the cache of a remote store ---------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path) -> Store:
    return Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")


@pytest.fixture
def downloads(monkeypatch) -> list[str]:
    made: list[str] = []
    download = files_module.RemoteFiles.download

    def counted(self, path: str, target: Path) -> None:
        made.append(path)
        download(self, path, target)

    monkeypatch.setattr(files_module.RemoteFiles, "download", counted)
    return made


def damaged(path: Path, how: str) -> None:
    sealed = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes({"empty": b"", "longer": sealed + b"\n", "flipped": b"x" + sealed[1:]}[how])


@pytest.mark.parametrize("how", ["empty", "longer", "flipped"])
def test_a_copy_that_was_damaged_since_is_fetched_again(remote, downloads, how):
    artifact = Workshop(remote).raw("a/1").artifact
    copy = artifact.local("about/text.json")
    damaged(copy, how)
    later = Store(remote.url, cache=remote._cache).open("raw", "a/1")  # as another process
    assert later.json("about/text.json") == {"text": "one two three"}
    assert len(downloads) == 2


def test_equal_files_of_two_artifacts_are_fetched_once_and_a_removed_copy_again(remote, downloads):
    workshop = Workshop(remote)
    one, other = workshop.raw("a/1", "same").artifact, workshop.raw("b/1", "same").artifact
    copy = one.local("words.arrow")
    assert other.local("words.arrow") == copy
    copy.unlink()
    assert other.table("words.arrow")["word"].to_pylist() == ["same"]
    assert len(downloads) == 2


def test_a_download_that_fails_leaves_nothing_in_the_cache(remote, monkeypatch):
    artifact = Workshop(remote).raw("a/1").artifact

    def torn(self, path: str, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ECONNRESET, "Connection reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteFiles, "download", torn)
        with pytest.raises(OSError, match="Connection reset"):
            artifact.local("words.arrow")
    assert list((remote._cache / "files").iterdir()) == []
    assert artifact.table("words.arrow").num_rows == 3


def test_threads_that_want_one_file_all_get_the_sealed_one(remote):
    artifact = Workshop(remote).raw("a/1").artifact
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: artifact.json("about/text.json"), range(16)))
    assert found == [{"text": "one two three"}] * 16
    assert len(list((remote._cache / "files").iterdir())) == 1


def test_a_file_that_the_store_has_lost_is_named_unless_a_copy_is_left(remote, tmp_path):
    artifact = Workshop(remote).raw("a/1").artifact
    copied, never = artifact.local("words.arrow"), artifact.names()[0]
    remote.files.remove(artifact.prefix + "/words.arrow")
    remote.files.remove(f"{artifact.prefix}/{never}")
    assert artifact.local("words.arrow") == copied
    with pytest.raises(FileNotFoundError, match=r"text\.json"):
        artifact.local(never)
    elsewhere = Store(remote.url, cache=tmp_path / "other").open("raw", "a/1")
    with pytest.raises(FileNotFoundError, match=r"words\.arrow"):
        elsewhere.table("words.arrow")


def test_the_cache_lies_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("STEMMA_CACHE", str(tmp_path / "here"))
    store = Store(f"memory://{uuid.uuid4().hex}")
    path = Workshop(store).raw("a/1").artifact.local("words.arrow")
    assert path.is_relative_to(tmp_path / "here")
    assert store.scratch.is_relative_to(tmp_path / "here")
