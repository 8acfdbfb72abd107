"""The store: refs move by compare-and-swap, remote files are checked, and what cannot be used is told clearly."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import stat
import tempfile
import threading
import traceback
from pathlib import Path

import pytest
from workshop import LoudRecipe, RawRecipe, Workshop, evidence, make_small_world, write_raw

from pipelines.provenance.files import RemoteFiles, StoreError, open_files
from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.lineage import ancestor, ancestors, checkpoint
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.memo import build, rematerialize
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_store

READ_STREAM = RemoteFiles.open  # the fixtures replace it

# -- refs --------------------------------------------------------------------------------------------------------


KEY = Key("raw", "a")


def sealed(store: Store, text: str, key: Key = KEY):
    return write_raw(store.draft(key, "1", RawRecipe(text=text).identity(), []), text)


def test_a_ref_moves_only_from_where_it_was_expected(any_store):
    first, second = sealed(any_store, "one"), sealed(any_store, "two")
    any_store.publish(first, None)
    with pytest.raises(StoreError, match=r"raw\[a\]: the ref moved to .* while this was built; run again"):
        any_store.publish(second, None)
    any_store.publish(second, first.digest)
    any_store.publish(second, "whatever")  # it points there already
    assert any_store.open("raw", "a") == second
    assert any_store.ref(Key("raw", "a"))["generation"] == 2
    assert verify_store(any_store).problems == []


def test_of_racing_threads_one_wins_and_the_others_lose_cleanly(any_store):
    artifacts = [sealed(any_store, f"text {n}") for n in range(8)]
    barrier, outcomes, lost = threading.Barrier(8), [], []

    def race(artifact) -> None:
        barrier.wait()
        try:
            any_store.publish(artifact, None)
        except StoreError as error:
            lost.append(str(error))
        else:
            outcomes.append(artifact)

    threads = [threading.Thread(target=race, args=(artifact,)) for artifact in artifacts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [any_store.open("raw", "a")]
    assert len([line for line in lost if line.endswith("run again.")]) == 7
    assert verify_store(any_store).problems == []


def race_in_process(root: str, number: int, barrier, wins) -> None:
    store = Store(root)
    artifact = sealed(store, f"text {number}")
    barrier.wait()
    try:
        store.publish(artifact, None)
        wins.put(artifact.digest)
    except StoreError:
        wins.put("")


def test_of_racing_processes_one_wins(store):
    context = multiprocessing.get_context("fork")
    barrier, wins = context.Barrier(4), context.Queue()
    processes = [context.Process(target=race_in_process, args=(store.url, n, barrier, wins)) for n in range(4)]
    for process in processes:
        process.start()
    outcomes = sorted(wins.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert outcomes == ["", "", "", store.open("raw", "a").digest]
    assert verify_store(store).problems == []


def test_the_newest_of_many_generations_counts(store):
    before = None
    for number in range(12):
        artifact = sealed(store, f"text {number}")
        store.publish(artifact, before)
        before = artifact.digest
    assert store.open("raw", "a").json("about/text.json") == {"text": "text 11"}
    assert store.ref_file(Key("raw", "a"), 1)["generation"] == 1


def test_a_torn_ref_is_named(world):
    path = world.files.local_root / "refs/raw/a%2F1/_/00000001.json"
    path.chmod(0o644)
    for body in (b"", b"{}", b"[]", b"\xff", path.read_bytes() + b" "):
        path.write_bytes(body)
        with pytest.raises(ManifestError, match=r"refs/raw/a%2F1/_/00000001\.json"):
            world.open("raw", "a/1")


def test_what_does_not_exist_is_told_with_the_command_that_makes_it(any_store):
    assert any_store.get(Key("raw", "a")) is None
    assert any_store.keys() == []
    with pytest.raises(StoreError, match=r"raw\[a\] has not been made in .*stemma run --select raw"):
        any_store.open("raw", "a")
    with pytest.raises(ManifestError, match="manifest 000000000000… is missing"):
        any_store.artifact(Key("raw", "a"), "0" * 64)


# -- lineage -----------------------------------------------------------------------------------------------------


def test_keys_and_ancestors_lead_through_parts_and_inputs(any_store):
    make_small_world(any_store)
    assert any_store.keys() == [Key("book", "all"), Key("loud", "a/1"), Key("raw", "a/1"), Key("raw", "b/1")]
    book = any_store.open("book", "all")
    found = [str(a.key) for a in ancestors(book)]
    assert found == ["book[all]", "book[all] part a/1", "book[all] part b/1", "raw[a/1]", "raw[b/1]"]
    assert ancestor(book, "raw").key == Key("raw", "a/1")
    assert [a.key.partition for a in book.inputs("raw")] == ["a/1", "b/1"]
    assert book.part("a/1").input("raw") == any_store.open("raw", "a/1")
    with pytest.raises(StoreError, match="was not made from any mixture"):
        ancestor(book, "mixture")
    with pytest.raises(ManifestError, match="2 inputs of raw, expected one"):
        book.input("raw")
    with pytest.raises(ManifestError, match="has no part 'z'"):
        book.part("z")
    with pytest.raises(StoreError, match=r"no checkpoint 'demo' in .*; there are: none"):
        checkpoint(any_store, "demo")


# -- remote stores -----------------------------------------------------------------------------------------------


@pytest.fixture
def remote(tmp_path, request) -> Store:
    return Store(f"memory://{tmp_path.name}", cache=tmp_path / "cache")


def test_a_remote_object_that_changed_is_refused(remote):
    artifact = Workshop(remote).raw("a/1").artifact
    remote.files._fs.pipe_file(remote.files._full(f"{artifact.prefix}/words.arrow"), b"changed")
    with pytest.raises(ManifestError, match=r"words\.arrow: has blake3 .*, the manifest says"):
        artifact.local("words.arrow")
    assert list((remote._cache / "files").iterdir()) == []


def test_a_remote_file_is_fetched_once_and_a_torn_copy_again(remote):
    artifact = Workshop(remote).raw("a/1").artifact
    path = artifact.local("words.arrow")
    assert artifact.local("words.arrow") == path
    path.write_bytes(b"torn")
    again = Store(remote.url, cache=remote._cache).open("raw", "a/1")
    assert again.table("words.arrow").num_rows == 3


def test_an_empty_file_passes_through_the_cache(remote):
    def make(draft):
        draft.path("empty").touch()
        return draft.seal()

    assert build(remote, Key("raw", "a"), "1", RawRecipe(), [], make).artifact.local("empty").read_bytes() == b""


def test_drafts_of_a_remote_store_leave_nothing_on_this_machine(remote, monkeypatch, tmp_path):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    workshop = Workshop(remote)
    workshop.raw("a/1")
    with pytest.raises(ZeroDivisionError):
        build(remote, Key("raw", "b"), "1", RawRecipe(), [], lambda draft: 1 // 0)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_local_and_remote_files_behave_alike(tmp_path):
    for files in (open_files(tmp_path / "here"), open_files(f"memory://{tmp_path.name}-files")):
        assert files.create("a/b/c.json", b"1")
        assert not files.create("a/b/c.json", b"2")
        assert files.read("a/b/c.json") == b"1"
        assert files.create("a/b.json", b"22")
        assert (files.names("a"), files.names("a/b"), files.names("nowhere")) == (["b", "b.json"], ["c.json"], [])
        assert list(files.walk("a")) == ["a/b/c.json", "a/b.json"] or list(files.walk("a")) == [
            "a/b.json",
            "a/b/c.json",
        ]
        assert list(files.walk("nowhere")) == []
        assert files.size("a/b.json") == 2
        with files.open("a/b.json") as stream:
            assert stream.read() == b"22"
        with (READ_STREAM if isinstance(files, RemoteFiles) else type(files).open)(files, "a/b.json") as stream:
            assert stream.read() == b"22"
        for call in (files.read, files.size):
            with pytest.raises(FileNotFoundError):
                call("a/missing")
        (tmp_path / "up").write_bytes(b"333")
        files.upload(tmp_path / "up", "x/up")
        files.download("x/up", tmp_path / f"down-{type(files).__name__}")
        assert (tmp_path / f"down-{type(files).__name__}").read_bytes() == b"333"
        files.remove("a")
        files.remove("x/up")
        files.remove("missing")
        assert [path for path in files.walk("") if not path.startswith(".writing")] == []


# -- stores that cannot be used ----------------------------------------------------------------------------------


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a store")
    with pytest.raises(StoreError, match=r"the store .*file is a file; give a directory"):
        Store(tmp_path / "file")
    with pytest.raises(StoreError, match=r"raw\[a/1\]: the store .* cannot be written: .*Not a directory"):
        Workshop(Store(tmp_path / "file" / "below")).raw("a/1")


def test_an_unknown_protocol_is_refused():
    with pytest.raises(StoreError, match="cannot be opened"):
        Store("nosuch://bucket")


def test_reading_a_store_changes_nothing_in_it(world):
    root = world.files.local_root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    store = Store(root)
    for key in store.keys():
        artifact = store.get(key)
        list(ancestors(artifact))
        for name in artifact.names():
            artifact.local(name).read_bytes()
    assert verify_store(store).sound
    assert find_garbage(store)
    assert Workshop(store).raw("a/1").computed is False  # what is published needs no lease
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def audit(root: Path, cache: Path) -> None:
    store = Store(root, cache=cache)
    assert verify_store(store).sound
    artifact = store.open("raw", "a/1")
    assert artifact.table("words.arrow").num_rows == 3
    assert Workshop(store).raw("a/1").computed is False
    assert rematerialize(artifact, lambda draft: write_raw(draft, "one two three")).identical
    with pytest.raises(StoreError, match=r"raw\[new\]: the store .* cannot be written: .*Permission denied"):
        Workshop(store).raw("new")


@pytest.mark.parametrize("has_scratch", [False, True])
def test_an_auditor_reads_verifies_and_recomputes_a_store_that_may_not_be_written(small_world, has_scratch):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = Path(shutil.copytree(small_world, Path(folder) / "store", ignore=shutil.ignore_patterns("scratch")))
        if has_scratch:
            (root / "scratch").mkdir()
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        cache = Path(folder) / "cache"
        cache.mkdir()
        cache.chmod(0o777)
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)  # root may write anywhere, nobody may not
                audit(root, cache)
                os._exit(0)
            except BaseException:  # noqa: BLE001 - whatever it was, the parent wants to see it
                (cache / "failure").write_text(traceback.format_exc())
                os._exit(1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code == 0, (cache / "failure").read_text()


def test_sealed_files_are_not_writable(world):
    for path in evidence(world.files.local_root):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444, path


# -- one process for long, many processes ------------------------------------------------------------------------


def test_what_another_process_collected_and_remade_is_found_again(store):
    """A long-lived process remembers where manifests lie; garbage collection elsewhere must not fool it."""
    workshop = Workshop(store)
    old = workshop.raw("a/1", "old").artifact
    workshop.raw("a/1", "new")
    other = Store(store.url)
    collect(other, find_garbage(other))
    with pytest.raises(ManifestError, match="is missing"):
        store.artifact(old.key, old.digest)
    again = Workshop(other).raw("a/1", "old").artifact
    assert again.digest == old.digest
    assert again.prefix != old.prefix
    assert store.open("raw", "a/1").table("words.arrow").num_rows == 1


def test_a_store_and_an_artifact_cross_to_another_process(world):
    artifact = world.open("book", "all")
    again = pickle.loads(pickle.dumps(artifact))
    assert again.digest == artifact.digest
    assert again.part("b/1").local("loud.txt").exists()
    copied = pickle.loads(pickle.dumps(world))
    first, second = sealed(world, "x", Key("raw", "x")), sealed(copied, "y", Key("raw", "y"))
    assert first.key != second.key
    assert verify_store(world).problems == []


def test_scratch_is_a_folder_and_no_evidence(world, remote):
    for store in (world, remote):
        (store.scratch / "rolling").write_text("checkpoint")
        assert store.scratch.is_dir()
        assert verify_store(store).sound


def test_rematerialize_tells_equal_from_different(any_store):
    artifact = Workshop(any_store).raw("a/1").artifact
    assert rematerialize(artifact, lambda draft: write_raw(draft, "one two three")).identical
    other = rematerialize(artifact, lambda draft: write_raw(draft, "one two"))
    assert (other.identical, other.files) == (False, ("about/text.json", "words.arrow"))
    assert LoudRecipe().identity() == {"marks": 1}
