"""Publication: of two writers in the same moment one decides, and notes of what was under way go when it has ended."""

from __future__ import annotations

import pytest
from workshop import RawRecipe, Workshop, write_raw

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.ledger import entries
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.store import Store, pending
from pipelines.provenance.verify import verify_store

KEY = Key("raw", "a/1")


def sealed(store: Store, text: str) -> Artifact:
    return write_raw(store.draft(KEY, "1", RawRecipe(text=text).identity(), []), text)


@pytest.fixture
def overtaken(any_store, monkeypatch):
    """Lets another writer publish an artifact in the moment before the first ref of a publication is put."""

    def by(artifact: Artifact) -> None:
        create, done = type(any_store.files).create, []

        def slow(self, path: str, data: bytes, **options) -> bool:
            if path.startswith("refs/") and not done:
                done.append(path)
                any_store.publish(artifact, None)
            return create(self, path, data, **options)

        monkeypatch.setattr(type(any_store.files), "create", slow)

    return by


def test_two_who_publish_the_same_artifact_both_have(any_store, overtaken):
    artifact = sealed(any_store, "one")
    overtaken(artifact)
    any_store.publish(artifact, None)
    assert any_store.open(*KEY) == artifact
    assert any_store.files.names("refs/raw/a%2F1/_") == ["00000001.json"]
    assert verify_store(any_store).problems == []


def test_who_comes_second_with_another_artifact_is_told_and_changes_nothing(any_store, overtaken):
    first, second = sealed(any_store, "one"), sealed(any_store, "two")
    overtaken(first)
    with pytest.raises(StoreError, match=r"raw\[a/1\]: generation 1 of the ref was taken by another writer; run again"):
        any_store.publish(second, None)
    assert any_store.open(*KEY) == first
    report = verify_store(any_store)
    assert (report.problems, [line for line in report.unfinished if "refs/" in line]) == ([], [])
    any_store.publish(second, first.digest)
    assert any_store.open(*KEY) == second


def test_a_publication_leaves_no_note_of_its_own_nor_of_one_that_was_killed_before_it(any_store):
    artifact = sealed(any_store, "one")
    for generation in (1, 2, 9):
        any_store.files.create(pending(KEY, generation, "0" * 64), b"{}")
    any_store.publish(artifact, None)
    assert [path.rsplit("/", 1)[1][:8] for path in any_store.files.walk("pending")] == ["00000002", "00000009"]
    any_store.publish(sealed(any_store, "two"), artifact.digest)
    assert [path.rsplit("/", 1)[1][:8] for path in any_store.files.walk("pending")] == ["00000009"]


def test_publishing_what_is_published_already_writes_nothing(any_store):
    artifact = sealed(any_store, "one")
    any_store.publish(artifact, None)
    before = list(any_store.files.walk(""))
    any_store.publish(artifact, artifact.digest)
    assert list(any_store.files.walk("")) == before


def test_each_publication_stands_in_the_ledger_with_its_generation_and_event(any_store):
    one, two = sealed(any_store, "one"), sealed(any_store, "two")
    any_store.publish(one, None)
    any_store.publish(two, one.digest, "promoted")
    any_store.publish(one, two.digest)
    told = [(e.event, e.generation, e.manifest) for e in entries(any_store.files) if e.generation]
    assert told == [("published", 1, one.digest), ("promoted", 2, two.digest), ("published", 3, one.digest)]
    assert any_store.open(*KEY) == one


def test_a_manifest_that_was_emptied_is_noticed_by_a_process_that_has_read_it_before(store):
    artifact = Workshop(store).raw("a/1").artifact
    path = store.files.local_root / artifact.prefix / f"{artifact.digest}.manifest.json"
    path.chmod(0o644)
    path.write_bytes(b"")
    with pytest.raises(ManifestError, match=r"\.manifest\.json: not a manifest"):
        store.open(*KEY)
