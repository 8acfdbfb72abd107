"""A tokenizer.json from elsewhere keeps its ids and gets what the trainer needs; what it loses is counted."""

from __future__ import annotations

import json

import pytest
from corpora import Given
from test_shards import PROSE, sharded, texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from pipelines import vocabulary
from pipelines.shard_reader import ShardReader
from pipelines.tokenizer_file import TokenizerFileError, file_digest, imported, size_of
from pipelines.vocabulary import SPECIALS, VocabularyRecipe, plain_tokenizer, train_vocabulary


def words_file(folder, **changes):
    """A word-level tokenizer that lower-cases and knows few words."""
    known = ["[UNK]", "[END]", "the", "of", "a", "table", "number", "."]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["[UNK]", "[END]"])
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(tokenizer.to_str()), **changes}))
    return path


def training(corpora, sources):
    """Parts with columns of documents, sorted by doc_id; languages by source."""

    def part(inner, clean, language):
        rows = clean.table("documents.arrow").sort_by("doc_id")
        rows = rows.set_column(rows.schema.get_field_index("language"), "language", [[language] * len(rows)])
        inner.write("documents.arrow", rows)
        inner.write("texts.arrow", clean.table("texts.arrow").sort_by("doc_id"))
        return inner.seal(counts={"docs": len(rows)})

    def make(draft):
        parts = []
        for name, (language, said) in sources.items():
            clean = corpora.clean(name, said)
            parts.append(draft.part(name, Given(), [clean], lambda d, c=clean, k=language: part(d, c, k)))
        return draft.seal(counts={"docs": sum(len(said) for _, said in sources.values())}, parts=parts)

    return corpora.run("training_documents", "mine", "1", Given(), [], make)


def made(corpora, documents, file=None, **fields):
    recipe = VocabularyRecipe(size=300, file_digest=file_digest(file) if file else "", **fields)
    return corpora.run(
        "vocabulary", "v", vocabulary.VERSION, recipe, [documents],
        lambda d: train_vocabulary(documents, recipe, d, file=file),
    )  # fmt: skip


def test_ids_stay_and_missing_special_tokens_come_behind_them(tmp_path):
    path = words_file(tmp_path)
    body, ids = imported(path, file_digest(path), "[END]", SPECIALS)
    assert body["model"]["vocab"] == json.loads(path.read_text())["model"]["vocab"]
    assert ids == {"<|endoftext|>": 1, "<|pad|>": 8, "<|user|>": 9, "<|assistant|>": 10}
    assert size_of(body) == 11
    tokenizer = plain_tokenizer(json.dumps(body).encode())
    assert [tokenizer.token_to_id(token) for token in ("[END]", "<|pad|>", "<|assistant|>")] == [1, 8, 10]
    assert tokenizer.encode("the <|pad|> of [END]").ids[0] == 2
    assert not {1, 8} & set(tokenizer.encode("the <|pad|> of [END]").ids)  # as text it is text


def test_without_an_end_token_one_is_added(tmp_path):
    path = words_file(tmp_path)
    _, ids = imported(path, file_digest(path), "", SPECIALS)
    assert ids["<|endoftext|>"] == 8


def test_a_token_that_ends_documents_becomes_special(tmp_path):
    plain = {"id": 1, "content": "[END]", "single_word": False, "lstrip": False, "rstrip": False}
    path = words_file(tmp_path, added_tokens=[{**plain, "normalized": False, "special": False}])
    body, _ = imported(path, file_digest(path), "[END]", SPECIALS)
    assert 1 not in plain_tokenizer(json.dumps(body).encode()).encode("[END]").ids


def test_what_a_post_processor_puts_around_texts_is_left_out(tmp_path):
    around = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[END]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [],
        "special_tokens": {"[END]": {"id": "[END]", "ids": [1], "tokens": ["[END]"]}},
    }
    path = words_file(tmp_path, post_processor=around)
    assert Tokenizer.from_file(str(path)).encode("the").ids == [1, 2]
    body, _ = imported(path, file_digest(path), "[END]", SPECIALS)
    assert plain_tokenizer(json.dumps(body).encode()).encode("the").ids == [2]


def test_a_file_that_cannot_be_a_vocabulary_is_refused(tmp_path):
    path = words_file(tmp_path)
    expected = file_digest(path)
    with pytest.raises(
        TokenizerFileError, match=r"no token '</s>' for end_token; its special ones: '\[UNK\]', '\[END\]'"
    ):
        imported(path, expected, "</s>", SPECIALS)
    with pytest.raises(TokenizerFileError, match=r"the recipe says 0000.*Run again"):
        imported(path, "0" * 64, "", SPECIALS)
    with pytest.raises(TokenizerFileError, match="no file is given"):
        imported(None, expected, "", SPECIALS)
    with pytest.raises(TokenizerFileError, match=r"No such file.*that of a tokenizer\.json, a model"):
        file_digest(tmp_path / "nowhere.json")
    for content in (b"{}", b"\xff", b"no JSON"):
        path.write_bytes(content)
        with pytest.raises(TokenizerFileError, match=r"tokenizer\.json: is no tokenizer\.json"):
            imported(path, file_digest(path), "", SPECIALS)


