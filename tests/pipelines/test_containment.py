"""Documents that stand whole in another one, against a loop over all pairs."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest
from corpora import Corpora, doc_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_dedup import clustered, merged

from pipelines import words
from pipelines.dedup import DedupRecipe
from pipelines.provenance import fates, tables

DEEP = os.environ.get("STEMMA_DEEP") == "1"
WHOLE = DedupRecipe(containment=True, keep="longest")
SMALL = DedupRecipe(containment=True, keep="longest", span_words=5, threshold=1.0)


def text(first, count):
    return " ".join(f"w{number}" for number in range(first, first + count))


def coverages(artifact):
    """{doc_id: (survivor, coverage)} of the documents that another one holds."""
    return {
        row["doc_id"]: (row["survivor"], row["value"])
        for part in artifact.parts()
        for row in part.table(fates.FILE).to_pylist()
        if row["method"] == "contained"
    }


def test_a_quotation_goes_for_the_document_that_holds_it(corpora):
    quotation, book = text(300, 60), text(0, 1000)
    artifact = clustered(corpora, {"a/1": [quotation.upper(), "alone"], "b/1": [book]}, WHOLE)
    assert coverages(artifact) == {doc_id("a/1:0"): (doc_id("b/1:0"), 1.0)}
    assert merged(artifact) == {doc_id("a/1:0"): (doc_id("b/1:0"), 56 / 996, "contained")}
    assert (artifact.counts["merged"], artifact.counts["merged_contained"], artifact.counts["kept"]) == (1, 1, 2)


def test_it_is_off_by_default(corpora):
    artifact = clustered(corpora, {"a/1": [text(300, 60)], "b/1": [text(0, 1000)]})
    assert artifact.counts["merged"] == 0
    assert "merged_contained" not in artifact.counts


def test_fewer_words_than_a_block_are_no_quotation(corpora):
    sources = {"a/1": [text(300, 49)], "b/1": [text(0, 1000)]}
    assert clustered(corpora, sources, WHOLE).counts["merged"] == 0
    assert clustered(corpora, sources, WHOLE.model_copy(update={"span_words": 49})).counts["merged"] == 1


def test_one_other_word_is_enough_to_stay_unless_less_coverage_is_asked_for(corpora):
    changed = f"{text(300, 70)} other {text(371, 29)}"  # 100 words, the 71st is another: one block of two
    sources = {"a/1": [changed], "b/1": [text(0, 1000)]}
    assert clustered(corpora, sources, WHOLE).counts["merged"] == 0
    artifact = clustered(corpora, sources, WHOLE.model_copy(update={"coverage": 0.5}))
    assert coverages(artifact) == {doc_id("a/1:0"): (doc_id("b/1:0"), 0.5)}


def test_the_last_block_ends_with_the_document(corpora):
    """120 words: the blocks begin at words 0, 50 and 70. Of the last 21 words none may be another one."""
    whole, torn = text(300, 120), f"{text(600, 119)} other"
    artifact = clustered(corpora, {"a/1": [whole], "b/1": [torn], "c/1": [text(0, 1000)]}, WHOLE)
    assert coverages(artifact) == {doc_id("a/1:0"): (doc_id("c/1:0"), 1.0)}


def test_without_the_longest_first_only_an_earlier_document_holds_another(corpora):
    order = WHOLE.model_copy(update={"keep": "order"})
    assert clustered(corpora, {"a/1": [text(300, 60)], "b/1": [text(0, 1000)]}, order).counts["merged"] == 0
    assert clustered(corpora, {"a/1": [text(0, 1000)], "b/1": [text(300, 60)]}, order).counts["merged_contained"] == 1


def test_the_same_words_follow_and_a_quotation_of_a_quotation_goes_for_the_one_that_stays(corpora):
    page, book, line = text(300, 200), text(0, 1000), text(350, 60)
    artifact = clustered(corpora, {"a/1": [line, page, page + "!", page], "b/1": [book]}, WHOLE)
    assert {survivor for survivor, _ in coverages(artifact).values()} == {doc_id("b/1:0")}
    assert artifact.counts["merged_contained"] == 4


def test_characters_count_where_words_are_not_parted(corpora):
    quotation = "".join(chr(0x4E00 + 7 * n) for n in range(60))
    around = "".join(chr(0x5E00 + 3 * n) for n in range(200))
    artifact = clustered(corpora, {"a/1": [quotation], "b/1": [around + quotation + around]}, WHOLE)
    assert coverages(artifact) == {doc_id("a/1:0"): (doc_id("b/1:0"), 1.0)}


@pytest.mark.parametrize("texts", [[], [""], ["..."], ["one"], ["one", "one"]])
def test_a_source_with_next_to_nothing_is_no_error(corpora, texts):
    artifact = clustered(corpora, {"a/1": texts}, WHOLE)
    assert artifact.counts["seen"] == len(texts)


# -- against a loop over all pairs --------------------------------------------------------------------------------

VOCABULARY = [f"v{number}" for number in range(4)]
phrases = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=9).map(tuple)


@st.composite
def quoting(draw):
    """Sources of documents that are made of a few phrases, so that many hold one another."""
    pool = draw(st.lists(phrases, min_size=1, max_size=4))
    made = st.lists(st.sampled_from(pool), min_size=1, max_size=5).map(lambda some: sum(some, ()))
    numbers = range(draw(st.integers(1, 3)))
    return {f"s{n}/1": [" ".join(one) for one in draw(st.lists(made, max_size=5))] for n in numbers}


def shingles(some):
    return {some[n : n + 5] for n in range(max(1, len(some) - 4))}


def share(doc, host, n):
    """Words of a document in its blocks that the other one has, of all its words."""
    if len(doc) < n:
        return 0.0
    inside = {host[at : at + n] for at in range(len(host) - n + 1)}
    starts = [min(at, len(doc) - n) for at in range(0, len(doc), n)]
    return len({at for start in starts if doc[start : start + n] in inside for at in range(start, start + n)}) / len(
        doc
    )


def plain(sources, recipe):
    """{doc_id: (survivor, Jaccard, method)} by the rule, every document compared with every survivor."""
    rows = [
        (rank, doc_id(f"{name}:{n}"), one) for rank, name in enumerate(sources) for n, one in enumerate(sources[name])
    ]
    rows.sort(key=lambda row: (-len(row[2]) if recipe.keep == "longest" else 0, row[0], row[1]))
    gone, staying, first = {}, [], {}
    for _, name, one in rows:
        doc = tuple(one.split())
        if doc in first:
            twin = first[doc]
            gone[name] = gone.get(twin, (twin, 1.0, "exact"))
            continue
        first[doc] = name
        alike = [other for other, theirs in staying if shingles(theirs) == shingles(doc)]
        holding = [(share(doc, theirs, recipe.span_words), -place) for place, (_, theirs) in enumerate(staying)]
        best = max([one for one in holding if one[0] >= recipe.coverage], default=None)
        if alike:
            gone[name] = (alike[0], 1.0, "near")
        elif best:
            other, theirs = staying[-best[1]]
            both = len(shingles(doc) & shingles(theirs)) / len(shingles(doc) | shingles(theirs))
            gone[name] = (other, both, "contained")
        else:
            staying.append((name, doc))
    return gone


@settings(max_examples=300 if DEEP else 20, suppress_health_check=[HealthCheck.too_slow])
@given(quoting(), st.sampled_from([1.0, 0.9, 0.7, 0.5, 0.2]), st.sampled_from(["longest", "order"]))
def test_the_stage_does_what_a_loop_over_all_pairs_does(tmp_path_factory, sources, coverage, keep):
    recipe = SMALL.model_copy(update={"coverage": coverage, "keep": keep})
    artifact = clustered(Corpora(tmp_path_factory.mktemp("c")), sources, recipe)
    found = merged(artifact)
    assert found == plain(sources, recipe)
    assert not {survivor for survivor, _, _ in found.values()} & found.keys()
    assert artifact.counts["kept"] + len(found) == sum(map(len, sources.values()))


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(quoting(), st.sampled_from([1, 2, 5]), st.randoms(use_true_random=False))
def test_neither_batches_nor_rows_nor_the_order_in_which_sources_are_given_matter(
    tmp_path_factory, sources, size, random
):
    """Where ``prefer`` says which source is first; else that is the order in which they are given."""
    named = {n: (texts, [f"{n}:{i}" for i in range(len(texts))], None) for n, texts in sources.items()}
    recipe = SMALL.model_copy(update={"prefer": list(sources)})
    turned = {}
    for name in random.sample(list(named), len(named)):
        texts, names, _ = named[name]
        order = random.sample(range(len(texts)), len(texts))
        turned[name] = ([texts[i] for i in order], [names[i] for i in order], None)
    one = clustered(Corpora(tmp_path_factory.mktemp("c")), named, recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words.pieces, "__defaults__", (size * 20,))
        patch.setattr(tables, "BATCH_ROWS", size)
        other = clustered(Corpora(tmp_path_factory.mktemp("c")), turned, recipe)
    assert (merged(one), one.counts) == (merged(other), other.counts)
    assert coverages(one) == coverages(other)


def test_a_new_source_equals_a_rebuild(corpora, tmp_path):
    sources = {"a/1": [text(0, 60), text(500, 80)], "b/1": [text(0, 200)]}
    clustered(corpora, sources, WHOLE)
    more = {**sources, "c/1": [text(480, 200)]}
    after, rebuilt = clustered(corpora, more, WHOLE), clustered(Corpora(tmp_path / "other"), more, WHOLE)
    assert after.content == rebuilt.content
    assert coverages(after)[doc_id("a/1:1")] == (doc_id("c/1:0"), 1.0)


def test_the_kernel_finds_a_block_behind_another_of_its_slot():
    """Twelve hashes in some tens of slots: some share one."""
    from pipelines import containment_kernel as kernel
    from pipelines.words import gram_hashes

    host = np.arange(1, 13, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for n in (1, 2, 5):
        grams, _ = gram_hashes(host, np.array([0, 12]), n)
        found = kernel.coverages(host, grams, host, np.array([0, 12]), np.array([0]), n)
        assert found.tolist() == [1.0]


# -- the planted corpus ------------------------------------------------------------------------------------------


def test_planted_quotations_are_found(corpora, shared_data):
    """100 documents of the planted corpus stand whole in another one."""
    zstandard = pytest.importorskip("zstandard")
    folder = shared_data / "corpora" / "planted"
    with zstandard.open(folder / "documents.jsonl.zst", "rt", encoding="utf-8") as lines:
        documents = {row["id"]: row["text"] for row in map(json.loads, lines)}
    with gzip.open(folder / "truth" / "duplicate_pairs.jsonl.gz", "rt") as lines:
        pairs = [row for row in map(json.loads, lines) if row["kind"] == "containment"]
    wanted = {name for row in pairs for name in (row["a"], row["b"])}
    artifact = clustered(corpora, {"p/1": ([documents[n] for n in sorted(wanted)], sorted(wanted), None)}, WHOLE)
    gone = merged(artifact)
    found = [row for row in pairs if {doc_id(row["a"]), doc_id(row["b"])} & gone.keys()]
    print(f"{len(found)} of {len(pairs)} found, {len(coverages(artifact))} by containment")
    assert len(pairs) == 100
    assert len(found) == 100
