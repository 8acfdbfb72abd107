"""What a spec's names lead to: vocabularies of runs, keys of shards, snapshots, and the distributions of the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_spec import GOOD, spec

from pipelines import distributions
from pipelines.spec import Spec, SpecError

INSTALLED = """\
[sources."pypi-docs.polars/1.0"]
reader = "installed-docs"
license = "MIT"
cleaning = "docs"
[sources."notes/1"]
reader = "jsonl"
path = "notes.jsonl"
[cleaning.docs]
min_words = 5
[corpora.docs]
sources = ["notes", "installed-docs", "notes/1"]
vocabulary = "docs"
[corpora.notes]
sources = ["notes"]
vocabulary = "docs"
[vocabularies.docs]
corpus = "docs"
"""


@pytest.fixture
def environment(monkeypatch) -> None:
    """Two installed distributions; one of them is listed in the spec in another version."""
    monkeypatch.setattr(distributions, "installed_distributions", lambda: [("numpy", "2.2.0"), ("polars", "1.9")])


def test_a_run_takes_the_vocabulary_of_its_corpus_unless_it_names_one():
    text = GOOD + '\n[vocabularies.wide]\ncorpus = "small"\n[runs.wide]\ncorpus = "small"\nvocabulary = "wide"\n'
    text += '[runs.same]\ncorpus = "small"\nvocabulary = "small"\n'
    assert [spec(text).vocabulary_of(run) for run in ("demo", "same", "wide")] == ["small", "small", "wide"]


def test_shards_of_another_vocabulary_have_a_key_of_their_own():
    text = GOOD + '\n[vocabularies.wide]\ncorpus = "small"\n[runs.wide]\ncorpus = "small"\nvocabulary = "wide"\n'
    text += '[runs.same]\ncorpus = "small"\nvocabulary = "small"\n'
    assert [spec(text).tokens_of(run) for run in ("demo", "same", "wide")] == ["small", "small", "small@wide"]


def test_every_installed_distribution_is_a_source_once_and_in_the_order_of_the_corpus(environment):
    found = Spec(INSTALLED, Path("stemma.toml"))
    assert found.sources_of("docs") == ["notes/1", "pypi-docs.numpy/2.2.0", "pypi-docs.polars/1.9"]
    assert found.sources_of("notes") == ["notes/1"]
    assert found.all_sources() == [
        "pypi-docs.polars/1.0", "notes/1", "pypi-docs.numpy/2.2.0", "pypi-docs.polars/1.9",
    ]  # fmt: skip


def test_an_installed_distribution_is_read_and_cleaned_as_the_listed_ones_are(environment):
    found = Spec(INSTALLED, Path("stemma.toml"))
    assert found.source("pypi-docs.numpy/2.2.0").model_dump() == {
        **found.source("pypi-docs.polars/1.0").model_dump(), "license": "",
    }  # fmt: skip
    alone = Spec(INSTALLED.replace('cleaning = "docs"\n', ""), Path("stemma.toml"))
    assert alone.source("pypi-docs.numpy/2.2.0").cleaning == ""


def test_a_distribution_that_is_not_installed_is_refused(environment):
    with pytest.raises(SpecError, match=r"stemma\.toml: no 'pypi-docs\.numpy/9' in \[sources\]"):
        Spec(INSTALLED, Path("stemma.toml")).source("pypi-docs.numpy/9")


def test_the_environment_is_not_looked_at_unless_a_corpus_asks_for_it(monkeypatch):
    def looked():
        raise AssertionError("listing the environment takes 0.4 s")

    monkeypatch.setattr(distributions, "installed_distributions", looked)
    found = spec()
    assert found.all_sources() == ["wiki/2026-9", "wiki/2026-11"]
    with pytest.raises(SpecError, match=r"no .pypi-docs\.numpy/2. in"):
        found.source("pypi-docs.numpy/2")


@pytest.mark.parametrize(("ask", "name", "says"), [
    ("run", "dmeo", r"no 'dmeo' in \[runs\]\. Did you mean 'demo'\?"), ("run", "zzz", r"no 'zzz' in \[runs\]\. There are: demo\."),
    ("corpus", "smal", r"no 'smal' in \[corpora\]\. Did you mean 'small'\?"),
    ("sources_of", "big", r"no 'big' in \[corpora\]\. There are: small\."),
    ("source", "wiki/2026-8", r"no 'wiki/2026-8' in \[sources\]\. Did you mean 'wiki/2026-9'\?"),
    ("tokens_of", "topic", r"no 'topic' in \[runs\]"), ("vocabulary_of", "", r"no '' in \[runs\]"),
])  # fmt: skip
def test_a_name_that_leads_nowhere_is_told_with_the_nearest_one(ask, name, says):
    with pytest.raises(SpecError, match=rf"^stemma\.toml: {says}"):
        getattr(spec(), ask)(name)


def test_in_an_empty_spec_there_is_nothing_to_name():
    with pytest.raises(SpecError, match=r"no 'demo' in \[runs\]\. There are: none\."):
        spec("").run("demo")
    assert spec("").all_sources() == []


def test_snapshots_of_a_name_that_begins_alike_are_not_taken_for_this_one():
    text = GOOD.replace('[sources."wiki/2026-11"]', '[sources."wiki-de/2026-11"]')
    assert spec(text).sources_of("small") == ["wiki/2026-9"]


def test_a_name_with_slashes_has_its_snapshot_behind_the_last_one():
    tables = "".join(f'[sources."{key}"]\nreader = "jsonl"\npath = "x"\n' for key in ("a/b/1", "a/b/2", "a/3"))
    text = f'{tables}[corpora.c]\nsources = ["a/b", "a/latest"]\nvocabulary = "v"\n[vocabularies.v]\ncorpus = "c"\n'
    assert spec(text).sources_of("c") == ["a/b/2", "a/3"]
