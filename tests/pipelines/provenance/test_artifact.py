"""Artifacts and drafts: what was written is what can be read, and nothing lies in an artifact by accident."""

from __future__ import annotations

import json
import os

import pyarrow as pa
import pytest
from workshop import LoudRecipe, RawRecipe, Workshop, write_loud, write_raw

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_artifact, verify_store

KEY = Key("raw", "a/1")


def sealed(store: Store, write, key: Key = KEY, **seal) -> Artifact:
    def make(draft: Draft) -> Artifact:
        write(draft)
        return draft.seal(**seal)

    return build(store, key, "1", RawRecipe(), [], make, force=True).artifact


# -- what a draft holds ------------------------------------------------------------------------------------------


def test_files_are_listed_by_path_whatever_the_order_of_their_writing(any_store):
    def write(draft: Draft) -> None:
        for name in ("z", "b/c", ".hidden", "b.txt", "a", "B"):
            draft.path(name).write_text(name)

    artifact = sealed(any_store, write)
    assert [f.path for f in artifact.manifest.files] == [".hidden", "B", "a", "b.txt", "b/c", "z"]
    assert artifact.names(".txt") == ["b.txt"]
    assert {name: artifact.local(name).read_text() for name in artifact.names()} == {n: n for n in artifact.names()}
    assert verify_artifact(artifact) == []


def test_a_file_that_was_written_twice_holds_its_last_bytes(any_store):
    def write(draft: Draft) -> None:
        draft.path("note").write_text("first, and longer")
        draft.path("note").write_text("last")

    assert sealed(any_store, write).local("note").read_text() == "last"


def test_empty_folders_and_empty_artifacts_are_nothing_and_no_error(any_store):
    def write(draft: Draft) -> None:
        draft.path("folder/file").unlink(missing_ok=True)

    artifact = sealed(any_store, write)
    assert (artifact.names(), artifact.parts()) == ([], [artifact])
    with pytest.raises(ManifestError, match=r"raw\[a/1\] has no file x; it has none\."):
        artifact.local("x")
    assert verify_store(any_store).sound


def test_json_has_its_canonical_bytes(any_store):
    artifact = sealed(any_store, lambda draft: draft.write_json("a.json", {"b": 1.0, "a": ["é", None]}))
    assert artifact.local("a.json").read_bytes() == '{"a":["é",null],"b":1.0}'.encode()
    with pytest.raises(ValueError, match="not JSON compliant"):
        sealed(any_store, lambda draft: draft.write_json("a.json", {"loss": float("nan")}))
    assert any_store.open(*KEY) == artifact


def test_tables_come_back_with_the_columns_that_are_asked_for(any_store):
    table = pa.table({"n": [1, 2], "text": pa.array(["a", None], pa.large_string())})
    artifact = sealed(any_store, lambda draft: draft.write("t.arrow", table))
    assert artifact.table("t.arrow").equals(table)
    assert artifact.table("t.arrow", ["text"]).column_names == ["text"]
    with pytest.raises(KeyError, match="nothing"):
        artifact.table("t.arrow", ["nothing"])


def test_facts_and_counts_are_those_that_were_sealed(any_store):
    artifact = sealed(any_store, lambda draft: None, counts={"docs": 2}, facts={"share": 0.5, "é": [None, True]})
    again = Store(any_store.url).open(*KEY) if any_store.files.local_root else any_store.open(*KEY)
    assert (again.counts, again.facts) == ({"docs": 2}, {"share": 0.5, "é": [None, True]}) == (
        artifact.counts, artifact.facts,
    )  # fmt: skip


@pytest.mark.parametrize("seal", [
    {"counts": {"docs": 1.5}}, {"counts": {"docs": "many"}}, {"facts": {"loss": float("inf")}}, {"facts": {"at": {1}}},
    {"facts": {"path": b"bytes"}},
])  # fmt: skip
def test_counts_are_whole_numbers_and_facts_are_json(store, seal):
    with pytest.raises((ValueError, TypeError)):
        sealed(store, lambda draft: None, **seal)
    assert store.get(KEY) is None
    assert verify_store(store).sound


# -- paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "..", "a/..", "x/", "./x", "a/./x", ".", "a\\..\\x", "x\0", "a/x.manifest.json", ".manifest.json",
])  # fmt: skip
def test_no_file_name_leads_out_of_the_draft_or_poses_as_a_manifest(store, tmp_path, name):
    def write(draft: Draft) -> None:
        draft.path(name).write_text("x")

    with pytest.raises(ManifestError, match="is not allowed in an artifact: use a relative path without"):
        sealed(store, write)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and "leases" not in path.parts] == []


@pytest.mark.parametrize("name", ["sly.manifest.json", "back\\slash"])
def test_a_bad_name_that_a_stage_wrote_past_the_draft_is_refused_at_the_seal(store, name):
    """Libraries get a folder and write into it what they like."""
    with pytest.raises(ValueError, match="is not allowed in an artifact"):
        sealed(store, lambda draft: (draft.directory / name).write_text("x"))
    assert list(store.files.walk("artifacts")) == []


