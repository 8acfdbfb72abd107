from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.overlap import Check, OverlapIndex, matches_of
from pipelines.overlap_kernel import REACH


def index(*texts, **settings):
    return OverlapIndex(pa.array(texts, pa.large_string()), **settings)


def found(overlap, *texts):
    """{(document, item): (coverage, longest)}"""
    m = overlap.matches(pa.array(texts, pa.large_string()))
    rows = zip(m.documents.tolist(), m.items.tolist(), m.coverage.tolist(), m.longest.tolist(), strict=True)
    return {(d, i): (c, n) for d, i, c, n in rows}


def numbered(start, stop):
    return " ".join(f"w{i}" for i in range(start, stop))


def test_case_punctuation_and_line_breaks_do_not_matter():
    item = "What is the name of the river that flows, slowly, through the middle of the old town?"
    document = "Intro. WHAT is the\nname of the river\nthat flows slowly through -- the middle of the old town\n\nEnd."
    assert found(index(item), document) == {(0, 0): (1.0, 17)}


def test_coverage_counts_the_words_that_lie_in_shared_ngrams():
    # words 0-15 and 20-39 of 40 stand in the document: 16 + 20 words, the longest run 20
    assert found(index(numbered(0, 40)), f"{numbered(0, 16)} other {numbered(20, 40)}") == {(0, 0): (0.9, 20)}
    # 12 words in a row are no 13-gram
    assert found(index(numbered(0, 40)), f"{numbered(0, 12)} other {numbered(20, 32)}") == {}


@pytest.mark.parametrize(("size", "check"), [(13, Check.NGRAM), (8, Check.NGRAM), (7, Check.PHRASE), (5, Check.PHRASE)])
def test_short_items_must_occur_whole(size, check):
    item = numbered(0, size)
    overlap = index(item, numbered(50, 90))
    assert overlap.checks[0] == check
    assert found(overlap, f"before {item} after", numbered(0, size - 1), numbered(1, size)) == {(0, 0): (1.0, size)}


def test_items_that_are_too_short_are_reported_and_never_match():
    overlap = index("four words are few", "", "?!")
    assert overlap.checks == [Check.NO] * 3
    assert found(overlap, "four words are few", "") == {}


def test_a_short_item_does_not_reach_into_the_next_document():
    assert found(index(numbered(0, 6)), numbered(0, 5), "w5 w6") == {}


def test_items_that_begin_alike_are_told_apart():
    overlap = index(numbered(0, 6), numbered(0, 9), numbered(0, 5) + " x y z", numbered(0, 6))
    assert found(overlap, numbered(0, 9)) == {(0, 0): (1.0, 6), (0, 1): (1.0, 9), (0, 3): (1.0, 6)}


SHORT = "How many points did the Panthers defense surrender?"


@pytest.mark.parametrize(("document", "shown"), [
    (f"Question: {SHORT}\nAnswer: 308 points", True),
    (f"{SHORT} 308", True),
    (f"{SHORT} {numbered(0, REACH)} 308", True),
    (f"{SHORT} {numbered(0, REACH + 1)} 308", False),
    (f"{SHORT} nobody knows", False),
    (f"308: {SHORT}", False),
])  # fmt: skip
def test_a_short_question_is_found_apart_from_its_answer(document, shown):
    overlap = index(
        f"{SHORT} 308", "an item of one piece, whose words number twelve or so, not more", answers=np.array([1, 0])
    )
    assert found(overlap, "before", document) == ({(1, 0): (1.0, 9)} if shown else {})


def test_the_answer_must_stand_in_the_same_document():
    assert found(index(f"{SHORT} 308", answers=np.array([1])), SHORT, "308") == {}


def test_a_short_question_with_a_long_answer_is_found_apart_from_it():
    """Their common n-grams lie across the seam, where another word stands."""
    answer = numbered(0, 8)
    overlap = index(f"{SHORT} {answer}", answers=np.array([8]))
    assert found(overlap, f"{SHORT} A: {answer}") == {(0, 0): (13 / 16, 13)}
    assert found(index(f"{SHORT} {answer}"), f"{SHORT} A: {answer}") == {}


@pytest.mark.parametrize(("document", "shown"), [
    ("Goal: Water evaporates from\nSolution: the surface of all the oceans", True),
    (f"Water evaporates from {numbered(0, REACH)} the surface of all the oceans", True),
    (f"Water evaporates from {numbered(0, REACH + 1)} the surface of all the oceans", False),
    ("Steam evaporates from: the surface of all the oceans", False),
    ("Water evaporates from where? The surface of all the seas", False),
    ("The surface of all the oceans: water evaporates from", False),
])  # fmt: skip
def test_a_very_short_question_is_found_by_its_answer(document, shown):
    overlap = index("Water evaporates from the surface of all the oceans", answers=np.array([6]))
    assert found(overlap, "before", document) == ({(1, 0): (1.0, 9)} if shown else {})


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Spider webs help spiders", "capture food"),
        ("trees", "provide homes for people"),
        ("Jig Saw", "chops windows down"),
    ],
)
def test_question_and_answer_of_few_words_may_have_a_label_between_them(question, answer):
    """Neither has five words: up to three others may part them, not more, and the order counts."""
    overlap = index(f"{question} {answer}", "or another one", answers=np.array([len(answer.split()), 0]))
    whole = len(f"{question} {answer}".split())
    for between in ("", "A:", "Answer:", "\nThe answer is: ", "w0 w1 w2"):
        assert found(overlap, "x", f"so {question} {between} {answer}!") == {(1, 0): (1.0, whole)}, between
    for said in (f"{question} {numbered(0, 4)} {answer}", f"{answer} {question}", f"{question}. Answer: no", answer):
        assert found(overlap, said) == {}, said
    assert found(overlap, question, answer) == {}, "of two documents"


