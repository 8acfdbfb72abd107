"""The audit: both directions agree with what the real loader fed to the model, and verify misses nothing."""

import json
import shutil
from collections import defaultdict

import numpy as np
import pytest

from pipelines.consumption import recompute_consumption
from pipelines.provenance.lineage import checkpoint
from pipelines.provenance.trace import Tracer


@pytest.fixture(scope="module")
def tracer(finished) -> Tracer:
    return Tracer(checkpoint(finished.store, "demo"))


def test_step_and_document_agree_exhaustively_with_what_the_loader_fed(tracer):
    """The oracle is the loader's own rows: every token it fed is looked up in the shards document by document."""
    plan, length = tracer.plan, tracer.plan.sequence_length
    fed: dict[int, list[tuple[int, bytes, int, int]]] = {}
    for step in range(1, plan.num_steps + 1):
        parts, sequences = plan.sequences(plan.slots(step))
        rows = []
        for slot, part, sequence in zip(plan.slots(step), parts, sequences, strict=True):
            reader = tracer.reader(plan.parts[part].name)
            first = int(sequence) * length
            row = reader.rows(np.array([first]), length + 1)[0]
            position = first
            while position <= first + length:  # walk document by document through the tokens that were fed
                span = reader.documents(position, position + 1)[0]
                end = min(span.start + span.length, first + length + 1)
                assert (reader.tokens(position, end) == row[position - first : end - first]).all()
                rows.append((slot, span.doc_id, position - span.start, end - position))
                position = end
        fed[step] = rows
    by_document = defaultdict(list)
    for step, rows in fed.items():
        found = [(r.slot, r.doc_id, r.start, r.length) for r in tracer.documents(step)]
        assert found == rows
        for slot, doc_id, start, size in rows:
            by_document[doc_id].append((step, slot, start, size))
    every = {doc_id for part in plan.parts for doc_id in _ids(tracer, part.name)}
    for doc_id in every:
        assert [(r.step, r.slot, r.start, r.length) for r in tracer.reads(doc_id)] == sorted(by_document[doc_id])


def _ids(tracer, part):
    reader = tracer.reader(part)
    return [span.doc_id for span in reader.documents(0, reader.num_tokens)]


def test_the_consumption_digest_of_the_trainer_is_the_one_recomputed_from_the_shards(tracer):
    facts = tracer.checkpoint.facts
    assert recompute_consumption(tracer.plan, tracer.readers, facts["step"]) == facts["consumption"]


def test_audit_step_lists_documents_with_source_file_line_and_licence(finished, tracer):
    answer = finished.json("audit", "step", "demo", "7")
    assert len(answer["documents"]) == len(tracer.documents(7))
    for row in answer["documents"]:
        assert all(row[name] for name in ("uri", "file", "licence"))
        assert row["line"] >= 1
        assert row["source"].split("/")[0] in (
            "notes",
            *(f"pypi-docs.{n}" for n in ("datasketch", "structlog", "tomlkit", "typer")),
        )


def test_audit_document_answers_by_id_uri_and_passage_alike(finished):
    row = finished.json("audit", "step", "demo", "3")["documents"][0]
    by_id = finished.json("audit", "document", row["doc_id"])
    by_uri = finished.json("audit", "document", row["uri"])
    text = finished.json("show", "training_documents", "-n", "400")
    passage = next(t["after"] for t in text if t["doc_id"] == row["doc_id"])
    by_text = finished.json("audit", "document", " ".join(passage.split()[:14]))
    assert row["doc_id"] in [a["doc_id"] for a in by_text]
    assert by_id[0]["doc_id"] == row["doc_id"]
    assert row["doc_id"] in [a["doc_id"] for a in by_uri]
    assert 3 in [r["step"] for r in by_id[0]["read_by"][0]["reads"]]
    assert [f["fate"] for f in by_id[0]["fates"]] == ["kept"] * len(by_id[0]["fates"])


def test_a_removed_twin_tells_its_survivor(finished):
    rows = finished.json("show", "unique_documents", "small", "--dropped", "merged", "-n", "200")
    twin = next(r for r in rows if r["partition"] == "notes/1")
    assert twin["survivor_text"]
    assert twin["jaccard"] >= 0.8
    answer = finished.json("audit", "document", twin["doc_id"])[0]
    assert answer["fates"][-1]["fate"] == "merged"
    assert answer["read_by"][0]["reads"] == []


def test_a_quarantined_record_is_found_by_its_id(finished):
    row = finished.json("show", "raw_documents", "notes/1", "--dropped", "quarantined")[0]
    answer = finished.json("audit", "document", row["doc_id"])[0]
    assert [f["fate"] for f in answer["fates"]] == ["quarantined"]


