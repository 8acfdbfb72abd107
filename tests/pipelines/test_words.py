from __future__ import annotations

import re
import sys
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import words


def hashed(texts):
    return words.word_hashes(pa.array(texts, pa.large_string()))


def said(text):
    """The rule in plain Python: runs of \\w, each character lower-cased by itself."""
    return ["".join(c.lower()[0] for c in word) for word in re.findall(r"\w+", text)]


def test_word_characters_are_exactly_those_of_python_re():
    table = words.character_table()
    pattern = re.compile(r"\w")
    wrong = [
        c for c in range(sys.maxunicode + 1)
        if bool(pattern.match(chr(c))) != (c < words.TABLE_SIZE and table[c] != 0)
    ]  # fmt: skip
    assert wrong == []


def test_lower_case_is_python_lower_wherever_that_is_one_character():
    table = words.character_table()
    longer = [c for c in range(words.TABLE_SIZE) if table[c] and len(chr(c).lower()) != 1]
    assert [chr(c) for c in longer] == ["İ"]
    assert table[ord("İ")] == ord("i")
    assert all(table[c] == ord(chr(c).lower()) for c in range(words.TABLE_SIZE) if table[c] and c not in longer)


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=6))
def test_kernel_sees_the_words_that_plain_python_sees(texts):
    hashes, offsets = hashed(texts)
    expected = [said(text) for text in texts]
    assert np.diff(offsets).tolist() == [len(w) for w in expected]
    flat = [word for doc in expected for word in doc]
    one_by_one = [int(hashed([word])[0][0]) for word in flat]
    assert hashes.tolist() == one_by_one
    assert len(set(flat)) == len(set(one_by_one))


def test_words_of_one_document_never_join_those_of_the_next():
    hashes, offsets = hashed(["ab", "cd", ""])
    assert offsets.tolist() == [0, 1, 2, 2]
    assert int(hashes[0]) != int(hashed(["abcd"])[0][0])


def test_hashes_are_frozen():
    hashes, offsets = hashed(["The quick brown fox jumps over Ωμέγα_1 ÉCLAIR 中文 \U0001d538!", "", "two words"])
    grams, gram_offsets = words.shingle_hashes(hashes, offsets, 5)
    assert words.RULE == "stemma-words/1"
    assert [f"{h:016x}" for h in hashes[[0, 6, 8, 9]].tolist()] == GOLDEN_WORDS
    assert [f"{h:016x}" for h in grams[[0, 5, 6]].tolist()] == GOLDEN_GRAMS
    assert gram_offsets.tolist() == [0, 6, 6, 7]
    assert [b.hex() for b in words.fingerprints(hashes, offsets).to_pylist()] == GOLDEN_FINGERPRINTS


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12), st.integers(1, 6))
def test_equal_grams_have_equal_hashes_and_others_differ(sequence, n):
    hashes, offsets = hashed([" ".join(sequence)])
    grams, _ = words.gram_hashes(hashes, offsets, n)
    plain = [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]
    assert len(grams) == len(plain)
    assert len(set(grams.tolist())) == len(set(plain))
    assert all((grams[i] == grams[j]) == (plain[i] == plain[j]) for i in range(len(plain)) for j in range(i))


def test_short_documents_are_one_shingle_of_all_their_words():
    hashes, offsets = hashed(["one two", "one", "?!", "one two three four five six"])
    _, shingles = words.shingle_hashes(hashes, offsets, 5)
    _, grams = words.gram_hashes(hashes, offsets, 5)
    assert np.diff(shingles).tolist() == [1, 1, 0, 2]
    assert np.diff(grams).tolist() == [0, 0, 0, 2]


@given(st.lists(st.text(st.sampled_from("aB\u00e9\u4e2d. "), max_size=30), max_size=9))
def test_a_document_has_the_same_hashes_and_fingerprint_alone_and_among_others(texts):
    """Two halves of a column are read side by side: empty documents and lone ones stand at any place of it."""
    hashes, offsets = hashed(texts)
    prints = words.fingerprints(hashes, offsets).to_pylist()
    for number, text in enumerate(texts):
        alone = hashed([text])
        assert hashes[offsets[number] : offsets[number + 1]].tolist() == alone[0].tolist()
        assert prints[number] == words.fingerprints(*alone)[0].as_py()


