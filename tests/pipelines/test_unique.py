from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from corpora import doc_id
from hypothesis import given
from hypothesis import strategies as st
from test_dedup import LONGER, SHOUTED, TEXT, clustered

from pipelines import documents, heldout, selection
from pipelines import unique as unique_documents
from pipelines.heldout import HeldoutRecipe, hold_out, is_held_out
from pipelines.unique import UniqueRecipe, unique, version

SOURCES = {"a/1": [TEXT, "alone here", "and one more"], "b/1": [SHOUTED, "b alone", LONGER, "b more", TEXT]}


def made_unique(corpora, sources):
    clusters = clustered(corpora, sources)
    cleans = [corpora.store.open("clean_documents", name) for name in sources]
    recipe = UniqueRecipe()
    return corpora.run(
        "unique_documents", "mine", unique_documents.VERSION, recipe, [*cleans, clusters],
        lambda d: unique(cleans, clusters, recipe, d),
    )  # fmt: skip


def made_heldout(corpora, unique_artifact, **recipe):
    chosen = HeldoutRecipe(**recipe)
    return corpora.run(
        "heldout_documents", "mine", heldout.VERSION, chosen, [unique_artifact],
        lambda d: hold_out(unique_artifact, chosen, d),
    )  # fmt: skip


def test_what_stays_keeps_its_order_and_columns(corpora):
    part = made_unique(corpora, SOURCES).part("b/1")
    clean = corpora.store.open("clean_documents", "b/1").table("documents.arrow")
    assert part.table("documents.arrow").equals(clean.take([1, 3]))
    assert part.table("texts.arrow")["text"].to_pylist() == ["b alone", "b more"]


def test_fates_name_survivor_jaccard_and_method(corpora):
    artifact = made_unique(corpora, SOURCES)
    rows = artifact.part("b/1").table("fates.arrow").to_pylist()
    assert [row["doc_id"] for row in rows] == [doc_id(f"b/1:{i}") for i in range(5)]
    assert [row["method"] for row in rows] == ["normalised", "", "near", "", "exact"]
    assert {row["survivor"] for row in rows} == {None, doc_id("a/1:0")}
    assert artifact.counts == {
        "docs": 5, "bytes": sum(map(len, [TEXT, *SOURCES["a/1"][1:], "b alone", "b more"])),
        "seen": 8, "kept": 5, "held_out": 0, "dropped": 0, "merged": 3, "quarantined": 0,
    }  # fmt: skip


def test_a_new_source_rebuilds_only_its_own_part(corpora):
    before = made_unique(corpora, SOURCES)
    after = made_unique(corpora, {**SOURCES, "c/1": [TEXT, "c alone"]})
    assert [p.digest for p in after.parts()][:2] == [p.digest for p in before.parts()]
    assert after.part("c/1").counts["docs"] == 1


def test_groups_are_held_out_whole_and_sorted_by_id(corpora):
    groups = [f"file{i % 10}" for i in range(60)]
    texts = [f"text number {i}" for i in range(60)]
    unique_artifact = made_unique(corpora, {"a/1": (texts, texts, groups)})
    recipe = HeldoutRecipe(ratio=0.3, seed=5)
    part = made_heldout(corpora, unique_artifact, ratio=0.3, seed=5).part("a/1")
    ids = part.table("documents.arrow")["doc_id"].to_pylist()
    names = unique_artifact.part("a/1").table("documents.arrow").to_pylist()
    assert ids == sorted(row["doc_id"] for row in names if is_held_out("a", row["group"], recipe))
    assert len(ids) % 6 == 0 < len(ids) < 60
    assert part.table("texts.arrow")["doc_id"].to_pylist() == ids
    fates = {row["doc_id"]: row["fate"] for row in part.table("fates.arrow").to_pylist()}
    assert {doc for doc, fate in fates.items() if fate == "held_out"} == set(ids)
    assert part.counts["kept"] + part.counts["held_out"] == part.counts["seen"] == 60


def test_a_group_is_decided_alone_and_for_every_snapshot(corpora):
    texts = [f"text number {i}" for i in range(30)]
    groups = {}
    for source, chosen in [("a/1", texts), ("a/2", [*texts[10:], "new"])]:
        artifact = made_heldout(corpora, made_unique(corpora, {source: (chosen, chosen, chosen)}), ratio=0.5)
        groups[source] = set(artifact.part(source).table("documents.arrow")["group"].to_pylist())
    assert groups["a/1"] & set(texts[10:]) == groups["a/2"] - {"new"} != set()


def test_the_ratio_is_met_on_many_groups():
    recipe = HeldoutRecipe()
    found = sum(is_held_out("a", f"group {i}", recipe) for i in range(20_000))
    assert found == pytest.approx(1000, abs=120)  # four standard errors
    assert not any(is_held_out("a", str(i), HeldoutRecipe(ratio=0)) for i in range(100))
    assert all(is_held_out("a", str(i), HeldoutRecipe(ratio=1)) for i in range(100))


def test_an_empty_source_stays_an_empty_part(corpora):
    artifact = made_heldout(corpora, made_unique(corpora, {"a/1": [], "b/1": ["x"]}))
    assert artifact.part("a/1").table("texts.arrow").num_rows == 0
    assert artifact.part("a/1").counts["seen"] == 0


@given(st.lists(st.integers(0, 40), max_size=30))
def test_batches_are_bounded_by_rows_and_bytes(sizes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "BATCH_ROWS", 4)
        patch.setattr(selection, "BATCH_BYTES", 50)
        cuts = selection._cuts(np.array(sizes, np.int64))
    assert cuts[0] == 0
    assert cuts[-1] == len(sizes)
    for start, stop in pairwise(cuts):
        assert start < stop <= start + 4
        assert stop == start + 1 or sum(sizes[start:stop]) <= 50


@pytest.mark.parametrize("mapped", [0, selection.MAPPED_BYTES])
def test_rows_are_taken_in_any_order_from_many_batches(corpora, monkeypatch, mapped):
    from pipelines.provenance import tables

    monkeypatch.setattr(tables, "BATCH_ROWS", 3)
    clean = corpora.clean("a/1", [f"text {i}" for i in range(11)])
    monkeypatch.setattr(selection, "BATCH_ROWS", 4)
    monkeypatch.setattr(selection, "MAPPED_BYTES", mapped)  # 0: a map of its own for every batch
    rows = np.array([10, 0, 5, 4, 9, 2])
    out = corpora.run(
        "unique_documents", "x", "1", UniqueRecipe(), [clean],
        lambda d: d.seal(rows=selection.write_rows(clean, rows, d)[1]),
    )  # fmt: skip
    assert out.table(documents.TEXTS)["text"].to_pylist() == [f"text {i}" for i in rows]
    assert out.table(documents.DOCUMENTS)["position"].to_pylist() == (rows + 1).tolist()


def test_only_what_cuts_lines_is_of_the_newer_version():
    """A store without the line rules keeps what it has: the bytes are the same."""
    assert [version(UniqueRecipe(unit=unit)) for unit in ("off", "lines", "paragraphs")] == ["2", "3", "3"]
