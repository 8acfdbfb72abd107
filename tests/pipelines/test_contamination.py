"""Decontamination beside a plain search: which documents go, for which item, and what the report says."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest
from corpora import Corpora, doc_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_decontaminate import trained

from pipelines.overlap import OverlapIndex
from pipelines.provenance import fates

WORDS = st.sampled_from(["ant", "bee", "cat"])
ITEM = st.lists(WORDS, max_size=7).map(" ".join)
RECIPE = {"ngram": 4, "floor": 3, "phrase_floor": 2}


def shown(document: str, item: str, ngram: int, phrase_floor: int) -> tuple[float, int]:
    """(share of the item's words in a shared n-gram, its longest run), word by word."""
    said, asked = (re.findall(r"\w+", text.lower()) for text in (document, item))
    n = min(ngram, len(asked))
    if n < phrase_floor:
        return 0.0, 0
    here = {tuple(said[at : at + n]) for at in range(len(said) - n + 1)}
    hits = [at for at in range(len(asked) - n + 1) if tuple(asked[at : at + n]) in here]
    runs = [0]
    for before, at in zip([None, *hits], hits, strict=False):
        runs.append(runs[-1] + 1 if before == at - 1 else n)
    return len({w for at in hits for w in range(at, at + n)}) / max(1, len(asked)), max(runs)


@st.composite
def corpora_and_items(draw):
    """Documents that are made of pieces of the items, and items that share words with one another."""
    items = draw(st.lists(ITEM, min_size=1, max_size=5))
    pieces = st.sampled_from([*items, "dog", "ant bee", ""])
    texts = [" ".join([*draw(st.lists(pieces, max_size=3)), f"nr{n}"]) for n in range(draw(st.integers(1, 7)))]
    return texts, items


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(corpora_and_items(), st.sampled_from([0.3, 0.5, 4 / 7, 1.0]))
def test_a_document_goes_exactly_when_it_shows_the_share_of_an_item(tmp_path_factory, made, coverage):
    texts, items = made
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    artifact = trained(
        corpora, {"a/1": texts}, {"suite": [("t", str(i), item) for i, item in enumerate(items)]},
        ratio=0, coverage=coverage, report=0.01, **RECIPE,
    )  # fmt: skip
    seen = {row["doc_id"] for row in corpora.store.open("unique_documents", "mine").part("a/1").table("documents.arrow").to_pylist()}  # fmt: skip
    scores = {(doc, item): shown(text, asked, 4, 2) for doc, text in enumerate(texts) for item, asked in enumerate(items)
              if doc_id(f"a/1:{doc}") in seen}  # fmt: skip
    fate = {row["doc_id"]: (row["fate"], row["value"]) for row in artifact.part("a/1").table(fates.FILE).to_pylist()}
    for doc in range(len(texts)):
        if doc_id(f"a/1:{doc}") in seen:
            worst = max(scores[doc, item][0] for item in range(len(items)))
            expected = (fates.DROPPED, worst) if worst >= coverage else (fates.KEPT, None)
            assert fate[doc_id(f"a/1:{doc}")] == expected
    listed = {
        (row["doc_id"], int(row["item_id"])): (row["coverage"], row["longest"])
        for row in artifact.part("a/1").table("overlaps.arrow").to_pylist()
    }
    assert listed == {(doc_id(f"a/1:{doc}"), item): score for (doc, item), score in scores.items() if score[0] >= 0.01}
    for item, row in enumerate(artifact.table("items.arrow").to_pylist()):
        shares = {doc: share for (doc, number), (share, _) in scores.items() if number == item}
        kept = [share for doc, share in shares.items() if fate[doc_id(f"a/1:{doc}")][0] == fates.KEPT]
        assert row["coverage"] == max(shares.values(), default=0.0)
        assert row["kept_coverage"] == max(kept, default=0.0)
        assert row["num_documents"] == sum(share >= coverage for share in shares.values())


LONG = " ".join(f"word{n}" for n in range(20))


@pytest.mark.parametrize(("words", "fate"), [(13, "kept"), (14, "dropped"), (15, "dropped")])
def test_a_share_of_exactly_the_limit_is_too_much(corpora, words, fate):
    """14 of 20 words are 0.7."""
    document = " ".join(LONG.split()[:words]) + " and then something else"
    artifact = trained(corpora, {"a/1": [document]}, {"s": [("t", "1", LONG)]}, ratio=0, coverage=0.7)
    assert artifact.part("a/1").table(fates.FILE)["fate"].to_pylist() == [fate]


def test_of_two_items_that_are_shown_alike_the_first_is_the_reason(corpora):
    items = {"b-suite": [("late", "1", LONG)], "a-suite": [("early", "1", LONG), ("early", "2", LONG)]}
    artifact = trained(corpora, {"a/1": [LONG + " and more"]}, items, ratio=0)
    assert artifact.part("a/1").table(fates.FILE)["reason"].to_pylist() == ["overlap:b-suite/late"]
    rows = artifact.part("a/1").table("overlaps.arrow").to_pylist()
    assert [(row["suite"], row["item_id"]) for row in rows] == [("b-suite", "1"), ("a-suite", "1"), ("a-suite", "2")]


def test_held_out_documents_are_not_looked_for_and_not_counted(corpora):
    """A suite is made of held-out documents: each shows itself, and that says nothing of training."""
    artifact = trained(corpora, {"a/1": [f"{LONG} and more"]}, {"s": [("t", "1", LONG)]}, ratio=1)
    assert (artifact.counts["held_out"], artifact.counts["dropped"], artifact.counts["docs"]) == (1, 0, 0)
    (row,) = artifact.table("items.arrow").to_pylist()
    assert (row["coverage"], row["num_documents"]) == (0.0, 0)


def test_the_order_of_suites_changes_reasons_only_where_items_are_shown_alike(corpora):
    items = {"x": [("t", "1", LONG)], "y": [("t", "1", "one two three four five six seven eight")]}
    sources = {"a/1": [LONG, "one two three four five six seven eight, and so on", "clean text"]}
    one = trained(corpora, sources, items, ratio=0)
    other = trained(corpora, sources, dict(reversed(items.items())), ratio=0)
    assert one.part("a/1").content == other.part("a/1").content


def test_more_overlaps_are_listed_than_documents_dropped(corpora):
    half = " ".join(LONG.split()[:13])
    artifact = trained(corpora, {"a/1": [half]}, {"s": [("t", "1", LONG)]}, ratio=0, coverage=0.9, report=0.1)
    assert artifact.counts["dropped"] == 0
    (row,) = artifact.part("a/1").table("overlaps.arrow").to_pylist()
    assert (row["coverage"], row["longest"]) == (13 / 20, 13)
    silent = trained(corpora, {"a/1": [half]}, {"s": [("t", "1", LONG)]}, ratio=0, coverage=0.9, report=0.7)
    assert silent.part("a/1").table("overlaps.arrow").num_rows == 0


@pytest.mark.parametrize(("recipe", "says"), [
    ({"phrase_floor": 9}, "expected 1 <= phrase_floor <= floor <= ngram, got 9, 8, 13"),
    ({"ngram": 7}, "got 5, 8, 7"),
])  # fmt: skip
def test_floors_that_contradict_each_other_are_refused(corpora, recipe, says):
    with pytest.raises(ValueError, match=says):
        trained(corpora, {"a/1": ["some text"]}, {"s": [("t", "1", LONG)]}, ratio=0, **recipe)


# -- many hits ---------------------------------------------------------------------------------------------------


def test_a_document_with_thousands_of_hits_is_counted_whole():
    """The kernels begin with room for 256 hits and grow."""
    items = [" ".join(f"i{n}w{k}" for k in range(size)) for n, size in enumerate([13] * 300 + [5, 6, 9, 20] * 100)]
    document = " stop ".join(items * 2)
    index = OverlapIndex(pa.array(items, pa.large_string()))
    documents, grams = index.hits(pa.array(["nothing", document, document], pa.large_string()))
    per_item = [max(1, size - 12) for size in [13] * 300 + [5, 6, 9, 20] * 100]
    assert len(documents) == 2 * 2 * sum(per_item)
    assert sorted(set(documents.tolist())) == [1, 2]
    assert np.bincount(grams).tolist() == [4] * len(index.grams)
    found = index.matches(pa.array(["nothing", document], pa.large_string()))
    assert found.documents.tolist() == [1] * 700
    assert found.items.tolist() == list(range(700))
    assert set(found.coverage.tolist()) == {1.0}
    assert found.longest.tolist() == index.num_words.tolist()


def test_an_index_of_thousands_of_items_tells_each_from_the_others():
    """Open addressing: colliding slots are walked, and a gram that is not there ends at an empty one."""
    items = [" ".join(f"{n}-{k}" for k in range(8)).replace("-", "x") for n in range(5000)]
    index = OverlapIndex(pa.array(items, pa.large_string()))
    wanted = [0, 17, 4999, 2500]
    found = index.matches(
        pa.array([items[n] for n in wanted] + ["not one of them at all, not at all"], pa.large_string())
    )
    assert list(zip(found.documents.tolist(), found.items.tolist(), strict=True)) == list(enumerate(wanted))
    assert index.shares(index.seen(pa.array(items[:100], pa.large_string()))).sum() == 100
