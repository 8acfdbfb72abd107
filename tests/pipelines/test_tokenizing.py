"""Tokens that are looked up are those of the ``tokenizers`` library, id by id; the table decides nothing."""

from __future__ import annotations

import io
import itertools
import json
import os
import threading

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pipelines.tokenizing import Encoder, encoder, inert_characters
from pipelines.tokenizing_kernel import numbered_units
from pipelines.unit_rules import (
    GPT2,
    O200K,
    RULES,
    TABLE_SIZE,
    Cuts,
    case_classes,
    character_classes,
    numeric_characters,
    why_whole,
)
from pipelines.vocabulary import plain_tokenizer
from pipelines.words import text_buffers

DEEP = os.environ.get("STEMMA_DEEP") == "1"
SAID = [
    "Don't say we'll; they've said I'm 'really' sure, it's what they're told, and he'd 'd 'll know. DON'T 'RE",
    "Ünïcödé and 中文 and emoji 🎉 are text as well,\n\tand so are tabs\r\n\r\n  and   line ends.   ",
    "x = [1, 22, 333] * 4.5e-10 // ²³¼ Ⅷ ٣٤ 五\n    return   None\n\n\n",
    "<|endoftext|> ends nothing, nor does |||MAIL||| or   two   spaces, |||MAIL|||s",
    "e\u0301 \u1112\u1161\u11ab \u0958 \u212b \ufb01 \U0001d15e \u2028\u3000\u00a0'\u0085s\x1c\x1d",
]
# what rules and boundaries are made of
FRAGMENTS = [
    *"aZ1é中²Ⅷ.,'!-_😀\u0301\u200b\u1161\u0f71\0",
    *[
        "'s",
        "'t",
        "'re",
        "'ve",
        "'m",
        "'ll",
        "'d",
        "'l",
        "'r",
        "'S",
        " '",
        "word",
        "Word",
        "12",
        "<|end|>",
        "|||MAIL|||",
    ],
    *[
        " ",
        " ",
        " ",
        "  ",
        "   ",
        "\n",
        "\t",
        "\r\n",
        "\xa0",
        "\u2003",
        "\x85",
        "\x1c",
        "\u2028",
        "\u3000",
        "<|",
        "|||",
    ],
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=16).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=30
)
NO_TREE, NO_TOKENS = np.zeros((1, 256), np.int32), np.full(1, -1, np.int32)


def learned(**parts) -> Tokenizer:
    """A byte-level tokenizer with some merges of SAID."""
    tokenizer = Tokenizer(models.BPE(**parts))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SAID, trainer)
    return tokenizer


def body(**changes) -> dict:
    return {**json.loads(learned().to_str()), **changes}


def added(number: int, content: str, **changes) -> dict:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return {"id": number, "content": content, **plain, **changes}


WITH_ADDED = [
    added(400, "|||MAIL|||"),
    *(added(399 + spaces, " " * spaces) for spaces in range(2, 9)),
    added(408, "<|end|>", special=True),
    added(409, "<|  |>", special=True),  # read as text, the spaces in it too
    added(0, "<|endoftext|>", special=True, normalized=False),
]
PLAIN = Encoder(json.dumps(body()).encode())
NEOX_LIKE = Encoder(json.dumps(body(normalizer={"type": "NFC"}, added_tokens=WITH_ADDED)).encode())


def column(*texts):
    return pa.array(texts, pa.large_string())


def rows(encode: Encoder, texts: list[str], **options) -> list[list[int]]:
    ids, offsets = encode.encode(column(*texts), **options)
    assert offsets[0] == 0
    assert offsets[-1] == len(ids)
    return [ids[start:end].tolist() for start, end in itertools.pairwise(offsets)]


def of_library(encode: Encoder, texts: list[str]) -> list[list[int]]:
    return [encode.tokenizer.encode(text).ids for text in texts]


def units(text: str, rule: int = 0, digits: int = 0) -> list[str]:
    data, bounds_of_rows = text_buffers(column(text))
    classes = case_classes() if rule == RULES[O200K] else character_classes()
    cuts = Cuts(rule, digits, classes, numeric_characters(), NO_TREE, NO_TOKENS, NO_TREE, NO_TOKENS)
    bounds, _, _ = numbered_units(data, bounds_of_rows, cuts, PLAIN.table)
    raw = text.encode()
    return [raw[start:end].decode() for start, end in itertools.pairwise(bounds)]


