"""Documents are found by id, uri and text, in what is published and in what a checkpoint was made from."""

from __future__ import annotations

import sys

import pytest
from readings import Written, clean, finetuned, made, mixture, model, plan_of, raw, shards, trained, training

from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.provenance.trace import fates as fates_of
from pipelines.provenance.trace import find_documents, known

RIVER = Written("river", "The river runs past the mill and under the old stone bridge.")
BRIDGE = Written("bridge", "Under the old stone bridge\n  the water is\u00a0deep, and nobody swims there.")
SHORT = Written("short", "Nobody swims there.")
WHITE_SPACE = [chr(code) for code in range(sys.maxunicode + 1) if chr(code).isspace()]


def found(store: Store, needle: str) -> list[tuple[str, str]]:
    """(name of the document, asset in which it was found)"""
    return [(doc_id.rstrip(b"\0").decode(), a.key.asset) for doc_id, a in find_documents(store, needle)]


@pytest.fixture
def library(store) -> Store:
    raw(store, "s/1", [RIVER, BRIDGE])
    raw(store, "t/1", [SHORT], gone={"torn": "invalid UTF-8 at byte 7"})
    return store


# -- ways to ask -------------------------------------------------------------------------------------------------


def test_an_id_finds_its_document_in_either_case_and_another_id_finds_none(library):
    for needle in (BRIDGE.doc_id.hex(), BRIDGE.doc_id.hex().upper()):
        assert found(library, needle) == [("bridge", "raw_documents")]
    assert found(library, "0" * 32) == []


def test_the_id_of_a_record_that_has_no_text_is_found_by_its_fate(library):
    assert found(library, Written("torn", "").doc_id.hex()) == [("torn", "raw_documents")]


def test_a_uri_is_found_whole_and_not_by_a_piece_of_it(library):
    assert found(library, "test:bridge") == [("bridge", "raw_documents")]
    assert found(library, "test:bridg") == found(library, "test:bridges") == []


def test_thirty_two_characters_that_are_no_id_are_a_text_or_a_uri(library):
    """bytes.fromhex skips white space: eleven pairs of digits are 32 characters and 11 bytes."""
    for needle in ("aa bb cc dd ee ff 00 11 22 33 44", "z" * 32, "test:" + "a" * 27):
        assert len(needle) == 32
        assert found(library, needle) == []
    raw(library, "u/1", [Written("pairs", "aa bb cc dd ee ff 00 11 22 33 44")])
    assert found(library, "aa bb cc dd ee ff 00 11 22 33 44") == [("pairs", "raw_documents")]


def test_eight_words_in_a_row_find_every_document_that_has_them_and_seven_only_a_whole_text(library):
    raw(library, "u/1", [Written("copy", f"He wrote: {RIVER.text} That was all.")])
    eight = "river runs past the mill and under the"
    assert found(library, eight) == [("river", "raw_documents"), ("copy", "raw_documents")]
    assert found(library, eight.rpartition(" ")[0]) == []
    assert found(library, "Nobody swims there.") == [("short", "raw_documents")]  # and not the end of "bridge"
    assert found(library, "nobody swims there.") == []  # case counts: it is the text as it stands


def test_a_passage_is_found_through_line_breaks_on_either_side(library):
    as_printed = "under the old\n    stone bridge the water is deep, and nobody"
    assert found(library, as_printed) == []
    assert found(library, as_printed.replace("under", "Under")) == [("bridge", "raw_documents")]
    assert found(library, "and  nobody   swims there.  Under the old stone bridge") == []  # words keep their order


@pytest.mark.parametrize("space", WHITE_SPACE, ids=lambda s: f"U+{ord(s):04X}")
def test_whatever_python_calls_white_space_separates_the_words_of_a_passage(space, spaced):
    """A passage comes through str.split; a text that held a form feed or U+001F there must still be found."""
    words = [f"w{ord(space):x}x{n}" for n in range(9)]
    assert found(spaced, " ".join(words)) == [(f"space{ord(space):x}", "raw_documents")]
    assert found(spaced, " ".join(words[1:])) == [(f"space{ord(space):x}", "raw_documents")]
    assert found(spaced, " ".join(words[:4])) == []


@pytest.fixture(scope="module")
def spaced(tmp_path_factory) -> Store:
    """One document for each character of white space, which stands between its words and at both ends."""
    store = Store(tmp_path_factory.mktemp("spaced"))
    texts = {s: s.join(f"w{ord(s):x}x{n}" for n in range(9)) for s in WHITE_SPACE}
    raw(store, "s/1", [Written(f"space{ord(s):x}", f"{s}{text}{s}") for s, text in texts.items()])
    return store


# -- where it looks ----------------------------------------------------------------------------------------------