def test_a_passage_of_three_words_is_refused(finished):
    assert "at least eight" in finished.stemma("audit", "document", "three words only", code=2)


def test_audit_checkpoint_shows_licences_and_lineage(finished, tmp_path):
    answer = finished.json("audit", "checkpoint", "demo")
    assert {row["asset"] for row in answer["lineage"]} >= {"raw_documents", "mixture", "vocabulary", "token_shards"}
    model = checkpoint(finished.store, "demo")
    bare = tmp_path / "model.safetensors"
    shutil.copyfile(model.local("model.safetensors"), bare)
    assert finished.json("audit", "checkpoint", str(bare))["checkpoint"]["digest"] == model.digest


def test_verify_passes_on_a_finished_store(finished):
    answer = finished.json("audit", "verify")
    assert (answer["sound"], answer["problems"], answer["unfinished"]) == (True, [], [])


def test_verify_fails_with_exit_code_4_and_names_the_file(workplace):
    model = checkpoint(workplace.store, "demo")
    path = model.local("model.safetensors")
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    said = workplace.stemma("audit", "verify", code=4)
    assert "model.safetensors" in said


def test_audit_of_a_step_beyond_the_run_says_how_many_there_are(finished):
    assert "steps 1 to 130" in finished.stemma("audit", "step", "demo", "131", code=2)


def test_audit_of_an_unknown_checkpoint_lists_what_there_is(finished):
    assert "demo" in finished.stemma("audit", "checkpoint", "large", code=2)


def test_a_document_that_its_source_has_lost_is_still_found_with_the_steps_that_read_it(workplace):
    steps = (workplace.json("audit", "step", "demo", str(step))["documents"] for step in range(1, 131))
    row = next(r for rows in steps for r in rows if r["source"] == "notes/1")
    name = row["uri"].rpartition(":")[2]
    path = workplace.folder / "notes.jsonl"
    lines = path.read_text().splitlines()
    del lines[int(row["line"]) - 1]
    path.write_text("\n".join(lines) + "\n")
    workplace.stemma("run", "--select", "training_documents")
    answer = workplace.json("audit", "document", row["doc_id"])[0]
    assert answer["read_by"][0]["reads"], name


def test_the_steps_of_a_fine_tune_are_not_those_of_its_base(finished):
    assert "is a fine-tune" in finished.stemma("audit", "step", "demo-source", "1", code=2)


def test_data_is_never_taken_for_markup():
    from io import StringIO

    from rich.console import Console

    from assets.cli import table

    printed = Console(file=StringIO(), width=80)
    printed.print(table("t", "file", rows=[["pages/[id].tsx [/INST] [bold]x"]]))
    assert "pages/[id].tsx [/INST] [bold]x" in printed.file.getvalue()


def test_audit_overlap_finds_in_the_shards_what_the_corpus_says_letter_by_letter(finished, tmp_path):
    training = finished.store.open("training_documents", "small")
    (document, text) = next(
        (doc_id, text)
        for part in training.parts()
        for doc_id, text in zip(*(part.table("texts.arrow")[c].to_pylist() for c in ("doc_id", "text")), strict=True)
        if len(text) > 400
    )
    lines = [
        {"text": text[20:300], "task": "own", "item_id": "7"},
        {"text": "a line that no document of theirs has, at all"},
    ]
    items = tmp_path / "own.jsonl"
    items.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = finished.json("audit", "overlap", "small", "--items", str(items), code=3)["items"]
    assert [item["num_documents"] > 0 for item in found] == [True, False]
    assert document.hex() in found[0]["documents"]
    assert found[0]["coverage"] > 0.9
    said = finished.stemma("audit", "overlap", "small", "--items", str(items), code=3)
    assert "1 of 2 items are shown" in said
    assert "own/7" in said


def test_audit_overlap_finds_no_item_of_the_corpus_own_suites_whole(finished):
    answer = finished.json("audit", "overlap", "small", "--coverage", "1")
    assert answer["items"]
    assert not any(item["num_documents"] for item in answer["items"])
    suite = answer["items"][0]["suite"]
    assert answer == finished.json("audit", "overlap", "small", "--coverage", "1", "--suite", suite)


def test_audit_overlap_says_what_is_wrong_with_items(finished, tmp_path):
    items = tmp_path / "own.jsonl"
    items.write_text('{"text": "fine"}\n{"question": "?"}\n')
    assert "own.jsonl: line 2 is" in finished.stemma("audit", "overlap", "small", "--items", str(items), code=2)
    assert "cannot be read" in finished.stemma("audit", "overlap", "small", "--items", str(tmp_path / "no"), code=2)
    finished.stemma("audit", "overlap", "nowhere", code=2)
    finished.stemma("audit", "overlap", "small", "--suite", "nowhere", code=2)