def test_ids_with_gaps_stay_and_what_is_added_comes_behind_them(tmp_path):
    path = words_file(tmp_path)
    gapped = json.loads(path.read_text())
    gapped["model"]["vocab"]["far"] = 40
    path.write_text(json.dumps(gapped))
    body, ids = imported(path, file_digest(path), "[END]", SPECIALS)
    assert ids == {"<|endoftext|>": 1, "<|pad|>": 41, "<|user|>": 42, "<|assistant|>": 43}
    tokenizer = plain_tokenizer(json.dumps(body).encode())
    assert {token: tokenizer.token_to_id(token) for token in SPECIALS[1:]} == {k: ids[k] for k in SPECIALS[1:]}


def test_unigram_reads_no_special_token_from_a_text(tmp_path):
    letters = [[character, -3.0] for character in "abcends<>/"]
    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("</end>", 0.0), *map(tuple, letters)], 0, False))
    tokenizer.add_special_tokens(["<unk>", "</end>"])
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    body, ids = imported(path, file_digest(path), "</end>", SPECIALS)
    assert ids["<|endoftext|>"] == 1
    said = plain_tokenizer(json.dumps(body).encode()).encode("abc</end><a")
    assert said.tokens == list("abc</end><a")


def test_a_vocabulary_from_a_file_is_sharded_and_its_losses_counted(corpora, tmp_path):
    documents = training(corpora, {"a/1": ("en", PROSE), "b/1": ("en", ["the number of a table."])})
    vocab = made(corpora, documents, words_file(tmp_path), end_token="[END]")
    assert vocab.facts["size"] == vocab.counts["tokens"] == 11
    assert (vocab.facts["eos_id"], vocab.facts["eos_token"]) == (1, "[END]")
    assert vocab.facts["fertility"]["totals"]["changed"] == len(PROSE) + 1  # no white space comes back
    reader = ShardReader.open(sharded(corpora, documents, vocab).part("b/1"))
    assert reader.tokens(0, reader.num_tokens).tolist() == [2, 6, 3, 4, 5, 7, 1]


def test_gpt_neox_loses_nothing_but_the_normal_form(corpora, shared_data):
    file = shared_data / "tokenizers" / "gpt-neox-20b.json"
    documents = training(corpora, {"a/1": ("en", [*PROSE, "two forms: e\u0301 and \u00e9"])})
    vocab = made(corpora, documents, file)
    assert vocab.facts["fertility"]["totals"]["changed"] == 1
    assert vocab.facts["eos_id"] == 50279
    assert vocab.facts["size"] == 50283  # it has an end of text and lacks the other three
    part = sharded(corpora, documents, vocab).part("a/1")
    assert part.facts["dtype"] == "uint16"


# -- fertility ---------------------------------------------------------------------------------------------------


def test_fertility_is_told_by_source_and_language(corpora):
    sources = {"a/1": ("en", texts("a")), "a/2": ("en", ["new words of a"]), "b/1": ("zh", ["中文 中文", "文中"])}
    documents = training(corpora, sources)
    vocab = made(corpora, documents)
    found, tokenizer = vocab.facts["fertility"], plain_tokenizer(vocab)
    assert set(found["sources"]) == {"a", "b"}
    assert set(found["languages"]) == {"en", "zh"}
    chinese = [len(tokenizer.encode(text).ids) for text in sources["b/1"][1]]
    assert (
        found["languages"]["zh"]
        == found["sources"]["b"]
        == {
            "docs": 2,
            "bytes": 19,
            "words": 3,
            "tokens": sum(chinese),
            "changed": 0,
            "bytes_per_token": round(19 / sum(chinese), 4),
            "tokens_per_word": round(sum(chinese) / 3, 4),
        }
    )
    assert found["totals"]["docs"] == documents.counts["docs"]
    assert found["totals"]["bytes_per_token"] == vocab.facts["bytes_per_token"]
    assert found["totals"]["tokens"] == sum(group["tokens"] for group in found["languages"].values())


def test_of_very_many_groups_those_with_the_most_bytes_are_told(corpora, monkeypatch):
    monkeypatch.setattr("pipelines.fertility.MAX_GROUPS", 2)
    sources = {
        "a/1": ("en", ["short"]),
        "b/1": ("en", ["longer than that"]),
        "c/1": ("en", ["the longest text of all"]),
    }
    found = made(corpora, training(corpora, sources)).facts["fertility"]
    assert list(found["sources"]) == ["b", "c"]
    assert found["totals"]["docs"] == 3