def units_of_library(text: str, pattern: str = GPT2, digits: int = 0) -> list[str]:
    cut = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern != GPT2:
        cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    if digits:
        cut = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=digits == 2), cut])
    return [text[start:end] for _, (start, end) in cut.pre_tokenize_str(text)]


# -- units -----------------------------------------------------------------------------------------------------


def test_every_character_is_of_the_class_that_the_library_sees():
    """After a letter, a number and a symbol: every character of the table and, beyond, every 61st (STEMMA_DEEP: all)."""
    step = 1 if DEEP else 61
    for first in range(0, 0x110000, 1 << 14):
        some = "".join(
            f"a{chr(code)}1{chr(code)}!'{chr(code)}"
            for code in range(first, first + (1 << 14), 1 if first < TABLE_SIZE else step)
            if not 0xD800 <= code < 0xE000
        )
        for pattern, rule in RULES.items():
            assert units(some, rule) == units_of_library(some, pattern), f"{pattern} from {first:x} on"
        for digits in (1, 2):
            assert units(some, digits=digits) == units_of_library(some, digits=digits), f"from {first:x} on"


@settings(max_examples=400)
@given(text=TEXTS)
@example(text="'")
@example(text=" '")
@example(text="''s")
@example(text="x '")
@example(text="a\u2003\u2003")
@example(text="a\u2003\u2003b")
@example(text=" \n x")
@example(text="!\r\n\n x")
@example(text=" !\n")
@example(text="\t\n \r  x")
@example(text="'\u017fx 'S 'Re'vE'LLx 'lL")
@example(text="1234567 12\u0663\u00b24")
@example(text="\u3000x\u2003\u2003x\nx\rx")
@example(text="ABCd Ab\u4e2dAB \u0301AB \u0301a !Ab'S'll \u01c5a A\u0301b \u4e2d\u4e2dABC")
@example(text="x//\n/ //\r\n a/\n \u0301\u0301/ 'A's'sA'")
def test_units_are_the_matches_of_the_librarys_expression(text):
    for pattern, rule in RULES.items():
        for digits in (0, 1, 2):
            assert units(text, rule, digits) == units_of_library(text, pattern, digits)


# -- tokens ----------------------------------------------------------------------------------------------------


@settings(max_examples=400)
@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=[])
@example(texts=["", "", ""])
@example(texts=SAID)
def test_tokens_are_those_of_the_library(texts):
    for encode in (PLAIN, NEOX_LIKE):
        assert encode.why_whole == ""
        assert rows(encode, texts) == of_library(encode, texts)


def test_texts_in_another_normal_form_are_composed_as_the_library_does():
    """Every character below the end of the table alone, after a letter, and before a mark that may join it."""
    codes = [code for code in range(TABLE_SIZE) if not 0xD800 <= code < 0xE000 and not 0x3400 <= code < 0xA000]
    texts = [f"{chr(c)} e{chr(c)} {chr(c)}\u0301\u0327" for c in codes]
    texts = ["".join(texts[start : start + 512]) for start in range(0, len(texts), 512)]
    assert rows(NEOX_LIKE, texts) == of_library(NEOX_LIKE, texts)
    nfc, inert = normalizers.NFC(), inert_characters()
    alone = [c for c in codes if inert[c] and c >= 0x20]
    assert all(nfc.normalize_str("e" + chr(c)) == "e" + chr(c) for c in alone[::3])


def test_an_added_token_cuts_the_text_and_a_special_one_does_not():
    ids = rows(NEOX_LIKE, ["a |||MAIL||| b    c <|endoftext|>", "<|  |>", "   "])
    assert 400 in ids[0]
    assert 403 in ids[0]  # four spaces
    assert 0 not in ids[0]
    assert 401 not in ids[1]  # two spaces inside a special token
    assert ids[2] == [402]


def test_tokens_of_real_texts_are_those_of_gpt_neox(shared_data):
    encode = Encoder((shared_data / "tokenizers" / "gpt-neox-20b.json").read_bytes())
    assert encode.why_whole == ""
    texts = real_texts(shared_data)
    assert sum(map(len, texts)) > 1_000_000
    for _ in range(2):  # the second time from the table
        assert rows(encode, texts) == of_library(encode, texts)