@pytest.mark.parametrize("link", ["folder", "broken", "deep"])
def test_a_link_is_refused_wherever_it_leads(store, tmp_path, link):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("may change")
    target = {"folder": "outside", "broken": "nowhere", "deep": "outside/file"}[link]

    def write(draft: Draft) -> None:
        place = draft.path("a/b/link" if link == "deep" else "link")
        os.symlink(tmp_path / target, place)

    with pytest.raises(ManifestError, match="link is a link; an artifact holds the bytes themselves"):
        sealed(store, write)
    assert (tmp_path / "outside" / "file").read_text() == "may change"


@pytest.mark.parametrize("partition", ["../x", "a/../../x", "/etc", "a|b", ""])
def test_no_key_leads_out_of_the_store(any_store, partition):
    for ask in (any_store.get, any_store.ref, any_store.sealed, any_store.attempts):
        with pytest.raises(ValueError, match="partition key"):
            ask(Key("raw", partition))
    if partition:
        with pytest.raises(ValueError, match="partition key"):
            any_store.get(Key("raw", "a", partition))


# -- what was lost or torn since ---------------------------------------------------------------------------------


def test_a_file_that_was_removed_since_is_named(store):
    artifact = Workshop(store).raw("a/1").artifact
    os.remove(artifact.local("words.arrow"))
    os.remove(artifact.local("about/text.json"))
    with pytest.raises(FileNotFoundError, match=r"words\.arrow"):
        artifact.table("words.arrow")
    with pytest.raises(FileNotFoundError, match=r"text\.json"):
        artifact.json("about/text.json")


# -- parts -------------------------------------------------------------------------------------------------------


def test_parts_come_in_the_order_of_the_seal_and_not_of_their_names(any_store):
    workshop = Workshop(any_store)
    texts = {name: workshop.raw(name, f"text of {name}").artifact for name in ("z/1", "a/1", "m/1")}
    book = workshop.book(texts).artifact
    assert [part.key.part for part in book.parts()] == ["z/1", "a/1", "m/1"]
    assert [part.local("loud.txt").read_text() for part in book.parts()] == [
        "TEXT OF Z/1!", "TEXT OF A/1!", "TEXT OF M/1!",
    ]  # fmt: skip
    with pytest.raises(ManifestError, match=r"book\[all\] has no part 'q/1'"):
        book.part("q/1")


def test_a_part_that_another_whole_has_made_before_is_not_computed_again(any_store):
    """Two mixtures of chapters share those that are equal: same key, recipe and input."""
    workshop = Workshop(any_store)
    texts = {name: workshop.raw(name, f"text of {name}").artifact for name in ("a/1", "b/1", "c/1")}
    workshop.book(texts)
    workshop.computed.clear()
    fewer = workshop.book({name: texts[name] for name in ("c/1", "a/1")}).artifact
    assert workshop.computed == []
    assert [part.key.part for part in fewer.parts()] == ["c/1", "a/1"]


def test_a_part_with_another_recipe_is_another_part_and_the_old_whole_keeps_its_own(store):
    raw = Workshop(store).raw("a/1").artifact

    def book(marks: int) -> Artifact:
        def make(draft: Draft) -> Artifact:
            part = draft.part("a/1", LoudRecipe(marks=marks), [raw], lambda d: write_loud(d, raw, marks))
            return draft.seal(parts=[part])

        return build(store, Key("book", "all"), "1", LoudRecipe(marks=marks), [raw], make).artifact

    quiet, loud = book(0), book(3)
    assert loud.part("a/1").local("loud.txt").read_text().endswith("!!!")
    assert not quiet.part("a/1").local("loud.txt").read_text().endswith("!")
    assert store.open("book", "all", "") == loud


def test_a_part_is_sealed_before_its_whole_and_not_published(store):
    workshop = Workshop(store)
    raw = workshop.raw("a/1").artifact
    seen = []

    def make(draft: Draft) -> Artifact:
        part = draft.part("p", LoudRecipe(), [raw], lambda d: write_loud(d, raw, 1))
        seen.append((store.sealed(part.key) == [part], store.get(part.key), store.get(draft.key)))
        return draft.seal(parts=[part])

    book = build(store, Key("book", "all"), "1", LoudRecipe(), [raw], make).artifact
    assert seen == [(True, None, None)]
    assert store.get(Key("book", "all", "p")) is None
    assert book.part("p").input("raw") == raw


def test_the_content_of_a_whole_changes_with_any_part_and_with_its_name(store):
    def content(parts: dict[str, str]) -> str:
        def make(draft: Draft) -> Artifact:
            made = [draft.part(n, RawRecipe(text=t), [], lambda d, t=t: write_raw(d, t)) for n, t in parts.items()]
            return draft.seal(parts=made)

        return build(store, Key("book", "all"), "1", RawRecipe(text=json.dumps(parts)), [], make).artifact.content

    plain = content({"a": "one", "b": "two"})
    assert content({"b": "two", "a": "one"}) == plain
    others = [{"a": "one", "b": "other"}, {"a": "two", "b": "one"}, {"a": "one", "c": "two"}, {"a": "one"}]
    assert len({plain, *map(content, others)}) == 5
