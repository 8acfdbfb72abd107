"""Items in two spellings: what is found of either counts for the item."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.cuts import cut
from pipelines.item_index import ItemIndex
from pipelines.overlap import Check, OverlapIndex

SIZES = (13, 8, 5)


def index(*pairs, sizes=SIZES, unspaced=True):
    return ItemIndex([q for q, _ in pairs], [a for _, a in pairs], sizes, unspaced)


def found(items, *texts):
    m = items.matches(pa.array(texts, pa.large_string()))
    rows = zip(m.documents.tolist(), m.items.tolist(), m.coverage.tolist(), m.longest.tolist(), strict=True)
    return {(d, i): (c, n) for d, i, c, n in rows}


PRICE = ("The farmers' co-op doesn't sell its eggs for $2.50 but what's ", "its price?")


@pytest.mark.parametrize("document", [
    "the farmers coop doesnt sell its eggs for 250 but whats its price",
    "The farmers' co-op doesn't sell its eggs for $2.50, but: what's its price",
])  # fmt: skip
def test_marks_inside_words_may_be_gone_or_stand(document):
    items = index(("another item altogether of some length here", ""), PRICE)
    (((place, item), (coverage, _)),) = found(items, "x", document).items()
    assert (place, item, coverage) == (1, 1, 1.0)
    assert cut(f"Before: {document}", items, 0.4).spans[0].item == 1
    assert cut(f"Before: {document}", items, 0.4).text == "Before: "


def test_a_spelling_is_no_item_of_its_own():
    items = index(PRICE, ("plain words without any marks inside of them", ""), ("no", ""))
    assert items.checks == [Check.NGRAM, Check.NGRAM, Check.NO]
    assert items.num_words.tolist() == [17, 8, 1]


def test_the_spelling_of_which_more_is_shown_counts():
    """Both spellings share their last 13 words; the document has the whole of the one."""
    tail = " ".join(f"w{n}" for n in range(13))
    items = index((f"don't {tail}", ""))
    assert found(items, f"dont {tail}") == {(0, 0): (1.0, 14)}
    assert found(items, f"don't {tail}") == {(0, 0): (1.0, 15)}


def test_without_items_nothing_is_found():
    assert found(index(), "some text") == {}
    assert cut("some text", index(), 0.4).text == "some text"


words = st.sampled_from(["a", "b", "c"])
texts = st.lists(words, max_size=10).map(" ".join)


@given(st.lists(st.tuples(texts, texts), max_size=4), st.lists(texts, max_size=3))
def test_items_without_marks_are_found_as_by_the_plain_index(pairs, documents):
    sizes = (4, 3, 2)
    pairs = [(question + " ", answer) for question, answer in pairs]
    counts = pa.array([len(answer.split()) for _, answer in pairs], pa.int64()).to_numpy()
    plain = OverlapIndex(
        pa.array([q + a for q, a in pairs], pa.large_string()), *sizes, unspaced=True, answers=counts
    )  # fmt: skip
    assert found(index(*pairs, sizes=sizes), *documents) == found(plain, *documents)


@pytest.mark.parametrize("phrase", [2, 4])
@given(pair=st.tuples(texts, texts), document=texts)
def test_question_and_answer_apart_equal_a_plain_search(phrase, pair, document):
    """In one piece, or the whole question and then the whole answer, 16 words behind it or, if both are short, 3."""
    (question, answer), said = (text.split() for text in pair), document.split()
    ngram = 6
    asked = [*question, *answer]
    if len(asked) < phrase:
        return
    shown = any(said[at : at + min(ngram, len(asked))] == asked[i : i + min(ngram, len(asked))]
                for at in range(len(said)) for i in range(max(1, len(asked) - ngram + 1)))  # fmt: skip
    forward, backward = phrase <= len(question) < ngram, len(question) < phrase <= len(answer) < ngram
    short = max(len(question), len(answer)) < phrase
    if question and answer and (forward or backward or short):
        reach = 3 if short else 16
        shown |= any(
            said[at : at + len(question)] == question and said[to : to + len(answer)] == answer
            for at in range(len(said)) for to in range(at + len(question), min(len(said), at + len(question) + reach + 1))
        )  # fmt: skip
    assert bool(found(index((pair[0] + " ", pair[1]), sizes=(ngram, max(3, phrase), phrase)), document)) == shown
