"""Suites: the same documents give the same suite anywhere, and what is asked can be answered."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals import passages
from evals.passages import Passage
from evals.suites import ITEM_SCHEMA, SuiteRecipe, drawn, make_prompts, passages_of
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store

RECIPE = SuiteRecipe(max_items=16)


def made(store, heldout, recipe=RECIPE):
    key = Key("benchmark_prompts", "small")
    return build(store, key, "1", recipe, [heldout], lambda d: make_prompts(heldout, recipe, d), force=True).artifact


def lines(suite, task):
    return [json.loads(line) for line in suite.local(f"{task}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def suite(tmp_path_factory, make_heldout, two_sources):
    store = Store(tmp_path_factory.mktemp("suite"))
    return made(store, make_heldout(store, two_sources))


@pytest.fixture(scope="module")
def texts(two_sources):
    return {text for texts in two_sources.values() for text in texts}


def test_two_stores_give_one_suite(suite, tmp_path, make_heldout, two_sources):
    other = Store(tmp_path / "elsewhere")
    again = made(other, make_heldout(other, dict(reversed(two_sources.items()))))
    assert again.content == suite.content
    assert not any("/tmp" in suite.local(name).read_text() for name in suite.names(".yaml"))


def test_another_seed_draws_other_documents(suite, tmp_path, make_heldout, two_sources):
    store = Store(tmp_path)
    other = made(store, make_heldout(store, two_sources), RECIPE.model_copy(update={"seed": 1}))
    assert {d["item_id"] for d in lines(other, "bpb")} != {d["item_id"] for d in lines(suite, "bpb")}


def test_every_item_stands_in_items_arrow_with_its_document_and_file(suite):
    items = suite.table("items.arrow")
    assert items.schema == ITEM_SCHEMA
    assert suite.counts == {"tasks": 3, "items": items.num_rows} == {"tasks": 3, "items": 48}
    for row in items.to_pylist():
        assert row["item_id"] == f"{row['task']}-{row['doc_id'].hex()}"
        assert row["cluster"].startswith(("docs.a/1:f", "docs.b/1:f"))
    for task in ("continuation", "lastword", "bpb"):
        wanted = [row["item_id"] for row in items.to_pylist() if row["task"] == task]
        assert [doc["item_id"] for doc in lines(suite, task)] == wanted


def test_the_gold_choice_continues_the_text_and_distractors_do_not(suite, texts):
    golds = Counter()
    for doc in lines(suite, "continuation"):
        choices = doc["choices"]
        assert len({" ".join(c.lower().split()) for c in choices}) == len(choices) == 4
        assert any(doc["context"] + choices[doc["gold"]] in text for text in texts)
        assert not any(doc["context"] + c in text for text in texts for i, c in enumerate(choices) if i != doc["gold"])
        assert len({c[: len(c) - len(c.lstrip())] for c in choices}) == 1  # white space gives nothing away
        assert len({len(c.split()) for c in choices}) == 1
        golds[doc["gold"]] += 1
    assert len(golds) == 4  # the truth does not always stand at one place


def test_distractors_come_from_the_same_source_and_other_files(suite, two_sources):
    sources = {row["item_id"]: row["cluster"] for row in suite.table("items.arrow").to_pylist()}
    for doc in lines(suite, "continuation"):
        source, file = sources[doc["item_id"]].split(":")
        for index, choice in enumerate(doc["choices"]):
            found = [i for i, text in enumerate(two_sources[source]) if choice.strip() in text]
            assert found, "a distractor from another source, though there were enough"
            if index != doc["gold"]:
                assert f"f{found[0] // 4}.py" != file


def test_what_must_not_be_trained_on_is_question_and_answer(suite):
    for row, doc in zip(suite.table("items.arrow").to_pylist(), lines(suite, "continuation"), strict=False):
        assert row["text"] == doc["context"] + doc["choices"][doc["gold"]]


def test_the_last_word_occurs_in_its_context(suite, texts):
    for doc in lines(suite, "lastword"):
        assert doc["target"].strip().lower() in re.findall(r"\w+", doc["context"].lower())
        assert any(doc["context"] + doc["target"] + "." in text for text in texts)


def test_last_word_of_a_known_passage():
    text = (
        "A window holds four panes. Any size may be cut, and a window is a window, said he. Then he closed the window."
    )
    found = passages.last_word(Passage(b"x" * 16, "s", "f", text), min_context=8, max_context=10, min_letters=4)
    assert found is not None
    assert found.doc == {"context": "window is a window, said he. Then he closed the", "target": " window"}
    assert passages.last_word(Passage(b"x" * 16, "s", "f", text), 8, 10, min_letters=7) is None
    assert (
        passages.last_word(Passage(b"x" * 16, "s", "f", "Run setup.py. Then see the file named setup.py."), 2, 6, 2)
        is None
    )


words = st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"]), min_size=12, max_size=30)


@settings(max_examples=60)
@given(st.lists(words, min_size=4, max_size=12))
def test_no_two_choices_are_ever_equal_however_alike_the_documents(documents):
    found = [Passage(bytes([i]) * 16, "s", str(i), " ".join(d)) for i, d in enumerate(documents)]
    splits = [s for p in found if (s := passages.split(p, 10, 8, 3))]
    for item in passages.continuations(splits, splits, 4, 0):
        choices = item.doc["choices"]
        assert len(set(choices)) == 4
        assert item.text.endswith(choices[item.doc["gold"]])


def test_the_draw_is_that_of_the_lowest_ranks_in_whatever_order_documents_come(suite):
    del suite
    found = [Passage(bytes([i]) * 16, "s", "f", str(i)) for i in range(50)]
    wanted = sorted(found, key=lambda p: passages.rank(3, "t", p.doc_id))[:10]
    assert drawn(found, lambda p: p, "t", 3, 10) == drawn(found[::-1], lambda p: p, "t", 3, 10) == wanted
    even = [p for p in sorted(found, key=lambda p: passages.rank(3, "t", p.doc_id)) if int(p.text) % 2 == 0]
    assert drawn(found, lambda p: p if int(p.text) % 2 == 0 else None, "t", 3, 10) == even[:10]


def test_short_documents_are_not_used(tmp_path, make_heldout):
    heldout = make_heldout(Store(tmp_path), {"s": ["too short", "just long enough " * 20]})
    assert [len(p.text.split()) for p in passages_of(heldout, 40)] == [60]


def test_too_few_documents_are_told_and_nothing_is_sealed(tmp_path, make_heldout):
    store = Store(tmp_path)
    heldout = make_heldout(store, {"s": ["word " * 100, "other " * 100]})
    with pytest.raises(ValueError, match="continuation has no items: too few held-out documents have 40 words"):
        made(store, heldout)
    assert store.sealed(Key("benchmark_prompts", "small")) == []


def test_a_suite_asks_something(tmp_path, make_heldout):
    store = Store(tmp_path)
    heldout = make_heldout(store, {"s": ["word"]})
    with pytest.raises(ValueError, match="neither tasks nor files"):
        made(store, heldout, SuiteRecipe(tasks=[]))
    with pytest.raises(ValueError, match="none were given"):
        make_prompts(None, RECIPE, store.draft(Key("benchmark_prompts", "x"), "1", {}, []))


def test_unknown_tasks_are_told():
    with pytest.raises(ValueError, match="'lambada' is unknown or named twice; there are continuation, lastword, bpb"):
        SuiteRecipe(tasks=["bpb", "lambada"])
