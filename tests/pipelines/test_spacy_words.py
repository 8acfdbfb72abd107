# ruff: noqa: RUF001 (quotes and dashes of every kind are what is tested)
"""Words and sentences of the kernel are spaCy's own, character by character."""

import itertools
import json
import os
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

spacy = pytest.importorskip("spacy", reason="the extra [fineweb] is not installed")

from pipelines import words as words_module  # noqa: E402
from pipelines.filters import spacy_words as module  # noqa: E402
from pipelines.filters.chunk_vocabulary import ChunkVocabulary  # noqa: E402
from pipelines.filters.spacy_kernel import (  # noqa: E402
    ALPHA,
    DOT_LEFT,
    ICON,
    INFIX,
    MAX_CODE,
    PERIOD_LEFT,
    PERIOD_RIGHT,
    PREFIX,
    PUNCT,
    SPACE,
    SUFFIX,
    UPPER,
)
from pipelines.filters.spacy_rules import PATTERNS, character_classes, patterns_digest, piece_words, spacy_rules  # noqa: E402
from pipelines.filters.spacy_words import spacy_sentence_counts, spacy_words  # noqa: E402
from pipelines.words import text_buffers  # noqa: E402

DEEP = os.environ.get("STEMMA_DEEP") == "1"
ENGLISH = spacy.blank("en")
ENGLISH.add_pipe("sentencizer")

# what affixes, infixes, special cases, units and URLs are made of
FRAGMENTS = [
    *"abIX159.,:;!?'\"()[]{}<>=/*&#%$+-_^~|\\@°²€£…–—’‘“”«»。，éßÄЖжאक中😀𝒳\u0301\u200b",
    *["'s", "’S", "n't", "don't", "Mr.", "e.g.", "a.m.", "U.S.", "C++", ":)", ":-(", "(*_*)", "):", "<3", "o.O", "w/o"],
    *["...", "..", "--", "---", "——", "……", "km/h", "US$", "10K", "foo.bar", "x.Y", "http://", "www.", ".com", "a@b"],
    *["word", "Word", "WORD", "It's", "let's", "192.168.1.1", "1.2.3.4", "well-known", "and/or", "''", "``"],
]
SPACES = [" ", " ", " ", " ", "  ", "\n", "\n\n", " \n", "\t", "\xa0", "\u2003", "\x85", "\x1c", "\r\n", "\u2028"]
pieces = st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=7).map("".join)
texts = st.lists(st.tuples(pieces, st.sampled_from(SPACES)), max_size=12).map(
    lambda rows: "".join(itertools.chain.from_iterable(rows))
)


def column(*rows):
    return pa.array(rows, pa.large_string())


def words_of(array, vocabulary=None):
    data, _ = text_buffers(array)
    words = spacy_words(array, ChunkVocabulary() if vocabulary is None else vocabulary)
    spans = [data[a:b].tobytes().decode() for a, b in zip(words.starts, words.ends, strict=True)]
    return [spans[a:b] for a, b in itertools.pairwise(words.offsets)]


def words_by_spacy(text):
    with ENGLISH.memory_zone():
        return [token.text.strip() for token in ENGLISH(text) if token.text.strip()]


def sentences_by_spacy(text):
    with ENGLISH.memory_zone():
        return max(1, len(list(ENGLISH(text).sents)))


@settings(max_examples=5000 if DEEP else 200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(texts, max_size=4))
@example(["x:) )", "x:)", "(int): 3", ": )) :)"])
@example(["((((a.b-c.com/d))))''", "5km/h. 10°C. US$5US$", "well---known a----b"])
@pytest.mark.slow
def test_words_and_sentences_are_those_of_spacy(rows):
    assert words_of(column(*rows)) == [words_by_spacy(text) for text in rows]
    assert spacy_sentence_counts(column(*rows)).tolist() == [sentences_by_spacy(text) for text in rows]


@settings(max_examples=3000 if DEEP else 200, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=4))
@pytest.mark.slow
def test_words_of_any_characters_are_those_of_spacy(rows):
    rows = [text.replace("IS_ALPHA", "") for text in rows]
    assert words_of(column(*rows)) == [words_by_spacy(text) for text in rows]


