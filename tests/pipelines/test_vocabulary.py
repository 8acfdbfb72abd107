"""Vocabularies: every text comes back, the same documents give the same file, and no text makes a special token."""

from __future__ import annotations

import json

import pytest
from corpora import Corpora, Given, doc_id
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_shards import PROSE, texts

from pipelines import vocabulary
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.store import Store
from pipelines.vocabulary import SPECIALS, VocabularyRecipe, plain_tokenizer, train_vocabulary

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def training(corpora: Corpora, sources: dict[str, tuple[list[str], list[str]]]) -> Artifact:
    """sources: {part: (texts, names)}; parts are sorted by doc_id as those of training_documents are."""

    def make(draft):
        parts = []
        for name, (said, names) in sources.items():
            clean = corpora.clean(name, said, names=names)

            def part(inner, clean=clean):
                for file in ("documents.arrow", "texts.arrow"):
                    inner.write(file, clean.table(file).sort_by("doc_id"))
                return inner.seal()

            parts.append(draft.part(name, Given(), [clean], part))
        return draft.seal(parts=parts)

    return corpora.run("training_documents", "mine", "1", Given(), [], make, force=True)


def learned(corpora: Corpora, documents: Artifact, **recipe) -> Artifact:
    chosen = VocabularyRecipe(**{"size": 320, **recipe})
    return corpora.run(
        "vocabulary", "v", vocabulary.VERSION, chosen, [documents], lambda d: train_vocabulary(documents, chosen, d),
        force=True,
    )  # fmt: skip


def named(said: list[str], first: int = 0) -> tuple[list[str], list[str]]:
    return said, [f"doc {n}" for n in range(first, first + len(said))]


@pytest.fixture(scope="module")
def english(tmp_path_factory) -> Artifact:
    corpora = Corpora(tmp_path_factory.mktemp("v"))
    return learned(corpora, training(corpora, {"a/1": named(texts("a"))}))


@pytest.fixture(scope="module")
def bytes_only(tmp_path_factory) -> Artifact:
    """A vocabulary that has learned nothing: 256 bytes and the special tokens."""
    corpora = Corpora(tmp_path_factory.mktemp("b"))
    return learned(corpora, training(corpora, {"a/1": named(["x"])}), size=260)


# -- round trips -------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(text=ANY_TEXT)
@example(text="\0")
@example(text="\r\n \t\v\f\x1c\u0085\u2028")
@example(text="e\u0301 \u00e9 \ufb01 \u212b")
@example(text="\U0001f469\u200d\U0001f469\u200d\U0001f467 \U000e0001 \ufeff \uffff \U0010ffff")
@example(text="  leading and trailing  ")
@example(text="".join(SPECIALS))
def test_every_text_comes_back_character_by_character(english, bytes_only, text):
    """No normalisation, no prefix space, no unknown token: what was learned does not decide what can be said."""
    for made in (english, bytes_only):
        tokenizer = plain_tokenizer(made)
        ids = tokenizer.encode(text).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert all(4 <= number < made.counts["merges"] + 260 for number in ids)


@given(text=ANY_TEXT)
@settings(max_examples=50)
def test_without_merges_a_text_is_its_bytes(bytes_only, text):
    assert len(plain_tokenizer(bytes_only).encode(text).ids) == len(text.encode())


@given(one=ANY_TEXT, other=ANY_TEXT)
@settings(max_examples=50)
def test_tokens_of_two_texts_side_by_side_decode_to_both(english, one, other):
    """What the trainer's stream does: documents end to end, here without the token between them."""
    tokenizer = plain_tokenizer(english)
    ids = tokenizer.encode(one).ids + tokenizer.encode(other).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == one + other


@pytest.mark.parametrize("special", SPECIALS)
def test_a_special_token_in_a_text_is_its_characters(english, special):
    tokenizer = plain_tokenizer(english)
    assert tokenizer.encode(special).ids != [tokenizer.token_to_id(special)]
    assert tokenizer.decode([tokenizer.token_to_id(special)], skip_special_tokens=False) == special
    assert english.facts["specials"][special] == tokenizer.token_to_id(special)


