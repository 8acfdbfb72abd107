"""Bad input costs nothing but itself: a clear error with the right exit code, or a quarantined record."""

import gzip
import json
import os

import pytest

from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import Key

PROSE = (
    "The keeper of the tower wrote down in the evening that the lamp was lit before the fog came in from the sea "
    "and that nobody had asked for it since the old harbour was closed to ships. "
)


def add(workplace, path, name="bad", code=0):
    return workplace.stemma("source", "add", name, str(path), "--license", "MIT", "--corpus", "bad", code=code)


def build_raw(workplace, code=0):
    return workplace.stemma("run", "bad", "--select", "raw_documents", code=code)


def raw(workplace, name="bad/1"):
    return workplace.store.open("raw_documents", name)


def test_a_line_that_is_not_json_is_quarantined_with_its_line(empty, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"text": PROSE}) + '\n{"text": "torn\n' + json.dumps({"body": PROSE}) + "\n")
    add(empty, path)
    build_raw(empty)
    counts = raw(empty).counts
    assert (counts["seen"], counts["kept"], counts["quarantined"]) == (3, 1, 2)
    reasons = [r["reason"] for r in empty.json("show", "raw_documents", "bad/1", "--dropped", "quarantined")]
    assert any("2" in reason for reason in reasons)


def test_invalid_utf8_is_quarantined(empty, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(json.dumps({"text": PROSE}).encode() + b'\n{"text": "\xff\xfe broken"}\n')
    add(empty, path)
    build_raw(empty)
    assert raw(empty).counts["quarantined"] == 1


def test_a_truncated_gzip_keeps_what_could_be_read_and_quarantines_the_rest_as_one(empty, tmp_path):
    path = tmp_path / "bad.jsonl.gz"
    lines = [json.dumps({"text": f"{n} {PROSE} {os.urandom(30).hex()}"}) for n in range(400)]
    whole = gzip.compress("\n".join(lines).encode())
    path.write_bytes(whole[: len(whole) * 2 // 3])
    add(empty, path)
    build_raw(empty)
    counts = raw(empty).counts
    assert counts["quarantined"] == 1
    assert 50 < counts["kept"] < 400


def test_an_empty_corpus_is_refused_when_it_is_added(empty, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text("")
    before = empty.spec_path.read_text()
    assert "no record" in add(empty, path, code=2)
    assert empty.spec_path.read_text() == before


def test_a_corpus_smaller_than_one_sequence_says_how_small(empty, tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text(PROSE)
    add(empty, path)
    empty.edit("[corpora.bad]", "[corpora.bad]\n# a comment")
    said = empty.stemma("run", "bad", code=1)
    assert "bad" in said
    assert not list((empty.url / "artifacts").rglob("mixture/bad/*/*manifest.json"))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("steps = 130", "stepz = 130", "did you mean 'steps'?"),
        ("warmup_steps = 5", "warmup_steps = -5", "warmup_steps"),
        ('corpus = "small"', 'corpus = "smal"', "Did you mean 'small'?"),
        ("[cleaning.docs]", "[cleaning.docz]", "cleaning"),
        ('task = "classifier"', 'task = "clasifier"', "task"),
        ("layers = 2", "layers = [2", "line"),
        ('[sources."notes/1"]', '[sources."notes|1"]', "not allowed"),
        ("[runs.demo]", '[runs."../demo"]', "not allowed"),
    ],
)
def test_a_mistake_in_the_spec_is_wrong_use_and_named(empty, before, after, said):
    empty.edit(before, after)
    answer = empty.stemma("run", "--dry-run", code=2)
    assert said in answer
    assert "stemma.toml" in answer


def test_an_unknown_run_is_wrong_use(empty):
    assert "There are" in empty.stemma("run", "nothing", code=2) or "Did you mean" in empty.stemma(
        "run", "nothing", code=2
    )


def test_an_unknown_asset_is_wrong_use(empty):
    assert "no such asset" in empty.stemma("run", "--select", "clean_docs", code=2)


def test_a_store_that_is_a_file_is_an_error(empty, tmp_path):
    path = tmp_path / "store"
    path.write_text("not a store")
    assert "is a file" in empty.stemma("run", "--store", str(path), code=1)


def test_verifying_what_is_no_store_is_an_error(empty, tmp_path):
    assert "no ledger" in empty.stemma("audit", "verify", "--store", str(tmp_path), code=1)


def test_a_full_disk_while_sealing_leaves_nothing_half_sealed(empty, monkeypatch):
    from assets.builder import build_key
    from pipelines.provenance.files import LocalFiles

    def full(self, source, path):
        raise OSError(28, "No space left on device")

    store = empty.store
    monkeypatch.setattr(LocalFiles, "upload", full)
    with pytest.raises(StoreError, match=r"disk under .* is full"):
        build_key(empty.spec, store, Key("raw_documents", "notes/1"))
    monkeypatch.undo()
    assert list(store.files.walk("artifacts")) == []
    assert build_key(empty.spec, store, Key("raw_documents", "notes/1")).computed


def test_a_changed_source_file_is_taken_in_anew(workplace):
    with (workplace.folder / "notes.jsonl").open("a") as file:
        file.write(json.dumps({"id": "late", "text": PROSE * 2}) + "\n")
    rows = {r["asset"]: r for r in workplace.json("run", "--dry-run") if r["state"] == "stale"}
    assert "origin" in rows["raw_documents"]["because"]
