"""Cleaning as a stage: conservation, evidence for every change, and equal bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clean import CLEAN_VERSION, CleanRecipe, clean, cleaned, docs
from pipelines.documents import read_documents
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.provenance.tables import read_batches
from pipelines.sources import IngestRecipe

GOOD = "The function returns the mean of the values that have been given to it, and the number of them, with care. "
TEXTS = [
    GOOD * 2,
    f"{GOOD * 2}\r\nAsk  jane@doe.org \r\nor 81.2.69.142.\x07",
    "Too short.",
    "Die Funktion gibt den Mittelwert der Werte zurück, die ihr übergeben wurden, und außerdem deren Anzahl. " * 3,
    GOOD + "( ) , ; : = + - " * 12,
    "\x07\x08",
]
REASONS = ["", "", "too_short", "language", "few_letters", "empty"]


def raw(store, texts):
    folder = store.scratch / "in"
    folder.mkdir(exist_ok=True)
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    recipe = IngestRecipe(reader="jsonl", source="mine", snapshot="1", license="CC0-1.0")
    key = Key("raw_documents", "mine/1")
    return build(store, key, INGEST_VERSION, recipe, [], lambda d: ingest(recipe, d, path=folder), force=True).artifact


def made(root, texts, recipe=None):
    store, recipe = Store(root), recipe or docs()
    source = raw(store, texts)
    key = Key("clean_documents", "mine/1")
    return build(store, key, CLEAN_VERSION, recipe, [source], lambda d: clean(source, recipe, d), force=True).artifact


def test_every_document_has_a_fate_a_reason_and_its_measured_value(tmp_path):
    artifact = made(tmp_path, TEXTS)
    table = artifact.table("fates.arrow")
    assert table["reason"].to_pylist() == REASONS
    assert table["value"].to_pylist()[2] == 2.0
    assert artifact.counts["seen"] == 6
    assert artifact.counts["dropped"] == 4
    assert artifact.facts["reasons"]["dropped: language"] == 1


def test_signals_are_kept_for_dropped_documents_too(tmp_path):
    artifact = made(tmp_path, TEXTS)
    signals = artifact.table("signals.arrow")
    assert signals["doc_id"].to_pylist() == artifact.table("fates.arrow")["doc_id"].to_pylist()
    assert signals["num_words"].to_pylist()[2] == 2
    assert signals["language"].to_pylist()[3] == "de"
    assert all(column.null_count == 0 for column in signals.columns)


def test_changed_text_has_both_hashes_and_spans_that_lead_back(tmp_path):
    artifact = made(tmp_path, TEXTS)
    [(documents, texts)] = read_documents(artifact)
    text = texts["text"].to_pylist()[1]
    assert text.endswith("\nAsk  <email>\nor <ip>.")
    rows = documents.to_pylist()
    assert [r["sha256_in"] for r in rows] == [hashlib.sha256(t.encode()).digest() for t in TEXTS[:2]]
    assert rows[1]["sha256_out"] == hashlib.sha256(text.encode()).digest()
    assert [r["num_bytes"] for r in rows] == [len(t.encode()) for t in texts["text"].to_pylist()]
    assert (rows[0]["language"], rows[0]["num_words"], rows[0]["licence"]) == ("en", 42, "CC0-1.0")
    spans = artifact.table("spans.arrow").to_pylist()
    assert [(s["rule"], s["length"]) for s in spans] == [("masked_email", 12), ("masked_ip", 11)]
    assert {s["doc_id"] for s in spans} == {rows[1]["doc_id"]}
    assert text[spans[0]["start"] :].startswith("<email>")
    assert (artifact.counts["masked_email"], artifact.counts["masked_ip"]) == (1, 1)


def test_no_file_of_the_artifact_holds_a_masked_value(tmp_path):
    artifact = made(tmp_path, TEXTS)
    held = b"".join(artifact.local(name).read_bytes() for name in artifact.names())
    assert b"jane@doe.org" not in held
    assert b"81.2.69.142" not in held


def test_the_papers_bounds_and_the_docs_bounds_differ_on_short_documents(tmp_path):
    assert made(tmp_path / "a", TEXTS, CleanRecipe()).table("fates.arrow")["reason"].to_pylist()[0] == "too_short"
    assert made(tmp_path / "b", [GOOD * 3], CleanRecipe()).counts["kept"] == 1


def test_a_row_does_not_depend_on_its_neighbours_or_on_the_size_of_pieces(tmp_path, monkeypatch):
    whole = made(tmp_path / "a", TEXTS * 3)
    monkeypatch.setattr("pipelines.clean.PIECE_ROWS", 4)
    pieces = made(tmp_path / "b", TEXTS * 3)
    for name in whole.names():
        assert whole.table(name).equals(pieces.table(name))
    assert whole.manifest.rows == pieces.manifest.rows


def test_bytes_do_not_depend_on_threads_or_hash_seed(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2])\n"
        "from pathlib import Path\n"
        "from test_clean import TEXTS, made\n"
        "print(made(Path(sys.argv[3]), TEXTS * 5).digest)"
    )
    here, found = Path(__file__), set()
    for threads, seed in (("1", "1"), ("4", "2")):
        environment = {
            **os.environ,
            "POLARS_MAX_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
            "PYTHONHASHSEED": seed,
        }
        arguments = [str(here.parents[2]), str(here.parent), str(tmp_path / threads)]
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], check=False, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout.strip())
    assert found == {made(tmp_path / "here", TEXTS * 5).digest}


def test_batches_of_documents_and_texts_stay_aligned_when_all_of_one_batch_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.clean.PIECE_ROWS", 2)
    artifact = made(tmp_path, ["short", "shorter", GOOD * 2, GOOD * 2])
    assert [d.num_rows for d, _ in read_documents(artifact)] == [2]
    assert sum(t.num_rows for t in read_batches(artifact.local("fates.arrow"))) == 4


@settings(max_examples=25)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=12))
def test_cleaning_conserves_documents_for_any_text(tmp_path_factory, texts):
    artifact = made(tmp_path_factory.mktemp("c"), texts)
    counts = fates.counted(artifact.table("fates.arrow"))
    fates.check_conservation(counts, artifact.input("raw_documents").counts["kept"])
    assert counts["kept"] == artifact.table("texts.arrow").num_rows


def test_cleaning_what_was_cleaned_changes_nothing():
    once = cleaned(pa.chunked_array([TEXTS], pa.large_string()), docs()).frame["text"].to_list()
    again = cleaned(pa.chunked_array([once], pa.large_string()), docs())
    assert again.frame["text"].to_list() == once
    assert not any(again.spans)


def test_recipes_and_stages_import_no_heavy_library():
    code = "import sys, pipelines.clean, pipelines.sources; print([m for m in ('polars', 'numba', 'torch', 'py3langid', 'packaging') if m in sys.modules])"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("bad", [{"min_language_confidence": 1.5}, {"min_words": -1}, {"typo": 1}])
def test_impossible_recipes_are_refused(bad):
    with pytest.raises(ValueError):
        CleanRecipe(**bad)
