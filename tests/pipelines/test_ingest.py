"""Ingest: every record has a name and a fate, however its files are split and whoever reads them."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import ingest as stage
from pipelines.documents import DOCUMENTS, Record, doc_id, read_documents
from pipelines.ingest import INGEST_VERSION, PieceWriter, _join, ingest
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.sources import IngestRecipe

RECIPE = IngestRecipe(reader="jsonl", source="notes", snapshot="1", license="MIT", id_field="id")


def joined(folder, pieces):
    """An artifact of records that were written as several pieces."""
    draft = Store(folder / "store").draft(Key("raw_documents", "s"), "1", {}, [])
    paths = []
    for number, records in enumerate(pieces):
        paths.append(folder / f"{number}")
        paths[-1].mkdir()
        with PieceWriter(paths[-1], "s") as writer:
            for record in records:
                writer.add(record)
    _join(paths, "s", draft)
    return draft.seal()


def made(folder, path, *, workers=1, recipe=RECIPE):
    def make(draft):
        return ingest(recipe, draft, path=path, workers=workers)

    return build(Store(folder), Key("raw_documents", "notes/1"), INGEST_VERSION, recipe, [], make, force=True).artifact


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))


def test_each_record_has_one_fate_and_kept_ones_are_aligned(tmp_path):
    records = [
        Record("f", 1, "f#L1", text="eins"),
        Record("f", 2, "f#L2", text=" \n "),
        Record("f", 3, "f#L3", text="nul\0"),
        Record("f", 4, "f#L4", text="half \ud800"),
        Record("f", 5, "f#L5", problem="not JSON: f line 5", raw=b"{"),
        Record(
            "f", 6, "f#L6", text="eins", group="g", url="https://a.example/", title="T", links=("https://b.example/",)
        ),
    ]
    artifact = joined(tmp_path, [records])
    table = artifact.table(fates.FILE)
    assert table["fate"].to_pylist() == ["kept", "dropped", "quarantined", "quarantined", "quarantined", "kept"]
    assert [r.split(":")[0] for r in table["reason"].to_pylist()] == [
        "", "empty", "NUL byte", "lone surrogate", "not JSON", "",
    ]  # fmt: skip
    [(documents, texts)] = read_documents(artifact)
    assert texts["text"].to_pylist() == ["eins", "eins"]
    assert documents["doc_id"].to_pylist() == [doc_id("s", "", b"eins", n) for n in (0, 1)]
    assert documents["group"].to_pylist() == [doc_id("s", "", b"eins", 0).hex(), "g"]
    assert documents["url"].to_pylist() == ["", "https://a.example/"]
    assert documents["num_bytes"].type == pa.int64()
    pages = artifact.table("pages.arrow")
    assert pages["doc_id"].equals(documents["doc_id"])
    assert pages["links"].to_pylist() == [[], ["https://b.example/"]]


RAWS = [Record("f", 1, "", text="a"), Record("f", 2, "", text="b"), Record("f", 3, "", text="b", raw=b"<b>")]
RAWS += [Record("f", 4, "", problem="bad: here", raw=b"b"), Record("f", 5, "", text="b", key="k")]


@given(st.lists(st.sampled_from(RAWS), min_size=1, max_size=14), st.data())
def test_ids_do_not_depend_on_how_the_work_was_cut(tmp_path_factory, records, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=4)))
    pieces = [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]
    seen, expected = {}, []
    for record in records:
        identity = (record.key, record.raw or record.text.encode())
        expected.append(doc_id("s", *identity, seen.get(identity, 0)))
        seen[identity] = seen.get(identity, 0) + 1
    artifact = joined(tmp_path_factory.mktemp("cut"), pieces)
    settled = artifact.table(fates.FILE)
    assert settled["doc_id"].to_pylist() == expected
    kept = [i for i, record in zip(expected, records, strict=True) if not record.problem]
    assert artifact.table(DOCUMENTS)["doc_id"].to_pylist() == kept
    assert len(set(expected)) == len(records)


def test_neither_the_number_of_workers_nor_the_size_of_pieces_changes_a_byte(tmp_path, monkeypatch):
    for number in range(6):
        rows = [{"id": f"{number}.{n}", "text": f"Note {n % 3} of file {number}."} for n in range(9)]
        write_lines(tmp_path / "data" / f"{number}.jsonl", [*rows, "not json", rows[0]])
    one = made(tmp_path / "one", tmp_path / "data")
    assert one.counts["quarantined"] == 6
    assert one.counts["seen"] == 66
    monkeypatch.setattr("pipelines.readers.streams.CHUNK_BYTES", 100)
    for workers, piece_bytes in ((1, 1), (2, 200), (8, 1), (8, 700)):
        monkeypatch.setattr("pipelines.tasks.PIECE_BYTES", piece_bytes)
        monkeypatch.setattr("pipelines.sources.PIECE_BYTES", piece_bytes)  # large files are cut inside, too
        again = made(tmp_path / f"{workers}.{piece_bytes}", tmp_path / "data", workers=workers)
        assert again.digest == one.digest


def test_empty_files_are_read_wherever_they_stand(tmp_path):
    for name, lines in (("a", []), ("b", [{"text": "One line of text."}]), ("c", [])):
        write_lines(tmp_path / "data" / f"{name}.jsonl", lines)
    artifact = made(tmp_path / "store", tmp_path / "data")
    assert (artifact.counts["seen"], artifact.counts["files"]) == (1, 3)


def test_files_that_are_split_differently_hold_the_same_documents(tmp_path):
    rows = [{"text": f"The {n % 7}th of the same few lines."} for n in range(40)]
    write_lines(tmp_path / "whole" / "a.jsonl", rows)
    for number, start in enumerate((0, 11, 12, 30)):
        write_lines(tmp_path / "split" / f"{number}.jsonl", rows[start : (11, 12, 30, 40)[number]])
    whole, split = made(tmp_path / "one", tmp_path / "whole"), made(tmp_path / "two", tmp_path / "split")
    assert whole.manifest.rows == split.manifest.rows
    assert whole.table("texts.arrow").equals(split.table("texts.arrow"))
    assert whole.digest != split.digest  # the files differ, and the manifest names them


def test_a_killed_ingest_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.tasks.PIECE_BYTES", 1)
    for number in range(5):
        write_lines(tmp_path / "data" / f"{number}.jsonl", [{"id": f"{number}", "text": "One line of text."}])
    store, key = Store(tmp_path / "store"), Key("raw_documents", "notes/1")
    read, asked = stage.unit_records, []

    def killed_at_the_fourth(recipe, found, unit):
        asked.append(unit.file)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return read(recipe, found, unit)

    def make(draft):
        return ingest(RECIPE, draft, path=tmp_path / "data", workers=1)

    monkeypatch.setattr(stage, "unit_records", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        build(store, key, INGEST_VERSION, RECIPE, [], make)
    assert store.get(key) is None
    artifact = build(store, key, INGEST_VERSION, RECIPE, [], make).artifact
    assert asked == ["0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl", "3.jsonl", "4.jsonl"]
    assert artifact.digest == made(tmp_path / "other", tmp_path / "data").digest
    for thread in threading.enumerate():  # pieces are removed beside what comes next
        if thread.name == "forget":
            thread.join()
    assert list((store.scratch / "pieces").iterdir()) == []


STAGE = """
import pathlib, sys
import pipelines.ingest as stage, pipelines.readers.streams, pipelines.sources, pipelines.tasks
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
pipelines.tasks.PIECE_BYTES = pipelines.sources.PIECE_BYTES = 4000
pipelines.readers.streams.CHUNK_BYTES = 1000
store, data = map(pathlib.Path, sys.argv[1:3])
recipe = pipelines.sources.IngestRecipe(reader="jsonl", source="notes", snapshot="1", id_field="id")
told = []
def make(draft):
    draft.tell = lambda done, total: told.append(done)
    return stage.ingest(recipe, draft, path=data, workers=2)
