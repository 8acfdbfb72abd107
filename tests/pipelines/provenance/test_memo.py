"""Building through the memo: nothing is computed twice, and a failure leaves nothing behind."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from workshop import LoudRecipe, RawRecipe, Workshop, make_small_world, write_loud, write_raw

from pipelines.provenance.files import LocalFiles, StoreError
from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_store


@pytest.fixture
def workshop(any_store) -> Workshop:
    return Workshop(any_store)


def test_the_same_inputs_are_computed_once(workshop):
    first, again = workshop.raw("a/1"), workshop.raw("a/1")
    assert (first.computed, again.computed) == (True, False)
    assert again.artifact == first.artifact
    assert workshop.computed == ["raw a/1"]
    assert Workshop(workshop.store).raw("a/1").computed is False


def test_what_was_sealed_can_be_read_back(workshop):
    workshop.raw("a/1", "one two")
    found = workshop.store.open("raw", "a/1")
    assert found.table("words.arrow")["word"].to_pylist() == ["one", "two"]
    assert found.json("about/text.json") == {"text": "one two"}
    assert found.names(".json") == ["about/text.json"]
    assert found.counts == {"words": 2}
    with pytest.raises(ManifestError, match=re.escape("has no file nothing.txt; it has about/text.json, words.arrow")):
        found.local("nothing.txt")


@pytest.mark.parametrize("change", ["recipe", "version", "input", "numerics"])
def test_whatever_may_change_the_bytes_is_computed_anew(workshop, change):
    raw = workshop.raw("a/1").artifact
    workshop.loud(raw, numerics={"device": "cpu"})
    if change == "input":
        raw = workshop.raw("a/1", "one two four").artifact
    again = workshop.loud(
        raw,
        version="2" if change == "version" else "1",
        marks=2 if change == "recipe" else 1,
        numerics={"device": "gpu" if change == "numerics" else "cpu"},
    )
    assert again.computed


def test_a_changed_version_with_equal_bytes_stops_at_the_early_cut_off(workshop):
    raw = workshop.raw("a/1").artifact
    loud = workshop.loud(raw).artifact
    workshop.book({"a/1": loud_as_raw(workshop, loud)})
    workshop.computed.clear()
    again = workshop.loud(raw, version="2").artifact
    assert (again.content, again.digest != loud.digest) == (loud.content, True)
    assert not workshop.book({"a/1": loud_as_raw(workshop, again)}).computed
    assert workshop.computed == ["loud a/1"]


def loud_as_raw(workshop: Workshop, loud):
    def make(draft):
        workshop.computed.append("lowered")
        return write_raw(draft, loud.local("loud.txt").read_text().lower())

    return build(workshop.store, Key("lowered", "a/1"), "1", LoudRecipe(), [loud], make).artifact


def test_an_older_artifact_answers_when_the_choice_is_taken_back(workshop):
    raw = workshop.raw("a/1").artifact
    first = workshop.loud(raw, marks=1).artifact
    workshop.loud(raw, marks=2)
    back = workshop.loud(raw, marks=1)
    assert not back.computed
    assert workshop.store.open("loud", "a/1") == first
    assert workshop.store.ref(first.key) == {**first.key._asdict(), "generation": 3, "manifest": first.digest}


def test_changing_the_input_of_one_part_rebuilds_that_part_alone(workshop):
    texts = {name: workshop.raw(name, f"text of {name}").artifact for name in ("a/1", "b/1", "c/1")}
    before = workshop.book(texts).artifact
    workshop.computed.clear()
    texts["b/1"] = workshop.raw("b/1", "another text").artifact
    after = workshop.book(texts).artifact
    assert workshop.computed == ["raw b/1", "chapter b/1"]
    assert [before.part(n) == after.part(n) for n in texts] == [True, False, True]
    assert [part.key.part for part in after.parts()] == ["a/1", "b/1", "c/1"]


def test_a_new_part_leaves_the_others_alone(workshop):
    texts = {"a/1": workshop.raw("a/1").artifact}
    workshop.book(texts)
    workshop.computed.clear()
    workshop.book({**texts, "b/1": workshop.raw("b/1", "more").artifact})
    assert workshop.computed == ["raw b/1", "chapter b/1"]


def test_force_computes_parts_as_well(workshop):
    texts = {"a/1": workshop.raw("a/1").artifact}
    first = workshop.book(texts).artifact
    workshop.computed.clear()
    again = workshop.book(texts, force=True)
    assert again.computed
    assert workshop.computed == ["chapter a/1"]
    assert again.artifact == first  # equal to the byte, so the older one stands
    assert len(workshop.store.sealed(first.key)) == 1
    assert verify_store(workshop.store).sound


def test_force_puts_a_sound_artifact_in_the_place_of_a_damaged_one(store):
    workshop = Workshop(store)
    texts = {"a/1": workshop.raw("a/1").artifact}
    part = workshop.book(texts).artifact.part("a/1")
    part.local("loud.txt").chmod(0o644)
    part.local("loud.txt").write_text("damaged")
    workshop.book(texts, force=True)
    assert store.open("book", "all").part("a/1").local("loud.txt").read_text() == "ONE TWO THREE!"
    assert verify_store(store).sound


def test_a_damaged_manifest_does_not_hide_a_sound_twin(store):
    workshop = Workshop(store)
    artifact = workshop.raw("a/1").artifact
    path = store.files.local_root / artifact.prefix / f"{artifact.digest}.manifest.json"
    path.chmod(0o644)
    path.write_bytes(b"{}")
    with pytest.raises(ManifestError, match=r"manifest\.json: not a manifest"):
        store.open("raw", "a/1")
    workshop.raw("a/1", force=True)
    assert store.open("raw", "a/1").digest == artifact.digest
    assert verify_store(store).sound


# -- failures ----------------------------------------------------------------------------------------------------


def leftovers(store) -> list[str]:
    return [path for path in store.files.walk("") if path.startswith(("artifacts/", "refs/", "ledger/"))]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), OSError(errno.EIO, "broken")])
def test_a_draft_that_fails_half_way_leaves_nothing(any_store, error):
    def make(draft):
        draft.path("half.txt").write_text("half")
        raise error

    with pytest.raises(type(error)):
        build(any_store, Key("raw", "a"), "1", RawRecipe(), [], make)
    assert leftovers(any_store) == []
    assert any_store.get(Key("raw", "a")) is None


def test_a_stage_that_forgets_to_seal_is_told_so(any_store):
    def forgetful(draft):
        draft.path("text").write_text("never sealed")

    with pytest.raises(StoreError, match=r"raw\[a\]: the stage returned None; a stage ends in `return draft.seal"):
        build(any_store, Key("raw", "a"), "1", RawRecipe(), [], forgetful)
    assert leftovers(any_store) == []


def test_a_draft_seals_once(any_store):
    def make(draft):
        write_raw(draft, "one")
        return draft.seal()

    with pytest.raises(ManifestError, match="sealed already"):
        build(any_store, Key("raw", "a"), "1", RawRecipe(), [], make)
    assert verify_store(any_store).problems == []
    assert [line for line in verify_store(any_store).unfinished if line.startswith("artifacts")] == []


@pytest.mark.parametrize("name", ["../out.txt", "/etc/passwd", "a//b", "", "a/../../b", "x.manifest.json", "a\\b"])
def test_a_file_that_would_leave_the_artifact_is_refused(store, name):
    with pytest.raises(ManifestError, match="file name"):
        store.draft(Key("raw", "a"), "1", {}, []).path(name)


def test_a_link_is_no_file_of_an_artifact(store, tmp_path):
    (tmp_path / "elsewhere").write_text("may change")

    def make(draft):
        draft.path("link").symlink_to(tmp_path / "elsewhere")
        return draft.seal()

    with pytest.raises(ManifestError, match="link is a link"):
        build(store, Key("raw", "a"), "1", RawRecipe(), [], make)
    assert leftovers(store) == []


def test_a_part_of_another_artifact_is_refused(any_store):
    workshop = Workshop(any_store)
    stranger = workshop.raw("a/1").artifact
    part = workshop.book({"a/1": stranger}).artifact.part("a/1")
    for wrong in ([stranger], [part]):
        with pytest.raises(ManifestError, match=r"is no part of book\[other\]"):
            build(any_store, Key("book", "other"), "1", RawRecipe(), [], lambda d, parts=wrong: d.seal(parts=parts))
    with pytest.raises(ValueError, match="'a/1' is listed twice"):
        build(any_store, Key("book", "all"), "1", RawRecipe(), [], lambda d: d.seal(parts=[part, part]))


# -- full disks --------------------------------------------------------------------------------------------------


def expect_nothing_new(workshop: Workshop, published) -> None:
    report = verify_store(workshop.store)
    assert report.problems == []
    assert workshop.store.open("raw", "a/1") == published
    assert workshop.raw("a/1", "much more").artifact == workshop.store.open("raw", "a/1") != published
    assert verify_store(workshop.store).sound


WRITES = [("upload", 2), ("circumstances/", 2), ("ledger/", 2), ("artifacts/", 1), ("pending/", 1), ("refs/", 1)]


@pytest.mark.parametrize(("stop", "number"), [(stop, n) for stop, count in WRITES for n in range(count)])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_at_any_write_is_told_clearly_and_nothing_is_half_sealed(
    store, monkeypatch, stop, number, code
):
    workshop = Workshop(store)
    published = workshop.raw("a/1").artifact
    create, upload, left = LocalFiles.create, LocalFiles.upload, [number]

    def full(hit: bool) -> None:
        left[0] -= hit
        if hit and left[0] < 0:
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "create", lambda s, p, d, **o: full(p.startswith(stop)) or create(s, p, d, **o))
        patch.setattr(LocalFiles, "upload", lambda s, a, p: full(stop == "upload") or upload(s, a, p))
        with pytest.raises(
            StoreError, match=r"raw\[a/1\]: the disk under .* is full; nothing unfinished was published"
        ):
            workshop.raw("a/1", "much more")
    expect_nothing_new(workshop, published)


def test_a_disk_that_fills_up_under_a_stage_is_told_clearly(store):
    workshop = Workshop(store)
    published = workshop.raw("a/1").artifact
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def arrow(draft):
        draft.write("big.arrow", pa.table({"n": list(range(100_000))}))

    def python(draft):
        draft.path("big").write_bytes(bytes(1_000_000))

    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        for make in (arrow, python):
            with pytest.raises(StoreError, match="is full; nothing unfinished was published"):
                build(store, Key("raw", "a/1"), "2", RawRecipe(), [], make)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    expect_nothing_new(workshop, published)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no /dev/full")
def test_a_library_written_in_rust_that_meets_a_full_disk_is_understood(store):
    def make(draft):
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    with pytest.raises(StoreError, match="is full; nothing unfinished was published"):
        build(store, Key("raw", "a"), "1", RawRecipe(), [], make)
    with pytest.raises(OSError, match="No space left") as caught:
        Path("/dev/full").write_text("x")

    def python(draft):
        raise caught.value

    with pytest.raises(StoreError, match="is full"):
        build(store, Key("raw", "a"), "1", RawRecipe(), [], python)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("may not mount a tmpfs here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_really_full_keeps_what_was_published_and_goes_on_when_there_is_room(tiny_disk):
    workshop = Workshop(Store(tiny_disk / "store"))
    published = workshop.raw("a/1").artifact
    ballast = tiny_disk / "ballast"
    for blocks in range(12):
        free = os.statvfs(tiny_disk).f_bavail * 4096
        ballast.write_bytes(bytes(max(0, free - blocks * 4096)))
        with contextlib.suppress(StoreError):
            workshop.raw("b/1", f"text {blocks}")
        report = verify_store(Store(tiny_disk / "store"))
        assert report.problems == []
        ballast.unlink()
        collect(workshop.store, find_garbage(workshop.store))
    assert workshop.store.open("raw", "a/1") == published
    assert workshop.raw("b/1", "after all").artifact == workshop.store.open("raw", "b/1")
    assert verify_store(workshop.store).sound


def test_a_full_disk_under_a_part_stops_the_whole(store):
    workshop = Workshop(store)
    first = workshop.raw("a/1").artifact

    def make(draft):
        part = draft.part("a/1", LoudRecipe(), [first], lambda d: write_loud(d, first, 1))
        draft.part("b/1", LoudRecipe(marks=2), [first], lambda d: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        return draft.seal(parts=[part])

    with pytest.raises(StoreError, match=r"book\[all\] part b/1: the disk .* is full"):
        build(store, Key("book", "all"), "1", LoudRecipe(), [first], make)
    assert verify_store(store).problems == []
    assert store.get(Key("book", "all")) is None
    assert len(store.sealed(Key("book", "all", "a/1"))) == 1  # whole, and the next run recalls it


# -- concurrency -------------------------------------------------------------------------------------------------


def test_threads_of_one_process_may_build_side_by_side(any_store):
    from concurrent.futures import ThreadPoolExecutor

    workshop = Workshop(any_store)
    with ThreadPoolExecutor(8) as pool:
        built = list(pool.map(lambda n: workshop.raw(f"s/{n % 12}", f"text {n % 12}"), range(24)))
    assert sum(b.computed for b in built) == 12
    report = verify_store(any_store)
    assert (report.problems, report.unfinished) == ([], [])


def test_the_same_world_has_the_same_digests_in_another_place(tmp_path, any_store):
    make_small_world(any_store)
    elsewhere = Store(tmp_path / "elsewhere")
    make_small_world(elsewhere)
    assert [any_store.open(*k).digest for k in any_store.keys()] == [
        elsewhere.open(*k).digest for k in elsewhere.keys()
    ]
