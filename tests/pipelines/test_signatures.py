from __future__ import annotations

import numpy as np
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import minhash
from pipelines.signatures import VERSION, SignatureRecipe, sign

PROSE = [
    "The quick brown fox jumps over the lazy dog and runs away into the deep dark wood.",
    "Returns the number of rows. Returns the number of rows. Returns the number of rows.",
    "two words",
    "...",
    "",
    "Ünïcödé wörds äre wörds tóo, 中文 也 是 词 and so on until the very end.",
]


def signed(corpora, texts, **recipe):
    chosen = SignatureRecipe(**recipe)
    clean = corpora.clean("s/1", texts)
    return corpora.run("signatures", "s/1", VERSION, chosen, [clean], lambda d: sign(clean, chosen, d), force=True)


def by_datasketch(hashes, num_perm, seed):
    sketch = MinHash(num_perm=num_perm, seed=seed, hashfunc=int, scheme="affine32")
    sketch.update_batch(list(hashes))
    return sketch.hashvalues


@settings(max_examples=30)
@given(
    st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=50), min_size=1, max_size=5),
    st.sampled_from([(112, 1), (1, 7), (33, 2**32 - 1)]),
)
def test_signatures_equal_datasketch_bit_for_bit(documents, shape):
    num_perm, seed = shape
    flat = np.array([h for d in documents for h in d], np.uint32)
    offsets = np.cumsum([0, *map(len, documents)])
    ours = minhash.signatures(flat, offsets, *minhash.permutations(num_perm, seed))
    assert ours.dtype == np.uint32
    for row, document in zip(ours, documents, strict=True):
        assert np.array_equal(row, by_datasketch(document, num_perm, seed))


def test_signatures_of_real_text_equal_datasketch(corpora):
    artifact = signed(corpora, PROSE)
    rows = artifact.table("signatures.arrow")["signature"].to_pylist()
    for row, hashes in zip(rows, artifact.table("shingles.arrow")["hashes"].to_pylist(), strict=True):
        assert row == by_datasketch(hashes, 112, 1).tolist()


def test_shingles_are_sorted_and_distinct(corpora):
    lists = signed(corpora, PROSE).table("shingles.arrow")["hashes"].to_pylist()
    assert all(hashes == sorted(set(hashes)) for hashes in lists)
    # 15 words of three equal sentences have 11 five-grams, 5 of them different; two words are one shingle; none, none
    assert [len(hashes) for hashes in lists] == [13, 5, 1, 0, 0, 12]


def test_a_document_without_words_has_the_signature_of_the_empty_set(corpora):
    rows = signed(corpora, PROSE).table("signatures.arrow")["signature"].to_pylist()
    assert set(rows[3]) == set(rows[4]) == {2**32 - 1}


def test_rows_stand_beside_those_of_the_documents(corpora):
    artifact = signed(corpora, PROSE)
    ids = artifact.input("clean_documents").table("documents.arrow")["doc_id"].to_pylist()
    for name in ("signatures.arrow", "shingles.arrow", "fates.arrow"):
        assert artifact.table(name)["doc_id"].to_pylist() == ids
    assert artifact.counts["docs"] == artifact.counts["seen"] == artifact.counts["kept"] == len(PROSE)


@pytest.mark.parametrize("piece_bytes", [1, 100])
def test_rows_do_not_depend_on_how_the_text_is_cut(corpora, monkeypatch, piece_bytes):
    from pipelines import words

    texts = PROSE * 5
    whole = signed(corpora, texts)
    monkeypatch.setattr(words.pieces, "__defaults__", (piece_bytes,))
    cut = signed(corpora, texts)
    assert cut.manifest.rows == whole.manifest.rows
    assert cut.table("shingles.arrow").equals(whole.table("shingles.arrow"))


@pytest.mark.parametrize("cache_bytes", [1, 300])
def test_no_byte_depends_on_how_much_text_is_computed_at_once(corpora, monkeypatch, cache_bytes):
    from pipelines import signatures

    texts = [*PROSE * 5, ""]
    whole = signed(corpora, texts)
    monkeypatch.setattr(signatures, "CACHE_BYTES", cache_bytes)
    assert signed(corpora, texts).content == whole.content


def test_rows_do_not_depend_on_how_many_signatures_are_made_at_once(corpora, monkeypatch):
    from pipelines import signatures

    whole = signed(corpora, PROSE)
    monkeypatch.setattr(signatures, "MATRIX_BYTES", 2 * 4 * 112)
    cut = signed(corpora, PROSE)
    assert cut.manifest.rows == whole.manifest.rows
    assert cut.table("shingles.arrow").equals(whole.table("shingles.arrow"))
    assert len(cut.table("signatures.arrow")["doc_id"].chunks) == 3


def test_signatures_of_nine_thousand_permutations_equal_datasketch(corpora):
    artifact = signed(corpora, PROSE[:2], num_perm=9000)
    rows = artifact.table("signatures.arrow")["signature"].to_pylist()
    hashes = artifact.table("shingles.arrow")["hashes"].to_pylist()
    assert rows == [by_datasketch(some, 9000, 1).tolist() for some in hashes]


def test_an_empty_source_has_empty_signatures(corpora):
    artifact = signed(corpora, [])
    assert artifact.counts["docs"] == artifact.counts["seen"] == 0
    assert artifact.table("signatures.arrow").num_rows == 0


def test_shingles_of_characters_find_what_words_without_spaces_hide(corpora):
    """A sentence of Chinese is one word, so that one changed character leaves nothing in common."""
    chinese = "我们在海边的小镇上度过了整个夏天每天早晨都去市场买新鲜的鱼和水果"
    changed = chinese.replace("水果", "蔬菜")
    by = {
        kind: signed(corpora, [chinese, changed], shingle=kind).table("shingles.arrow") for kind in ("words", "chars")
    }
    sets = {kind: [set(one) for one in table["hashes"].to_pylist()] for kind, table in by.items()}
    assert not sets["words"][0] & sets["words"][1]
    one, other = sets["chars"]
    size = len(chinese) - 4
    assert (len(one), len(one & other)) == (size, size - 2)


def test_characters_are_compared_without_case_punctuation_and_line_breaks(corpora):
    table = signed(corpora, ["One, two\n\nthree!", "one two three", "abc", "", "?"], shingle="chars", ngram=4).table(
        "shingles.arrow"
    )
    lists = table["hashes"].to_pylist()
    assert lists[0] == lists[1]
    assert [len(some) for some in lists] == [10, 10, 1, 0, 0]


def test_signatures_of_words_are_the_default(corpora):
    assert signed(corpora, PROSE).manifest.rows == signed(corpora, PROSE, shingle="words").manifest.rows
