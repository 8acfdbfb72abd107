"""stemma artifacts and gc: what lies in the store, what could go, and that a dry run removes nothing."""

import pytest

from assets.builder import build_key
from pipelines.provenance.manifest import Key

POEMS = Key("raw_documents", "poems/1")


def test_an_artifact_is_told_by_both_digests_and_its_place(library, stemma):
    rows = stemma.json(library, "artifacts")
    store = library.store
    assert {(row["asset"], row["partition"]) for row in rows} == {
        (k.asset, k.partition) for k in store.keys() if not k.part
    }
    for row in rows:
        assert set(row) == {"asset", "partition", "digest", "content", "path"}
        artifact = store.open(row["asset"], row["partition"])
        assert (row["digest"], row["content"]) == (artifact.digest, artifact.content)
        assert row["path"] == f"{library.url}/{artifact.prefix}"


def test_parts_are_not_listed_beside_their_whole(library, stemma):
    assert len(library.store.open("token_shards", "small").parts()) == 2
    assert len(stemma.json(library, "artifacts", "token_shards")) == 1


def test_one_asset_can_be_asked_for(library, stemma):
    rows = stemma.json(library, "artifacts", "raw_documents")
    assert [(row["asset"], row["partition"]) for row in rows] == [
        ("raw_documents", "letters/1"),
        ("raw_documents", "poems/1"),
    ]
    assert stemma.json(library, "artifacts", "champion") == []


def test_the_size_in_the_table_is_that_of_the_files_with_those_of_the_parts(library, stemma):
    for asset in ("token_shards", "raw_documents"):
        for key in (k for k in library.store.keys() if k.asset == asset and not k.part):
            artifact = library.store.open(*key)
            files = {f"{p.prefix}/{f.path}": f.bytes for p in [artifact, *artifact.parts()] for f in p.manifest.files}
            line = next(x for x in stemma(library, "artifacts", asset).splitlines() if artifact.digest[:12] in x)
            assert f" {sum(files.values()):,} " in line


def test_an_empty_store_has_no_artifacts_and_is_no_error(blank, stemma):
    assert stemma.json(blank, "artifacts") == []


def test_listing_writes_nothing(library, stemma):
    before = sorted(str(path) for path in library.url.rglob("*"))
    stemma(library, "artifacts")
    stemma(library, "gc")
    assert sorted(str(path) for path in library.url.rglob("*")) == before


# -- gc -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def superseded(blank):
    """A source that was taken in twice, and an attempt that never ended."""
    build_key(blank.spec, blank.store, POEMS)
    first = blank.store.open(*POEMS)
    with (blank.folder / "poems.jsonl").open("a") as file:
        file.write('{"id": "late", "text": "One more."}\n')
    build_key(blank.spec, blank.store, POEMS)
    draft = blank.store.draft(Key("vocabulary", "words"), "1", {}, [])
    draft.path("half.txt").write_text("12345")
    return blank, first, draft


def test_a_dry_run_lists_both_kinds_of_garbage_and_removes_nothing(superseded, stemma):
    place, first, draft = superseded
    found = stemma.json(place, "gc")
    size = sum(f.bytes for f in first.manifest.files) + len(first.manifest.canonical())
    assert found == {
        "deleted": False,
        "bytes": size + 5,
        "attempts": [
            {**POEMS._asdict(), "path": first.prefix, "bytes": size, "kind": "superseded"},
            {
                "asset": "vocabulary",
                "partition": "words",
                "part": "",
                "path": draft.prefix,
                "bytes": 5,
                "kind": "unfinished",
            },
        ],
    }
    assert stemma.json(place, "gc") == found
    assert place.store.artifact(POEMS, first.digest).digest == first.digest


def test_the_table_says_what_could_go_and_how(superseded, stemma):
    place, _, _ = superseded
    said = stemma(place, "gc")
    assert "2 attempts" in said
    assert "could go: stemma gc --delete" in said
    for word in ("superseded", "unfinished", "poems/1", "words"):
        assert word in said


def test_delete_removes_the_garbage_and_nothing_else(superseded, stemma):
    place, first, draft = superseded
    kept = place.store.open(*POEMS)
    found = stemma.json(place, "gc", "--delete")
    assert found["deleted"]
    assert {item["path"] for item in found["attempts"]} == {first.prefix, draft.prefix}
    left = list(place.store.files.walk("artifacts"))
    assert left
    assert all(path.startswith(kept.prefix) for path in left)
    assert stemma.json(place, "gc")["attempts"] == []
    assert "0 attempts, 0 bytes could go." in stemma(place, "gc")


def test_after_gc_the_store_verifies_and_builds_on(superseded, stemma):
    """The ledger says why the removed ones are not there."""
    place, _, _ = superseded
    stemma(place, "gc", "--delete")
    assert stemma.json(place, "audit", "verify")["sound"]
    assert not build_key(place.spec, place.store, POEMS).computed


def test_what_a_pinned_artifact_was_made_from_is_no_garbage(own_library, stemma):
    """Its inputs moved on, but lineage leads to the old ones."""
    store = own_library.store
    old = store.open("heldout_documents", "small")
    build_key(own_library.spec, store, Key("heldout_documents", "small"), overrides={"ratio": 0.9})
    assert store.open("benchmark_prompts", "quiz").input("heldout_documents").digest == old.digest
    assert old.prefix not in {item["path"] for item in stemma.json(own_library, "gc")["attempts"]}


def test_gc_waits_for_no_builder_but_refuses_beside_one(superseded, stemma):
    """Parts and inputs of what is being built look like garbage until the end."""
    place, first, _ = superseded
    with place.store.lease(Key("signatures", "poems/1")):
        said = " ".join(stemma(place, "gc", "--delete", code=1).split())
    assert said.startswith("error: lease ")
    assert "is held by" in said
    assert "Wait until that has ended." in said
    assert place.store.artifact(POEMS, first.digest).digest == first.digest