def test_known_words():
    text = "Don't (ever) pay US$5,000/month at https://a.org/b-c; it's 10km, Mr. O'Neil-Smith… e.g., well-known."
    assert words_of(column(text)) == [
        [
            "Do",
            "n't",
            "(",
            "ever",
            ")",
            "pay",
            "US$",
            "5,000",
            "/",
            "month",
            "at",
            "https://a.org/b-c",
            ";",
            "it",
            "'s",
            "10",
            "km",
            ",",
            "Mr.",
            "O'Neil",
            "-",
            "Smith",
            "…",
            "e.g.",
            ",",
            "well",
            "-",
            "known",
            ".",
        ]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x:)", ["x", ":)"]),
        ("x:) )", ["x", ":", ")", ")"]),  # ":))" is found over the space, is none, and keeps ":)" from being taken
        ("x:)\n)", ["x", ":)", ")"]),
        ("(int): A", ["(", "int", "):", "A"]),
        ("un-e.g.", ["un", "-", "e.g."]),
    ],
)
def test_special_cases_are_recognised_over_the_whole_text(text, expected):
    assert words_of(column(text)) == [expected] == [words_by_spacy(text)]


def test_every_white_space_of_unicode_divides_words():
    spaces = [chr(code) for code in range(MAX_CODE) if chr(code).isspace()]
    assert len(spaces) > 20
    for space in spaces:
        assert words_of(column(f"one{space}two")) == [["one", "two"]] == [words_by_spacy(f"one{space}two")]


def test_texts_without_words():
    assert words_of(column("", " ", "\n\t\u2003", "a")) == [[], [], [], ["a"]]
    assert words_of(column()) == []
    assert spacy_sentence_counts(column("", "  ")).tolist() == [1, 1]


def test_a_text_does_not_depend_on_its_neighbours():
    rows = ["x:)", ")", "Mr", ". https://a.b/c-d", "IS_ALPHA", "IS_ALPHA.", "fin"]
    together = words_of(column(*rows))
    assert together == [words_of(column(text))[0] for text in rows]
    assert words_of(column(*rows).slice(2, 3)) == together[2:5]
    assert together[4:6] == [["IS_ALPHA"], ["IS_ALPHA", "."]]  # on which spaCy itself fails the second time


def test_large_columns_are_split_in_parts(monkeypatch):
    rows = ["Mr. A:) )", "", "http://a.bc/d-e f", "x"] * 5
    monkeypatch.setattr(module, "pieces", lambda texts: words_module.pieces(texts, 16))
    assert words_of(column(*rows)) == [words_by_spacy(text) for text in rows]


def test_the_kernel_was_written_for_the_installed_spacy():
    assert patterns_digest(spacy_rules().tokenizer) == PATTERNS


def test_expressions_that_the_kernel_does_not_know_change_the_time_only(monkeypatch):
    rows = ["Don't (ever) pay US$5; x:) ) http://a.bc/d-e", "It's 10km/h... -- 'well-known'"]
    known = spacy_rules()
    monkeypatch.setattr(module, "spacy_rules", lambda: known._replace(tables=known.tables._replace(is_known=False)))
    vocabulary = ChunkVocabulary()
    assert words_of(column(*rows), vocabulary) == [words_by_spacy(text) for text in rows]
    assert len(vocabulary) == len(set(" ".join(rows).split()))


def test_a_piece_is_split_alike_by_the_expressions_and_by_the_kernel():
    rules = spacy_rules()
    for piece in ["(don't)", "'a'", "..a..b..", "5km", "xx.Yy", "a-b/c", "“It’s”", "--", "a,b,", "U.S..", "+5+", "'s"]:
        assert [piece_words(piece, rules.tokenizer, rules.cases)] == words_of(column(piece)), piece


