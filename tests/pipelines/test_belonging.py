"""Inputs that were not made from one another are refused by name; token shards say what they hold and under which licences."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
from corpora import Corpora, Given
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_decontaminate import trained
from test_dedup import TEXT, clustered
from test_shards import learned, sharded, sharded_heldout, texts
from test_unique import made_heldout, made_unique

from pipelines import shards, signatures, tokenizing
from pipelines.decontaminate import DecontaminateRecipe, training_documents
from pipelines.dedup import DedupRecipe, cluster
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.fates import ConservationError
from pipelines.shard_reader import ShardReader
from pipelines.shards import HeldoutShardRecipe, ShardRecipe, shard
from pipelines.signatures import SignatureRecipe, sign
from pipelines.unique import UniqueRecipe, unique


def signed(corpora: Corpora, clean: Artifact, **recipe) -> Artifact:
    chosen = SignatureRecipe(**recipe)
    return corpora.run(
        "signatures", clean.key.partition, signatures.VERSION, chosen, [clean], lambda d: sign(clean, chosen, d)
    )


def run(corpora: Corpora, asset: str, make) -> Artifact:
    return corpora.run(asset, "mine", "1", Given(), [], make, force=True)


# -- inputs that do not fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [["other", "texts", "here"], ["one"], [TEXT, "two", "three", "four"]])
def test_signatures_of_other_documents_are_refused(corpora, changed):
    old = signed(corpora, corpora.clean("a/1", [TEXT, "two", "three"]))
    clean = corpora.clean("a/1", changed, names=[f"changed {n}" for n in range(len(changed))])
    with pytest.raises(
        ValueError, match=r"signatures\[a/1\] does not belong to clean_documents\[a/1\]; rebuild the sign"
    ):
        run(corpora, "duplicate_clusters", lambda d: cluster([clean], [old], DedupRecipe(), d))


@pytest.mark.parametrize("recipe", [{"ngram": 3}, {"seed": 2}, {"num_perm": 120}])
def test_signatures_of_two_recipes_are_not_compared(corpora, recipe):
    cleans = [corpora.clean(name, [TEXT]) for name in ("a/1", "b/1")]
    mixed = [signed(corpora, cleans[0]), signed(corpora, cleans[1], **recipe)]
    with pytest.raises(
        ValueError, match="the signatures of a corpus must come from one recipe; rebuild those that differ"
    ):
        run(corpora, "duplicate_clusters", lambda d: cluster(cleans, mixed, DedupRecipe(), d))


@pytest.mark.parametrize("changed", [["alone"], [TEXT, "alone", "and more"], [TEXT, "another"]])
def test_clusters_of_other_documents_are_refused(corpora, changed):
    clusters = clustered(corpora, {"a/1": [TEXT, "alone"]})
    names = ["a/1:0", *(f"new {n}" for n in range(len(changed) - 1))]
    clean = corpora.clean("a/1", changed, names=names)
    with pytest.raises(
        ValueError, match=r"duplicate_clusters\[mine\] part a/1 does not belong to clean_documents\[a/1\]"
    ):
        run(corpora, "unique_documents", lambda d: unique([clean], clusters, UniqueRecipe(), d))


def test_held_out_documents_of_another_corpus_are_refused(corpora):
    """Else a document that is tested on would be trained on."""
    old = made_heldout(corpora, made_unique(corpora, {"a/1": texts("a", 20)}), ratio=0.5)
    assert old.counts["docs"] > 0
    others = made_unique(corpora, {"a/1": (texts("z", 20), [f"new {n}" for n in range(25)], None)})
    recipe = DecontaminateRecipe()
    with pytest.raises(
        ValueError, match=r"heldout_documents\[mine\] part a/1 does not belong to unique_documents\[mine\]"
    ):
        run(corpora, "training_documents", lambda d: training_documents(others, old, [], recipe, d))


def test_a_part_that_counts_fewer_documents_than_came_in_is_missed(corpora):
    """What the whole says it was given is compared with what its parts account for."""
    training = trained(corpora, {"a/1": texts("a")}, {}, ratio=0)
    vocab = learned(corpora, training)
    lying = Artifact(corpora.store, training.manifest.model_copy(
        update={"counts": {**training.counts, "docs": training.counts["docs"] + 1}}), training.prefix)  # fmt: skip
    with pytest.raises(ConservationError, match=r"13 documents seen, 14 came in"):
        run(corpora, "token_shards", lambda d: shard(lying, vocab, ShardRecipe(), d))


# -- token shards ------------------------------------------------------------------------------------------------


def training_of(corpora: Corpora, said: list[str], licences: list[str] | None = None) -> Artifact:
    """training_documents of one part with these texts."""
    clean = corpora.clean("a/1", said)

    def part(draft):
        documents = clean.table("documents.arrow")
        column = pa.array(licences or ["MIT"] * len(said), pa.string())
        documents = documents.set_column(documents.column_names.index("licence"), "licence", column)
        draft.write("documents.arrow", documents.sort_by("doc_id"))
        draft.write("texts.arrow", clean.table("texts.arrow").sort_by("doc_id"))
        return draft.seal(counts={"docs": len(said)})

    def make(draft):
        return draft.seal(counts={"docs": len(said)}, parts=[draft.part("a/1", Given(), [clean], part)])

    return run(corpora, "training_documents", make)


@pytest.mark.parametrize(("licences", "expression"), [
    (["MIT", "MIT"], "MIT"), (["MIT", "Apache-2.0", "MIT"], "Apache-2.0 AND MIT"), (["MIT OR Apache-2.0"], "MIT OR Apache-2.0"),
    (["MIT OR Apache-2.0", "CC0-1.0"], "CC0-1.0 AND (MIT OR Apache-2.0)"),
])  # fmt: skip
def test_a_part_is_under_all_licences_of_its_documents(corpora, licences, expression):
    training = training_of(corpora, [f"text {n} of many" for n in range(len(licences))], licences)
    part = sharded(corpora, training, learned(corpora, training)).part("a/1")
    assert part.facts["licence"] == expression


@pytest.mark.parametrize("together", [1, 3, 1000])
def test_bytes_do_not_depend_on_how_many_documents_are_encoded_at_once(corpora, monkeypatch, together):
    training = trained(corpora, {"a/1": texts("a"), "b/1": []}, {}, ratio=0)
    vocab = learned(corpora, training)
    expected = sharded(corpora, training, vocab).content
    monkeypatch.setattr(tokenizing, "TOGETHER", together)
    monkeypatch.setattr(tokenizing, "CACHE_BYTES", 20 * together)
    tokenizing.encoder.cache_clear()  # else its table knows every unit already
    again = corpora.run(
        "token_shards", "mine", "2", ShardRecipe(), [training, vocab], lambda d: shard(training, vocab, ShardRecipe(), d),
        force=True,
    )  # fmt: skip
    assert again.content == expected


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(5, 60))
def test_however_shards_are_cut_the_stream_is_one_and_no_shard_is_needlessly_small(tmp_path_factory, sizes, limit):
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    training = training_of(corpora, [f"{n} " + "ab " * size for n, size in enumerate(sizes)])
    vocab = learned(corpora, training, size=260)
    part = sharded(corpora, training, vocab, max_tokens_per_shard=limit).part("a/1")
    reader, counts = ShardReader.open(part), part.facts["shard_tokens"]
    whole = ShardReader.open(sharded(corpora, training, vocab).part("a/1"))
    assert reader.tokens(0, reader.num_tokens).tolist() == whole.tokens(0, whole.num_tokens).tolist()
    each = [ShardReader([path]) for path in reader.paths]
    assert [shard.num_tokens for shard in each] == counts
    for number, here in enumerate(each):
        assert here.num_tokens <= limit or here.num_docs == 1
        if number + 1 < len(each):  # the first document of the next shard would not have fitted
            first = each[number + 1].documents(0, 1)[0].length
            assert here.num_tokens + first > limit


# -- overlap of held-out documents -------------------------------------------------------------------------------

WORDS = st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join)


def said(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def shown(text: str, known: list[str], ngram: int, floor: int) -> float:
    """The share of its n-grams that any of the known texts holds; all of it if it has too few words to say."""
    words = said(text)
    n = min(ngram, len(words))
    grams = [words[at : at + n] for at in range(len(words) - n + 1)]
    there = {tuple(said(t)[at : at + n]) for t in known for at in range(len(said(t)) - n + 1)}
    return 1.0 if len(words) < floor else sum(tuple(gram) in there for gram in grams) / len(grams)


@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, max_size=4))
def test_the_overlap_of_a_held_out_document_is_a_plain_count_of_its_ngrams(tmp_path_factory, held, known):
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    here, there = corpora.clean("a/1", held), corpora.clean("b/1", known)
    (found,) = shards._overlaps([here], there, HeldoutShardRecipe(ngram=3, floor=2))
    assert found.tolist() == [shown(text, known, 3, 2) for text in held]


def test_held_out_shards_lie_beside_their_overlaps_with_what_is_trained_on(corpora):
    training = trained(corpora, {"a/1": texts("a", 30), "b/1": texts("b", 30)}, {}, ratio=0.4)
    artifact = sharded_heldout(corpora, training, learned(corpora, training))
    heldout = corpora.store.open("heldout_documents", "mine")
    known = [text for part in training.parts() for text in part.table("texts.arrow")["text"].to_pylist()]
    overlaps = []
    for part in artifact.parts():
        rows, reader = part.table("documents.arrow").to_pylist(), ShardReader.open(part)
        assert [row["doc_id"] for row in rows] == [s.doc_id for s in reader.documents(0, reader.num_tokens)]
        held = heldout.part(part.key.part).table("texts.arrow")["text"].to_pylist()
        assert [row["overlap"] for row in rows] == [shown(text, known, 13, 5) for text in held]
        overlaps += [row["overlap"] for row in rows]
    assert len(overlaps) == heldout.counts["docs"]
    assert len(set(overlaps)) > 2  # some share nothing, some a part
