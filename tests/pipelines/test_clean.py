"""Cleaning as a stage: conservation, evidence for every change, and equal bytes."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.clean import CLEAN_VERSION, clean, cleaned
from pipelines.clean_recipe import CleanRecipe, docs
from pipelines.documents import read_documents
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.instruments import instruments
from pipelines.judgement import broken_rule
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
    brought = {field.name for field in instruments.SIGNALS}  # null where a team brought none
    assert all(signals[name].null_count == (6 if name in brought else 0) for name in signals.schema.names)


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
    paper = CleanRecipe(gopher_repetition=False, c4=False, fineweb=False)
    assert made(tmp_path / "a", TEXTS, paper).table("fates.arrow")["reason"].to_pylist()[0] == "too_short"
    assert made(tmp_path / "b", [GOOD * 3], paper).counts["kept"] == 1


PROSE = """The harbour of the old town lies behind a wall that the fishermen built with their own hands.
Before the storm of that winter nobody had thought of it as more than a place to dry nets and to talk.
When the water rose, it held; and the people who had laughed at the work came down to look at the stones.
Some of them carried lamps, others brought bread, and the children were allowed to stay awake until midnight.
In the morning the sea was calm again. A few boats were lost, but every house stood where it had always stood.
"""


def test_each_family_drops_with_its_own_reason_and_value(tmp_path):
    lines = PROSE.splitlines(keepends=True)
    texts = [
        PROSE,
        PROSE + lines[1] * 4,
        PROSE.replace("harbour", "{harbour}"),
        PROSE.replace(".", " and").replace("?", ""),
        "\n".join(f"{word.strip('.,;').capitalize()} and more of that." for word in PROSE.split()[:90]),
    ]
    table = made(tmp_path, texts, CleanRecipe()).table("fates.arrow")
    reasons = table["reason"].to_pylist()
    assert reasons[0] == ""
    assert reasons[1] == "duplicate_lines"
    assert table["value"].to_pylist()[1] == pytest.approx(4 / 9)
    assert reasons[2] == "curly_bracket"
    assert reasons[3] in {"few_sentences", "unpunctuated_lines"}
    assert reasons[4] == "duplicate_line_chars"


def test_cut_lines_lead_back_to_the_text_before(tmp_path):
    page = f"Home\n{PROSE}Please enable javascript to see the comments of others.\nPrivacy policy of this site and its owner.\n"
    artifact = made(tmp_path, [page, PROSE], CleanRecipe())
    [(documents, texts)] = read_documents(artifact)
    assert texts["text"].to_pylist()[0] == PROSE.strip()
    spans = artifact.table("spans.arrow").to_pylist()
    normal = page.strip()
    found = {s["rule"]: normal[s["start"] : s["start"] + s["length"]] for s in spans if s["rule"].startswith("c4_")}
    assert found["c4_few_words"].strip() == "Home"
    assert found["c4_javascript"].strip().startswith("Please enable")
    assert found["c4_policy"].strip().startswith("Privacy policy")
    assert {s["doc_id"] for s in spans} == {documents["doc_id"][0].as_py()}


def test_masks_are_put_on_what_the_line_rules_leave(tmp_path):
    page = PROSE + "Write to the keeper at keeper@harbour.example.org for a place on the wall.\nMore\n"
    artifact = made(tmp_path, [page], CleanRecipe())
    [(_, texts)] = read_documents(artifact)
    assert texts["text"][0].as_py().endswith("Write to the keeper at <email> for a place on the wall.")
    assert artifact.counts["masked_email"] == 1


def test_stored_signals_alone_give_every_decision_again(tmp_path):
    for number, recipe in enumerate((CleanRecipe(), docs(), CleanRecipe(refinedweb=True, c4=False))):
        artifact = made(tmp_path / f"{number}", [*TEXTS, PROSE, PROSE * 2, "a b c\n" * 40], recipe)
        signals = pl.DataFrame(pl.from_arrow(artifact.table("signals.arrow")))
        again = signals.select(broken_rule(recipe).struct.field("reason").fill_null("")).to_series().to_list()
        assert again == artifact.table("fates.arrow")["reason"].to_pylist()


def test_neither_the_number_of_workers_nor_the_size_of_pieces_changes_a_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.pieces.BATCH_BYTES", 700)
    store, recipe = Store(tmp_path), docs()
    source = raw(store, [*TEXTS, PROSE] * 3)
    key, digests = Key("clean_documents", "mine/1"), set()
    for workers, piece_bytes in ((1, 1 << 20), (1, 1), (2, 400), (8, 1)):
        monkeypatch.setattr("pipelines.tasks.PIECE_BYTES", piece_bytes)
        done = build(
            store, key, CLEAN_VERSION, recipe, [source],
            lambda d, w=workers: clean(source, recipe, d, workers=w), force=True,
        )  # fmt: skip
        digests.add(done.artifact.digest)
    assert len(digests) == 1


def test_mistaken_encodings_are_repaired_and_what_may_be_meant_stays(tmp_path):
    good = GOOD.replace("care", "naïve “care”")
    [(_, texts)] = read_documents(
        made(tmp_path, [GOOD.replace("care", "naÃ¯ve care") * 2, good * 2, "Ã is a letter. " + GOOD * 2])
    )
    assert texts["text"].to_pylist() == [
        (GOOD.replace("care", "naïve care") * 2).strip(), (good * 2).strip(), ("Ã is a letter. " + GOOD * 2).strip(),
    ]  # fmt: skip


def test_a_row_does_not_depend_on_its_neighbours_or_on_the_size_of_pieces(tmp_path, monkeypatch):
    whole = made(tmp_path / "a", TEXTS * 3)
    monkeypatch.setattr("pipelines.clean.CACHE_BYTES", 300)
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
    monkeypatch.setattr("pipelines.clean.CACHE_BYTES", 12)
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
    for recipe in (docs(), CleanRecipe()):
        once = cleaned(pa.array([*TEXTS, f"Menu\n{PROSE}Share\n"], pa.large_string()), recipe).texts
        again = cleaned(once, recipe)
        assert again.texts.equals(once)
        assert again.spans.num_rows == 0


def test_recipes_and_stages_import_no_heavy_library():
    code = "import sys, pipelines.clean, pipelines.sources; print([m for m in ('polars', 'numba', 'torch', 'py3langid', 'packaging') if m in sys.modules])"
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=root, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("bad", [{"min_language_confidence": 1.5}, {"min_words": -1}, {"typo": 1}])
def test_impossible_recipes_are_refused(bad):
    with pytest.raises(ValueError):
        CleanRecipe(**bad)
