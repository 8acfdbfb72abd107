"""Verify against somebody who knows the format: forgeries that are sound by themselves, on a disk and on an object store."""

from __future__ import annotations

import json
import uuid

import pytest
from workshop import EVIDENCE, Workshop, make_small_world, mentions

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.ledger import Ledger, circumstances, entries
from pipelines.provenance.manifest import MANIFEST_SUFFIX, FileEntry, Key, Manifest
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.store import Store
from pipelines.provenance.verify import Report, verify_artifact, verify_store


class Tampered:
    """A small finished store whose files can be put, changed and removed behind its back."""

    def __init__(self, store: Store) -> None:
        make_small_world(store)
        self.store = store

    def put(self, path: str, data: bytes) -> None:
        if self.store.files.local_root:
            full = self.store.files.local_root / path
            full.parent.mkdir(parents=True, exist_ok=True)
            if full.exists():
                full.chmod(0o644)
            full.write_bytes(data)
        else:
            self.store.files._fs.pipe_file(self.store.files._full(path), data)

    def verified(self) -> Report:
        return verify_store(Store(self.store.url) if self.store.files.local_root else self.store)

    def evidence(self) -> dict[str, bytes]:
        return {path: self.store.files.read(path) for folder in EVIDENCE for path in self.store.files.walk(folder)}

    def forged(self, artifact: Artifact, name: str, data: bytes) -> Manifest:
        """Another file and a manifest that says so, under its own right name."""
        files = [f for f in artifact.manifest.files if f.path != name]
        files = sorted([*files, FileEntry(path=name, bytes=len(data), blake3=digest(data))], key=lambda f: f.path)
        manifest = artifact.manifest.model_copy(update={"files": files})
        self.put(f"{artifact.prefix}/{name}", data)
        self.store.files.remove(f"{artifact.prefix}/{artifact.digest}{MANIFEST_SUFFIX}")
        self.put(f"{artifact.prefix}/{manifest.digest}{MANIFEST_SUFFIX}", manifest.canonical())
        return manifest


@pytest.fixture(params=["local", "memory"])
def tampered(request, tmp_path) -> Tampered:
    if request.param == "local":
        return Tampered(Store(tmp_path / "store"))
    return Tampered(Store(f"memory://{uuid.uuid4().hex}", cache=tmp_path / "cache"))


@pytest.mark.parametrize("harm", ["flip", "cut", "grow", "empty", "remove"])
def test_each_harmed_file_is_named_by_its_path(tampered, harm):
    """Every third file, ledger entries that are removed excepted: those leave a gap, and the next one is named."""
    for path, sealed in list(tampered.evidence().items())[::3]:
        if harm == "remove":
            tampered.store.files.remove(path)
        else:
            flipped = bytes([sealed[0] ^ 1]) + sealed[1:]
            tampered.put(path, {"flip": flipped, "cut": sealed[:-1], "grow": sealed + b"\n", "empty": b""}[harm])
        report = tampered.verified()
        lines = report.problems + report.unfinished
        assert lines, path
        assert mentions(lines, path) or (harm == "remove" and path.startswith("ledger/")), (path, lines)
        tampered.put(path, sealed)
    assert tampered.verified().sound


def test_a_file_and_a_manifest_that_agree_with_each_other_do_not_agree_with_the_ledger(tampered):
    artifact = tampered.store.open("raw", "a/1")
    manifest = tampered.forged(artifact, "words.arrow", b"other words")
    assert verify_artifact(Artifact(tampered.store, manifest, artifact.prefix)) == []
    problems = tampered.verified().problems
    assert (
        f"{artifact.prefix}/{manifest.digest}{MANIFEST_SUFFIX}: is not in the ledger; it was added, or its entry was"
        in ("\n".join(problems))
    )
    assert mentions(problems, f"{artifact.prefix}/{artifact.digest}{MANIFEST_SUFFIX}")  # and the sealed one is missed


def test_a_forgery_with_a_ledger_entry_of_its_own_is_still_not_what_was_published(tampered):
    artifact = tampered.store.open("raw", "a/1")
    manifest = tampered.forged(artifact, "words.arrow", b"other words")
    Ledger(tampered.store.files).append("sealed", artifact.key, manifest.digest, artifact.attempt, circumstances(0.0))
    said = f"{artifact.digest}{MANIFEST_SUFFIX}: is missing or unsound; the ref of raw[a/1] points at it."
    assert any(line.endswith(said) for line in tampered.verified().problems)


def test_a_ref_that_points_at_a_forgery_is_not_known_to_the_ledger(tampered):
    artifact = tampered.store.open("loud", "a/1")
    manifest = tampered.forged(artifact, "loud.txt", b"QUIET")
    ref = tampered.store.ref(artifact.key)
    path = f"refs/loud/a%2F1/_/{ref['generation']:08d}.json"
    tampered.put(path, canonical_json({**ref, "manifest": manifest.digest}))
    said = f"{path}: the ledger does not know that loud[a/1] was published as {manifest.digest[:12]}…."
    assert said in tampered.verified().problems


