"""Verify finds every single bit that was flipped, and every file that was removed, added or swapped, and names it."""

from __future__ import annotations

import random
import shutil
import threading
import time
from itertools import pairwise

import pytest
from workshop import DEEP, LoudRecipe, Workshop, evidence, kind, make_small_world, mentions, write_loud, write_raw

from pipelines.provenance.ledger import circumstances, read_entry
from pipelines.provenance.manifest import Key, ManifestError, hashed
from pipelines.provenance.memo import rematerialize
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_artifact, verify_store

FLIPS = 1_000 if DEEP else 200


def found(store: Store) -> list[str]:
    report = verify_store(store)
    return report.problems + report.unfinished


def test_a_store_that_nobody_touched_is_sound(any_store):
    make_small_world(any_store)
    report = verify_store(any_store)
    assert (report.problems, report.unfinished) == ([], [])
    assert report.artifacts == 10
    assert report.files == 11
    assert report.ledger_entries == 17


@pytest.mark.slow
def test_every_flipped_bit_is_found_and_its_file_named(world):
    root = world.files.local_root
    dice = random.Random(7)
    files = evidence(root)
    by_kind = {}
    for path in files:
        by_kind.setdefault(kind(path, root), []).append(path)
    assert set(by_kind) == {"manifest", "file", "refs", "ledger", "circumstances"}
    for flip in range(FLIPS):
        group = by_kind[sorted(by_kind)[flip % len(by_kind)]]
        path = dice.choice(group)
        sealed = path.read_bytes()
        bit = dice.randrange(len(sealed) * 8)
        path.chmod(0o644)
        path.write_bytes(flipped(sealed, bit))
        report = verify_store(Store(root))
        assert mentions(report.problems, path.relative_to(root).as_posix()), (path, bit, report.problems)
        path.write_bytes(sealed)
    assert verify_store(world).sound


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_bit_of_the_newest_ledger_entry_counts(world):
    """Nothing hangs on the newest entry yet, so it must hold itself."""
    root = world.files.local_root
    newest = max((root / "ledger").rglob("*.json"), key=lambda path: path.name)
    sealed = newest.read_bytes()
    newest.chmod(0o644)
    for bit in range(0, len(sealed) * 8, 11):
        newest.write_bytes(flipped(sealed, bit))
        with pytest.raises(ManifestError, match=newest.name):
            read_entry(world.files, newest.relative_to(root).as_posix())


def test_every_removed_file_is_missed(world):
    root = world.files.local_root
    for path in evidence(root):
        aside = root.parent / "aside"
        shutil.move(path, aside)
        lines = found(Store(root))
        name = path.relative_to(root).as_posix()
        assert lines, path
        if kind(path, root) != "ledger":  # of an entry that is gone its neighbours and what it accounted for are named
            assert mentions(lines, name), (path, lines)
        shutil.move(aside, path)
    assert verify_store(world).sound


def test_removing_a_file_that_published_artifacts_need_is_a_problem_and_no_mere_remark(world):
    root = world.files.local_root
    published = [world.get(key) for key in world.keys()]
    for artifact in published:
        for path in (root / artifact.prefix).rglob("*"):
            if path.is_file():
                shutil.move(path, root.parent / "aside")
                assert mentions(verify_store(Store(root)).problems, path.relative_to(root).as_posix())
                shutil.move(root.parent / "aside", path)


@pytest.mark.parametrize("place", [
    "stray.txt", "artifacts/stray", "artifacts/raw/a%2F1/_/stray", "refs/stray", "refs/raw/a%2F1/_/stray.json",
    "refs/raw/a%2F1/_/1.json", "refs/raw/a%2f1/_/00000001.json", "ledger/stray", "ledger/segment/00000001.json",
    "ledger/segment/deeper/00000001.json", "circumstances/stray.json", "surprise/file",
])  # fmt: skip
def test_every_added_file_is_found(world, place):
    path = world.files.local_root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}")
    assert mentions(verify_store(world).problems, place)


def test_a_file_added_to_an_artifact_is_found(world):
    artifact = world.open("raw", "a/1")
    for name in ("more.txt", "about/more.txt", "0" * 64 + ".manifest.json"):
        path = world.files.local_root / artifact.prefix / name
        path.write_bytes(b"{}")
        assert mentions(verify_store(world).problems, artifact.prefix)
        path.unlink()


def test_a_copied_attempt_is_found_wherever_it_is_put(world):
    root = world.files.local_root
    attempt = root / world.open("raw", "a/1").prefix
    for target in (attempt.with_name("0" * 32), root / "artifacts/raw/a%2f1/_" / attempt.name):
        shutil.copytree(attempt, target)
        assert mentions(verify_store(world).problems, target.relative_to(root).as_posix())
        shutil.rmtree(target)


def test_a_copied_ledger_entry_is_found(world):
    root = world.files.local_root
    entry = next((root / "ledger").rglob("*.json"))
    for target in (entry.with_name("00000099" + entry.name[8:]), root / "ledger/other" / entry.name):
        target.parent.mkdir(exist_ok=True)
        shutil.copy(entry, target)
        assert mentions(verify_store(world).problems, target.relative_to(root).as_posix())
        target.unlink()