def real_texts(shared_data) -> list[str]:
    """English prose, and the Declaration of Human Rights in many languages and scripts."""
    import zstandard

    packed = (shared_data / "corpora" / "udhr2" / "udhr2_a.jsonl.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(packed)).read().splitlines()
    prose = (shared_data / "corpora" / "wikitext2" / "valid.txt").read_text("utf-8")
    declarations = [json.loads(line)["text"] for line in lines]
    return [*declarations[::2], *(prose[start : start + 5000] for start in range(0, len(prose), 5000)), *SAID]


# -- the table is a cache --------------------------------------------------------------------------------------


def test_the_table_decides_nothing():
    data = json.dumps(body()).encode()
    expected = of_library(PLAIN, SAID * 3)
    for bounds in ({}, {"max_units": 1}, {"max_bytes": 8}, {"max_units": 40}):
        encode = Encoder(data, **bounds)
        assert [rows(encode, [text])[0] for text in SAID * 3] == expected
        assert rows(encode, SAID * 3) == expected


def test_a_table_beyond_its_bounds_forgets_everything():
    encode = Encoder(json.dumps(body()).encode(), max_units=10)
    rows(encode, [" ".join(f"w{n}" for n in range(500))])
    assert len(encode.table.offsets) > 500
    rows(encode, ["one word"])
    assert len(encode.table.offsets) == 3


def test_a_unit_is_encoded_once():
    encode = Encoder(json.dumps(body()).encode())
    asked: list[str] = []
    encoded = encode._encoded_units
    encode._encoded_units = lambda some: asked.extend(some) or encoded(some)
    for _ in range(2):
        rows(encode, ["the cat and the dog", "the cat"])
    assert sorted(asked) == [" and", " cat", " dog", " the", "the"]


def test_slices_and_chunks_are_read_where_they_are():
    ids, offsets = PLAIN.encode(column("before", *SAID, "after").slice(1, len(SAID)))
    other = PLAIN.encode(pa.chunked_array([column(*SAID[:2]), column(), column(*SAID[2:])]))
    assert ids.tolist() == other[0].tolist() == [i for text in of_library(PLAIN, SAID) for i in text]
    assert offsets.tolist() == other[1].tolist()


def test_a_column_larger_than_a_piece_is_one_column(monkeypatch):
    monkeypatch.setattr("pipelines.tokenizing.CACHE_BYTES", 50)
    assert rows(PLAIN, SAID * 4, end_id=0) == [[*ids, 0] for ids in of_library(PLAIN, SAID * 4)]


def test_two_threads_share_an_encoder():
    encode, found = Encoder(json.dumps(body()).encode()), {}

    def work(number: int) -> None:
        texts = [f"{text} {number} {n}" for n in range(40) for text in SAID]
        found[number] = [rows(encode, [text])[0] for text in texts] == of_library(PLAIN, texts)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(4), True)


def test_one_tokenizer_has_one_encoder():
    data = json.dumps(body()).encode()
    assert encoder(data) is encoder(bytes(bytearray(data)))


# -- ends, types and what is refused ---------------------------------------------------------------------------


def test_every_text_ends_as_asked():
    for encode in (PLAIN, Encoder(json.dumps(body(normalizer={"type": "Lowercase"})).encode())):
        assert rows(encode, ["", "a"], end_id=7) == [[7], [*rows(encode, ["a"])[0], 7]]
        assert encode.encode(column("a"), np.uint16)[0].dtype == np.uint16
        assert rows(encode, []) == []


def test_ids_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="ids up to 399, and uint8 holds ids up to 255"):
        PLAIN.encode(column("a"), np.uint8)
    with pytest.raises(ValueError, match="up to 70000, and uint16"):
        PLAIN.encode(column("a"), np.uint16, end_id=70_000)
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        PLAIN.encode(column("a", None))