def test_a_new_generation_of_a_ref_that_nobody_published_is_found(tampered):
    ref = tampered.store.ref(Key("raw", "a/1"))
    path = "refs/raw/a%2F1/_/00000002.json"
    tampered.put(path, canonical_json({**ref, "generation": 2}))
    assert tampered.verified().problems == [
        f"{path}: the ledger does not know that raw[a/1] was published as {ref['manifest'][:12]}…."
    ]


def test_a_ref_of_another_key_does_not_pass_for_this_one(tampered):
    sealed = tampered.evidence()["refs/raw/b%2F1/_/00000001.json"]
    tampered.put("refs/raw/a%2F1/_/00000001.json", sealed)
    (problem,) = [line for line in tampered.verified().problems if line.startswith("refs/")]
    assert problem == "refs/raw/a%2F1/_/00000001.json: says generation 1 of raw[b/1]; it was changed or moved."


def test_a_rewritten_ledger_entry_that_is_named_rightly_breaks_the_chain_behind_it(tampered):
    """Its name is its own digest, its number is right: only the entry that follows knows better."""
    chain = entries(tampered.store.files)
    old = chain[2]
    new = old.model_copy(update={"attempt": "0" * 32})
    tampered.store.files.remove(old.path)
    tampered.put(new.path, new.canonical())
    problems = tampered.verified().problems
    assert f"{chain[3].path}: does not follow the entry before it; the chain is broken." in problems


def test_a_removed_entry_is_missed_by_the_place_of_the_next_one(tampered):
    chain = entries(tampered.store.files)
    for gone in (chain[0], chain[5]):
        tampered.store.files.remove(gone.path)
        after = chain[chain.index(gone) + 1]
        said = f"{after.path}: stands at place {gone.number} of its segment; an entry before it was removed or added."
        assert said in tampered.verified().problems
        tampered.put(gone.path, gone.canonical())
    assert tampered.verified().sound


def test_a_segment_that_was_cut_short_is_missed_by_the_one_that_joined_it(tampered):
    """Nothing inside a chain holds its newest entries; the next writer does."""
    first = entries(tampered.store.files)
    Ledger(tampered.store.files).append("removed", Key("raw", "z"), "", "0" * 32, circumstances(1.0))
    tampered.store.files.remove(first[-1].path)
    joined = next(entry for entry in entries(tampered.store.files) if entry.joins)
    problems = tampered.verified().problems
    assert (
        f"ledger/{first[-1].segment}: the entry with digest {first[-1].digest} is missing; {joined.path} has seen it."
        in (problems)
    )


def test_a_whole_segment_that_was_removed_leaves_every_artifact_without_an_account(tampered):
    number = tampered.verified().artifacts
    for entry in entries(tampered.store.files):
        tampered.store.files.remove(entry.path)
    problems = tampered.verified().problems
    assert sum("is not in the ledger" in line for line in problems) == number == 10


def test_circumstances_that_were_rewritten_under_their_own_name_are_missed_under_the_old_one(tampered):
    old = next(path for path in tampered.evidence() if path.startswith("circumstances/"))
    facts = {**json.loads(tampered.store.files.read(old)), "user": "somebody else"}
    body = canonical_json(facts)
    tampered.store.files.remove(old)
    tampered.put(f"circumstances/{digest(body)}.json", body)
    report = tampered.verified()
    assert [line for line in report.problems if line.startswith(f"{old}: is missing; ledger/")] == report.problems != []
    assert report.unfinished == [f"circumstances/{digest(body)}.json (no ledger entry names it)"]


def test_an_artifact_of_another_store_is_not_taken_in(tampered, tmp_path):
    """Sealed, sound, and copied here file by file: this ledger has never heard of it."""
    elsewhere = Store(tmp_path / "elsewhere")
    stranger = Workshop(elsewhere).raw("c/1", "from elsewhere").artifact
    for path in elsewhere.files.walk(stranger.prefix):
        tampered.put(path, elsewhere.files.read(path))
    (problem,) = tampered.verified().problems
    assert problem.startswith(f"{stranger.prefix}/{stranger.digest}{MANIFEST_SUFFIX}: is not in the ledger")


def test_an_artifact_that_its_whole_needs_is_missed_with_the_reason(tampered):
    book = tampered.store.open("book", "all")
    part = book.part("b/1")
    tampered.store.remove_attempt(part.prefix)
    problems = tampered.verified().problems
    assert problems == [
        f"{part.prefix}/{part.digest}{MANIFEST_SUFFIX}: is missing or unsound; book[all] was made from it."
    ]
