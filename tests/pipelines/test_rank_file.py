"""A rank file becomes a tokenizer.json that gives tiktoken's ids, whatever the text."""

from __future__ import annotations

import base64
import json

import pytest
from foreign_texts import odd_texts
from test_shards import sharded
from test_tokenizer_file import made, training
from test_tokenizing import SAID
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from pipelines.rank_file import ENCODINGS, RankFileError, is_rank_file, tokenizer_body
from pipelines.shard_reader import ShardReader
from pipelines.tokenizer_file import TokenizerFileError, file_digest, imported
from pipelines.tokenizing import Encoder
from pipelines.vocabulary import SPECIALS, plain_tokenizer

tiktoken = pytest.importorskip("tiktoken")


def ranks(size: int = 500) -> dict[bytes, int]:
    """Byte pairs learned from SAID, as tiktoken keeps them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*SAID, *SAID[::2]], trainer)
    byte_of = {letter: byte for byte, letter in enumerate(letters())}
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    return {bytes(byte_of[letter] for letter in token): rank for token, rank in vocab}


def letters() -> list[str]:
    """The character that the library writes for each byte, found through characters that hold it."""
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    found = {}
    for code in [*range(0x800), *range(0x800, 0xD800, 0x40), *range(0xE000, 0x110000, 0x400)]:
        found |= dict(zip(chr(code).encode(), cut.pre_tokenize_str(chr(code))[0][0], strict=True))
    rest = iter(sorted({*pre_tokenizers.ByteLevel.alphabet()} - {*found.values()}))
    return [found.get(byte) or next(rest) for byte in range(256)]  # some bytes are in no text


def lines(known: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in known.items())


def theirs(known: dict[bytes, int], pattern: str):
    return tiktoken.Encoding("theirs", pat_str=pattern, mergeable_ranks=known, special_tokens={})


def their_pattern(name: str, monkeypatch) -> str:
    """That of tiktoken itself; of Llama and Qwen, whose code is elsewhere, our own."""
    from tiktoken_ext import openai_public

    monkeypatch.setattr(openai_public, "load_tiktoken_bpe", lambda *_, **__: {})
    if not hasattr(openai_public, name):
        return ENCODINGS[name].pattern
    said = getattr(openai_public, name)()
    assert ENCODINGS[name].specials == said["special_tokens"]
    return said["pat_str"]


@pytest.fixture(scope="module")
def known():
    return ranks()


@pytest.mark.parametrize("name", ENCODINGS)
def test_ids_are_those_of_tiktoken(known, name, monkeypatch):
    ours = plain_tokenizer(json.dumps(tokenizer_body(lines(known), name)).encode())
    reference = theirs(known, their_pattern(name, monkeypatch))
    for text in odd_texts(2000):
        said = text if ENCODINGS[name].normalizer is None else ours.normalizer.normalize_str(text)
        assert ours.encode(text).ids == reference.encode_ordinary(said), ascii(text)


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_has_its_special_tokens_at_their_ids(known, name):
    tokenizer = Tokenizer.from_str(json.dumps(tokenizer_body(lines(known), name)))
    assert {token: tokenizer.token_to_id(token) for token in ENCODINGS[name].specials} == ENCODINGS[name].specials
    plain = plain_tokenizer(json.dumps(tokenizer_body(lines(known), name)).encode())
    for token, number in ENCODINGS[name].specials.items():
        assert number not in plain.encode(f"a {token}{token} b").ids  # as text it is text


def test_merges_are_those_that_tiktoken_can_meet():
    """Of the token abab one half may be ab; a b|ab and ab|a b can never be met, and abc is a whole unit alone."""
    known = {bytes([byte]): byte for byte in range(256)}
    known |= {b"ab": 300, b"bc": 301, b"abab": 302, b"zyx": 303, b"xabc": 304, b"xab": 305}
    ours = Tokenizer.from_str(json.dumps(tokenizer_body(lines(known), "llama3")))
    assert len(json.loads(ours.to_str())["model"]["merges"]) == 5
    reference = theirs(known, ENCODINGS["llama3"].pattern)
    for text in ("ababab", "abc", "xabc", "zyx zyx", "zyxa", "bcab", "xababc", "bxabcab", "aabbcc"):
        assert ours.encode(text).ids == reference.encode_ordinary(text)


def test_a_rank_file_is_imported_with_what_the_trainer_needs(known, tmp_path):
    path = tmp_path / "tokenizer.model"  # Llama 3 names its rank file so
    path.write_bytes(lines(known))
    body, ids = imported(path, file_digest(path), "<|end_of_text|>", SPECIALS, "llama3")
    assert ids == {"<|endoftext|>": 128001, "<|pad|>": 128010, "<|user|>": 128011, "<|assistant|>": 128012}
    tokenizer = Tokenizer.from_str(json.dumps(body))
    assert [tokenizer.id_to_token(number) for number in ids.values()] == ["<|end_of_text|>", *SPECIALS[1:]]
    encode = Encoder(json.dumps(body).encode())
    assert encode.why_whole == ""
    assert encode.encode(pa_column("some text"))[0].tolist() == tokenizer.encode("some text").ids


def test_a_vocabulary_from_a_rank_file_is_sharded_with_tiktokens_ids(known, corpora, tmp_path):
    (tmp_path / "own.tiktoken").write_bytes(lines(known))
    documents = training(corpora, {"a/1": ("en", [SAID[0], f"{SAID[1]}\n  "])})
    vocab = made(corpora, documents, tmp_path / "own.tiktoken", encoding="cl100k_base")
    assert (vocab.facts["eos_id"], vocab.facts["size"]) == (100257, 100280)
    reader = ShardReader.open(sharded(corpora, documents, vocab).part("a/1"))
    reference = theirs(known, ENCODINGS["cl100k_base"].pattern)
    rows = sorted(
        reader.tokens(span.start, span.start + span.length).tolist() for span in reader.documents(0, reader.num_tokens)
    )
    assert rows == sorted([*reference.encode_ordinary(text), 100257] for text in (SAID[0], f"{SAID[1]}\n  "))


def pa_column(text):
    import pyarrow as pa

    return pa.array([text])


def test_a_rank_file_needs_its_encoding_and_nothing_else_has_one(known, tmp_path):
    path = tmp_path / "own.tiktoken"
    path.write_bytes(lines(known))
    with pytest.raises(TokenizerFileError, match="set encoding to one of r50k_base, "):
        imported(path, file_digest(path), "", SPECIALS)
    path.write_text("{}")
    with pytest.raises(TokenizerFileError, match=r"own\.tiktoken: is no rank file; encoding 'qwen'"):
        imported(path, file_digest(path), "", SPECIALS, "qwen")


def test_a_wrong_rank_file_is_refused_with_its_line(known, tmp_path):
    whole = lines(known)
    bad = {
        whole + b"not base64 at all\n": rf"line {len(known) + 1} is b'not base64 at all'",
        whole + b"YWI= x\n": "expected a token in base64, a space and its rank",
        whole + b"YWJjZ 9999\n": "expected a token in base64",
        whole + b"/w== 9999\n": "stands in an earlier line",
        whole + b"cXF4eQ== 3\n": "stands in an earlier line",
        whole + b"cXF4eQ== 50256\n": r"its rank 50256 is that of <\|endoftext\|> in r50k_base",
        whole.split(b"\n", 1)[1]: "has no token for byte 0x21",
    }
    for data, message in bad.items():
        with pytest.raises(RankFileError, match=message):
            tokenizer_body(data, "r50k_base")
    path = tmp_path / "own.tiktoken"
    path.write_bytes(whole[: len(whole) // 4])
    with pytest.raises(TokenizerFileError, match=r"own\.tiktoken: "):
        imported(path, file_digest(path), "", SPECIALS, "qwen")


def test_what_a_rank_file_looks_like():
    assert is_rank_file(b"IQ== 0\nIg== 1\n")
    assert is_rank_file(b"IQ== 0\r\n")
    assert not is_rank_file(b"")
    assert not is_rank_file(b'{"version": "1.0"}')
    assert not is_rank_file(b"\n\x0e\n\x05<unk>")