SPLIT = {"type": "Split", "pattern": {"Regex": GPT2}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
WHOLE = {
    "a pre-tokenizer": [
        {"pre_tokenizer": {**BYTES, "add_prefix_space": True}},
        {"pre_tokenizer": {**BYTES, "use_regex": False}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES, {"type": "Whitespace"}]}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, {**BYTES, "add_prefix_space": True}]}},
        {"pre_tokenizer": {**SPLIT, "behavior": "Removed"}},
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{**SPLIT, "behavior": "Removed"}, {**BYTES, "use_regex": False}],
            }
        },
        {
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [{**SPLIT, "pattern": {"Regex": "a+"}}, {**BYTES, "use_regex": False}],
            }
        },
    ],
    "a normalizer": [
        {"normalizer": {"type": "NFKC"}},
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}},
        {"normalizer": {"type": "Prepend", "prepend": "_"}},
    ],
    "an added token": [
        {"added_tokens": [added(400, "and", single_word=True)]},
        {"added_tokens": [added(400, "and", lstrip=True)]},
        {"added_tokens": [added(400, "and", normalized=False, rstrip=True)]},
        {"added_tokens": [added(400, "\u00e9")]},
        {"added_tokens": [added(400, "and", rstrip=True, special=True)]},
    ],
    "a post-processor": [
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                ],
                "pair": [],
                "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}},
            }
        }
    ],
}


@pytest.mark.parametrize(("reason", "changes"), [(r, c) for r, changes in WHOLE.items() for c in changes])
def test_a_tokenizer_that_does_more_is_used_as_it_is(reason, changes):
    encode = Encoder(json.dumps(body(**changes)).encode())
    assert reason in encode.why_whole
    assert rows(encode, SAID) == of_library(encode, SAID)
    assert len(encode.table.offsets) == 1


DIGITS = {"type": "Digits", "individual_digits": True}
RAW = [
    added(400, "|||MAIL|||", normalized=False),
    added(401, "<|end", normalized=False),
    added(402, "e\u0301", normalized=False),
    added(403, "<|end|>", special=True, normalized=False),  # read as text, and longer than another that begins there
]
LOOKED_UP = {
    "digits": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS, BYTES]}},
    "numbers": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{**DIGITS, "individual_digits": False}, BYTES]}},
    "digits of units": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [BYTES, DIGITS]}},
    "a split twice": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, BYTES]}},
    "no normalizer in a sequence": {"normalizer": {"type": "Sequence", "normalizers": []}},
    "NFC in a sequence": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]}},
    "tokens in the text as it is": {"added_tokens": RAW},
    "both kinds of tokens": {"added_tokens": [*RAW, added(404, "MAIL"), added(405, "||"), added(406, "d|")]},
    "tokens before composition": {"added_tokens": RAW, "normalizer": {"type": "NFC"}},
}  # fmt: skip
ENCODERS = {name: Encoder(json.dumps(body(**changes)).encode()) for name, changes in LOOKED_UP.items()}


@settings(max_examples=150)
@given(texts=st.lists(TEXTS | st.sampled_from(["<|end|>", "<|end", "e\u0301", "|||MAIL|||\u0301"]), max_size=6))
@example(texts=SAID)
@example(
    texts=["", "|||MAIL|||\u0338 x", "\u212b", "ae\u0301e", "<|end|>", "<|end|", "||MAIL|||MAIL|||", "1\u0662\u00b2 34"]
)
@pytest.mark.parametrize("name", LOOKED_UP)
def test_tokens_of_more_tokenizers_are_those_of_the_library(name, texts):
    encode = ENCODERS[name]
    assert encode.why_whole == ""
    assert rows(encode, texts) == of_library(encode, texts)
    assert rows(encode, texts, end_id=7) == [[*ids, 7] for ids in of_library(encode, texts)]


def test_dropout_is_left_to_the_library():
    changed = body()
    changed["model"]["dropout"] = 0.5
    assert why_whole(changed) == "dropout"


@pytest.mark.parametrize("pattern", RULES)
def test_tokens_of_other_units_are_those_of_the_library(pattern):
    split = {**SPLIT, "pattern": {"Regex": pattern}}
    steps = {"type": "Sequence", "pretokenizers": [split, {**BYTES, "use_regex": False}]}
    encode = Encoder(json.dumps(body(pre_tokenizer=steps)).encode())
    assert encode.why_whole == ""
    assert rows(encode, SAID) == of_library(encode, SAID)


def test_a_special_token_in_a_text_is_text():
    assert rows(PLAIN, ["<|endoftext|>"])[0] == plain_tokenizer(json.dumps(body()).encode()).encode("<|endoftext|>").ids
    assert 0 not in rows(PLAIN, ["<|endoftext|>"])[0]
