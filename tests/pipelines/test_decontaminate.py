from __future__ import annotations

import pytest
from corpora import doc_id
from test_unique import made_heldout, made_unique

from pipelines import decontaminate
from pipelines.contamination import tradeoff
from pipelines.decontaminate import DecontaminateRecipe, training_documents
from pipelines.provenance import fates

QUESTION = "Which of these rivers flows through the middle of the old town and then out into the northern sea?"
SHORT = "Name the longest river there."


def documents(source, number=12):
    return [" ".join(f"{source}{i}word{k}" for k in range(8)) for i in range(number)]


def trained(corpora, sources, items, ratio=0.3, **recipe):
    chosen = DecontaminateRecipe(**recipe)
    unique = made_unique(corpora, sources)
    heldout = made_heldout(corpora, unique, ratio=ratio)
    prompts = [corpora.prompts(suite, rows) for suite, rows in items.items()]
    return corpora.run(
        "training_documents", "mine", decontaminate.VERSION, chosen, [unique, heldout, *prompts],
        lambda d: training_documents(unique, heldout, prompts, chosen, d),
    )  # fmt: skip


ITEMS = {
    "demo": [("rivers", "1", QUESTION), ("rivers", "2", SHORT), ("sums", "1", "Add two."), ("sums", "2", "x " * 20)]
}


def test_a_document_that_shows_an_item_is_dropped_with_its_task_and_coverage(corpora):
    half = " ".join(QUESTION.split()[:13])
    sources = {"a/1": [f"Quiz: {QUESTION.upper()}", "fine", f"{half}: no idea", f"Quick! {SHORT}"]}
    artifact = trained(corpora, sources, ITEMS, ratio=0)
    rows = {
        row["doc_id"]: (row["fate"], row["reason"], row["value"])
        for row in artifact.part("a/1").table(fates.FILE).to_pylist()
    }
    assert rows == {
        doc_id("a/1:0"): ("dropped", "overlap:demo/rivers", 1.0),
        doc_id("a/1:1"): ("kept", "", None),
        doc_id("a/1:2"): ("dropped", "overlap:demo/rivers", 13 / 19),
        doc_id("a/1:3"): ("dropped", "overlap:demo/rivers", 1.0),
    }
    assert artifact.part("a/1").table("texts.arrow")["text"].to_pylist() == ["fine"]


def test_the_report_tells_how_each_item_was_looked_for_and_what_was_found(corpora):
    half = " ".join(QUESTION.split()[:13])
    artifact = trained(corpora, {"a/1": [f"{half}: no idea"], "b/1": [f"so {QUESTION}"]}, ITEMS, ratio=0, coverage=0.8)
    columns = ("suite", "task", "item_id", "num_words", "check", "coverage", "kept_coverage", "num_documents", "status")
    assert [tuple(row[c] for c in columns) for row in artifact.table("items.arrow").to_pylist()] == [
        ("demo", "rivers", "1", 19, "ngram", 1.0, 13 / 19, 1, "dirty"),
        ("demo", "rivers", "2", 5, "phrase", 0.0, 0.0, 0, "clean"),
        ("demo", "sums", "1", 2, "no", 0.0, 0.0, 0, "not checkable"),
        ("demo", "sums", "2", 20, "ngram", 0.0, 0.0, 0, "clean"),
    ]
    assert artifact.counts["items_not_checkable"] == 1
    listed = [
        (r["doc_id"], r["item_id"], r["longest"])
        for p in artifact.parts()
        for r in p.table("overlaps.arrow").to_pylist()
    ]
    assert listed == [(doc_id("a/1:0"), "1", 13), (doc_id("b/1:0"), "1", 19)]


def test_every_document_has_one_fate_and_held_out_ones_are_not_trained_on(corpora):
    sources = {"a/1": documents("a"), "b/1": [*documents("b"), QUESTION]}
    artifact = trained(corpora, sources, ITEMS)
    held = corpora.store.open("heldout_documents", "mine")
    assert artifact.counts["seen"] == 25 == sum(artifact.counts[name] for name in fates.FATES)
    assert artifact.counts["held_out"] == held.counts["docs"] > 0
    for part in artifact.parts():
        ids = part.table("documents.arrow")["doc_id"].to_pylist()
        assert ids == sorted(ids) == part.table("texts.arrow")["doc_id"].to_pylist()
        assert not set(ids) & set(held.part(part.key.part).table("documents.arrow")["doc_id"].to_pylist())
        by_fate = {r["doc_id"]: r["fate"] for r in part.table(fates.FILE).to_pylist()}
        assert [d for d in sorted(by_fate) if by_fate[d] == "kept"] == ids


def test_a_new_source_rebuilds_only_its_own_part(corpora):
    sources = {"a/1": documents("a"), "b/1": documents("b")}
    before = trained(corpora, sources, ITEMS)
    after = trained(corpora, {**sources, "c/1": documents("c")}, ITEMS)
    assert [p.digest for p in after.parts()][:2] == [p.digest for p in before.parts()]


