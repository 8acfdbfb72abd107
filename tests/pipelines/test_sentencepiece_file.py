"""A sentencepiece model becomes a tokenizer.json that gives sentencepiece's ids, whatever the text."""

from __future__ import annotations

import io
import json
import struct

import pyarrow as pa
import pytest
from foreign_texts import ODD, odd_texts
from test_shards import sharded
from test_tokenizer_file import made, training
from test_tokenizing import SAID
from tokenizers import Tokenizer

from pipelines.sentencepiece_file import SentencePieceError, read, tokenizer_body
from pipelines.shard_reader import ShardReader
from pipelines.tokenizer_file import TokenizerFileError, file_digest, imported
from pipelines.tokenizing import Encoder
from pipelines.unit_rules import why_whole
from pipelines.vocabulary import SPECIALS, plain_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

PROSE = ["A model is learned from a few sentences that say little, and said again they say no more.", "".join(ODD)]
PLAIN = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}


def learned(**options) -> bytes:
    out, said = io.BytesIO(), iter([*SAID, *PROSE] * 3)
    fields = {"vocab_size": 400, "character_coverage": 0.999, "hard_vocab_limit": False, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=said, model_writer=out, minloglevel=2, **fields)
    return out.getvalue()


def ours(data: bytes, tmp_path) -> Tokenizer:
    path = tmp_path / "some.model"
    path.write_bytes(data)
    body, _ = imported(path, file_digest(path), "</s>", SPECIALS)
    return plain_tokenizer(json.dumps(body).encode())


def theirs(data: bytes):
    return sentencepiece.SentencePieceProcessor(model_proto=data)


BPE = {
    "as Llama": {**PLAIN, "byte_fallback": True},
    "as Gemma": {**PLAIN, "byte_fallback": True, "add_dummy_prefix": False, "user_defined_symbols": ["[INST]", "\n", "|||"]},
    "with unknown characters": PLAIN,
    "without double spaces": {"normalization_rule_name": "identity", "byte_fallback": True},
}  # fmt: skip


def test_texts_are_looked_up_word_by_word(tmp_path):
    """Where no piece has a space behind something else, and no space is taken away; tokens of the user cut a text."""
    for name, more in (("as Llama", {}), ("as Gemma", {}), ("as Llama", {"user_defined_symbols": ["[INST]", "|||"]})):
        data = learned(model_type="bpe", **BPE[name], **more)
        encode = Encoder(ours(data, tmp_path).to_str().encode())
        assert encode.why_whole == ""
        texts = [*odd_texts(2000), "", " ", "a\u2581b", "\u2581", "   x", "[INST]", "[INST] [INST]|||", "||| x"]
        for _ in range(2):  # the second time from the table
            ids, offsets = encode.encode(pa.array(texts))
            for text, start, end in zip(texts, offsets, offsets[1:], strict=False):
                assert ids[start:end].tolist() == encode.tokenizer.encode(text).ids, ascii(text)


WRITES = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
JOINED = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
TOKEN = {"id": 399, "content": "[INST]", "single_word": False, "lstrip": False, "rstrip": False, "special": False}
RAW, NORMALIZED = {**TOKEN, "normalized": False}, {**TOKEN, "normalized": True}
PREPENDED = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, WRITES]}


@pytest.mark.parametrize(
    ("changes", "token", "looked_up"),
    [
        ({"normalizer": None, "pre_tokenizer": METASPACE}, None, True),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "never"}}, RAW, True),
        ({"normalizer": WRITES, "pre_tokenizer": JOINED}, RAW, True),
        ({"normalizer": WRITES, "pre_tokenizer": JOINED}, NORMALIZED, True),
        ({"normalizer": PREPENDED}, None, True),
        ({"normalizer": PREPENDED}, {**NORMALIZED, "special": True}, True),
        ({"normalizer": PREPENDED}, RAW, False),
        ({"normalizer": PREPENDED}, NORMALIZED, False),
        ({"normalizer": None, "pre_tokenizer": METASPACE}, RAW, False),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "split": True}}, None, False),
        ({"normalizer": None, "pre_tokenizer": {**METASPACE, "prepend_scheme": "always"}}, None, False),
    ],
)
def test_what_transformers_writes_of_such_models_is_looked_up_as_well(changes, token, looked_up):
    body = tokenizer_body(learned(model_type="bpe", **BPE["as Llama"])) | changes
    body["added_tokens"] = [*body["added_tokens"], *([token] if token else [])]
    encode = Encoder(json.dumps(body).encode())
    assert (encode.why_whole == "") is looked_up
    texts = [*odd_texts(1000), "", " ", " a", "\u2581b", "[INST] a", "[INST]", "a[INST]", " [INST]  b", "[INST]\u2581c"]
    ids, offsets = encode.encode(pa.array(texts))
    for text, start, end in zip(texts, offsets, offsets[1:], strict=False):
        assert ids[start:end].tolist() == encode.tokenizer.encode(text).ids, ascii(text)