def test_two_swapped_files_are_both_named_whatever_their_kind(world):
    root = world.files.local_root
    groups = {}
    for path in evidence(root):
        groups.setdefault(kind(path, root), []).append(path)
    for name, paths in groups.items():
        pairs = [(a, b) for a, b in pairwise(paths) if a.read_bytes() != b.read_bytes()]
        assert pairs, name
        for one, other in pairs[:6]:
            swap(one, other)
            problems = verify_store(Store(root)).problems
            assert all(mentions(problems, p.relative_to(root).as_posix()) for p in (one, other)), (one, other, problems)
            swap(one, other)
    assert verify_store(world).sound


def swap(one, other) -> None:
    between = one.with_name("between")
    one.rename(between), other.rename(one), between.rename(other)


def test_a_ref_that_is_turned_back_to_an_older_artifact_is_found(world):
    root = world.files.local_root
    folder = root / "refs/loud/a%2F1/_"
    assert sorted(p.name for p in folder.iterdir()) == ["00000001.json", "00000002.json"]
    (folder / "00000002.json").unlink()
    assert mentions(verify_store(world).problems, "refs/loud/a%2F1/_/00000002.json")


def test_a_truncated_and_an_emptied_file_are_found(world):
    root = world.files.local_root
    for path in evidence(root):
        sealed = path.read_bytes()
        path.chmod(0o644)
        for torn in (sealed[: len(sealed) // 2], b"", sealed + b"\n"):
            path.write_bytes(torn)
            assert mentions(verify_store(Store(root)).problems, path.relative_to(root).as_posix())
        path.write_bytes(sealed)


def test_a_file_that_cannot_be_read_is_a_problem_and_the_rest_is_still_looked_at(world, monkeypatch):
    def broken(path):
        if path.name == "loud.txt":
            raise OSError(5, "Input/output error")
        return hashed(path)

    monkeypatch.setattr("pipelines.provenance.verify.hashed", broken)
    report = verify_store(world)
    assert len(report.problems) == 5
    assert all("loud.txt: cannot be read" in line for line in report.problems)


@pytest.mark.parametrize(
    "change",
    [
        (b'"generation"', b'"feneration"'),
        (b'"manifest"', b'"lanifest"'),
        (b'"generation":1', b'"generation":null'),
        (b'"generation":1', b'"generation":true'),
        (b'"asset":"raw"', b'"asset":["raw"]'),
    ],
)
def test_a_ref_without_one_of_its_fields_is_refused(world, change):
    path = world.files.local_root / "refs/raw/a%2F1/_/00000001.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(*change))
    assert mentions(verify_store(world).problems, "refs/raw/a%2F1/_/00000001.json")


def test_a_store_in_use_verifies(any_store):
    """Writers seal and publish while verify looks; nothing of that is a problem."""
    done = threading.Event()
    workshops = [Workshop(any_store), Workshop(any_store)]

    def work(workshop: Workshop, name: str) -> None:
        number = 0
        while not done.is_set():
            number += 1
            workshop.loud(workshop.raw(f"{name}/1", f"text {number}").artifact)

    threads = [threading.Thread(target=work, args=(w, n)) for w, n in zip(workshops, "ab", strict=True)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(6):
            assert verify_store(Store(any_store.url) if any_store.files.local_root else any_store).problems == []
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert verify_store(any_store).problems == []


def test_the_progress_adds_up_to_the_bytes_of_the_store(world):
    sizes: list[int] = []
    report = verify_store(world, sizes.append)
    assert sum(sizes) == report.num_bytes > 0


def test_what_a_killed_writer_left_is_named_and_is_no_problem(world):
    (world.files.local_root / "artifacts/raw/c/_" / ("a" * 32)).mkdir(parents=True)
    (world.files.local_root / "artifacts/raw/c/_" / ("a" * 32) / "words.arrow").write_bytes(b"half")
    report = verify_store(world)
    assert report.sound
    assert report.unfinished == ["artifacts/raw/c/_/" + "a" * 32]


def test_rematerialize_compares_and_publishes_nothing(world):
    artifact, before = world.open("raw", "a/1"), evidence(world.files.local_root)
    same = rematerialize(artifact, lambda draft: write_raw(draft, "one two three"))
    assert same.identical
    assert same.files == ()
    other = rematerialize(artifact, lambda draft: write_raw(draft, "one two four"))
    assert not other.identical
    assert other.files == ("about/text.json", "words.arrow")
    assert evidence(world.files.local_root) == before


def test_a_change_in_a_part_is_named_by_the_part(world):
    book = world.open("book", "all")

    def make(draft, marks=2):
        parts = [
            draft.part(
                i.key.partition, LoudRecipe(), [i], lambda d, i=i: write_loud(d, i, marks if "b" in i.key[1] else 1)
            )
            for i in book.inputs()
        ]
        return draft.seal(counts={"chapters": len(parts)}, parts=parts)

    assert rematerialize(book, make).files == ("part b/1",)


def test_thousands_of_entries_verify_in_seconds(store):
    facts = circumstances(0.0)
    for number in range(300):
        store.ledger.append("removed", Key("raw", "a"), "0" * 64, "0" * 32, {**facts, "n": number})
    start = time.process_time()
    assert verify_store(store).ledger_entries == 300
    assert time.process_time() - start < 2


def test_verify_artifact_looks_at_its_own_manifest_too(world):
    artifact = world.open("raw", "a/1")
    path = world.files.local_root / artifact.prefix / f"{artifact.digest}.manifest.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    assert mentions(verify_artifact(artifact), path.name)
