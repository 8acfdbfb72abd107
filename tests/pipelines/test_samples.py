"""Samples: the lowest ids of all parts together, whatever the parts are, and little change when a corpus grows."""

from __future__ import annotations

import itertools

import pytest
from corpora import Corpora
from hypothesis import given
from hypothesis import strategies as st

from pipelines.samples import sampled


def taken(artifacts, sample_bytes: int) -> dict[bytes, str]:
    found = {}
    for ids, texts in sampled(artifacts, sample_bytes):
        found |= dict(zip(ids.tolist(), texts.to_pylist(), strict=True))
    return found


def known(artifacts) -> dict[bytes, str]:
    return taken(artifacts, 1 << 40)


def test_a_sample_holds_the_lowest_ids_that_fit(corpora: Corpora):
    artifact = corpora.clean("a/1", [f"text number {number:02d}" for number in range(40)])  # 14 bytes each
    everything = known([artifact])
    assert sorted(taken([artifact], 14 * 10)) == sorted(everything)[:10]
    assert sorted(taken([artifact], 14 * 10 + 13)) == sorted(everything)[:10]
    assert sorted(taken([artifact], 14 * 11)) == sorted(everything)[:11]


def test_a_sample_is_never_empty(corpora: Corpora):
    artifact = corpora.clean("a/1", ["a text far beyond one byte", "another one"])
    assert len(taken([artifact], 1)) == 1


def test_texts_stand_beside_their_ids(corpora: Corpora):
    artifact = corpora.clean("a/1", [f"text {number}" for number in range(30)])
    documents = artifact.table("texts.arrow")
    ids = [i.rstrip(b"\0") for i in documents["doc_id"].to_pylist()]  # as numpy reads fixed bytes
    assert known([artifact]) == dict(zip(ids, documents["text"].to_pylist(), strict=True))


def test_several_corpora_are_sampled_as_one(corpora: Corpora):
    first, second = corpora.clean("a/1", ["aaaa"] * 20), corpora.clean("b/1", ["bbbb"] * 20)
    lowest = sorted(known([first]) | known([second]))[:13]
    assert sorted(taken([first, second], 4 * 13)) == lowest
    assert taken([second, first], 4 * 13) == taken([first, second], 4 * 13)


def test_a_corpus_that_grows_keeps_what_of_its_sample_still_fits(corpora: Corpora):
    first, more = corpora.clean("a/1", ["aaaa"] * 50), corpora.clean("b/1", ["bbbb"] * 5)
    before, after = taken([first], 4 * 30), taken([first, more], 4 * 30)
    assert len(set(before) - set(after)) <= 5
    assert set(after) - set(before) <= set(known([more]))


@pytest.mark.parametrize("sample_bytes", [0, -1])
def test_a_sample_of_nothing_is_still_one_document(corpora: Corpora, sample_bytes: int):
    assert len(taken([corpora.clean("a/1", ["one", "two"])], sample_bytes)) == 1


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), sample_bytes=st.integers(1, 200))
def test_a_sample_stays_within_its_bytes(tmp_path_factory, sizes, sample_bytes):
    corpora = Corpora(tmp_path_factory.mktemp("store"))
    texts = taken([corpora.clean("a/1", ["x" * size for size in sizes])], sample_bytes)
    everything = sorted(known([corpora.clean("a/1", ["x" * size for size in sizes])]).items())
    assert len(texts) == 1 or sum(map(len, texts.values())) <= sample_bytes
    ends = itertools.accumulate(len(text) for _, text in everything)
    assert len(texts) == max(1, sum(end <= sample_bytes for end in ends))
