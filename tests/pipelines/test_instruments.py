"""What a team brings to cleaning: each instrument measures, judges under its own reason, and is null where it is missing."""

import hashlib
import json
import math

import numpy as np
import pytest
import test_classifier
import test_ngram_model
from corpora import Corpora
from test_classifier import GOOD, JUNK, sentences

from pipelines import doc_ids
from pipelines.clean import CLEAN_VERSION, clean
from pipelines.clean_recipe import CleanRecipe, recipe_of
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.instruments import url_list, word_list
from pipelines.instruments.instruments import Instruments, Place, pareto_limits
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.sources import IngestRecipe
from pipelines.spec import Spec, SpecError

OPEN = {
    "language": "", "min_language_confidence": 0.0, "c4": False, "fineweb": False, "gopher_repetition": False,
    "gopher_quality": False,
}  # fmt: skip
ROWS = [
    {"text": " ".join(sentences(7, GOOD, 4)), "url": "https://good.example/tide"},
    {"text": " ".join(sentences(8, JUNK, 4)), "url": "https://shop.bad.example/buy"},
]


def cleaned(corpora: Corpora, instruments: Instruments = Instruments(), workers: int = 1, **fields):  # noqa: B008
    store = corpora.store
    folder = store.scratch / "in"
    folder.mkdir(exist_ok=True)
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    given = IngestRecipe(reader="jsonl", source="mine", snapshot="1", license="CC0-1.0", url_field="url")
    key = Key("raw_documents", "mine/1")
    raw = build(store, key, INGEST_VERSION, given, [], lambda d: ingest(given, d, path=folder)).artifact
    recipe = CleanRecipe(**{**OPEN, **fields})
    made = build(
        store, Key("clean_documents", "mine/1"), CLEAN_VERSION, recipe, [raw],
        lambda d: clean(raw, recipe, d, instruments=instruments, workers=workers), force=True,
    )  # fmt: skip
    return made.artifact


def reasons(artifact) -> list[str]:
    return artifact.table("fates.arrow")["reason"].to_pylist()


def test_without_instruments_nothing_is_held_against_a_document(corpora):
    artifact = cleaned(corpora)
    assert reasons(artifact) == ["", ""]
    signals = artifact.table("signals.arrow")
    assert signals["perplexity"].null_count == signals["url_block"].null_count == 2


def test_a_listed_domain_drops_its_documents_with_the_number_of_the_reason(corpora, tmp_path):
    path = tmp_path / "domains.txt"
    path.write_text("bad.example\n")
    artifact = cleaned(corpora, Instruments(url_list=path), url_list_digest=url_list.list_digest(path))
    assert reasons(artifact) == ["", "blocked_url"]
    assert artifact.table("fates.arrow")["value"].to_pylist()[1] == url_list.REASONS.index("url_domain")
    assert artifact.table("documents.arrow")["url"].to_pylist() == ["https://good.example/tide"]


