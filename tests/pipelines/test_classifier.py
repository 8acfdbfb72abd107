"""Classifiers: a known optimum, known measures, folds that belong to a document, and the same bytes every time."""

from __future__ import annotations

import gzip
import io
import json
import math
import random

import numpy as np
import pyarrow as pa
import pytest
from corpora import Corpora
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.instruments import classifier
from pipelines.instruments.classifier import Classifier, ClassifierRecipe, measures, platt, train_classifier
from pipelines.instruments.classifier_kernel import _char_grams, features, fitted, margins
from pipelines.provenance.artifact import Artifact
from pipelines.words import character_table, text_buffers

SMALL = {"classifier_bits": 12}


def trained(corpora: Corpora, positive: list[Artifact], negative: list[Artifact], **fields) -> Artifact:
    recipe = ClassifierRecipe(**{**SMALL, **fields})
    return corpora.run(
        "text_classifier", "mine", classifier.VERSION, recipe, [*positive, *negative],
        lambda draft: train_classifier(positive, negative, recipe, draft), force=True,
    )  # fmt: skip


def sentences(seed: int, words: str, count: int = 150) -> list[str]:
    pick = random.Random(seed)
    return [" ".join(pick.choices(words.split(), k=12)) for _ in range(count)]


GOOD = "river council archive ship letter grain tide bridge and the of was"
JUNK = "click buy cheap casino winner free bonus now and the of was"


@pytest.fixture
def two_sides(corpora) -> tuple[Artifact, Artifact]:
    return corpora.clean("good/1", sentences(1, GOOD)), corpora.clean("junk/1", sentences(2, JUNK))


# -- what it says ------------------------------------------------------------------------------------------------


def test_it_tells_two_vocabularies_apart_also_in_new_documents(corpora, two_sides):
    made = trained(corpora, [two_sides[0]], [two_sides[1]])
    assert made.facts["heldout"]["auc"] == 1.0
    assert made.facts["heldout"]["accuracy"] == 1.0
    scores = Classifier.load(made).scores(pa.array(["the ship and the tide", "free casino bonus", "of the and"]))
    assert scores[0] > 0.6 > 0.4 > scores[1]
    assert 0.2 < scores[2] < 0.8