@pytest.mark.parametrize("change", [{"ignore_merges": True}, {"end_of_word_suffix": "</w>"}])
def test_a_model_that_looks_at_whole_texts_is_not_looked_up(change):
    body = tokenizer_body(learned(model_type="bpe", **BPE["as Llama"]))
    body["model"] |= change
    assert "pre-tokenizer" in why_whole(body)
    body = tokenizer_body(learned(model_type="bpe", **BPE["as Llama"]))
    assert why_whole(body) == ""
    body["model"]["vocab"]["a\u2581b"] = 999  # a space behind something else
    assert "pre-tokenizer" in why_whole(body)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_a_model_that_takes_spaces_away_is_not_looked_up(model_type, tmp_path):
    encode = Encoder(ours(learned(model_type=model_type), tmp_path).to_str().encode())
    assert "normalizer" in encode.why_whole
    ids, _ = encode.encode(pa.array(["a  b "]))
    assert ids.tolist() == encode.tokenizer.encode("a  b ").ids


def test_tokens_of_the_user_go_with_a_space_before_the_text(tmp_path):
    """But for a text that is nothing else: tokenizers writes the token itself as a text."""
    data = learned(model_type="bpe", byte_fallback=True, **PLAIN, user_defined_symbols=["[INST]", "\n", "|||"])
    mine, reference = ours(data, tmp_path), theirs(data)
    for text in odd_texts(2000):
        if text not in ("[INST]", "\n", "|||"):
            assert mine.encode(text).ids == reference.encode(text), ascii(text)
    assert mine.encode("[INST]").ids == reference.encode("[INST]")[1:]


@pytest.mark.parametrize("options", BPE.values(), ids=BPE)
def test_ids_of_bpe_are_those_of_sentencepiece(options, tmp_path):
    data = learned(model_type="bpe", **options)
    mine, reference = ours(data, tmp_path), theirs(data)
    for text in odd_texts(2000):
        assert mine.encode(text).ids == reference.encode(text), ascii(text)


def test_runs_of_spaces_with_one_score_grow_from_the_left(tmp_path):
    """As Llama and Mistral have them: pieces of 2, 3, 4 and 8 spaces of the lowest score."""
    spaces = b"".join(piece("\u2581" * count, -1e9, 1) for count in (2, 4, 8, 3))
    data = spaces + learned(model_type="bpe", **PLAIN, byte_fallback=True)
    mine, reference = ours(data, tmp_path), theirs(data)
    for count in range(40):
        for text in (" " * count, " " * count + "a", f"a{' ' * count}b  c"):
            assert mine.encode(text).ids == reference.encode(text), count


@pytest.mark.parametrize("byte_fallback", [False, True])
def test_ids_of_unigram_are_those_of_sentencepiece_but_for_ties(byte_fallback, tmp_path):
    """Sentencepiece adds scores in single precision: where two ways have one score, it may take the other."""
    data = learned(model_type="unigram", byte_fallback=byte_fallback, **PLAIN)
    mine, reference = ours(data, tmp_path), theirs(data)
    ties = 0
    for text in odd_texts(2000):
        found, expected = mine.encode(text).ids, reference.encode(text)
        if found != expected:
            assert sorted(found) == sorted(expected), ascii(text)
            ties += 1
    assert ties < 10


@pytest.mark.parametrize(
    "symbols", [["<x>", "\n", "\t"], ["(", ")", '"', "-", ".", "\u2013", "£", "€"]], ids=["marks", "ALBERT"]
)
def test_symbols_of_the_user_stand_whole_in_unigram_models_too(symbols, tmp_path):
    data = learned(
        model_type="unigram", byte_fallback=True, add_dummy_prefix=False, user_defined_symbols=symbols, **PLAIN
    )
    mine, reference = ours(data, tmp_path), theirs(data)
    found = set()
    for text in [*odd_texts(2000), *(f"a{symbol}{symbol} b {symbol}" for symbol in symbols)]:
        ids, expected = mine.encode(text).ids, reference.encode(text)
        assert sorted(ids) == sorted(expected), ascii(text)  # but for ties
        found.update(ids)
    assert {reference.piece_to_id(symbol) for symbol in symbols} <= found


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_characters_are_mapped_as_sentencepiece_maps_them(model_type, tmp_path):
    """Each by itself; tokenizers looks a character up together with the marks behind it, and may differ there."""
    data = learned(model_type=model_type, byte_fallback=True)
    mine, reference = ours(data, tmp_path), theirs(data)
    assert read(data).character_map
    codes = [*range(0x20, 0x3400), *range(0xA000, 0xAC00), *range(0xF900, 0x10000), *range(0x10000, 0x32000, 61)]
    codes += range(0xAC00, 0xD7A4, 7)
    for code in codes:
        assert mine.encode(f"a {chr(code)} b").ids == reference.encode(f"a {chr(code)} b"), hex(code)
    for text in SAID[:4]:
        assert mine.encode(text).ids == reference.encode(text)


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_control_tokens_and_names_of_bytes_in_a_text_are_text(model_type, tmp_path):
    data = learned(model_type=model_type, byte_fallback=True, **PLAIN)
    mine, reference = ours(data, tmp_path), theirs(data)
    for text in ("</s>", "a </s></s>", "<s><unk><0x0A> <0x41>x", "<|pad|> <|user|>"):
        found = mine.encode(text)
        assert mine.decode(found.ids, skip_special_tokens=False) == text
        assert len(found.ids) > 3
        assert found.ids == reference.encode(text)


