"""What is cut out of a document, what stays, and what the spans say."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pytest
from corpora import doc_id
from hypothesis import given
from hypothesis import strategies as st
from test_decontaminate import QUESTION, trained

from pipelines.cuts import cut
from pipelines.overlap import OverlapIndex
from pipelines.provenance import fates

ITEMS = {"demo": [("rivers", "1", QUESTION)]}
BEFORE, AFTER = "Twenty words of something else. " * 5, "And what comes after it, at some length too. " * 4


def index(*texts, **settings):
    return OverlapIndex(pa.array(texts, pa.large_string()), **settings)


def test_the_item_goes_with_the_marks_behind_it_and_the_rest_stays_as_it_was():
    done = cut(f"Quiz:\n\n{QUESTION.upper()}\n\nNext — “one”.", index(QUESTION), 0.4)
    assert done.text == "Quiz:\n\nNext — “one”."
    assert [(s.item, s.start, s.length) for s in done.spans] == [(0, 7, len(QUESTION) + 2)]
    assert (done.words, done.words_left) == (19, 3)


def test_words_that_become_neighbours_are_looked_at_again():
    words = QUESTION.split()
    folded = " ".join([*words[:10], QUESTION, *words[10:], "tail"])
    assert cut(folded, index(QUESTION), 0.4).text == "tail"


def test_an_item_below_the_threshold_stays():
    text = " ".join(QUESTION.split()[:13]) + " or not"
    assert cut(text, index(QUESTION), 0.7).spans == []
    assert cut(text, index(QUESTION), 13 / 19).text == "or not"


def test_a_span_is_named_by_the_item_of_which_most_is_shown():
    long = QUESTION + " " + " ".join(f"w{n}" for n in range(12))
    (span,) = cut(f"so {QUESTION}", index(long, QUESTION), 0.4).spans
    assert span.item == 1


def test_characters_outside_the_first_plane_do_not_move_the_span():
    done = cut(f"🙂 İß 🂡 {QUESTION} ende", index(QUESTION), 0.4)
    assert done.text == "🙂 İß 🂡 ende"


words = st.sampled_from(["a", "b", "c", "中", "文,"])
texts = st.lists(words, max_size=16).map(" ".join)


@given(st.lists(texts, min_size=1, max_size=4), texts, st.booleans())
def test_what_is_left_shows_no_item_and_spans_rebuild_it(items, text, unspaced):
    overlap = index(*items, ngram=4, floor=3, phrase_floor=2, unspaced=unspaced)
    done = cut(text, overlap, 0.5)
    left = overlap.matches(pa.array([done.text], pa.large_string()))
    assert not (left.coverage >= 0.5).any()
    rebuilt = text
    for span in reversed(done.spans):
        rebuilt = rebuilt[: span.start] + rebuilt[span.start + span.length :]
    assert rebuilt == done.text
    before = overlap.matches(pa.array([text], pa.large_string()))
    assert bool(done.spans) == bool((before.coverage >= 0.5).any())


# -- the stage -----------------------------------------------------------------------------------------------------


def test_cut_documents_stay_with_spans_and_digests_of_both_texts(corpora):
    text = f"{BEFORE}{QUESTION} {AFTER}"
    artifact = trained(corpora, {"a/1": ["clean text", text]}, ITEMS, ratio=0, action="cut")
    part = artifact.part("a/1")
    left = {row["doc_id"]: row["text"] for row in part.table("texts.arrow").to_pylist()}
    assert left == {doc_id("a/1:0"): "clean text", doc_id("a/1:1"): BEFORE + AFTER}
    (span,) = part.table("spans.arrow").to_pylist()
    assert span == {
        "doc_id": doc_id("a/1:1"), "rule": "overlap:demo/rivers", "start": len(BEFORE), "length": len(QUESTION) + 1,
    }  # fmt: skip
    (about,) = part.table("cuts.arrow").to_pylist()
    digests = [hashlib.sha256(t.encode()).digest() for t in (text, BEFORE + AFTER)]
    assert [about["sha256_in"], about["sha256_out"]] == digests
    assert (about["words"], about["words_left"]) == (19, 61)
    rows = {row["doc_id"]: row for row in part.table("documents.arrow").to_pylist()}
    told = rows[doc_id("a/1:1")]
    assert (told["num_bytes"], told["sha256_out"], told["num_words"]) == (len(BEFORE + AFTER), digests[1], 61)
    assert told["sha256_in"] == digests[0], "what came in first stays named"
    assert (artifact.counts["documents_cut"], artifact.counts["kept"]) == (1, 2)
    assert artifact.counts["bytes"] == len(BEFORE + AFTER) + len("clean text")
    (item,) = artifact.table("items.arrow").to_pylist()
    assert (item["coverage"], item["kept_coverage"], item["status"]) == (1.0, 0.0, "clean")


def test_a_document_of_which_too_little_is_left_is_dropped(corpora):
    sources = {"a/1": [f"Quiz: {QUESTION} And?", "fine"]}
    artifact = trained(corpora, sources, ITEMS, ratio=0, action="cut")
    rows = {
        r["doc_id"]: (r["fate"], r["reason"], r["value"]) for r in artifact.part("a/1").table(fates.FILE).to_pylist()
    }
    assert rows[doc_id("a/1:0")] == ("dropped", "cut_short:demo/rivers", 2.0)
    assert artifact.counts["documents_cut"] == 0
    kept = trained(corpora, sources, ITEMS, ratio=0, action="cut", min_words_left=2)
    assert "Quiz: And?" in kept.part("a/1").table("texts.arrow")["text"].to_pylist()


@pytest.mark.parametrize("action", ["ask", "drop", "cut", "flag"])
def test_whatever_is_done_every_document_has_one_fate_and_bytes_repeat(corpora, action):
    sources = {"a/1": [f"{BEFORE}{QUESTION}", QUESTION, "fine"], "b/1": ["x y", f"{QUESTION} {AFTER}"]}
    one = trained(corpora, sources, ITEMS, ratio=0.2, action=action)
    assert one.counts["seen"] == 5 == sum(one.counts[name] for name in fates.FATES)
    again = trained(corpora, dict(reversed(sources.items())), ITEMS, ratio=0.2, action=action)
    assert {p.key.part: p.content for p in one.parts()} == {p.key.part: p.content for p in again.parts()}


def test_without_an_item_a_cut_changes_nothing(corpora):
    sources = {"a/1": ["one text", "another text"]}
    cutting = trained(corpora, sources, ITEMS, ratio=0, action="cut").part("a/1")
    dropping = trained(corpora, sources, ITEMS, ratio=0, action="drop").part("a/1")
    assert cutting.manifest.rows == dropping.manifest.rows
    assert cutting.table("spans.arrow").num_rows == cutting.table("cuts.arrow").num_rows == 0
