"""Building and collecting at random, beside a plain account of what must be computed, kept and removed."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from workshop import DEEP, Workshop

from pipelines.provenance.gc import collect, find_garbage
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_store

TEXTS = ["one", "two three", "four five six"]
SOURCES = ["a/1", "b/1"]
EDITS = st.one_of(
    st.tuples(st.just("raw"), st.sampled_from(SOURCES), st.sampled_from(TEXTS)),
    st.tuples(st.just("loud"), st.sampled_from(SOURCES), st.sampled_from([("1", 1), ("1", 2), ("2", 1)])),
    st.tuples(st.just("book"), st.just(""), st.sampled_from([("a/1",), ("a/1", "b/1"), ("b/1", "a/1")])),
    st.tuples(st.just("collect"), st.just(""), st.none()),
)
EXAMPLES = 100 if DEEP else 12


def reached(store: Store) -> set[str]:
    """Prefixes that the newest refs lead to, read from the JSON on disk and from nothing else."""
    manifests = {}
    for path in store.files.walk("artifacts"):
        if path.endswith(".manifest.json"):
            manifests[path.rsplit("/", 1)[1].removesuffix(".manifest.json")] = path.rsplit("/", 1)[0]
    newest = {}
    for path in sorted(store.files.walk("refs")):
        newest[path.rsplit("/", 1)[0]] = json.loads(store.files.read(path))["manifest"]
    open_ones, found = list(newest.values()), set()
    while open_ones:
        digest = open_ones.pop()
        if manifests[digest] not in found:
            found.add(manifests[digest])
            body = json.loads(store.files.read(f"{manifests[digest]}/{digest}.manifest.json"))
            open_ones += [entry["manifest"] for entry in [*body["inputs"], *body["parts"]]]
    return found


def attempts(store: Store) -> set[str]:
    return {"/".join(path.split("/")[:5]) for path in store.files.walk("artifacts")}


class Account:
    """What a store must have computed, by what was asked of it."""

    def __init__(self, store: Store) -> None:
        self.workshop = Workshop(store)
        self.texts = dict.fromkeys(SOURCES, "")
        self.made: set[tuple] = set()  # everything that stands in the store, by recipe and contents

    def edit(self, kind: str, name: str, choice) -> None:
        if kind == "collect":
            return self.collect()
        if kind == "raw":
            self.texts[name] = choice
            return self.expect([("raw", name, choice)], lambda: self.workshop.raw(name, choice))
        if kind == "loud" and self.texts[name]:
            version, marks = choice
            wanted = ("loud", name, self.texts[name], version, marks)
            return self.expect([wanted], lambda: self.workshop.loud(self.raw(name), version=version, marks=marks))
        if kind == "book" and all(self.texts[n] for n in choice):
            chapters = [("chapter", n, self.texts[n]) for n in choice]
            whole = ("book", tuple(chapters))
            wanted = [] if whole in self.made else chapters
            return self.expect(wanted, lambda: self.workshop.book({n: self.raw(n) for n in choice}), whole)
        return None

    def raw(self, name: str):
        return self.workshop.store.open("raw", name)

    def expect(self, wanted: list[tuple], build, *also: tuple) -> None:
        self.workshop.computed.clear()
        build()
        expected = [f"{kind} {name}" for kind, name, *rest in wanted if (kind, name, *rest) not in self.made]
        assert self.workshop.computed == expected
        self.made |= {*wanted, *also}

    def collect(self) -> None:
        store = self.workshop.store
        kept, garbage = reached(store), find_garbage(store)
        assert {item.prefix for item in garbage} == attempts(store) - kept
        assert collect(store, garbage) == sum(item.num_bytes for item in garbage)
        assert attempts(store) == kept
        assert find_garbage(store) == []
        self.made = {self.named(prefix) for prefix in kept}

    def named(self, prefix: str) -> tuple:
        """What an attempt that was kept is, from its own manifest."""
        store = self.workshop.store
        (artifact,) = [a for key in self.keys() for a in store.sealed(key) if a.prefix == prefix]
        key = artifact.key
        if key.asset == "raw":
            return ("raw", key.partition, artifact.manifest.recipe["text"])
        if key.asset == "loud":
            text = artifact.input("raw").manifest.recipe["text"]
            return ("loud", key.partition, text, artifact.manifest.version, artifact.manifest.recipe["marks"])
        if key.part:
            return ("chapter", key.part, artifact.input("raw").manifest.recipe["text"])
        return ("book", tuple(
            ("chapter", p.key.part, p.input("raw").manifest.recipe["text"]) for p in artifact.parts()))  # fmt: skip

    def keys(self) -> list[Key]:
        return [Key(a, s) for a in ("raw", "loud") for s in SOURCES] + [Key("book", "all", p) for p in ("", *SOURCES)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(EDITS, max_size=14))
def test_only_what_no_artifact_answers_is_computed_and_only_what_nobody_needs_is_collected(tmp_path_factory, edits):
    store = Store(tmp_path_factory.mktemp("model"))
    account = Account(store)
    for edit in edits:
        account.edit(*edit)
    report = verify_store(store)
    assert (report.problems, report.unfinished) == ([], [])
    account.collect()
    report = verify_store(store)
    assert (report.problems, report.unfinished) == ([], [])


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(EDITS.filter(lambda edit: edit[0] != "collect"), max_size=8))
def test_what_is_published_in_the_end_has_the_contents_of_a_store_that_took_no_detours(tmp_path_factory, edits):
    store = Store(tmp_path_factory.mktemp("long"))
    account = Account(store)
    for edit in edits:
        account.edit(*edit)
    straight = Workshop(Store(tmp_path_factory.mktemp("straight")))
    for key in store.keys():
        artifact = store.open(*key)
        inputs = {}
        for made_from in artifact.inputs() if key.asset != "raw" else [artifact]:
            text = made_from.manifest.recipe["text"]
            inputs[made_from.key.partition] = straight.raw(made_from.key.partition, text).artifact
        recipe, version = artifact.manifest.recipe, artifact.manifest.version
        again = {
            "raw": lambda i=inputs, k=key: i[k.partition],
            "loud": lambda i=inputs, k=key, r=recipe, v=version: straight.loud(i[k.partition], v, r["marks"]).artifact,
            "book": lambda i=inputs: straight.book(i).artifact,
        }[key.asset]()
        assert (again.content, again.manifest.memo_key, again.counts) == (
            artifact.content, artifact.manifest.memo_key, artifact.counts,
        )  # fmt: skip
