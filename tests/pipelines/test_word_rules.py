"""Word rules: what a word is under each name, and that its counts are those of its words."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.word_rules import word_rule

NAMES = ("regex-1", "spacy-en")


@pytest.fixture(params=NAMES)
def rule(request):
    if request.param == "spacy-en":
        pytest.importorskip("spacy", reason="the extra 'fineweb' is not installed")
    return word_rule(request.param)


def texts(*cells: str) -> pa.LargeStringArray:
    return pa.array(cells, pa.large_string())


def words_of(rule, text: str) -> list[str]:
    words, data = rule.words(texts(text)), text.encode()
    return [data[start:end].decode() for start, end in zip(words.starts, words.ends, strict=True)]


def test_a_plain_sentence_has_the_words_that_people_see(rule):
    assert [w for w in words_of(rule, "The keeper lights the lamp.") if w != "."] == [
        "The",
        "keeper",
        "lights",
        "the",
        "lamp",
    ]


def test_nothing_has_no_words_and_counts_as_one_sentence(rule):
    assert rule.word_counts(texts("", "  \n\t ")).tolist() == [0, 0]
    assert rule.sentence_counts(texts("", " ")).tolist() == [1, 1]


def test_sentences_are_counted(rule):
    assert rule.sentence_counts(texts("One is here. Two is there! Is three?", "No end")).tolist() == [3, 1]


def test_counts_belong_to_their_texts(rule):
    cells = ("a b c", "", "d e")
    assert rule.word_counts(texts(*cells)).tolist() == [3, 0, 2]
    assert np.diff(rule.words(texts(*cells)).offsets).tolist() == [3, 0, 2]


@pytest.mark.parametrize("name", NAMES)
@given(cells=st.lists(st.text(max_size=60), max_size=5))
def test_a_count_is_the_number_of_words(name, cells):
    if name == "spacy-en":
        pytest.importorskip("spacy")
    rule = word_rule(name)
    assert rule.word_counts(texts(*cells)).tolist() == np.diff(rule.words(texts(*cells)).offsets).tolist()


def test_a_rule_names_the_version_that_a_manifest_keeps():
    assert word_rule("regex-1").version == "regex-1"
    spacy = pytest.importorskip("spacy")
    assert word_rule("spacy-en").version == f"spacy-en (spacy {spacy.__version__})"