def test_without_suites_only_held_out_documents_leave(corpora):
    artifact = trained(corpora, {"a/1": documents("a")}, {})
    assert artifact.counts["dropped"] == 0
    assert artifact.table("items.arrow").num_rows == 0


def test_an_item_that_occurs_twice_is_an_error(corpora):
    with pytest.raises(ValueError, match="benchmark item demo/t/1 occurs twice"):
        trained(corpora, {"a/1": ["x"]}, {"demo": [("t", "1", "one"), ("t", "1", "two")]})


def test_an_empty_source_stays_an_empty_part(corpora):
    artifact = trained(corpora, {"a/1": [], "b/1": documents("b")}, ITEMS)
    assert artifact.part("a/1").counts["seen"] == 0
    assert artifact.part("a/1").table("overlaps.arrow").num_rows == 0


# -- what is done --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "status", "docs", "kept"), [
    ("ask", "dirty", 1, 0.0), ("drop", "clean", 1, 0.0), ("cut", "clean", 1, 0.0), ("flag", "dirty", 2, 1.0),
])  # fmt: skip
def test_an_item_is_dirty_while_nobody_decides_or_its_document_stays(corpora, action, status, docs, kept):
    artifact = trained(corpora, {"a/1": [QUESTION, "fine"]}, {"demo": ITEMS["demo"][:1]}, ratio=0, action=action)
    (row,) = artifact.table("items.arrow").to_pylist()
    assert (row["status"], row["kept_coverage"], row["num_documents"], row["origin"]) == (status, kept, 1, "files")
    assert artifact.counts["docs"] == docs
    assert artifact.counts["items_dirty"] == (status == "dirty")
    (overlap,) = artifact.part("a/1").table("overlaps.arrow").to_pylist()
    assert (overlap["coverage"], overlap["left"]) == (1.0, kept)


def test_what_was_cut_from_held_out_documents_is_dropped_without_a_question(corpora):
    """Kin of held-out documents among the others is a matter of course."""
    import pyarrow as pa

    from pipelines.contamination import FROM_FILES, FROM_HELDOUT, Found, statuses

    found = Found(
        *(pa.array([1.0, 1.0, 0.0]).to_numpy(), pa.array([0.0, 0.0, 0.0]).to_numpy(), pa.array([1, 1, 0]).to_numpy())
    )
    origins = [FROM_HELDOUT, FROM_FILES, FROM_FILES]
    assert statuses(["ngram"] * 3, origins, found, 0.4, True) == ["clean", "dirty", "clean"]
    assert statuses(["ngram", "ngram", "no"], origins, found, 0.4, False) == ["clean", "clean", "not checkable"]


def test_chinese_is_compared_by_character(corpora):
    item = "黑豹队的防守丢了多少分。308分"
    text = f"前言。{item}后面还有很多别的内容。"
    artifact = trained(corpora, {"a/1": [text, "别的内容"]}, {"zh": [("qa", "1", item)]}, ratio=0)
    assert artifact.counts["dropped"] == 1
    by_word = trained(corpora, {"a/1": [text, "别的内容"]}, {"zh": [("qa", "1", item)]}, ratio=0, unspaced=False)
    assert by_word.counts["items_not_checkable"] == 1


# -- before it is paid ---------------------------------------------------------------------------------------------


def test_the_tradeoff_counts_documents_bytes_and_items_above_each_threshold(corpora):
    half = " ".join(QUESTION.split()[:13]) + " no idea"
    sources = {"a/1": [QUESTION, "fine", half], "b/1": [f"so {SHORT}", "good"]}
    artifact = trained(corpora, sources, ITEMS, ratio=0)
    found = tradeoff(artifact, [0.1, 13 / 19, 0.9])
    assert (found.documents, found.num_bytes, found.items) == (5, sum(len(t) for s in sources.values() for t in s), 3)
    all_three, whole = len(QUESTION) + len(half) + len(SHORT) + 3, len(QUESTION) + len(SHORT) + 3
    assert [tuple(cost) for cost in found.costs] == [
        (0.1, 3, all_three, 2),
        (13 / 19, 3, all_three, 2),
        (0.9, 2, whole, 2),
    ]


@pytest.mark.parametrize("coverage", [0.3, 0.5, 0.9])
def test_the_tradeoff_is_what_a_run_then_drops(corpora, coverage):
    texts = [" ".join(QUESTION.split()[:n]) + f" tail {n}" for n in range(8, 20)]
    before = trained(corpora, {"a/1": texts}, ITEMS, ratio=0.3)
    (cost,) = tradeoff(before, [coverage]).costs
    after = trained(corpora, {"a/1": texts}, ITEMS, ratio=0.3, coverage=coverage)
    assert cost.documents == after.counts["dropped"]
    assert tradeoff(before, [coverage]).documents == after.counts["seen"] - after.counts["held_out"]


def test_the_tradeoff_below_what_was_listed_is_refused(corpora):
    artifact = trained(corpora, {"a/1": ["fine"]}, ITEMS, ratio=0, report=0.2)
    with pytest.raises(ValueError, match=r"coverage 0.1: overlaps are listed from 0.2 to 1. Set `report` to 0.1"):
        tradeoff(artifact, [0.1])
