"""Items cut from passages written by hand: what is context, what is asked, and what cannot be asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals import passages
from evals.passages import Passage, Split, continuations, last_word, split, whole_passage

WORDS = "one two three four five six seven eight nine ten"


def passage(text, number=0, source="s", file=None):
    return Passage(bytes([number]) * 16, source, file or f"f{number}", text)


# -- continuation ----------------------------------------------------------------------------------------------


def test_a_passage_is_cut_into_context_space_and_continuation():
    found = split(passage("  one two\n\tthree  four five six"), 4, 3, 2)
    assert (found.context, found.space, found.continuation) == ("one two\n\tthree", "  ", "four five")


def test_a_short_passage_gives_its_last_words_as_continuation():
    found = split(passage("one two three four"), 3, 64, 2)
    assert (found.context, found.continuation) == ("one two", "three four")


@pytest.mark.parametrize(("text", "min_words"), [("one two three", 4), ("one two", 2), ("", 0)])
def test_too_short_a_passage_is_not_cut(text, min_words):
    assert split(passage(text), min_words, 64, 2) is None


@given(st.integers(1, 12), st.integers(2, 6), st.integers(2, 12))
def test_the_two_pieces_and_their_space_stand_in_the_text(context_words, continuation_words, min_words):
    found = split(passage(WORDS), min_words, context_words, continuation_words)
    if found is not None:
        assert WORDS.startswith(found.context + found.space + found.continuation)
        assert len(found.continuation.split()) == continuation_words
        assert 1 <= len(found.context.split()) <= context_words


def splits(*continuations_, source="s", space=" "):
    return [
        Split(passage("x", number, source, f"{source}{number}"), f"context {number}", space, text)
        for number, text in enumerate(continuations_)
    ]


def test_the_truth_stands_among_continuations_of_other_files():
    pool = splits("aaaa", "bbbb", "cccc", "dddd")
    items = list(continuations(pool, pool, 4, 0))
    assert len(items) == 4
    for item, cut in zip(items, pool, strict=True):
        assert sorted(item.doc["choices"]) == [" aaaa", " bbbb", " cccc", " dddd"]
        assert item.doc["choices"][item.doc["gold"]] == " " + cut.continuation
        assert item.text == f"{cut.context} {cut.continuation}"


def test_every_choice_has_the_white_space_of_the_truth():
    pool = splits("aaaa", space="\n\n") + splits("bbbb", "cccc", source="t")
    [item] = continuations(pool[:1], pool, 3, 0)
    assert all(choice.startswith("\n\n") for choice in item.doc["choices"])


def test_a_distractor_is_never_the_truth_in_other_capitals_nor_from_the_same_file():
    one = Split(passage("x", 0, "s", "same"), "c", " ", "The end")
    twin = Split(passage("x", 1, "s", "other"), "c", " ", "the  END")
    neighbour = Split(passage("x", 2, "s", "same"), "c", " ", "another end")
    good = Split(passage("x", 3, "s", "third"), "c", " ", "quite else")
    assert list(continuations([one], [one, twin, neighbour], 2, 0)) == []
    [item] = continuations([one], [one, twin, neighbour, good], 2, 0)
    assert sorted(item.doc["choices"]) == [" The end", " quite else"]


def test_other_sources_help_out_only_where_there_are_too_few():
    pool = splits("aaaa", "bbbb", "cccc", source="s") + splits("dddd", "eeee", source="t")
    [item] = continuations(pool[:1], pool, 3, 0)
    assert sorted(item.doc["choices"]) == [" aaaa", " bbbb", " cccc"]
    [item] = continuations(pool[:1], pool, 4, 0)
    assert {" aaaa", " bbbb", " cccc"} < set(item.doc["choices"])


def test_distractors_stand_near_in_length():
    """A hundred continuations of 1 to 100 letters: those of the item with 50 lie within 16 places of it."""
    pool = splits(*[chr(97 + n % 26) * (n + 1) for n in range(100)])
    [item] = continuations([pool[49]], pool, 4, 0)
    assert all(34 <= len(choice) - 1 <= 66 for choice in item.doc["choices"])


def test_the_pool_in_any_order_gives_the_same_items():
    pool = splits(*[f"{chr(97 + n)}" * 5 for n in range(20)])
    assert list(continuations(pool[:5], pool, 4, 3)) == list(continuations(pool[:5], pool[::-1], 4, 3))
    assert list(continuations(pool[:5], pool, 4, 3)) != list(continuations(pool[:5], pool, 4, 4))


# -- last word -------------------------------------------------------------------------------------------------


def last(text, min_context=3, max_context=50, min_letters=4):
    found = last_word(passage(text), min_context, max_context, min_letters)
    return found and (found.doc["context"], found.doc["target"])


def test_the_first_sentence_whose_last_word_was_said_before():
    text = "The gate is old. Nobody painted the gate! They closed the gate."
    assert last(text) == ("The gate is old. Nobody painted the", " gate")
    assert last("A gate is a gate. It is a gate.") == ("A gate is a", " gate")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Nobody painted the wall. They closed the gate.", "said for the first time"),
        ("The gate and the gates", "no end of a sentence"),
        ("We have an old tie. He wore the tie.", "three letters"),
        ("See gate.py and then run the other gate.py", "no sentence ends there"),
        ("The file a.gate is here and so is b.gate.", "a part of a name is no word"),
        ("gate gate.", "too little before it"),
        ("", "nothing"),
    ],
)
def test_what_cannot_be_asked(text, why):
    assert last(text) is None, why


def test_case_does_not_matter_and_the_target_keeps_its_own():
    assert last("Numpy is a library. We all like NUMPY. And so on.") == ("Numpy is a library. We all like", " NUMPY")


def test_the_word_must_stand_in_the_context_that_is_kept():
    text = "The gate was built. One two three four five six seven gate."
    assert last(text, max_context=50) is not None
    assert last(text, max_context=4) is None


def test_a_question_ends_a_sentence_and_white_space_before_the_word_goes_with_it():
    assert last("Is it a gate or was it\n  a  gate? No.") == ("Is it a gate or was it\n  a", "  gate")


# -- whole passages, ranks -------------------------------------------------------------------------------------


def test_a_passage_is_cut_after_so_many_words_and_stripped():
    assert whole_passage(passage(f"\n  {WORDS}\n"), 400).doc == {"text": WORDS}
    assert whole_passage(passage("one  two\nthree four"), 3).text == "one  two\nthree"


def test_ranks_are_the_same_for_ever_and_of_seed_task_and_document():
    assert passages.rank(0, "bpb", b"x" * 16).hex() == "597da868e49fc5979e64e9d2ddda2f31"  # frozen: suites hang on it
    ranks = {passages.rank(s, t, d) for s in (0, 1) for t in ("bpb", "lastword") for d in (b"x" * 16, b"y" * 16)}
    assert len(ranks) == 8


def test_an_item_is_known_by_task_and_document():
    found = whole_passage(passage(WORDS, 7, "docs/1", "a.py"), 3)
    assert found.item_id == "bpb-" + "07" * 16
    assert found.passage.cluster == "docs/1:a.py"