def test_texts_come_back(tmp_path):
    mine = ours(learned(model_type="bpe", byte_fallback=True, **PLAIN), tmp_path)
    for text in [*SAID, "", " ", "  two before", "and two behind  "]:
        assert mine.decode(mine.encode(text).ids, skip_special_tokens=False) == text


def test_a_model_is_imported_with_what_the_trainer_needs(tmp_path):
    data = learned(model_type="bpe", **PLAIN)
    size = theirs(data).get_piece_size()
    path = tmp_path / "tokenizer.model"
    path.write_bytes(data)
    _, ids = imported(path, file_digest(path), "</s>", SPECIALS)
    assert ids == {"<|endoftext|>": 2, "<|pad|>": size, "<|user|>": size + 1, "<|assistant|>": size + 2}


def test_a_vocabulary_from_a_model_is_sharded_with_the_models_ids(corpora, tmp_path):
    data = learned(model_type="bpe", **BPE["as Llama"])
    (tmp_path / "tokenizer.model").write_bytes(data)
    said = [*SAID, "two  spaces and </s>"]
    vocab = made(corpora, training(corpora, {"a/1": ("en", said)}), tmp_path / "tokenizer.model", end_token="</s>")
    reference = theirs(data)
    assert vocab.facts["eos_id"] == reference.eos_id()
    assert vocab.facts["size"] == reference.get_piece_size() + 3
    assert vocab.facts["fertility"]["totals"]["changed"] == 0
    reader = ShardReader.open(sharded(corpora, corpora.store.open("training_documents", "mine"), vocab).part("a/1"))
    rows = sorted(
        reader.tokens(span.start, span.start + span.length).tolist() for span in reader.documents(0, reader.num_tokens)
    )
    assert rows == sorted([*reference.encode(text), reference.eos_id()] for text in said)


# -- files that cannot be taken ------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    return bytes([value]) if value < 0x80 else bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def piece(text: str, score: float, kind: int) -> bytes:
    return field(1, field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + field(3, kind))


def small(*more: bytes, algorithm: int = 2) -> bytes:
    return piece("<unk>", 0.0, 2) + piece("a", -1.0, 1) + b"".join(more) + field(2, field(3, algorithm))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (small(algorithm=3), "it is a WORD model"),
        (small(algorithm=4), "it is a CHAR model"),
        (small(piece("b", -2.0, 5)), "unused pieces"),
        (small(field(3, field(5, 0))), "escape_whitespaces is false"),
        (small(field(2, field(24, 1))), "treat_whitespace_as_suffix"),
        (small(piece("ab", -2.0, 1), piece("ba", -2.0, 1)), "different pieces one score"),
        (small(field(2, field(35, 1))), "it falls back to bytes and lacks some"),
        (small(piece("aa", 0.0, 4), algorithm=1), "a symbol of its user with other pieces"),  # a a is as good
        (small(piece("|||", 0.0, 4), algorithm=1), "a symbol of its user with other pieces"),  # where four stand
        (small(piece("[X]", 0.0, 4), piece("b[", -9.0, 1), algorithm=1), "a symbol of its user with other pieces"),
        (small(piece("[X]", 0.0, 4), piece("[[X]]", 0.0, 4), algorithm=1), "a symbol of its user with other pieces"),
        (small(piece("[ ]", 0.0, 4)), "holds a space"),
        (small(piece("a", -2.0, 1)), "all pieces different"),
        (small(piece("<unk2>", 0.0, 2)), "2 of them unknown"),
        (field(2, field(3, 1)), "it has 0 pieces"),
        (piece("<unk>", 0.0, 2), "ends before the specification of its trainer"),
        (b"\n\xff\xff", "it is torn or no sentencepiece model"),
        (small()[:-3], "it is torn"),
        (b"\n\x02\x0b\x00", "wire type 3"),
        (b"\x0d\0\0\0\0", "no sentencepiece model"),
    ],
)
def test_a_model_that_has_no_counterpart_is_refused(data, message):
    with pytest.raises(SentencePieceError, match=message):
        tokenizer_body(data)


def test_the_error_names_the_file(tmp_path):
    path = tmp_path / "torn.model"
    path.write_bytes(learned(model_type="bpe", **PLAIN)[:-100])
    with pytest.raises(TokenizerFileError, match=r"torn\.model: it is torn or no sentencepiece model"):
        imported(path, file_digest(path), "", SPECIALS)


def test_the_small_model_of_these_tests_is_sound():
    data = small(piece("aa", -2.0, 1))
    assert Tokenizer.from_str(json.dumps(tokenizer_body(data))).encode("aaab").ids == theirs(data).encode("aaab")
