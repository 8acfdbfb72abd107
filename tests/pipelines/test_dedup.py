from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from corpora import Corpora, doc_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import dedup, signatures, stars
from pipelines.dedup import DedupRecipe, bands_and_rows, cluster, ranked
from pipelines.signatures import SignatureRecipe, sign

DEEP = os.environ.get("STEMMA_DEEP") == "1"
TEXT = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
SHOUTED = TEXT.upper().replace(" ", ",\n") + "!"
LONGER = TEXT + " eighteen"  # 13 shingles against 14: Jaccard 13/14


def clustered(corpora, sources, recipe=None, force=False):
    """sources: {name: texts} or {name: (texts, names of the documents, their groups)}."""
    recipe = recipe or DedupRecipe()
    cleans = [
        corpora.clean(name, *((texts[0], texts[2], texts[1]) if isinstance(texts, tuple) else (texts,)))
        for name, texts in sources.items()
    ]
    signing = SignatureRecipe()
    signed = [
        corpora.run("signatures", c.key.partition, signatures.VERSION, signing, [c], lambda d, c=c: sign(c, signing, d))
        for c in cleans
    ]
    return corpora.run(
        "duplicate_clusters", "mine", dedup.VERSION, recipe, [*cleans, *signed],
        lambda d: cluster(cleans, signed, recipe, d), force=force,
    )  # fmt: skip


def merged(artifact):
    """{doc_id: (survivor, jaccard, method)} over all parts."""
    return {
        row["doc_id"]: (row["survivor"], row["jaccard"], row["method"])
        for part in artifact.parts()
        for row in part.table("merged.arrow").to_pylist()
    }


def test_each_kind_of_duplicate_names_its_survivor_and_method(corpora):
    sources = {"a/1": [TEXT, "nothing like the others at all, not even a little"], "b/1": [TEXT, SHOUTED, LONGER]}
    found = merged(clustered(corpora, sources))
    first = doc_id("a/1:0")
    assert found == {
        doc_id("b/1:0"): (first, 1.0, "exact"),
        doc_id("b/1:1"): (first, 1.0, "normalised"),
        doc_id("b/1:2"): (first, 13 / 14, "near"),
    }


def test_counts_balance_and_name_the_methods(corpora):
    artifact = clustered(corpora, {"a/1": [TEXT], "b/1": [TEXT, SHOUTED, LONGER, "alone"]})
    counts = artifact.counts
    assert (counts["seen"], counts["kept"], counts["merged"]) == (5, 2, 3)
    assert (counts["merged_exact"], counts["merged_normalised"], counts["merged_near"]) == (1, 1, 1)
    assert [part.key.part for part in artifact.parts()] == ["a/1", "b/1"]


def test_the_preferred_source_keeps_its_documents(corpora):
    sources = {"a/1": [TEXT], "b/2": [TEXT]}
    for prefer, gone in [([], "b/2:0"), (["b"], "a/1:0"), (["b/*"], "a/1:0"), (["a/1"], "b/2:0")]:
        assert list(merged(clustered(corpora, sources, DedupRecipe(prefer=prefer)))) == [doc_id(gone)]


def test_an_unknown_preferred_source_is_an_error():
    with pytest.raises(ValueError, match=r"'c', which is no source of this corpus \(a/1, b/1\)"):
        ranked(["a/1", "b/1"], ["c"])


def test_documents_without_words_merge_only_when_their_bytes_are_equal(corpora):
    found = merged(clustered(corpora, {"a/1": ["...", "?!", "...", ""], "b/1": ["", "?!"]}))
    assert sorted(method for _, _, method in found.values()) == ["exact"] * 3


def test_chains_do_not_remove_what_no_survivor_resembles(corpora):
    """a~b and b~c, but a and c differ: b goes for a, c stays, whatever their names."""
    words = [f"w{i}" for i in range(40)]
    a, b, c = (
        " ".join(words[:30]),
        " ".join(words[2:32]),
        " ".join(words[4:34]),
    )  # J(a,b) = J(b,c) = 24/28, J(a,c) = 22/30
    found = merged(clustered(corpora, {"a/1": [a], "b/1": [b], "c/1": [c]}))
    assert found == {doc_id("b/1:0"): (doc_id("a/1:0"), 24 / 28, "near")}