def test_urls_are_learned_once_and_forgotten_beyond_the_bounds():
    text = column("see http://a.org/b-c and http://a.org/b-c")
    vocabulary = ChunkVocabulary()
    first = words_of(text, vocabulary)
    assert len(vocabulary) == 1
    assert words_of(text, vocabulary) == first
    small = ChunkVocabulary(max_pieces=0)
    assert words_of(column("http://x.yz/a-b"), small) == [["http://x.yz/a-b"]]
    assert words_of(text, small) == first
    assert len(small) == 1  # the piece before was forgotten


def test_many_pieces_are_learned_in_several_columns():
    vocabulary = ChunkVocabulary()
    rows = [" ".join(f"host{n}.example.org/a-{n}" for n in range(k, k + 700)) for k in (0, 500, 1000)]
    for text in rows:
        assert words_of(column(text), vocabulary) == [text.split()]
    assert len(vocabulary) == 1700


def test_long_pieces_take_no_other_way():
    for piece in ["=" * 1100, "a" * 1100 + ")" * 100, "ab," * 400]:
        assert words_of(column(piece)) == [words_by_spacy(piece)]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("One. Two! Three?", 3),
        ("One.  ", 2),  # two spaces are a token, and one is none
        ("One. ", 1),
        ("e.g. this, Mr. Smith", 1),
        ('He said "No." Then left.', 2),
        ("Wait... what?! Yes.", 2),
        ("终于。好的。 ok", 2),
    ],
)
def test_known_sentences(line, count):
    assert spacy_sentence_counts(column(line)).tolist() == [count] == [sentences_by_spacy(line)]


def test_classes_of_characters_are_those_of_the_expressions():
    tokenizer, classes = spacy_rules().tokenizer, character_classes()
    codes = range(MAX_CODE) if DEEP else [*range(0x700), *range(0x700, 0x3100, 3), *range(0x3100, MAX_CODE, 61)]
    for code in codes:
        if 0xD800 <= code < 0xE000:
            continue
        c, bits = chr(code), int(classes[code])
        if c.isspace():
            assert bits & SPACE
            continue
        assert bool(tokenizer.find_prefix(c)) == bool(bits & PREFIX or c == "+"), hex(code)
        assert bool(tokenizer.find_suffix(c)) == bool(bits & SUFFIX), hex(code)
        assert (tokenizer.find_suffix(f"{c}.") == 1) == bool(bits & DOT_LEFT), hex(code)
        assert (tokenizer.find_suffix(f"A{c}.") == 1) == bool(bits & (DOT_LEFT | UPPER)), hex(code)
        assert _has_infix(tokenizer, f"{c}.'", 1) == bool(bits & PERIOD_LEFT), hex(code)
        assert _has_infix(tokenizer, f"'.{c}", 1) == bool(bits & PERIOD_RIGHT or c == "."), hex(code)
        assert _has_infix(tokenizer, f"a-{c}", 1) == bool(bits & ALPHA), hex(code)
        if any(_has_infix(tokenizer, text, 1) for text in (f"1{c}1", f"a{c}a", f"a{c}A")):
            assert bits & INFIX, hex(code)
        if bits & ICON:
            assert _has_infix(tokenizer, f"1{c}1", 1), hex(code)
        assert bool(bits & PUNCT) == bool(ENGLISH.vocab[c].is_punct), hex(code)


def _has_infix(tokenizer, text, at):
    return any(match.start() == at for match in tokenizer.find_infix(text))


def test_without_spacy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ModuleNotFoundError, match=r"stemma\[fineweb\].*regex-1"):
        spacy_rules.__wrapped__()


def test_words_of_real_documents_are_those_of_spacy(shared_data):
    zstandard = pytest.importorskip("zstandard")
    path = shared_data / "corpora" / "planted" / "documents.jsonl.zst"
    with path.open("rb") as file:
        lines = zstandard.ZstdDecompressor().stream_reader(file).read(2_000_000).splitlines()[:-1]
    rows = [json.loads(line)["text"] for line in lines[:: 1 if DEEP else 5]]
    words = words_of(column(*rows))
    assert words == [words_by_spacy(text) for text in rows]
    assert sum(map(len, words)) > 10_000
    assert np.array_equal(spacy_sentence_counts(column(*rows)), [sentences_by_spacy(text) for text in rows])