def test_every_merge_of_a_vocabulary_makes_its_text_shorter_than_its_bytes(english):
    tokenizer = plain_tokenizer(english)
    every = "".join(PROSE)
    assert english.counts["merges"] == 60
    assert len(tokenizer.encode(every).ids) < len(every.encode()) * 0.75


# -- the same file -----------------------------------------------------------------------------------------------


def test_the_file_does_not_know_how_documents_are_split_into_sources(tmp_path):
    said = texts("a", 12)
    worlds = [
        {"a/1": named(said)},
        {"a/1": named(said[:5]), "b/1": named(said[5:], 5)},
        {"z/1": named(said[9:], 9), "a/1": named(said[:9])},
    ]
    files = set()
    for number, sources in enumerate(worlds):
        corpora = Corpora(tmp_path / str(number))
        files.add(learned(corpora, training(corpora, sources)).local("tokenizer.json").read_bytes())
    assert len(files) == 1


def test_documents_beyond_the_sample_change_nothing(corpora):
    """The sample takes the lowest doc_ids; one more document behind them is not looked at."""
    said, names = named(texts("a", 12))
    first = training(corpora, {"a/1": (said, names)})
    rows = first.part("a/1").table("documents.arrow").to_pylist()
    budget = sum(row["num_bytes"] for row in rows[:6])
    one = learned(corpora, first, sample_bytes=budget)
    beyond = next(f"extra {n}" for n in range(999) if doc_id(f"extra {n}") > rows[5]["doc_id"])
    other = learned(
        corpora, training(corpora, {"a/1": (said, names), "b/1": (["zebra " * 50], [beyond])}), sample_bytes=budget
    )
    assert one.counts["sample_docs"] == other.counts["sample_docs"] == 6
    assert one.content == other.content


def test_a_longer_sample_may_learn_other_tokens(corpora):
    documents = training(corpora, {"a/1": named(texts("a", 12))})
    few, many = learned(corpora, documents, sample_bytes=1), learned(corpora, documents)
    assert few.counts["sample_docs"] == 1
    assert many.counts["sample_docs"] == 12 + len(PROSE)
    assert few.content != many.content


def test_pairs_that_are_seen_less_often_are_not_merged(corpora):
    documents = training(corpora, {"a/1": named(["qzqzqz kvkv", "qzqz kv", "once jx"])})
    twice, often = learned(corpora, documents, min_frequency=2), learned(corpora, documents, min_frequency=5)
    vocab = [set(plain_tokenizer(v).get_vocab()) for v in (twice, often)]
    assert {"qz", "kv"} <= vocab[0]
    assert "jx" not in vocab[0]
    assert "qz" in vocab[1]
    assert "kv" not in vocab[1]  # 3 times


def test_padding_is_never_produced_and_never_merged_into(corpora):
    made = learned(corpora, training(corpora, {"a/1": named(["ab ab"])}), size=400)
    body = json.loads(made.local("tokenizer.json").read_text(encoding="utf-8"))
    unused = [token for token in body["model"]["vocab"] if token.startswith("<|unused-")]
    assert len(unused) == 400 - 260 - made.counts["merges"] > 0
    assert sorted(body["model"]["vocab"].values()) == list(range(400))
    tokenizer = plain_tokenizer(made)
    ids = tokenizer.encode(" ".join(unused)).ids
    assert max(ids) < 260 + made.counts["merges"]
    assert tokenizer.decode(ids, skip_special_tokens=False) == " ".join(unused)


def test_the_tokenizer_of_the_file_and_of_its_bytes_are_one(english):
    data = english.local("tokenizer.json").read_bytes()
    for text in PROSE:
        assert plain_tokenizer(data).encode(text).ids == plain_tokenizer(english).encode(text).ids
    assert Store(english.store.url).open("vocabulary", "v").facts == english.facts
    assert data == json.dumps(json.loads(data), ensure_ascii=False, separators=(",", ":")).encode()


@pytest.mark.parametrize("fields", [{"size": 259}, {"sample_bytes": 0}, {"min_frequency": 0}, {"algorithm": "words"}])
def test_a_vocabulary_that_cannot_be_is_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        VocabularyRecipe(**fields)