def test_fingerprint_ignores_case_punctuation_and_space_only():
    texts = ["Hello, World", "hello\n\nworld!", "hello worlds", "world hello", "helloworld"]
    first, second, *others = words.fingerprints(*hashed(texts)).to_pylist()
    assert first == second
    assert len({first, *others}) == 4


@given(st.lists(st.text(max_size=20), max_size=20), st.integers(1, 30))
def test_pieces_give_back_the_column(texts, max_bytes):
    column = pa.chunked_array([texts[:3], texts[3:]], pa.large_string())
    cut = list(words.pieces(column, max_bytes))
    assert [text for piece in cut for text in piece.to_pylist()] == texts
    assert all(len(p) == 1 or sum(len(t.encode()) for t in p.to_pylist()) <= max_bytes for p in cut)


def test_slices_and_small_strings_are_read_at_their_own_offsets():
    whole = pa.array(["skip me", "keep this", "and that"])
    assert words.word_hashes(whole.slice(1))[0].tolist() == hashed(["keep this", "and that"])[0].tolist()


def test_a_missing_text_is_an_error():
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        hashed(["a", None])


def test_the_unicode_version_is_stated():
    assert unicodedata.unidata_version == words.UNICODE


GOLDEN_WORDS = ["588aa95425e9a220", "5a44f48d1850678e", "3ded9ee448c70b75", "4769ace7b6e02a74"]
GOLDEN_GRAMS = ["183328361ccb5473", "72bf7ebc15fac63d", "925983d08082fa1a"]
GOLDEN_FINGERPRINTS = [
    "725f3b13516317854551e0b14dc36556",
    "157c4a7fb979379e2f64bd78641d76a0",
    "0d40ecb025471c50b2d16c8eb64b77c0",
]


# -- characters -------------------------------------------------------------------------------------------------


def characters(texts):
    return words.character_hashes(pa.array(texts, pa.large_string()))


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=6))
def test_characters_are_those_of_the_words_with_one_space_between_them(texts):
    hashes, offsets = characters(texts)
    expected = [" ".join(said(text)) for text in texts]
    assert np.diff(offsets).tolist() == [len(text) for text in expected]
    hash_of = {}
    for character, value in zip("".join(expected), hashes.tolist(), strict=True):
        assert hash_of.setdefault(character, value) == value
    assert len(set(hash_of.values())) == len(hash_of)


CHARACTERS = ["24d6bc59decd11b6", "695ca573b587b07e", "732a8a53dbd3d647", "713eb72a04b89b69"]


def test_character_hashes_are_frozen():
    hashes, offsets = characters(["Ab, ü", "..."])
    assert offsets.tolist() == [0, 4, 4]
    assert [f"{value:016x}" for value in hashes.tolist()] == CHARACTERS


@given(st.text(alphabet=st.sampled_from("aB_9 .-é中文のカーทไ々〇ｱ\u0301🙂İ"), max_size=30), st.booleans())
def test_places_and_hashes_are_of_the_same_words(text, unspaced):
    """The kernel's words, one by one, are those that the pattern finds."""
    hashes, offsets = words.word_hashes(pa.array([text], pa.large_string()), unspaced=unspaced)
    found = [text[start:end] for start, end in words.word_places(text, unspaced=unspaced)]
    assert offsets.tolist() == [0, len(found)]
    alone = [words.word_hashes(pa.array([word], pa.large_string()), unspaced=unspaced)[0].tolist() for word in found]
    assert [h for one in alone for h in one] == hashes.tolist()


def test_scripts_without_spaces_are_cut_by_character_and_others_not():
    text = "GPU用日本語 カタカナ abc"
    assert [text[a:b] for a, b in words.word_places(text, unspaced=True)] == [*["GPU", *"用日本語カタカナ"], "abc"]
    assert [text[a:b] for a, b in words.word_places(text)] == ["GPU用日本語", "カタカナ", "abc"]
    assert words.num_unspaced(pa.array([text, "", "plain"], pa.large_string())).tolist() == [8, 0, 0]
