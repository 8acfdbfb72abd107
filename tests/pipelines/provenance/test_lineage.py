"""The family tree: each ancestor once, nearest first, and the same tree in the order of its making."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readings import Chosen, Written, clean, finetuned, made, mixture, model, plan_of, raw, shards, training

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.lineage import ancestor, ancestors, checkpoint, upstream_first
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.store import Store


def thing(store: Store, asset: str, inputs: list[Artifact] | None = None, mark: str = "") -> Artifact:
    return made(store, Key(asset, "x"), inputs or [], lambda draft: draft.seal(facts={"mark": mark}), mark)


def assets(artifacts) -> list[str]:
    return [artifact.key.asset for artifact in artifacts]


@st.composite
def family_trees(draw) -> list[list[int]]:
    """By generation of an artifact: which earlier ones it was made from."""
    size = draw(st.integers(1, 8))
    return [sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else [] for n in range(size)]


@settings(max_examples=15, deadline=None)
@given(family_trees(), st.randoms(use_true_random=False))
def test_every_ancestor_comes_once_in_either_order(tmp_path_factory, tree, random):
    store = Store(tmp_path_factory.mktemp("tree"))
    built: list[Artifact] = []
    for number, inputs in enumerate(tree):
        built.append(thing(store, f"a{number}", [built[i] for i in random.sample(inputs, len(inputs))]))
    reached, open_ones = {len(tree) - 1}, [len(tree) - 1]
    while open_ones:
        new = set(tree[open_ones.pop()]) - reached
        reached, open_ones = reached | new, [*open_ones, *new]
    nearest, upstream = assets(ancestors(built[-1])), assets(upstream_first(built[-1]))
    assert sorted(nearest) == sorted(upstream) == sorted(f"a{n}" for n in reached)
    assert nearest[0] == upstream[-1] == f"a{len(tree) - 1}"
    for number in reached:
        assert all(upstream.index(f"a{i}") < upstream.index(f"a{number}") for i in tree[number])
    distance = {f"a{len(tree) - 1}": 0}
    for name in nearest:
        for i in tree[int(name[1:])]:
            distance.setdefault(f"a{i}", distance[name] + 1)
    assert [distance[name] for name in nearest] == sorted(distance[name] for name in nearest)


def test_several_starts_share_one_walk(store):
    source = thing(store, "raw")
    one, other = thing(store, "one", [source]), thing(store, "other", [source])
    assert assets(ancestors(one, other, one)) == ["one", "other", "raw"]
    assert assets(upstream_first(one, other, one)) == ["raw", "one", "other"]
    assert list(ancestors()) == list(upstream_first()) == []


def test_a_walk_leads_to_what_was_read_and_not_to_what_is_published_now(store):
    old = thing(store, "raw", mark="old")
    book = thing(store, "book", [old])
    new = thing(store, "raw", mark="new")
    assert store.open("raw", "x") == new
    assert list(ancestors(book)) == [book, old]
    assert list(upstream_first(book)) == [old, book]


def test_parts_stand_before_their_whole_and_behind_their_inputs(store):
    texts = [thing(store, f"raw{n}") for n in range(2)]

    def make(draft):
        return draft.seal(parts=[draft.part(f"p{n}", Chosen(), [t], lambda d: d.seal()) for n, t in enumerate(texts)])

    book = made(store, Key("book", "x"), texts, make)
    places = {str(artifact.key): place for place, artifact in enumerate(upstream_first(book))}
    assert len(places) == 5
    for number in range(2):
        assert places[f"raw{number}[x]"] < places[f"book[x] part p{number}"] < places["book[x]"] == 4


def test_the_ancestor_of_an_asset_is_the_nearest_and_never_a_part(store):
    """A part bears the asset's name as well, and is found on the way to the whole."""
    far = thing(store, "raw", mark="far")

    def make(draft):
        return draft.seal(parts=[draft.part("p", Chosen(), [far], lambda d: d.seal())])

    book = made(store, Key("book", "x"), [far], make)
    near = thing(store, "raw", [book], mark="near")
    last = thing(store, "last", [near])
    assert ancestor(last, "raw") == near
    assert ancestor(book, "raw") == far
    assert ancestor(book.part("p"), "raw") == far
    assert ancestor(last, "book") == book
    assert ancestor(book, "book") == book
    with pytest.raises(StoreError, match=r"book\[x\] part p was not made from any book"):
        ancestor(book.part("p"), "book")


def test_a_missing_ancestor_is_named(store):
    old = thing(store, "raw", mark="old")
    book = thing(store, "book", [old])
    store.remove_attempt(old.prefix)
    for walk in (ancestors, upstream_first):
        with pytest.raises(ManifestError, match=rf"raw\[x\]: manifest {old.digest[:12]}… is missing from"):
            list(walk(Store(store.url).artifact(book.key, book.digest)))


# -- checkpoints by name -----------------------------------------------------------------------------------------

ONE = [Written("a", "text", [1] * 9)]


def base_model(store: Store, name: str) -> Artifact:
    tokens = shards(store, training(store, [clean(store, raw(store, "s/1", ONE), ONE)]), {ONE[0].doc_id: ONE[0].tokens})
    return model(mixture(tokens, plan_of({"s/1": 9}, 4, [[2]], [(1, 0, 1)]), name), 2, milestones=[1])


def test_a_checkpoint_is_that_of_a_run_or_of_a_fine_tune(store):
    base = base_model(store, "run")
    tuned = finetuned(base, "topic")
    assert checkpoint(store, "run") == base
    assert checkpoint(store, "topic") == tuned
    assert ancestor(tuned, "mixture") == base.input("mixture")


def test_an_unknown_checkpoint_is_told_with_those_that_there_are(store):
    finetuned(base_model(store, "run"), "topic")
    with pytest.raises(StoreError, match=r"no checkpoint 'runn' in .*; there are: run, topic\."):
        checkpoint(store, "runn")


def test_the_name_means_the_newest_checkpoint_and_a_collected_older_one_is_gone(store):
    old = base_model(store, "run")
    new = model(old.input("mixture"), 1)
    assert checkpoint(store, "run") == new
    assert {item.manifest for item in find_garbage(store)} == {old.digest, old.part("step-00000001").digest}
    collect(store, find_garbage(store))
    assert [a.digest for a in store.sealed(old.key)] == [new.digest]
    assert checkpoint(store, "run").input("mixture").json("plan.json")["sequence_length"] == 4