if __name__ == "__main__":
    built = build(Store(store), Key("raw_documents", "notes/1"), stage.INGEST_VERSION, recipe, [], make)
    print(told[0], built.artifact.digest)
"""


@pytest.mark.parametrize("done_before", [1, 10, 60])
def test_a_stage_of_two_processes_that_is_killed_outright_does_the_rest_and_no_more(tmp_path, done_before):
    """SIGKILL of the stage itself, while its pieces come; those that were done are not done again."""
    write_lines(tmp_path / "data" / "a.jsonl", [{"id": f"{n}", "text": f"{n} words. " * 9} for n in range(4000)])
    (tmp_path / "stage.py").write_text(STAGE)
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}

    def command(store):
        return [sys.executable, str(tmp_path / "stage.py"), str(tmp_path / store), str(tmp_path / "data")]

    def pieces():
        return [*(tmp_path / "store" / "scratch" / "pieces").glob("*/*/[0-9][0-9][0-9][0-9][0-9][0-9]")]

    with subprocess.Popen(command("store"), env=here, stdout=subprocess.PIPE) as process:
        while process.poll() is None and len(pieces()) <= done_before:
            time.sleep(0.001)
        process.kill()
    kept = len(pieces())
    assert kept > done_before, "it ended before it was killed"
    resumed, whole = (
        subprocess.run(command(store), env=here, capture_output=True, text=True, check=True).stdout.split()
        for store in ("store", "whole")
    )
    assert int(resumed[0]) >= kept
    assert int(whole[0]) == 0
    assert resumed[1] == whole[1]


def test_batches_are_cut_by_bytes_so_that_books_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.pieces.BATCH_BYTES", 120)
    artifact = joined(tmp_path, [[Record("f", n, "", text=f"{n}" * 40) for n in range(9)]])
    assert [len(d) for d, _ in read_documents(artifact)] == [3, 3, 3]
