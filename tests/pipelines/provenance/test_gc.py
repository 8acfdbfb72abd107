"""Garbage collection removes what nothing published leads to, and nothing else."""

from __future__ import annotations

import os
import threading
import time
import uuid

import pytest
from workshop import LoudRecipe, Workshop, make_small_world, write_loud

from pipelines.provenance import leases
from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.ledger import entries
from pipelines.provenance.lineage import ancestors
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_store


def test_superseded_artifacts_go_and_everything_published_stays(any_store):
    make_small_world(any_store)
    kept = {a.digest: a for key in any_store.keys() if (found := any_store.get(key)) for a in ancestors(found)}
    garbage = find_garbage(any_store)
    assert sorted(str(item.key) for item in garbage) == ["book[all]", "book[all] part b/1", "loud[a/1]", "raw[b/1]"]
    assert all(item.manifest and item.num_bytes > 0 for item in garbage)
    assert collect(any_store, garbage) == sum(item.num_bytes for item in garbage)
    for artifact in kept.values():
        again = any_store.artifact(artifact.key, artifact.digest)
        assert all(again.local(name).exists() for name in again.names())
    report = verify_store(any_store)
    assert (report.problems, report.unfinished) == ([], [])
    assert report.artifacts == len(kept) == 6
    assert find_garbage(any_store) == []


def test_looking_for_garbage_changes_nothing(any_store):
    make_small_world(any_store)
    before = list(any_store.files.walk(""))
    assert find_garbage(any_store) == find_garbage(any_store)
    assert list(any_store.files.walk("")) == before


def test_an_input_that_a_published_artifact_was_pinned_to_stays(any_store):
    workshop = Workshop(any_store)
    old = workshop.raw("a/1", "old").artifact
    workshop.loud(old)
    workshop.raw("a/1", "new")
    assert find_garbage(any_store) == []
    assert any_store.open("loud", "a/1").input("raw") == old


def test_what_was_collected_is_computed_again_when_it_is_wanted_again(any_store):
    workshop = Workshop(any_store)
    workshop.raw("a/1", "old")
    workshop.raw("a/1", "new")
    collect(any_store, find_garbage(any_store))
    assert workshop.raw("a/1", "old").computed
    assert verify_store(any_store).problems == []


def test_an_unfinished_attempt_goes(store):
    draft = store.draft(Key("raw", "a"), "1", {}, [])
    draft.path("half").write_text("half")
    (item,) = find_garbage(store)
    assert (item.key, item.manifest, item.num_bytes) == (Key("raw", "a"), "", 4)
    assert verify_store(store).unfinished == [draft.prefix]
    assert collect(store, [item]) == 4
    report = verify_store(store)
    assert (report.problems, report.unfinished) == ([], [])


def test_what_became_wanted_since_it_was_found_stays(store):
    workshop = Workshop(store)
    old = workshop.raw("a/1", "old").artifact
    workshop.raw("a/1", "new")
    garbage = find_garbage(store)
    workshop.raw("a/1", "old")
    assert collect(store, garbage) == 0
    assert store.open("raw", "a/1") == old


def test_a_removal_by_hand_is_missed_though_the_same_artifact_was_once_collected(store):
    """What the ledger excuses for superseded artifacts it does not excuse for published ones."""
    workshop = Workshop(store)
    for text in ("old", "new"):
        workshop.raw("a/1", text)
    collect(store, find_garbage(store))
    again = workshop.raw("a/1", "old").artifact
    store.remove_attempt(again.prefix)
    (problem,) = verify_store(Store(store.url)).problems
    assert problem.startswith(f"{again.prefix}/{again.digest}.manifest.json: is missing")


def test_a_file_that_is_no_attempt_does_not_stop_the_collector(world):
    for place in ("artifacts/stray", "artifacts/raw/stray"):
        (world.files.local_root / place).write_text("?")
    assert collect(world, find_garbage(world)) > 0


def test_half_grown_files_of_killed_writers_are_swept_after_a_day(world):
    folder = world.files.local_root / ".writing"
    for name, age in (("old", 90_000), ("young", 60)):
        (folder / name).write_text("half")
        os.utime(folder / name, (time.time() - age,) * 2)
    assert verify_store(world).sound
    collect(world, [])
    assert [path.name for path in folder.iterdir()] == ["young"]


def test_a_damaged_ledger_is_not_tidied_up(world):
    entry = next((world.files.local_root / "ledger").rglob("*.json"))
    entry.chmod(0o644)
    entry.write_bytes(b"{}")
    with pytest.raises(ManifestError, match=entry.name):
        collect(world, [])


@pytest.mark.parametrize("again", range(2))
def test_collecting_twice_removes_once(world, again):
    garbage = find_garbage(world)
    assert collect(world, garbage) > 0
    assert collect(world, garbage) == 0


def test_a_collector_of_an_object_store_waits_for_the_builder_of_the_whole(monkeypatch, tmp_path):
    """A part that was sealed a moment ago looks like garbage until its whole is published."""
    monkeypatch.setattr(leases, "REMOTE_POLL_SECONDS", 0.01)
    store = Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache")
    text = Workshop(store).raw("a/1").artifact
    freed: list[int] = []
    collectors: list[threading.Thread] = []

    def make(draft):
        part = draft.part("a/1", LoudRecipe(), [text], lambda d: write_loud(d, text, 1))
        garbage = find_garbage(store)
        assert [item.prefix for item in garbage] == [part.prefix]
        collectors.append(threading.Thread(target=lambda: freed.append(collect(store, garbage))))
        collectors[0].start()
        return draft.seal(parts=[part])

    book = build(store, Key("book", "all"), "1", LoudRecipe(), [text], make).artifact
    collectors[0].join(30)
    assert freed == [0]
    assert book.part("a/1").local("loud.txt").read_text() == "ONE TWO THREE!"
    assert verify_store(store).problems == []


def test_what_only_a_superseded_generation_leads_to_goes_with_everything_behind_it(any_store):
    """Three generations deep: the newest book keeps the newest text; older texts, chapters and books go together."""
    workshop = Workshop(any_store)
    for number in range(3):
        texts = {name: workshop.raw(name, f"{name} {number}").artifact for name in ("a/1", "b/1")}
        workshop.book(texts)
    before = {a.prefix for a in ancestors(any_store.open("book", "all"))}
    garbage = find_garbage(any_store)
    assert len(garbage) == 2 * 5
    assert not {item.prefix for item in garbage} & before
    collect(any_store, garbage)
    assert {a.prefix for a in ancestors(any_store.open("book", "all"))} == before
    assert verify_store(any_store).problems == []


def test_the_ledger_tells_what_was_collected(any_store):
    workshop = Workshop(any_store)
    old = workshop.raw("a/1", "old").artifact
    workshop.raw("a/1", "new")
    collect(any_store, find_garbage(any_store))
    (entry,) = [e for e in entries(any_store.files) if e.event == "removed"]
    assert (entry.key, entry.manifest, entry.attempt) == (old.key, old.digest, old.attempt)
    assert list(any_store.files.walk(old.prefix)) == []