def test_facts_hold_the_measures_of_the_held_out_tenth_alone(corpora, two_sides):
    made = trained(corpora, [two_sides[0]], [two_sides[1]])
    said, model = made.facts["heldout"], Classifier.load(made)
    rows = []
    for side, positive in zip(two_sides, (True, False), strict=True):
        ids = classifier.doc_ids.as_numpy(side.table("documents.arrow")["doc_id"])
        held = classifier._folds(ids) == classifier.HELD_OUT
        rows += [(score, positive) for score in model.scores(side.table("texts.arrow")["text"])[held]]
    assert said == measures(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    assert said["docs"] == len(rows) < 0.2 * made.counts["docs"]


def test_probabilities_follow_the_proportion_of_the_sides_where_the_text_tells_nothing(corpora):
    pick = random.Random(3)
    same = [" ".join(pick.choices(list("abcdefgh"), k=8)) for _ in range(1200)]
    made = trained(corpora, [corpora.clean("p/1", same[:300])], [corpora.clean("n/1", same[300:])])
    assert abs(made.facts["heldout"]["auc"] - 0.5) < 0.15
    assert np.abs(Classifier.load(made).scores(pa.array(same)) - 0.25).max() < 0.25


def test_characters_tell_scripts_without_spaces_apart(corpora):
    good, bad = sentences(5, "山 川 月 日 水 火"), sentences(6, "金 銭 売 買 山 川")
    sides = [corpora.clean(name, ["".join(t.split()) for t in said]) for name, said in (("g/1", good), ("b/1", bad))]
    blind = trained(corpora, sides[:1], sides[1:], classifier_word_ngrams=1)
    seeing = trained(corpora, sides[:1], sides[1:], classifier_word_ngrams=0, classifier_char_ngram=2)
    assert blind.facts["heldout"]["auc"] < 0.7
    assert seeing.facts["heldout"]["auc"] == 1.0


def test_scores_know_neither_batches_nor_neighbours(corpora, two_sides):
    model = Classifier.load(trained(corpora, [two_sides[0]], [two_sides[1]], classifier_char_ngram=3))
    texts = pa.array(["free ship", "", "İ \U0001f600 é", "tide " * 500, "a"], pa.large_string())
    whole = model.scores(texts)
    assert whole.tolist() == [model.scores(texts.slice(at, 1))[0] for at in range(5)]
    assert whole.tolist() == model.scores(pa.chunked_array([texts.slice(0, 2), texts.slice(2)])).tolist()
    assert len(model.scores(texts.slice(0, 0))) == 0


# -- the same bytes ----------------------------------------------------------------------------------------------


def test_the_same_documents_give_the_same_bytes_however_they_are_split(tmp_path):
    contents = set()
    for number, cut in enumerate((150, 40, 150)):
        corpora = Corpora(tmp_path / str(number))
        names, said = [f"doc {n}" for n in range(150)], sentences(1, GOOD)
        good = [corpora.clean("a/1", said[:cut], names=names[:cut])]
        good += [corpora.clean("b/1", said[cut:], names=names[cut:])] if cut < 150 else []
        made = trained(corpora, good[::-1], [corpora.clean("junk/1", sentences(2, JUNK))])
        contents.add((made.local("weights.arrow").read_bytes(), json.dumps(made.facts, sort_keys=True)))
    assert len(contents) == 1


def test_the_sample_takes_the_lowest_ids(corpora, two_sides):
    made = trained(corpora, [two_sides[0]], [two_sides[1]], classifier_sample_bytes=6000)
    sizes = two_sides[0].table("documents.arrow").sort_by("doc_id")["num_bytes"].to_numpy()
    assert made.counts["positive"] == int((np.cumsum(sizes) <= 6000).sum())


def test_too_few_documents_and_a_document_on_both_sides_are_refused(corpora, two_sides):
    few = corpora.clean("few/1", ["one", "two"])
    with pytest.raises(ValueError, match=r"positive side has \d documents to learn from"):
        trained(corpora, [few], [two_sides[1]])
    with pytest.raises(ValueError, match="150 documents are given twice"):
        trained(corpora, [two_sides[0]], [two_sides[0]])
    with pytest.raises(ValueError, match="n-grams of words or of characters"):
        ClassifierRecipe(classifier_word_ngrams=0)


# -- known answers -----------------------------------------------------------------------------------------------


def test_two_words_and_no_common_one_have_the_optimum_of_calculus():
    """One document a side with one n-gram each: w = ±a and b = 0, where a = cost · sigmoid(-a)."""
    rows = features(pa.array(["yes", "no"]), 1, 0, 16)
    weights, bias, _ = fitted(*rows, np.array([1.0, -1.0]), np.arange(2), 2.0, 1 << 16, 1000, 1e-12)
    a = weights[rows.buckets[0]]
    assert a == pytest.approx(2.0 / (1 + math.exp(a)), rel=1e-9)
    assert weights[rows.buckets[1]] == pytest.approx(-a)
    assert bias == pytest.approx(0, abs=1e-9)


def test_at_the_optimum_the_gradient_is_zero():
    texts, labels = sentences(1, GOOD, 30) + sentences(2, JUNK, 20), np.repeat([1.0, -1.0], [30, 20])
    rows = features(pa.array(texts), 2, 3, 10)
    weights, bias, _ = fitted(*rows, labels, np.arange(50), 1.5, 1 << 10, 2000, 1e-10)
    pull = 1.5 * labels / (1 + np.exp(labels * margins(*rows, weights, bias)))
    gradient = weights.copy()
    for doc in range(50):
        some = slice(rows.offsets[doc], rows.offsets[doc + 1])
        gradient[rows.buckets[some]] -= pull[doc] * rows.values[some]
    assert np.abs(gradient).max() < 1e-7
    assert bias == pytest.approx(pull.sum(), abs=1e-7)


def test_features_are_counts_of_ngrams_on_the_unit_sphere():
    rows = features(pa.array(["B a, a!", "a b", "", "?"]), 2, 0, 20)
    assert np.diff(rows.offsets).tolist() == [4, 3, 0, 0]  # b, a, "b a", "a a"; a, b, "a b"
    first, second = (
        dict(zip(rows.buckets[s].tolist(), rows.values[s].tolist(), strict=True)) for s in (slice(0, 4), slice(4, 7))
    )
    assert len(first.keys() & second.keys()) == 2
    norm = math.sqrt(3 + (1 + math.log(2)) ** 2)
    assert sorted(first.values()) == pytest.approx([1 / norm] * 3 + [(1 + math.log(2)) / norm])


@settings(max_examples=100)
@given(texts=st.lists(st.text("aB é.\U00020000月", max_size=12), max_size=5), n=st.integers(1, 4))
def test_character_ngrams_are_those_of_a_plain_reading(texts, n):
    """Equal grams have equal hashes, other ones have others."""
    hashes, starts = _char_grams(*text_buffers(pa.array(texts, pa.large_string())), character_table(), n)
    expected = []
    for text in texts:
        words = "".join(c if c == "_" or c.isalnum() else " " for c in text.lower()).split()
        line = f" {' '.join(words)} " if words else ""
        expected.append([line[at : at + n] for at in range(max(1, len(line) - n + 1))] if words else [])
    assert np.diff(starts).tolist() == [len(grams) for grams in expected]
    flat = [gram for grams in expected for gram in grams]
    assert len(set(zip(hashes.tolist(), flat, strict=True))) == len(set(flat)) == len(set(hashes.tolist()))


def test_measures_are_those_of_a_small_table():
    said = measures(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False]))
    assert said == {
        "docs": 4, "accuracy": 0.75, "auc": 0.875, "brier": 0.13,
        "true_positive": 2, "false_positive": 1, "true_negative": 1, "false_negative": 0,
    }  # fmt: skip


