"""The filter families: known answers at every bound, and kernels that equal plain Python on any text."""

# ruff: noqa: RUF001 (look-alikes are what is tested)

import random

import filter_reference as plain
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.filters import c4, fineweb, gopher_quality, gopher_repetition, refinedweb
from pipelines.filters.regex_words import regex_sentence_counts, regex_word_counts, regex_words
from pipelines.filters.rules import broken_rule, judged
from pipelines.filters.spans import Words, column_of, replacement

FAMILIES = {
    gopher_repetition: gopher_repetition.GopherRepetitionRecipe(),
    gopher_quality: gopher_quality.GopherQualityRecipe(),
    c4: c4.C4Recipe(),
    fineweb: fineweb.FineWebRecipe(),
    refinedweb: refinedweb.RefinedWebRecipe(),
}
RULES = [(family, rule) for family in FAMILIES for rule in family.RULES]
PROSE = "The cat and the dog that have been to the house of a friend with a garden. "
PIECES = [
    " ", "\n", "\n\n", "\t", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x1e", "\x1f", "\x85", "\u2028", "\u2029", "\xa0",
    "\u3000", "\0", "a", "b", "cd", "abcd", "The", "the", "of", "and", "1", "10", "٣", "²", "CAPS", "İ", "ı", "ſ", "K",
    "é", "e\u0301", "漢字", "😀", "𝟙", "_", "-", "•", ".", "...", "…", "#", "!", "？", "'", "[", "]", "[1]", "[edit]",
    "[citation needed]", "{", "Lorem Ipsum", "java", "Script", "terms of use", "privacy policy", "use cooKies",
    "use of cookies", "cookie policy", "items in cart", " iTems ın cart", "Read more...", "read more→ x", "Sign-in",
    "ſign-in ", "3 likes", "1,5K views", "7k followers!", "word. ", "internationalisation", "x" * 1001, PROSE,
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8"), max_size=4), max_size=40).map("".join)


def column(texts):
    return pa.array(texts, pa.large_string())


def said(texts):
    """The words of each text, read back from their spans."""
    words, data = regex_words(column(texts)), "".join(texts).encode()
    spans = [data[a:b].decode() for a, b in zip(words.starts, words.ends, strict=True)]
    return [spans[a:b] for a, b in zip(words.offsets, words.offsets[1:], strict=False)]


def measured(family, texts):
    texts = column(texts)
    if family in (c4, refinedweb):
        return family.edited(texts, FAMILIES[family]).signals
    arguments = (FAMILIES[family],) if family is fineweb else ()
    return family.signals(texts, regex_words(texts), *arguments)


def rows(signals):
    return pa.table(signals).to_pylist()


def restored(text, cuts):
    """The edited text, made from the text before the edit and what was cut out of it."""
    done, at = "", 0
    for cut in cuts:
        done += text[at : cut["start"]] + replacement(cut["rule"])
        at = cut["start"] + cut["length"]
    return done + text[at:]


def edit(family, texts, **changed):
    recipe = FAMILIES[family].model_copy(update=changed)
    done = family.edited(column(texts), recipe)
    cuts = done.cuts.to_pylist()
    for row, text in enumerate(texts):
        assert restored(text, [c for c in cuts if c["row"] == row]) == done.texts[row].as_py()
    return done


@given(st.lists(TEXTS, max_size=4))
def test_words_are_runs_of_word_characters_and_single_other_visible_ones(texts):
    assert said(texts) == [plain.words_of(text) for text in texts]
    assert regex_word_counts(column(texts)).tolist() == [len(plain.words_of(text)) for text in texts]


@given(st.lists(TEXTS, max_size=4))
def test_quality_signals_are_those_of_plain_python(texts):
    assert rows(measured(gopher_quality, texts)) == [plain.quality(text) for text in texts]


@given(st.lists(TEXTS, max_size=4))
def test_repetition_signals_are_those_of_plain_python(texts):
    assert rows(measured(gopher_repetition, texts)) == [plain.repetition(text) for text in texts]


@given(st.lists(TEXTS, max_size=4))
def test_fineweb_signals_are_those_of_plain_python(texts):
    assert rows(measured(fineweb, texts)) == [plain.fineweb(text) for text in texts]


@given(st.lists(TEXTS, max_size=4), st.booleans())
def test_c4_leaves_the_lines_that_plain_python_leaves(texts, terminal):
    done = edit(c4, texts, c4_terminal_punctuation=terminal)
    names = ("lorem_ipsum_lines", "curly_bracket_lines", "early_curly_bracket_lines")
    counts = zip(*(done.signals[name].to_pylist() for name in names), strict=True)
    found = [(text, *row) for text, row in zip(done.texts.to_pylist(), counts, strict=True)]
    assert found == [plain.c4(text, terminal) for text in texts]


@given(st.lists(TEXTS, max_size=4))
def test_refinedweb_leaves_what_plain_python_leaves(texts):
    done = edit(refinedweb, texts)
    found = list(zip(done.texts.to_pylist(), done.signals["removed_words_ratio"].to_pylist(), strict=True))
    assert found == [plain.refinedweb(text) for text in texts]


@pytest.mark.parametrize("seed", range(3))
def test_repetition_of_long_documents_is_that_of_plain_python(seed):
    """Few different words, split at different places, so that n-grams of unequal words have equal characters."""
    draw = random.Random(seed)
    texts = [
        " ".join(draw.choices(["1", "10", "0", "110", "ab", "a", "b", "abcabcabcabc"], k=k)) for k in (9, 300, 3000)
    ]
    texts += ["\n".join(draw.choices([PROSE, "x y z", "", "-"], k=400))]
    assert rows(measured(gopher_repetition, texts)) == [plain.repetition(text) for text in texts]


def test_n_grams_are_compared_without_the_spaces_between_their_words():
    text = "can not find the web site; cannot find the website"
    split, joined = "can not use a website", "cannot use a web site"
    assert plain.repetition(f"{split} x {joined}")["duplicate_5_gram_ratio"] == len("cannotuseawebsite") / 45
    assert rows(measured(gopher_repetition, [f"{split} x {joined}", text])) == [
        plain.repetition(f"{split} x {joined}"), plain.repetition(text),
    ]  # fmt: skip


def test_of_equally_common_n_grams_the_first_to_appear_is_the_top_one():
    signals = rows(measured(gopher_repetition, ["aaa bbb c d c d aaa bbb"]))[0]
    assert signals["top_2_gram_ratio"] == len("aaa bbb") * 2 / 23


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_document_does_not_depend_on_its_neighbours(size):
    texts = [PROSE * 3, "", "a\n\nb [1] c d\n", "\n\n", "CAPS\nfine line here\nfine line here", "漢字。" * 9, "3 likes"]
    for family in FAMILIES:
        whole = rows(measured(family, texts))
        parts = [row for at in range(0, len(texts), size) for row in rows(measured(family, texts[at : at + size]))]
        assert parts == whole, family.__name__
    sliced = column(["before", *texts, "behind"]).slice(1, len(texts))
    for family in (c4, refinedweb):
        assert family.edited(sliced, FAMILIES[family]).texts.equals(edit(family, texts).texts)


@pytest.mark.parametrize(("family", "rule"), RULES, ids=[f"{r.reason}-{r.signal}" for _, r in RULES])
def test_a_document_on_the_bound_stays_and_one_beyond_goes(family, rule):
    recipe = FAMILIES[family]
    limit = rule.limit(recipe)
    beyond = limit - 0.001 if rule.is_least else limit + 0.001
    fine = {r.signal: r.limit(recipe) for r in family.RULES}
    frame = pl.DataFrame([fine, {**fine, rule.signal: beyond}])
    found = frame.select(broken_rule(family.RULES, recipe).alias("b"))["b"].to_list()
    assert found[0] is None or found[0]["reason"] is None
    assert found[1] == {"reason": rule.reason, "value": beyond}
    columns = {name: frame[name].to_arrow() for name in frame.columns}
    assert judged(columns, family.RULES, recipe).to_dicts() == [{"reason": None, "value": None}, found[1]]


@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_columns_are_judged_as_the_expression_judges_them(texts):
    for family, recipe in FAMILIES.items():
        signals = measured(family, texts)
        frame = pl.DataFrame({name: pl.from_arrow(values) for name, values in signals.items()})
        expected = frame.select(broken_rule(family.RULES, recipe).alias("b")).unnest("b")
        assert judged(signals, family.RULES, recipe).equals(expected)


def test_every_rule_bounds_a_signal_of_its_family_and_no_two_families_share_a_name():
    for family, recipe in FAMILIES.items():
        names = [field.name for field in family.SIGNALS]
        assert {rule.signal for rule in family.RULES} <= set(names)
        assert {rule.bound for rule in family.RULES} - {""} <= set(type(recipe).model_fields)
        assert [(n, c.type) for n, c in measured(family, [PROSE]).items()] == [(f.name, f.type) for f in family.SIGNALS]
    for names in (
        [f.name for x in FAMILIES for f in x.SIGNALS],
        [n for r in FAMILIES.values() for n in type(r).model_fields],
    ):
        assert len(set(names)) == len(names)


def test_the_first_line_that_drops_a_document_names_the_reason():
    def reason(text):
        frame = pl.DataFrame({k: v.to_pylist() for k, v in edit(c4, [text]).signals.items()})
        return frame.select(broken_rule(c4.RULES, c4.C4Recipe()).alias("b"))["b"][0]["reason"]

    assert reason("some lorem ipsum here\na line with {") == "lorem_ipsum"
    assert reason("a line with {\nsome lorem ipsum here") == "curly_bracket"
    assert reason("javascript { is cut here") == "few_sentences"


def test_each_cut_names_its_rule():
    text = "One two three. [2]\n\nturn on javascript please\nwe use cookies on it\nfew words\n  last line stays here \x0bok so be it\n"
    found = [(cut["rule"], text[cut["start"] :][: cut["length"]]) for cut in edit(c4, [text]).cuts.to_pylist()]
    assert found == [
        ("c4_citation", "[2]"), ("white_space", "\n"), ("c4_javascript", "turn on javascript please\n"),
        ("c4_policy", "we use cookies on it\n"), ("c4_few_words", "few words\n"), ("white_space", "  "),
        ("white_space", " "), ("line_break", "\x0b"), ("white_space", "\n"),
    ]  # fmt: skip


def test_the_sentence_rule_sees_each_kept_line():
    seen = []

    def two_each(texts, lines):
        seen.extend(column_of(texts, lines).to_pylist())
        return np.full(lines.shape[1], 2)

    done = c4.edited(column(["a b c\nd\ne f g", "", "h i j"]), c4.C4Recipe(), two_each)
    assert seen == ["a b c", "e f g", "h i j"]
    assert done.signals["num_sentences"].to_pylist() == [4, 0, 2]


def test_sentences_end_at_terminal_punctuation_before_a_space():
    texts = ["", "One", "One. Two", "One.", "3.14 is one", 'He said "no." Then left', "Wait... what? Yes!", "是。 否。"]
    assert regex_sentence_counts(column(texts)).tolist() == [1, 1, 2, 1, 1, 2, 3, 2]


def test_a_column_with_a_missing_text_is_refused():
    with pytest.raises(ValueError, match="1 of 2 texts are null"):
        regex_words(pa.array(["a", None], pa.large_string()))


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(TEXTS, min_size=20, max_size=60).map("\n".join))
def test_long_adversarial_documents_agree_in_every_family(text):
    assert rows(measured(gopher_repetition, [text])) == [plain.repetition(text)]
    assert rows(measured(gopher_quality, [text])) == [plain.quality(text)]
    assert edit(c4, [text]).texts[0].as_py() == plain.c4(text)[0]
    assert edit(refinedweb, [text]).texts[0].as_py() == plain.refinedweb(text)[0]


def test_stop_words_are_matched_whole_and_as_they_stand():
    text = "the The be\0 \0 that's haven't with"
    assert rows(measured(gopher_quality, [text]))[0]["num_stop_words"] == 4  # the, be, that, with
    spans = Words(np.array([0], np.int64), np.array([4], np.int64), np.array([0, 1], np.int64))
    assert gopher_quality.signals(column(["the\0"]), spans)["num_stop_words"].to_pylist() == [0]