def test_of_several_survivors_the_most_alike_is_named(corpora):
    words = [f"w{i}" for i in range(60)]
    far, near, doc = (" ".join(words[s : s + 40]) for s in (0, 6, 4))
    found = merged(clustered(corpora, {"a/1": [far], "b/1": [near], "c/1": [doc]}))
    assert found == {doc_id("c/1:0"): (doc_id("b/1:0"), 34 / 38, "near")}


def test_the_same_document_in_two_snapshots_stays_once(corpora):
    artifact = clustered(
        corpora, {"a/1": ([TEXT], ["same"], None), "a/2": ([TEXT, "other words"], ["same", "new"], None)}
    )
    assert merged(artifact) == {doc_id("same"): (doc_id("same"), 1.0, "exact")}
    assert artifact.counts["kept"] == 2


# -- invariants on random corpora ----------------------------------------------------------------------------

VOCABULARY = [f"w{i}" for i in range(12)]
sentences = st.lists(st.sampled_from(VOCABULARY), max_size=14).map(" ".join)


@st.composite
def corpora_of_edits(draw):
    """Sources of documents that are edits of a few originals, so that duplicates of every kind abound."""
    originals = draw(st.lists(sentences, min_size=1, max_size=3))
    sources = {}
    for number in range(draw(st.integers(1, 3))):
        texts = []
        for _ in range(draw(st.integers(0, 6))):
            words = draw(st.sampled_from(originals)).split()
            if words and draw(st.booleans()):
                words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(VOCABULARY))
            texts.append(draw(st.sampled_from([" ", "  ", ", "])).join(words) * draw(st.integers(1, 2)))
        sources[f"s{number}/1"] = texts
    return sources


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(corpora_of_edits(), st.sampled_from([0.5, 0.8, 1.0]))
def test_every_removed_document_has_a_survivor_at_the_threshold(tmp_path_factory, sources, threshold):
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    artifact = clustered(corpora, sources, DedupRecipe(threshold=threshold))
    ranks = {n: i for i, n in enumerate(sources)}
    sets, texts = {}, {}
    for source in sources:
        signed = corpora.store.open("signatures", source).table("shingles.arrow")
        for row in signed.to_pylist():
            sets[row["doc_id"]] = np.array(row["hashes"], np.uint32)
        for row in corpora.store.open("clean_documents", source).table("texts.arrow").to_pylist():
            texts[row["doc_id"]] = (row["text"], ranks[source])
    gone = merged(artifact)
    for doc, (survivor, alike, method) in gone.items():
        assert survivor not in gone
        assert (texts[survivor][1], survivor) < (texts[doc][1], doc)
        if method == "exact":
            assert (texts[doc][0], alike) == (texts[survivor][0], 1.0)
        else:
            assert texts[doc][0] != texts[survivor][0]
            assert alike == stars.jaccard(sets[doc], sets[survivor]) >= threshold
    # a random set of 112 permutations may miss a pair below 1.0; equal sets share every band
    left = [d for d in texts if d not in gone and len(sets[d])]
    for number, one in enumerate(left):
        for other in left[:number]:
            assert not np.array_equal(sets[one], sets[other])
    total = sum(map(len, sources.values()))
    assert artifact.counts["seen"] == total
    assert artifact.counts["kept"] == total - len(gone)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(corpora_of_edits(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(tmp_path_factory, sources, random):
    named = {n: (texts, [f"{n}:{i}" for i in range(len(texts))], None) for n, texts in sources.items()}
    shuffled = {}
    for name, (texts, names, _) in named.items():
        order = random.sample(range(len(texts)), len(texts))
        shuffled[name] = ([texts[i] for i in order], [names[i] for i in order], None)
    one, other = (clustered(Corpora(tmp_path_factory.mktemp("c")), s) for s in (named, shuffled))
    assert one.content == other.content


@settings(max_examples=5, suppress_health_check=[HealthCheck.too_slow])
@given(corpora_of_edits(), st.sampled_from([1, 2, 5]))
def test_the_size_of_batches_does_not_matter(tmp_path_factory, sources, size):
    from pipelines import words
    from pipelines.provenance import tables

    one = clustered(Corpora(tmp_path_factory.mktemp("c")), sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words.pieces, "__defaults__", (size * 20,))
        patch.setattr(tables, "BATCH_ROWS", size)
        other = clustered(Corpora(tmp_path_factory.mktemp("c")), sources)
    assert merged(one) == merged(other)
    assert one.counts == other.counts


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(corpora_of_edits(), st.lists(sentences, max_size=4))
def test_a_source_at_the_end_leaves_earlier_survivors_and_equals_a_rebuild(tmp_path_factory, sources, more):
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    before = clustered(corpora, sources)
    after = clustered(corpora, {**sources, "z/1": more})
    rebuilt = clustered(Corpora(tmp_path_factory.mktemp("r")), {**sources, "z/1": more})
    assert after.content == rebuilt.content
    old, new = ({part.key.part: part.digest for part in artifact.parts()} for artifact in (before, after))
    assert old.items() <= new.items()


@settings(max_examples=200 if DEEP else 12, suppress_health_check=[HealthCheck.too_slow])
@given(corpora_of_edits(), st.sampled_from([0.5, 0.8]), st.data())
def test_sources_that_come_one_by_one_give_the_bytes_of_a_rebuild(tmp_path_factory, sources, threshold, data):
    """Near-duplicates of near-duplicates, and the same words again, across what was settled before."""
    names = list(sources)
    first = data.draw(st.integers(0, len(names)))
    more = {f"z{n}/1": data.draw(st.lists(sentences, max_size=3)) for n in range(2)}
    more["z0/1"] += [text for texts in sources.values() for text in texts][:3]
    recipe, whole = DedupRecipe(threshold=threshold, bands=56, rows=2), {**sources, **more}
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    stops = sorted({max(1, first), len(names), len(names) + 1, len(whole)})
    found = [clustered(corpora, {name: whole[name] for name in list(whole)[:stop]}, recipe) for stop in stops]
    rebuilt = clustered(Corpora(tmp_path_factory.mktemp("r")), whole, recipe)
    assert found[-1].digest == rebuilt.digest


def test_a_new_source_reads_no_signature_of_the_settled_ones_whose_documents_it_does_not_meet(corpora, monkeypatch):
    from pipelines import near

    sources = {"a/1": [TEXT, "nothing like the others at all"], "b/1": ["and here is another text, alike to none"]}
    clustered(corpora, sources)
    asked, real = [], near._shingles
    monkeypatch.setattr(near, "_shingles", lambda c, s, wanted: asked.append(wanted.tolist()) or real(c, s, wanted))
    artifact = clustered(corpora, {**sources, "c/1": [LONGER]})
    order = sorted(range(2), key=lambda n: doc_id(f"a/1:{n}"))
    assert asked == [[order.index(0), 3]]  # the one that it resembles, and itself
    assert merged(artifact) == {doc_id("c/1:0"): (doc_id("a/1:0"), 13 / 14, "near")}


def test_the_same_words_as_a_near_duplicate_of_a_settled_source_go_where_that_one_went(corpora):
    clustered(corpora, {"a/1": [TEXT], "b/1": [LONGER]})
    artifact = clustered(corpora, {"a/1": [TEXT], "b/1": [LONGER], "c/1": [LONGER, LONGER.upper()]})
    found = merged(artifact)
    assert found[doc_id("c/1:0")] == found[doc_id("c/1:1")] == (doc_id("a/1:0"), 13 / 14, "near")


def test_bands_leave_no_file_behind(corpora):
    clustered(corpora, {"a/1": [TEXT, LONGER], "b/1": [SHOUTED]})
    assert [path for path in corpora.store.scratch.rglob("*") if path.is_file()] == []


def test_stars_equal_a_plain_loop():
    """Every pair shares the one bucket, so that the kernel and a loop over all pairs must agree."""
    random = np.random.default_rng(3)
    sets = [np.unique(random.integers(0, 12, size)).astype(np.uint32) for size in random.integers(1, 12, 80)]
    offsets = np.cumsum([0, *map(len, sets)])
    one = stars.buckets([(np.zeros(80, np.uint64), np.arange(80))], 80)
    survivor, alike, _ = stars.stars(one, np.concatenate(sets), offsets, 0.6)
    staying = []
    for doc, mine in enumerate(map(set, map(np.ndarray.tolist, sets))):
        scores = [(len(mine & o) / len(mine | o), -n) for n, o in staying]
        best = max((s for s in scores if s[0] >= 0.6), default=None)
        assert (survivor[doc], alike[doc]) == ((-best[1], best[0]) if best else (-1, 0.0))
        if best is None:
            staying.append((doc, mine))


def test_buckets_join_equal_bands_only():
    hashes = np.array([[1, 5], [2, 5], [1, 6], [3, 1]], np.uint64)
    found = stars.buckets([(column, np.arange(4)) for column in hashes.T], 4)
    assert found.docs.tolist() == [0, 1, 2]
    assert found.starts.tolist() == [0, 2, 3, 4]
    assert found.ids.tolist() == [0, 1, 1, 0]
    assert found.begins.tolist() == [0, 2, 4]


def test_band_parameters():
    assert bands_and_rows(DedupRecipe(), 112) == (18, 6)
    assert bands_and_rows(DedupRecipe(bands=0, rows=0), 112) == (14, 8)  # FineWeb's choice, from datasketch's optimum
    with pytest.raises(ValueError, match="need signatures of 200 permutations, these have 112"):
        bands_and_rows(DedupRecipe(bands=20, rows=10), 112)


def test_sources_and_signatures_must_belong_together(corpora):
    with pytest.raises(ValueError, match="same sources in the same order"):
        cluster([corpora.clean("a/1", ["x"])], [], DedupRecipe(), None)
    with pytest.raises(ValueError, match="at least one source"):
        cluster([], [], DedupRecipe(), None)


def test_bytes_do_not_depend_on_hash_seed_or_threads(tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from corpora import Corpora;"
        "from test_dedup import clustered, TEXT, SHOUTED, LONGER;"
        "print(clustered(Corpora(Path(sys.argv[2])), {'a/1': [TEXT, 'x'], 'b/1': [LONGER, SHOUTED, TEXT]}).content)"
    )
    here = Path(__file__).parent
    digests = set()
    for seed, threads in [("0", "1"), ("7", "2")]:
        env = {**os.environ, "PYTHONHASHSEED": seed, "NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", script, str(here), str(tmp_path / seed)]
        done = subprocess.run(
            command, env={**env, "PYTHONPATH": str(here.parents[1])}, capture_output=True, text=True, check=True
        )
        digests.add(done.stdout.strip())
    assert len(digests) == 1


# -- the planted corpus --------------------------------------------------------------------------------------


def test_planted_duplicates_are_found_and_nothing_else(corpora, shared_data):
    """Exhaustive truth: 2,546 pairs at Jaccard 0.5 or more among 8,080 documents (lower-cased \\w+ 5-grams)."""
    zstandard = pytest.importorskip("zstandard")
    folder = shared_data / "corpora" / "planted"
    with zstandard.open(folder / "documents.jsonl.zst", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    with gzip.open(folder / "truth" / "all_pairs_jaccard_ge_0.5.jsonl.gz", "rt") as lines:
        truth = [json.loads(line) for line in lines]
    names = [d["id"] for d in documents]
    started = time.perf_counter()
    artifact = clustered(corpora, {"planted/1": ([d["text"] for d in documents], names, None)})
    seconds = time.perf_counter() - started
    named = {doc_id(n): n for n in names}
    gone = {named[d]: (named[s], j) for d, (s, j, _) in merged(artifact).items()}
    near = {frozenset((row["a"], row["b"])): row["jaccard5"] for row in truth if row["jaccard5"] >= 0.8}
    true = [pair for pair in near if len(pair) == 2]
    missed = [pair for pair in true if not pair & gone.keys()]
    wrong = [d for d, (s, _) in gone.items() if frozenset((d, s)) not in near]
    print(f"{len(gone)} removed, {len(missed)} of {len(true)} pairs missed, {len(wrong)} wrong, {seconds:.2f} s")
    assert len(true) > 1900
    assert 1 - len(missed) / len(true) >= 0.99
    assert wrong == []
    assert not {survivor for survivor, _ in gone.values()} & gone.keys()
    for d, (s, j) in gone.items():
        assert round(j, 3) == pytest.approx(near[frozenset((d, s))], abs=0.0011)
