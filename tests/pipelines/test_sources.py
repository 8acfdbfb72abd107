"""Ingest: the same input gives the same artifact, ids outlive files and snapshots, and nothing vanishes."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.sources import IngestRecipe, origin_of, pinned


def taken_in(store, path, reader="jsonl", snapshot="1", **others):
    recipe = IngestRecipe(reader=reader, source="mine", snapshot=snapshot, **others)
    key = Key("raw_documents", f"mine/{snapshot}")
    return build(store, key, INGEST_VERSION, recipe, [], lambda draft: ingest(recipe, draft, path=path)).artifact


def write(path, *texts, **others):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, **others}) + "\n" for text in texts))


def ids(artifact):
    return dict(
        zip(
            artifact.table("texts.arrow")["text"].to_pylist(),
            artifact.table("texts.arrow")["doc_id"].to_pylist(),
            strict=True,
        )
    )


def test_two_ingests_into_two_stores_are_equal_byte_for_byte(tmp_path):
    write(tmp_path / "here/a.jsonl", "eins", "zwei", "eins", "")
    write(tmp_path / "somewhere/else/a.jsonl", "eins", "zwei", "eins", "")
    one = taken_in(Store(tmp_path / "s1"), tmp_path / "here")
    two = taken_in(Store(tmp_path / "s2"), tmp_path / "somewhere/else")
    assert (one.digest, one.content) == (two.digest, two.content)
    assert one.manifest.rows == two.manifest.rows != ""


def test_ids_outlive_snapshots_and_the_way_files_are_split(tmp_path):
    write(tmp_path / "a/all.jsonl", "eins", "zwei", "drei")
    write(tmp_path / "b/1.jsonl", "drei", crawled="2026-11")
    (tmp_path / "b/2.jsonl.gz").write_bytes(gzip.compress(b'{"text": "zwei"}\n{"text": "eins"}'))
    store = Store(tmp_path / "s")
    assert ids(taken_in(store, tmp_path / "a")) == ids(taken_in(store, tmp_path / "b", snapshot="2"))


def test_licences_of_records_are_normalised_and_the_recipe_overrules_them(tmp_path):
    rows = [{"text": "a", "l": "mit"}, {"text": "b", "l": "Apache 2.0"}, {"text": "c"}, {"text": "d", "l": "mine!"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    mixed = taken_in(Store(tmp_path / "s"), tmp_path / "a.jsonl", license_field="l")
    unstated = "LicenseRef-unstated"
    assert mixed.table("documents.arrow")["licence"].to_pylist() == ["MIT", "Apache-2.0", unstated, unstated]
    assert mixed.facts["licences"] == ["Apache-2.0", unstated, "MIT"]
    fixed = taken_in(Store(tmp_path / "t"), tmp_path / "a.jsonl", license_field="l", license="CC0-1.0")
    assert set(fixed.table("documents.arrow")["licence"].to_pylist()) == {"CC0-1.0"}
    assert fixed.facts["license"] == "CC0-1.0"


def test_changed_input_changes_the_origin_and_its_place_does_not(tmp_path):
    recipe = IngestRecipe(reader="text", source="mine", snapshot="1")
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "x.txt").write_text("hello")
    before = origin_of(recipe, tmp_path / "a")
    assert origin_of(recipe, tmp_path / "b") == before
    (tmp_path / "b/x.txt").write_text("Hello")
    assert origin_of(recipe, tmp_path / "b") != before


def test_a_source_that_changed_after_planning_is_refused(tmp_path):
    write(tmp_path / "a.jsonl", "eins")
    recipe = pinned(IngestRecipe(reader="jsonl", source="mine", snapshot="1"), tmp_path / "a.jsonl")
    write(tmp_path / "a.jsonl", "zwei")
    draft = Store(tmp_path / "s").draft(Key("raw_documents", "mine/1"), "1", {}, [])
    with pytest.raises(ValueError, match="They changed after the run was planned"):
        ingest(recipe, draft, path=tmp_path / "a.jsonl")


def test_an_empty_source_is_refused_and_leaves_nothing_sealed(tmp_path):
    store = Store(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no file that reader 'jsonl' reads"):
        taken_in(store, tmp_path / "empty")
    (tmp_path / "empty/a.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match="but no record in them"):
        taken_in(store, tmp_path / "empty")
    with pytest.raises(ValueError, match="needs a path"):
        taken_in(store, None)
    assert store.keys() == []


def test_what_was_quarantined_can_be_found_again(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.jsonl").write_bytes(b'{"text": "good"}\n{"text": "nul\\u0000"}\n{oops\n{"text": " "}\n')
    (tmp_path / "d/readme.pdf").write_bytes(b"")
    artifact = taken_in(Store(tmp_path / "s"), tmp_path / "d")
    assert artifact.facts["reasons"] == {"dropped: empty": 1, "quarantined: NUL byte": 1, "quarantined: not JSON": 1}
    assert artifact.facts["ignored_files"] == ["readme.pdf"]
    assert artifact.counts == {"docs": 1, "seen": 4, "kept": 1, "held_out": 0, "dropped": 1, "merged": 0, "quarantined": 2,
                               "files": 1, "num_bytes": 4}  # fmt: skip
    reasons = artifact.table("fates.arrow")["reason"].to_pylist()
    assert reasons[2] == "not JSON: a.jsonl line 3 (bytes 39-44), character 1"
    [file] = artifact.table("files.arrow").to_pylist()
    assert (file["path"], file["bytes"]) == ("a.jsonl", (tmp_path / "d/a.jsonl").stat().st_size)


LINES = st.one_of(
    st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")),
    st.text(max_size=20).map(lambda t: json.dumps({"text": t}).encode()),
    st.sampled_from([b'{"text": "\\ud800"}', b'{"text": null}', b'{"text": 1}', b"null", b'{"text": "same"}']),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(LINES, min_size=1, max_size=12), st.integers(0, 20), st.booleans())
def test_every_record_is_kept_dropped_or_quarantined_exactly_once(tmp_path_factory, rows, cut, packed):
    folder = tmp_path_factory.mktemp("c")
    data = b"\n".join([b'{"text": "first"}', *rows])
    if packed:
        whole = gzip.compress(data)
        (folder / "a.jsonl.gz").write_bytes(whole[: len(whole) - cut])
    else:
        (folder / "a.jsonl").write_bytes(data)
    artifact = taken_in(Store(folder / "store"), folder / ("a.jsonl.gz" if packed else "a.jsonl"))
    table = artifact.table("fates.arrow")
    counts = fates.counted(table)
    fates.check_conservation(counts)
    assert len(set(table["doc_id"].to_pylist())) == counts["seen"]
    assert counts["kept"] == artifact.table("texts.arrow").num_rows == artifact.table("documents.arrow").num_rows
    if not packed or not cut:
        assert counts["seen"] == sum(1 for line in data.split(b"\n") if line.strip())
    else:
        assert counts["quarantined"] >= 1