def test_a_character_counts_half_as_evidence():
    """Five characters are two or three words; ten of them are as much as five words."""
    said = "一二三四五六七八九十"
    overlap = index(said[:9], said, f"four words are {said[0]}", unspaced=True)
    assert overlap.checks == [Check.NO, Check.NGRAM, Check.NO]
    assert overlap.num_words.tolist() == [9, 10, 4]
    assert found(overlap, f"前{said}後") == {(0, 1): (1.0, 10)}
    assert found(overlap, f"前{said[:5]}。{said[5:]}後") == {(0, 1): (1.0, 10)}


def test_an_index_without_items_finds_nothing():
    assert found(index(), "some text") == {}
    assert index().seen(pa.array(["a"], pa.large_string())).tolist() == []


def test_floors_must_ascend():
    with pytest.raises(ValueError, match="phrase_floor <= floor <= ngram, got 9, 8, 13"):
        index("x", phrase_floor=9)


words = st.sampled_from(["a", "b", "c"])
texts = st.lists(words, max_size=14).map(" ".join)


@given(st.lists(texts, max_size=5), st.lists(texts, max_size=4))
def test_matches_equal_a_plain_search(items, documents):
    ngram, floor, phrase_floor = 4, 3, 2
    expected = {}
    for d, document in enumerate(documents):
        said = document.split()
        for i, item in enumerate(items):
            asked = item.split()
            n = min(ngram, len(asked))
            if n < phrase_floor:
                continue
            shown = {tuple(said[at : at + n]) for at in range(len(said) - n + 1)}
            hits = [at for at in range(len(asked) - n + 1) if tuple(asked[at : at + n]) in shown]
            covered = {word for at in hits for word in range(at, at + n)}
            longest = run = 0
            for at in range(len(asked)):
                run = run + 1 if at in hits else 0
                longest = max(longest, run and run + n - 1)
            if hits:
                expected[d, i] = (len(covered) / len(asked), longest)
    assert found(index(*items, ngram=ngram, floor=floor, phrase_floor=phrase_floor), *documents) == expected


@given(st.lists(texts, min_size=1, max_size=5), st.lists(texts, max_size=4))
def test_shares_equal_a_plain_count(items, documents):
    overlap = index(*items, ngram=3, floor=1, phrase_floor=1)
    shares = overlap.shares(overlap.seen(pa.array(documents, pa.large_string())))
    for item, share in zip(items, shares.tolist(), strict=True):
        asked = item.split()
        n = min(3, len(asked))
        shown = {tuple(d.split()[at : at + n]) for d in documents for at in range(len(d.split()) - n + 1)}
        grams = [tuple(asked[at : at + n]) for at in range(len(asked) - n + 1)] if asked else []
        assert share == (sum(g in shown for g in grams) / len(grams) if grams else 0.0)


def test_rows_of_a_column_are_counted_through_its_pieces(monkeypatch):
    from pipelines import words as rule

    monkeypatch.setattr(rule.pieces, "__defaults__", (20,))
    column = pa.chunked_array([["x", numbered(0, 8)], [numbered(3, 4), numbered(0, 9)]], pa.large_string())
    rows = np.concatenate([m.documents for m in matches_of(index(numbered(0, 8)), column)])
    assert rows.tolist() == [1, 3]


def test_planted_benchmark_items_are_found_and_nothing_else(shared_data):
    """90 planted items of ARC-Easy, GSM8K and PIQA: 48 verbatim, 21 normalised, 21 cut in half."""
    zstandard = pytest.importorskip("zstandard")
    items = _benchmark_items(shared_data / "benchmarks")
    folder = shared_data / "corpora" / "planted"
    with zstandard.open(folder / "documents.jsonl.zst", "rt", encoding="utf-8") as lines:
        documents = [json.loads(line) for line in lines]
    with (folder / "truth" / "contamination.jsonl").open() as lines:
        truth = {(t["doc"], t["task"], t["row"]): t["form"] for t in map(json.loads, lines)}
    overlap = index(*(text for _, _, text in items))
    column = pa.chunked_array([pa.array([d["text"] for d in documents], pa.large_string())])
    seen = {}
    for match in matches_of(overlap, column):
        for d, i, share in zip(match.documents, match.items, match.coverage, strict=True):
            if share >= 0.4:
                seen[documents[d]["id"], items[i][0], items[i][1]] = share
    assert seen.keys() == truth.keys()
    assert all(share == 1.0 for key, share in seen.items() if truth[key] == "verbatim")


def _benchmark_items(folder):
    def rows(path):
        return map(json.loads, (folder / path).read_text().splitlines())

    items = []
    for number, row in enumerate(rows("arc_easy/test.jsonl")):
        choices = row["choices"]
        items.append(
            ("arc_easy", number, f"{row['question']} {choices['text'][choices['label'].index(row['answerKey'])]}")
        )
    items += [("gsm8k", number, row["question"]) for number, row in enumerate(rows("gsm8k/test.jsonl"))]
    items += [("piqa", n, f"{row['goal']} {row['sol1']}") for n, row in enumerate(rows("piqa/validation.jsonl"))]
    assert any(len(re.findall(r"\w+", text)) < 13 for _, _, text in items)
    return items