def test_a_list_that_changed_after_planning_is_refused(corpora, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("casino\n")
    planned = word_list.list_digest(path)
    path.write_text("tide\n")
    with pytest.raises(ValueError, match=r"words.txt: has digest .*, the recipe says .*Run again"):
        cleaned(corpora, Instruments(bad_words=path), bad_words_digest=planned)


def test_bad_words_are_counted_in_every_document_and_drop_what_has_too_many(corpora, tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("casino\nbonus\n")
    artifact = cleaned(corpora, Instruments(bad_words=path), bad_words_digest=word_list.list_digest(path))
    found = artifact.table("signals.arrow")["bad_words"].to_pylist()
    assert found == [0, sum(ROWS[1]["text"].split().count(word) for word in ("casino", "bonus"))]
    assert reasons(artifact) == ["", "bad_words"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_classifier_and_a_reference_model_judge_in_any_process(corpora, monkeypatch, workers):
    monkeypatch.setattr("pipelines.tasks.PIECE_BYTES", 1)
    monkeypatch.setattr("pipelines.pieces.BATCH_BYTES", 1)
    good, junk = corpora.clean("good/1", sentences(1, GOOD)), corpora.clean("junk/1", sentences(2, JUNK))
    classifier = test_classifier.trained(corpora, [good], [junk])
    reference = test_ngram_model.trained(corpora, [good], perplexity_order=2)
    artifact = cleaned(corpora, Instruments(classifier=Place.of(classifier)), workers, classifier="edu")
    assert reasons(artifact) == ["", "low_score"]
    artifact = cleaned(
        corpora, Instruments(reference=Place.of(reference)), workers, reference="good", max_perplexity=50.0
    )
    assert reasons(artifact) == ["", "perplexity"]


SPEC = """\
[sources."mine/1"]
reader = "jsonl"
path = "a.jsonl"
license = "CC0-1.0"
cleaning = "web"
[cleaning.web]
{}
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('preset = "net"', r"stemma.toml:7: no preset 'net'; there are: web, fineweb, docs"),
        ('url_list = "gone.txt"', r"stemma.toml:7: gone.txt: cannot be read"),
        ('classifier = "edu"', r"stemma.toml:7: no 'edu' in \[classifiers\]; there are: none"),
        ("min_wordz = 3", r"stemma.toml:7: unknown key 'min_wordz'; did you mean 'min_words'"),
    ],
)
def test_a_mistake_in_a_cleaning_table_is_told_with_its_line(tmp_path, line, message):
    path = tmp_path / "stemma.toml"
    path.write_text(SPEC.format(line))
    with pytest.raises(SpecError, match=message):
        recipe_of(Spec.load(path), "web")


def test_a_list_enters_the_recipe_by_its_digest_and_not_by_its_place(tmp_path):
    found = []
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("casino\n")
        path = tmp_path / "stemma.toml"
        path.write_text(SPEC.format(f'bad_words = "{name}"\nmin_words = 7'))
        found.append(recipe_of(Spec.load(path), "web"))
    assert found[0] == found[1]
    assert found[0].bad_words_digest == word_list.list_digest(tmp_path / "a.txt")
    assert (found[0].min_words, found[0].min_sentences) == (7, 5)


# -- sampling by the classifier ------------------------------------------------------------------------------------------


def documents(count: int) -> np.ndarray:
    return np.frombuffer(hashlib.shake_256(b"documents").digest(16 * count), "S16")


@pytest.mark.parametrize(
    ("score", "alpha"), [(0.0, 1.0), (0.5, 9.0), (0.9, 9.0), (1.0, 9.0), (1.0, 1000.0), (0.2, 0.0)]
)
def test_a_document_stays_as_often_as_its_score_says(score, alpha):
    """Within four standard errors of the probability in the paper, over 40,000 documents."""
    stays = (pareto_limits(np.full(40_000, score), documents(40_000)) >= alpha).mean()
    expected = (2 - score) ** -alpha
    assert abs(stays - expected) <= 4 * math.sqrt(expected * (1 - expected) / 40_000)


def test_who_stays_at_a_strict_choice_stays_at_a_milder_one():
    scores, ids = np.linspace(0, 1, 5000), documents(5000)
    limits = pareto_limits(scores, ids)
    assert set(ids[limits >= 9]) <= set(ids[limits >= 3])
    assert np.array_equal(limits[::-1], pareto_limits(scores[::-1], ids[::-1]))  # whoever stands beside it


def test_the_draw_tells_nothing_of_the_order_of_the_ids():
    ids = documents(20_000)
    limits = pareto_limits(np.full(len(ids), 0.5), ids)
    low = limits[doc_ids.order(ids)][:10_000] >= 1.0
    assert abs(low.mean() - 1.5**-1.0) < 0.02


def test_a_sampled_corpus_says_who_was_left_out_and_at_which_limit(corpora):
    good, junk = corpora.clean("good/1", sentences(1, GOOD)), corpora.clean("junk/1", sentences(2, JUNK))
    classifier = test_classifier.trained(corpora, [good], [junk])
    place = Instruments(classifier=Place.of(classifier))
    everything = cleaned(corpora, place, classifier="edu", min_classifier_score=0.0)
    limits = everything.table("signals.arrow")["classifier_pareto_limit"].to_pylist()
    assert reasons(everything) == ["", ""]
    between = (min(limits) + max(limits)) / 2
    some = cleaned(corpora, place, classifier="edu", min_classifier_score=0.0, classifier_pareto=between)
    assert sorted(reasons(some)) == ["", "not_sampled"]
    (value,) = [v for v in some.table("fates.arrow")["value"].to_pylist() if v is not None]
    assert value == min(limits)