def test_calibration_gives_back_the_probabilities_that_labels_were_drawn_from():
    generator = np.random.default_rng(7)
    margin = generator.normal(size=20_000)
    positive = generator.random(20_000) < 1 / (1 + np.exp(-(3 * margin - 1)))
    assert platt(margin, positive) == pytest.approx((3, -1), abs=0.15)


# -- real labels -------------------------------------------------------------------------------------------------


def test_on_real_labels_it_is_as_good_as_scikit_learn(corpora, shared_data):
    """Davidson et al. 2017: offensive or hateful against neither; same folds, AUC within 0.01. No row is shown."""
    text = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    with gzip.open(shared_data / "labelled/toxicity/davidson_a.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    sides = [[r["text"] for r in rows if (r["label"] != 2) is toxic] for toxic in (True, False)]
    made = [corpora.clean(name, said) for name, said in zip(("toxic/1", "clean/1"), sides, strict=True)]
    ours = trained(corpora, made[:1], made[1:], classifier_bits=20).facts["heldout"]

    ids = np.concatenate([classifier.doc_ids.as_numpy(a.table("documents.arrow")["doc_id"]) for a in made])
    fold, labels = classifier._folds(ids), np.repeat([1, 0], [len(side) for side in sides])
    vectors = text.HashingVectorizer(ngram_range=(1, 2), alternate_sign=False).transform([*sides[0], *sides[1]])
    model = linear.LogisticRegression(max_iter=300).fit(vectors[fold > 1], labels[fold > 1])
    theirs = metrics.roc_auc_score(labels[fold == 0], model.predict_proba(vectors[fold == 0])[:, 1])
    print(f"AUC {ours['auc']:.4f}, scikit-learn {theirs:.4f}; {ours}")
    assert ours["auc"] > theirs - 0.01
    assert ours["auc"] > 0.9


def test_books_are_told_from_planted_junk(corpora, shared_data):
    """Passages of books against lists, navigation and noise: 600 and 120 documents."""
    zstandard = pytest.importorskip("zstandard")
    folder = shared_data / "corpora/planted"
    with gzip.open(folder / "truth/labels.jsonl.gz", "rt", encoding="utf-8") as lines:
        kinds = {row["id"]: row["kind"] for row in map(json.loads, lines)}
    with (folder / "documents.jsonl.zst").open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as data:
        rows = [json.loads(line) for line in io.TextIOWrapper(data, encoding="utf-8")]
    sides = [[row["text"] for row in rows if kinds[row["id"]] == kind][:600] for kind in ("original", "junk")]
    good, junk = (corpora.clean(f"{n}/1", side) for n, side in enumerate(sides))
    made = trained(corpora, [good], [junk], classifier_bits=20)
    print(made.facts)
    assert made.facts["heldout"]["auc"] > 0.95
