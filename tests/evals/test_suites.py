"""Suites: the same documents give the same suite anywhere, and what is asked can be answered."""

import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals import passages
from evals.benchmarks import files_digest
from evals.passages import Passage
from evals.suites import ITEM_SCHEMA, SuiteRecipe, drawn, items_of, make_prompts, passages_of, unpacked
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


@pytest.mark.parametrize(
    ("task", "texts", "told"),
    [
        ("lastword", ["word " * 60] * 3, "task lastword has no items: too few held-out documents have 40 words"),
        ("bpb", ["too short"] * 3, "task bpb has no items: too few held-out documents have 40 words"),
        ("continuation", ["word " * 60] * 3, "and 3 others to be confused with"),
    ],
)
def test_a_task_without_items_says_which_and_what_to_do(tmp_path, make_heldout, task, texts, told):
    store = Store(tmp_path)
    heldout = make_heldout(store, {"s": texts})
    with pytest.raises(ValueError, match=rf"{told}.*Hold out more documents, lower min_words, or take the task out"):
        made(store, heldout, SuiteRecipe(tasks=[task]))
    assert store.sealed(Key("benchmark_prompts", "small")) == []


def test_fewer_documents_than_items_are_all_used(tmp_path, make_heldout):
    store = Store(tmp_path)
    heldout = make_heldout(store, {"s": [f"text number {i} " * 20 for i in range(5)]})
    suite = made(store, heldout, SuiteRecipe(tasks=["bpb"], max_items=200))
    assert suite.facts == {"tasks": {"bpb": 5}}


def test_a_suite_of_one_task_is_a_part_of_the_suite_of_all(suite, tmp_path, make_heldout, two_sources):
    """What is drawn for one task does not depend on which others are asked."""
    store = Store(tmp_path)
    alone = made(store, make_heldout(store, two_sources), SuiteRecipe(max_items=16, tasks=["lastword"]))
    assert lines(alone, "lastword") == lines(suite, "lastword")


def test_more_items_keep_those_that_fewer_had(suite, tmp_path, make_heldout, two_sources):
    store = Store(tmp_path)
    more = made(store, make_heldout(store, two_sources), SuiteRecipe(max_items=24, tasks=["bpb"]))
    assert [d["item_id"] for d in lines(more, "bpb")][:16] == [d["item_id"] for d in lines(suite, "bpb")]


def test_a_further_document_displaces_one_at_most(tmp_path, make_heldout, two_sources):
    """Suites are frozen; were one made anew on a grown corpus, nearly all of its items would be the old ones."""
    stores = Store(tmp_path / "a"), Store(tmp_path / "b")
    grown = {**two_sources, "docs.c/1": [" ".join(f"newword{i}" for i in range(60)) + "."]}
    before, after = (
        {d["item_id"] for d in lines(made(store, make_heldout(store, texts), SuiteRecipe(max_items=16, tasks=["bpb"])), "bpb")}
        for store, texts in zip(stores, (two_sources, grown), strict=True)
    )  # fmt: skip
    assert len(before - after) <= 1


def test_a_benchmark_may_not_take_the_name_of_a_task_of_ours(tmp_path, make_heldout, two_sources):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "bpb.yaml").write_text(
        "task: bpb\ndataset_path: json\ntest_split: test\ndataset_kwargs: {data_files: {test: bpb.jsonl}}\n"
        "output_type: loglikelihood_rolling\ndoc_to_text: ''\ndoc_to_target: text\n"
    )
    (folder / "bpb.jsonl").write_text('{"text": "a passage"}\n')
    store = Store(tmp_path / "store")
    recipe = SuiteRecipe(tasks=["bpb"], max_items=4, files_digest=files_digest([folder]))
    heldout = make_heldout(store, two_sources)
    draft = store.draft(Key("benchmark_prompts", "x"), "1", recipe.identity(), [heldout])
    with pytest.raises(ValueError, match="the benchmark's task bpb has the name of one of ours; rename it"):
        make_prompts(heldout, recipe, draft, files=[folder])


def test_files_that_the_recipe_does_not_know_are_refused(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "x.txt").write_text("x")
    draft = Store(tmp_path / "store").draft(Key("benchmark_prompts", "x"), "1", {}, [])
    with pytest.raises(ValueError, match=rf"the recipe says none: set files_digest to '{files_digest([folder])}'"):
        make_prompts(None, SuiteRecipe(tasks=[]), draft, files=[folder])
    with pytest.raises(
        ValueError, match="have digest none, the recipe says aaaaaaaaaaaa: set files_digest to 'the empty"
    ):
        make_prompts(None, SuiteRecipe(tasks=[], files_digest="a" * 64), draft)


def test_an_unpacked_suite_is_gone_afterwards_and_names_no_place_in_the_store(suite):
    with unpacked(suite) as folder:
        assert sorted(p.name for p in folder.iterdir() if p.suffix == ".yaml") == [
            "bpb.yaml", "continuation.yaml", "lastword.yaml"
        ]  # fmt: skip
        assert str(folder / "bpb.jsonl") in (folder / "bpb.yaml").read_text()
        assert (folder / "bpb.jsonl").read_bytes() == suite.local("bpb.jsonl").read_bytes()
    assert not folder.exists()


def test_items_of_a_suite_stand_in_the_order_of_the_data(suite):
    found = items_of(suite)
    assert list(found) == ["bpb", "continuation", "lastword"]
    for task, rows in found.items():
        assert [row["item_id"] for row in rows] == [doc["item_id"] for doc in lines(suite, task)]
