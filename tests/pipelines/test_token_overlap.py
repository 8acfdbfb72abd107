"""Items are found in token shards by their own tokens, whatever else a document says, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import doc_id
from test_decontaminate import trained
from test_shards import PROSE, learned, sharded

from pipelines.token_overlap import FLOOR, Item, TokenIndex, items_of, shown_by_tokens, tokens_of_words
from pipelines.tokenizing import Encoder

LONG = "Which of these rivers flows through the middle of the old town and then out into the northern sea?"
CODE = "frobnicate_all(widgets=[1, 2, 3], quietly=True)"
ITEMS = [Item("own", "rivers", "1", LONG), Item("own", "code", "1", CODE), Item("own", "short", "1", "no")]


@pytest.fixture
def vocabulary(corpora):
    return learned(corpora, trained(corpora, {"a/1": PROSE}, {}, ratio=0))


def shards(corpora, vocab, **sources):
    training = trained(corpora, {f"{name}/1": said for name, said in sources.items()}, {}, ratio=0)
    return sharded(corpora, training, vocab)


def shown(corpora, vocab, said, **options):
    rows = shown_by_tokens(shards(corpora, vocab, **said), ITEMS, **{"ngram": 11, **options}).to_pylist()
    return {row["task"]: row for row in rows}


def test_an_item_is_found_with_its_documents(corpora, vocabulary):
    said = {"a": ["nothing here", f"Q: {LONG}\nA: the Amstel"], "b": [f"{LONG}", f"x = {CODE}\n", "and no more"]}
    found = shown(corpora, vocabulary, said)
    assert found["rivers"]["documents"] == sorted([doc_id("a/1:1"), doc_id("b/1:0")])
    assert found["rivers"]["coverage"] == 1.0
    assert found["code"]["documents"] == [doc_id("b/1:1")]
    assert [found[task]["num_documents"] for task in ("rivers", "code", "short")] == [2, 1, 0]


def test_tokens_know_case_and_line_breaks(corpora, vocabulary):
    found = shown(corpora, vocabulary, {"a": [LONG.upper(), LONG.replace(" ", "\n"), "no no no"]})
    assert {task: row["num_documents"] for task, row in found.items()} == {"rivers": 0, "code": 0, "short": 0}
    assert not found["short"]["checkable"]
    assert found["short"]["num_tokens"] < FLOOR


def test_half_an_item_has_half_its_tokens(corpora, vocabulary):
    encode = Encoder(vocabulary.local("tokenizer.json").read_bytes())
    half = " ".join(LONG.split()[:10])
    expected = len(encode.tokenizer.encode(half).ids) / len(encode.tokenizer.encode(LONG).ids)
    found = shown(corpora, vocabulary, {"a": [f"{half}: who knows"]}, coverage=0.3)
    assert found["rivers"]["coverage"] == pytest.approx(expected)
    assert found["rivers"]["num_documents"] == 1
    assert shown(corpora, vocabulary, {"a": [f"{half}: who knows"]})["rivers"]["num_documents"] == 0


def test_no_n_gram_reaches_from_one_document_into_the_next(corpora, vocabulary):
    words = LONG.split()
    apart, together = [" ".join(words[:5]), " ".join(words[5:10])], [" ".join(words[:10])]
    for said, expected in ((apart, False), (together, True)):
        found = shown(corpora, vocabulary, {"a": said}, coverage=0.01, ngram=28)
        assert (found["rivers"]["coverage"] > 0) is expected


def test_coverage_is_that_of_a_search_by_hand(corpora, vocabulary):
    """Every n-gram of every document in a set, and every token of an item that one of them covers."""
    encode = Encoder(vocabulary.local("tokenizer.json").read_bytes())
    texts = [f"{LONG[at:]} {CODE[: at // 2]} {LONG[:at]}" for at in range(0, len(LONG), 9)]
    items = [LONG, CODE, LONG[20:70], PROSE[0]]
    index = TokenIndex(items, encode, 5, 4)
    rows = [encode.tokenizer.encode(text).ids for text in texts]
    offsets = np.cumsum([0, *map(len, rows)])
    found = {(d, i): share for d, i, share in index.matches(np.concatenate(rows), offsets)}
    for document, row in enumerate(rows):
        for item, text in enumerate(items):
            share = max(by_hand(encode.tokenizer.encode(said).ids, row, 5) for said in (text, f" {text}"))
            assert found.get((document, item), 0.0) == pytest.approx(share)


def by_hand(item, document, n):
    n = min(n, len(item))
    grams = {tuple(document[at : at + n]) for at in range(len(document) - n + 1)}
    covered = {at + k for at in range(len(item) - n + 1) if tuple(item[at : at + n]) in grams for k in range(n)}
    return len(covered) / len(item)


def test_the_items_of_a_sealed_suite_are_asked_for_by_name(corpora, vocabulary):
    prompts = corpora.prompts("quiz", [("rivers", "7", LONG)])
    assert items_of(prompts) == [Item("quiz", "rivers", "7", LONG)]
    table = shown_by_tokens(shards(corpora, vocabulary, a=["x", LONG]), items_of(prompts))
    assert table.select(["suite", "task", "item_id", "checkable"]).to_pylist() == [
        {"suite": "quiz", "task": "rivers", "item_id": "7", "checkable": True}
    ]


def test_an_n_gram_is_as_long_as_13_words(corpora, vocabulary):
    per_word = vocabulary.facts["fertility"]["totals"]["tokens_per_word"]
    assert tokens_of_words(vocabulary) == round(13 * per_word) > 11
    said = shards(corpora, vocabulary, a=["x", LONG, LONG[: len(LONG) // 4]])
    default, chosen = (shown_by_tokens(said, ITEMS, ngram=ngram) for ngram in (0, tokens_of_words(vocabulary)))
    assert default.equals(chosen)


def test_without_items_or_documents_there_is_nothing(corpora, vocabulary):
    assert shown_by_tokens(shards(corpora, vocabulary, a=["x"]), []).num_rows == 0
    assert shown(corpora, vocabulary, {"a": []})["rivers"]["coverage"] == 0.0