def test_a_text_that_cleaning_changed_is_found_as_the_source_wrote_it_and_as_the_model_read_it(store):
    before = Written("mail", "Write to the clerk at clerk@archive.example and he will answer soon.")
    after = before._replace(text="Write to the clerk at EMAIL and he will answer soon.")
    clean(store, raw(store, "s/1", [before]), [after])
    assert found(store, before.text) == [("mail", "raw_documents")]
    assert found(store, after.text) == [("mail", "clean_documents")]
    assert found(store, "will answer soon.") == []


def test_each_document_is_found_once_though_two_snapshots_hold_it(store):
    for snapshot in ("s/1", "s/2"):
        raw(store, snapshot, [RIVER])
    assert found(store, RIVER.text) == found(store, RIVER.doc_id.hex()) == [("river", "raw_documents")]


def test_in_an_empty_store_nothing_is_found(store):
    assert found(store, RIVER.text) == found(store, RIVER.doc_id.hex()) == []


def model_of(store: Store, documents: list[Written], name: str = "run") -> Artifact:
    source = clean(store, raw(store, "s/1", documents), documents)
    tokens = shards(store, training(store, [source]), {d.doc_id: [1] * 8 for d in documents})
    return model(mixture(tokens, plan_of({"s/1": 8 * len(documents)}, 4, [[2]], [(1, 0, 1)]), name), 2)


def test_what_a_checkpoint_was_made_from_is_found_after_its_source_has_moved_on(store):
    model_of(store, [RIVER, BRIDGE])
    raw(store, "s/1", [BRIDGE])
    assert [a.counts["docs"] for a in known(store, "raw_documents")] == [1, 2]
    for needle in (RIVER.text, RIVER.doc_id.hex(), "test:river"):
        assert found(store, needle) == [("river", "raw_documents")]


def test_what_nobody_was_made_from_is_not_found_after_its_source_has_moved_on(store):
    raw(store, "s/1", [RIVER, BRIDGE])
    raw(store, "s/1", [BRIDGE])
    assert found(store, RIVER.text) == []


@pytest.mark.parametrize("asset", ["finetuned_model", "compressed_model"])
def test_what_the_base_of_a_model_was_made_from_is_found_after_the_run_was_trained_anew(store, asset):
    """The model is pinned to a base that its run's name no longer means; its weights have read that text."""
    finetuned(model_of(store, [RIVER, BRIDGE]), "topic", asset)
    model_of(store, [BRIDGE, SHORT, Written("fourth", "Another text.")])
    assert found(store, RIVER.text) == [("river", "raw_documents")]
    assert [a.counts["docs"] for a in known(store, "raw_documents")] == [3, 2]


# -- fates -------------------------------------------------------------------------------------------------------


def told(artifacts: list[Artifact], name: str) -> list[tuple[str, str, str]]:
    return [(f.stage, f.part, f.fate) for f in fates_of(artifacts, Written(name, "").doc_id)]


def test_the_fates_of_a_document_come_stage_by_stage_from_its_source_on(store):
    tracer = trained(store, {"s/1": [RIVER], "t/1": [BRIDGE]}, 2, [[1, 1]])
    assert told([tracer.checkpoint], "bridge") == [
        ("raw_documents", "t/1", "kept"), ("clean_documents", "t/1", "kept"), ("training_documents", "t/1", "kept"),
    ]  # fmt: skip


def test_a_stage_that_also_reads_the_source_of_another_comes_after_both(store):
    """clusters is made from clean, and the last stage from both: the nearest-first order would tell clean last."""

    def stage(asset: str, inputs: list[Artifact]) -> Artifact:
        def make(draft):
            draft.write(fates.FILE, fates.all_kept(inputs[0].table("documents.arrow")["doc_id"]))
            draft.write("documents.arrow", inputs[0].table("documents.arrow"))
            return draft.seal()

        return made(store, Key(asset, "s/1"), inputs, make)

    source = raw(store, "s/1", [RIVER])
    cleaned = stage("clean_documents", [source])
    clusters = stage("duplicate_clusters", [cleaned])
    last = stage("unique_documents", [source, cleaned, clusters])
    expected = ["raw_documents", "clean_documents", "duplicate_clusters", "unique_documents"]
    assert [stage for stage, _, _ in told([last], "river")] == expected
    assert [stage for stage, _, _ in told([last, source, cleaned], "river")] == expected  # each once


def test_the_reason_and_the_value_of_a_fate_are_told(store):
    source = raw(store, "s/1", [RIVER, SHORT], gone={"torn": "invalid UTF-8 at byte 7"})
    cleaned = clean(store, source, [RIVER])
    (kept, dropped) = fates_of([cleaned], SHORT.doc_id)
    assert (kept.fate, kept.reason, kept.value) == (fates.KEPT, "", None)
    assert (dropped.stage, dropped.fate, dropped.reason, dropped.value) == (
        "clean_documents",
        "dropped",
        "too_short",
        3,
    )
    (torn,) = fates_of([cleaned], Written("torn", "").doc_id)
    assert (torn.fate, torn.reason) == (fates.QUARANTINED, "invalid UTF-8 at byte 7")
    assert fates_of([cleaned], b"\xff" * 16) == []
