"""Examples for fine-tunes: what an example is made of, which documents become one, and how classes weigh."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.provenance import fates
from training.finetune_data import Candidate, _check, _chosen, _class_weights, _classes, _table, _tokens, summary_of
from training.recipes import FinetuneDataRecipe

SPECIALS = {"<|endoftext|>": 0, "<|pad|>": 1, "<|user|>": 2, "<|assistant|>": 3}
ids = st.lists(st.integers(4, 500), max_size=60)


def candidate(number, source="a", prompt="w", reference=""):
    return Candidate(number.to_bytes(16, "big"), source, prompt, reference)


def tokens(prompt, answer, max_tokens, task="summary"):
    return _tokens(prompt, answer, FinetuneDataRecipe(task=task, max_tokens=max_tokens), SPECIALS)


def test_an_example_that_fits_is_prompt_and_answer_between_their_marks():
    assert tokens([10, 11, 12], [20, 21], 16) == ([2, 10, 11, 12, 3, 20, 21, 0], 5)
    assert tokens([10, 11, 12], [], 16, "classifier") == ([10, 11, 12, 0], 4)


def test_a_long_body_loses_its_end_and_the_answer_stays_whole():
    found, start = tokens(list(range(10, 40)), [50, 51, 52], 12)
    assert found == [2, 10, 11, 12, 13, 14, 15, 3, 50, 51, 52, 0]
    assert found[start:] == [50, 51, 52, 0]


def test_an_answer_takes_half_of_the_example_at_most():
    found, start = tokens(list(range(10, 40)), list(range(50, 90)), 12)
    assert found[start:-1] == [50, 51, 52, 53, 54, 55]
    assert found[:start] == [2, 10, 11, 12, 3]


@given(ids, ids, st.integers(8, 80))
def test_no_example_is_longer_than_it_may_be_and_marks_stand_where_they_must(prompt, answer, max_tokens):
    found, start = tokens(prompt, answer, max_tokens)
    assert len(found) <= max_tokens
    assert (found[0], found[start - 1], found[-1]) == (2, 3, 0)
    assert [t for t in found if t < 4] == [2, 3, 0]
    assert found[1 : start - 1] == prompt[: start - 2]  # beginnings, never something else
    assert found[start:-1] == answer[: len(found) - 1 - start]
    if len(prompt) + len(answer) + 3 <= max_tokens and len(answer) <= max_tokens // 2:
        assert (found[1 : start - 1], found[start:-1]) == (prompt, answer)


@given(ids, st.integers(8, 80))
def test_a_passage_is_cut_and_always_ends_with_its_end(prompt, max_tokens):
    found, start = tokens(prompt, [], max_tokens, "classifier")
    assert found == [*prompt[: max_tokens - 1], 0]
    assert start == len(found)  # nothing of it is an answer


# -- summaries -------------------------------------------------------------------------------------------------


def summary(text, **fields):
    return summary_of(text, FinetuneDataRecipe(**{"task": "summary", "min_words": 3, **fields}))


def test_white_space_around_and_inside_a_summary_is_evened_out_and_the_body_is_left_alone():
    assert summary("\n\n  Sort   the\n\trows.  \n\n  One two  three.\n") == ("One two  three.", "Sort the rows.")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Sort the rows.\n\nOne two", "the body has two words"),
        ("Sort rows.\n\nOne two three four.", "a summary of two words"),
        ("Sort the rows!\n\nOne two three four.", "no full stop"),
        ("Sort the rows.\nOne two three four.", "no paragraph of its own"),
        ("", "no text"),
        ("\n\n\n\n", "white space"),
    ],
)
def test_what_is_no_summary_makes_no_example(text, why):
    assert summary(text) is None, why


def test_the_longest_summary_is_in_words():
    text = "One two three four five.\n\nA body of some words."
    assert summary(text, max_summary_words=5) is not None
    assert summary(text, max_summary_words=4) is None


# -- which documents -------------------------------------------------------------------------------------------


def test_the_first_in_the_order_of_ids_are_taken_whatever_part_they_come_from():
    books = fates.FateRows()
    found = _chosen([candidate(5, "b"), candidate(1, "a"), candidate(3, "b"), candidate(2, "a")], [], 3, books, "kept")
    assert [c.doc_id[-1] for c in found] == [1, 2, 3]
    rows = {row["doc_id"][-1]: (row["fate"], row["reason"]) for row in books.table().to_pylist()}
    assert rows == {1: ("kept", ""), 2: ("kept", ""), 3: ("kept", ""), 5: ("dropped", "not_needed")}


def test_a_class_that_is_too_small_does_not_take_the_place_of_another():
    books = fates.FateRows()
    found = _chosen([candidate(1, "rare"), candidate(2, "a"), candidate(3, "b")], ["a", "b"], 2, books, "kept")
    assert [c.source for c in found] == ["a", "b"]
    assert fates.reasons(books.table())["dropped: class_too_small"] == 1


def test_classes_are_the_sources_with_enough_passages_by_name():
    recipe = FinetuneDataRecipe(min_examples=2)
    train = [candidate(i, source) for i, source in enumerate(["z", "a", "z", "m", "a", "z"])]
    assert _classes(train, recipe) == (["a", "z"], {"m": 1})
    assert _classes([], recipe) == ([], {})


def test_class_weights_by_hand():
    train = [candidate(i, source) for i, source in enumerate(["a"] * 6 + ["b"] * 3 + ["c"])]
    weights = _class_weights(train, ["a", "b", "c"])
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    # every class weighs the same together, and an example weighs 1 on average
    assert [weights[0] * 6, weights[1] * 3, weights[2]] == pytest.approx([10 / 3] * 3)


def test_class_weights_are_those_of_scikit_learn():
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    sources = ["a"] * 17 + ["b"] * 4 + ["c"] * 9
    wanted = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=np.array(sources))
    assert _class_weights([candidate(i, s) for i, s in enumerate(sources)], ["a", "b", "c"]) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("train", "test", "classes", "told"),
    [
        (5, 5, ["a"], r"needs two sources with at least 20 passages, found a \(too small: \{'b': 3\}\)"),
        (5, 5, [], "found none"),
        (0, 5, ["a", "b"], "found 0 training and 5 test passages"),
        (5, 0, ["a", "b"], "found 5 training and 0 test passages; both are needed. Hold out a larger share"),
    ],
)
def test_what_is_missing_is_told_with_what_to_do(train, test, classes, told):
    recipe = FinetuneDataRecipe()
    some = [candidate(i) for i in range(5)]
    with pytest.raises(ValueError, match=told):
        _check(some[:train], some[:test], classes, {"b": 3}, recipe)


# -- the table -------------------------------------------------------------------------------------------------


def table(candidates, classes, wide="uint16", **fields):
    import pyarrow as pa
    from echo import names

    recipe = FinetuneDataRecipe(**{"max_tokens": 12, **fields})
    return _table(candidates, classes, recipe, names(), SPECIALS, getattr(pa, wide)())


def test_labels_are_places_in_the_list_of_classes():
    found = table([candidate(1, "z", "w9 w8"), candidate(2, "a", "w7")], ["a", "z"]).to_pylist()
    assert [(row["label"], row["tokens"]) for row in found] == [(1, [9, 8, 0]), (0, [7, 0])]


def test_summaries_have_no_label():
    found = table([candidate(1, "a", "w9 w8", "w5 w6")], [], task="summary").to_pylist()
    assert found == [
        {"doc_id": (1).to_bytes(16, "big"), "tokens": [2, 9, 8, 3, 5, 6, 0], "answer_start": 4, "label": -1}
    ]


def test_tokens_are_as_wide_as_the_vocabulary_asks():
    narrow, wide = (table([candidate(1, "a", "w9")], ["a", "b"], kind) for kind in ("uint16", "uint32"))
    assert (str(narrow["tokens"].type), str(wide["tokens"].type)) == (
        "large_list<item: uint16>", "large_list<item: uint32>"
    )  # fmt: skip
    assert narrow["tokens"].to_pylist() == wide["tokens"].to_pylist()
