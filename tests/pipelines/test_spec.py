"""The spec: a mistake is reported with its line and a remedy, and edits keep every byte that they do not touch."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from pipelines.provenance.recipe import Recipe
from pipelines.spec import Spec, SpecError
from pipelines.spec_edit import add_source

GOOD = """\
# what we train on
default_run = "demo"  # the one that `stemma run` makes

[sources."wiki/2026-9"]
reader = "jsonl"  # one record a line
path = "wiki-9.jsonl"
license = "CC-BY-SA-4.0"
cleaning = "prose"

[sources."wiki/2026-11"]
reader = "jsonl"
path = "wiki-11.jsonl"
license = "CC-BY-SA-4.0"
cleaning = "prose"

[cleaning.prose]
min_words = 20

[corpora.small]
sources = [
    "wiki/latest",  # the newest
]
vocabulary = "small"
suites = ["small"]
[corpora.small.dedup]
threshold = 0.8

[vocabularies.small]
corpus = "small"
recipe = { size = 2048 }

[suites.small]
corpus = "small"

[runs.demo]
corpus = "small"
[runs.demo.mixture]
steps = 200
[runs.demo.training]
layers = 4

[finetunes.topic]
base = "demo"
task = "classifier"
"""


class PruneRecipe(Recipe):
    min_words: int = Field(default=50, ge=1)
    max_words: int = Field(default=1000, ge=1)


def spec(text: str = GOOD) -> Spec:
    return Spec(text, Path("stemma.toml"))


def line_of(fragment: str, text: str = GOOD) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if fragment in line)


def changed(before: str, after: str) -> str:
    assert GOOD.count(before) >= 1
    return GOOD.replace(before, after, 1)


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        spec(text)
    return str(caught.value)


def test_a_good_spec_answers():
    good = spec()
    assert good.run("demo").corpus == "small"
    assert good.corpus("small").dedup == {"threshold": 0.8}
    assert good.source("wiki/2026-9").license == "CC-BY-SA-4.0"
    assert good.finetunes_of("demo") == ["topic"]
    assert good.all_sources() == ["wiki/2026-9", "wiki/2026-11"]
    assert good.recipe(PruneRecipe, ("cleaning", "prose")) == PruneRecipe(min_words=20)
    assert good.recipe(PruneRecipe, ("cleaning", "nowhere")) == PruneRecipe()


@pytest.mark.parametrize(("before", "after", "at", "says"), [
    ("license =", "licence =", "licence", "unknown key 'licence'; did you mean 'license'?"),
    ("vocabulary =", "vocabluary =", "vocabluary", "unknown key 'vocabluary'; did you mean 'vocabulary'?"),
    ("default_run", "defualt_run", "defualt_run", "unknown key 'defualt_run'; did you mean 'default_run'?"),
    ("[runs.demo.training]", "[runs.demo.trainnig]", "trainnig", "unknown key 'trainnig'; did you mean 'training'?"),
    ("[corpora.small]", "[corpus.small]", "[corpus.small]", "unknown key 'corpus'; did you mean 'corpora'?"),
    ('task = "classifier"', 'zebra = "classifier"', "zebra", "unknown key 'zebra'; known here: base, data, task, training"),
])  # fmt: skip
def test_a_misspelt_key_is_named_with_its_line_and_a_suggestion(before, after, at, says):
    text = changed(before, after)
    message = refusal(text)
    assert message.startswith(f"stemma.toml:{line_of(at, text)}: ")
    assert says in message


@pytest.mark.parametrize(("before", "after", "at", "says"), [
    ('path = "wiki-9.jsonl"', "path = 9", "path = 9", "path: Input should be a valid string, found 9"),
    ('suites = ["small"]', 'suites = "small"', "suites =", "suites: Input should be a valid list, found 'small'"),
    ('    "wiki/latest",  # the newest', "    3", "sources = [", "found 3"),
    ('sources = [\\n    "wiki/latest",  # the newest\\n]', "sources = []", "sources = []", "at least 1 item"),
    ("recipe = { size = 2048 }", "recipe = 2048", "recipe = 2048", "recipe: Input should be a valid dictionary, found 2048"),
    ('base = "demo"\n', "", "[finetunes.topic]", "finetunes.topic.base: Field required"),
])  # fmt: skip
def test_a_value_of_the_wrong_type_is_named_with_its_line(before, after, at, says):
    text = changed(before.replace("\\n", "\n"), after)
    message = refusal(text)
    assert message.startswith(f"stemma.toml:{line_of(at, text)}: ")
    assert says in message


@pytest.mark.parametrize(("before", "after", "at", "says"), [
    ('default_run = "demo"', 'default_run = "dmeo"', "default_run", "no 'dmeo' in [runs]. Did you mean 'demo'?"),
    ('cleaning = "prose"', 'cleaning = "verse"', "cleaning", "no 'verse' in [cleaning]. Did you mean 'prose'?"),
    ('vocabulary = "small"', 'vocabulary = "smal"', "vocabulary", "no 'smal' in [vocabularies]. Did you mean 'small'?"),
    ('suites = ["small"]', 'suites = ["x"]', "suites", "no 'x' in [suites]. There are: small."),
    ('base = "demo"', 'base = "other"', "base", "no 'other' in [runs]"),
    ("wiki/latest", "wikis/latest", "sources = [", "no 'wikis/latest' in [sources]"),
    ('corpus = "small"', 'corpus = "big"', 'corpus = "big"', "no 'big' in [corpora]"),
])  # fmt: skip
def test_a_reference_to_nothing_is_named_with_its_line(before, after, at, says):
    text = changed(before, after)
    message = refusal(text)
    assert message.startswith(f"stemma.toml:{line_of(at, text)}: ")
    assert says in message


def test_a_run_and_a_finetune_of_one_name_are_refused():
    text = changed("[finetunes.topic]", "[finetunes.demo]")
    message = refusal(text)
    assert message.startswith(
        f"stemma.toml:{line_of('[finetunes.demo]', text)}: 'demo' names both a run and a fine-tune"
    )


@pytest.mark.parametrize("key", ["a|b", "../wiki", "a b", "wiki/", "é/1"])
def test_a_forbidden_partition_key_is_named_with_its_line(key):
    text = changed('[sources."wiki/2026-9"]', f'[sources."{key}"]')
    message = refusal(text)
    assert message.startswith(f"stemma.toml:{line_of(key, text)}: ")
    assert f"partition key {key!r} is not allowed" in message


def test_a_suite_has_a_corpus_or_a_path_and_not_both():
    for body in ("", 'corpus = "small"\npath = "items.jsonl"\n'):
        text = changed('[suites.small]\ncorpus = "small"\n', f"[suites.small]\n{body}")
        assert refusal(text).startswith(f"stemma.toml:{line_of('[suites.small]', text)}: a suite has either")


@pytest.mark.parametrize(("text", "line"), [("a = 1\nb = = 2\n", 2), ("[runs.x\n", 1), ("a = 1\n\na = 2\n", 3)])
def test_a_syntax_error_is_reported_with_its_line(text, line):
    message = refusal(text)
    assert message.startswith("stemma.toml: ")
    assert f"at line {line}" in message


def test_a_wrong_recipe_is_reported_with_its_line():
    text = changed("min_words = 20", "min_words = 20\nmax_word = 5")
    line = line_of("max_word = 5", text)
    with pytest.raises(SpecError, match=f"stemma.toml:{line}: unknown key 'max_word'; did you mean 'max_words'"):
        spec(text).recipe(PruneRecipe, ("cleaning", "prose"))
    line = line_of("min_words")
    with pytest.raises(SpecError, match=rf"stemma.toml:{line}: min_words: .* greater than or equal to 1, found 0"):
        spec(changed("min_words = 20", "min_words = 0")).recipe(PruneRecipe, ("cleaning", "prose"))


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(SpecError, match=r"stemma\.toml is missing. Run from the checkout, or give --spec FILE"):
        Spec.load(tmp_path / "stemma.toml")
    (tmp_path / "latin.toml").write_bytes(b'default_run = "caf\xe9"')
    with pytest.raises(SpecError, match=r"latin.toml: is not UTF-8 .* at byte 18"):
        Spec.load(tmp_path / "latin.toml")
    with pytest.raises(SpecError, match="is a directory"):
        Spec.load(tmp_path)
    (tmp_path / "good.toml").write_text(GOOD)
    assert Spec.load(tmp_path / "good.toml").run("demo")


@pytest.mark.parametrize(("snapshots", "newest"), [
    (["wiki/2026-9", "wiki/2026-11", "wiki/2025-12"], "wiki/2026-11"),
    (["wiki/1.9", "wiki/1.10", "wiki/1.2.30"], "wiki/1.10"),
    (["wiki/v2", "wiki/v10"], "wiki/v10"),
])  # fmt: skip
@pytest.mark.parametrize("entry", ["wiki", "wiki/latest"])
def test_latest_picks_the_naturally_newest_snapshot(snapshots, newest, entry):
    tables = "\n".join(f'[sources."{key}"]\nreader = "jsonl"\npath = "w.jsonl"' for key in snapshots)
    text = f'{tables}\n[corpora.c]\nsources = ["{entry}"]\nvocabulary = "v"\n[vocabularies.v]\ncorpus = "c"\n'
    assert spec(text).sources_of("c") == [newest]


def test_an_entry_selects_each_source_once_in_the_order_of_the_corpus():
    text = changed('"wiki/latest",', '"wiki/2026-11", "wiki/latest", "wiki/2026-9",')
    assert spec(text).sources_of("small") == ["wiki/2026-11", "wiki/2026-9"]


# -- edits -------------------------------------------------------------------------------------------------------

MINE = {"reader": "jsonl", "path": "mine.jsonl", "license": "MIT", "cleaning": "prose"}


def test_a_source_in_a_new_corpus_brings_corpus_vocabulary_suite_and_run():
    text = add_source(GOOD, "mine/1", MINE, "mine", "mine", like=spec())
    edited = spec(text)
    assert edited.sources_of("mine") == ["mine/1"]
    assert edited.source("mine/1").path == "mine.jsonl"
    assert edited.run("mine").training == {"layers": 4}
    assert edited.run("mine").mixture == {"steps": 200}
    assert edited.corpus("mine").dedup == {"threshold": 0.8}
    assert edited.document.vocabularies["mine-vocabulary"].recipe == {"size": 2048}
    assert edited.corpus("mine").suites == ["mine-suite"]


STYLES = {
    "plain": GOOD,
    "inline array": changed('[\n    "wiki/latest",  # the newest\n]', '["wiki/latest"] # the newest'),
    "array without a last comma": changed('"wiki/latest",  # the newest', '"wiki/latest"  # the newest'),
    "tables out of order": GOOD
    + '\n[sources."late/1"] # added later\nreader = "jsonl"\npath = "l.jsonl"\n\n# the end\n',
    "windows": GOOD.replace("\n", "\r\n"),
    "no newline at the end": GOOD.rstrip("\n"),
    "trailing comment": GOOD + "\n# goodbye\n",
    "spaces": GOOD.replace(" = ", "   =  "),
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("corpus", ["small", "mine"])
def test_an_edit_keeps_every_line_and_comment_and_gives_a_spec_that_loads(style, corpus):
    text = STYLES[style]
    edited = add_source(text, "mine/1", MINE, corpus, "mine", like=spec())
    assert "mine/1" in spec(edited).sources_of(corpus)
    kept = edited.splitlines()
    for line in text.splitlines():
        if corpus == "mine" or "wiki/latest" not in line:
            assert line in kept, line
    for comment in ("# what we train on", "# the one that `stemma run` makes", "# one record a line", "# the newest"):
        assert edited.count(comment) == 1


def test_a_second_snapshot_joins_the_corpus_and_leaves_the_rest_alone():
    once = add_source(GOOD, "mine/1", MINE, "mine", "mine", like=spec())
    twice = add_source(once, "mine/2", MINE, "mine", "mine", like=spec(once))
    assert spec(twice).sources_of("mine") == ["mine/1", "mine/2"]
    assert set(spec(twice).document.runs) == {"demo", "mine"}


def test_a_source_that_exists_is_refused():
    with pytest.raises(SpecError, match="source 'wiki/2026-9' exists already"):
        add_source(GOOD, "wiki/2026-9", MINE, "small", "demo")


@pytest.mark.parametrize(("key", "source", "corpus", "run", "says"), [
    ("a|b", MINE, "mine", "mine", "partition key 'a|b' is not allowed"),
    ("mine/1", MINE, "m ine", "mine", "partition key 'm ine' is not allowed"),
    ("mine/1", {**MINE, "cleaning": "prosa"}, "mine", "mine", "no 'prosa' in [cleaning]. Did you mean 'prose'?"),
    ("mine/1", {**MINE, "licence": "MIT"}, "mine", "mine", "unknown key 'licence'"),
    ("mine/1", MINE, "mine", "topic", "names both a run and a fine-tune"),
])  # fmt: skip
def test_an_edit_that_would_not_load_is_refused_before_it_is_written(key, source, corpus, run, says):
    with pytest.raises(SpecError) as caught:
        add_source(GOOD, key, source, corpus, run, like=spec())
    assert says in str(caught.value)


def test_a_vocabulary_and_a_suite_of_that_name_are_kept():
    text = GOOD + '\n[vocabularies.mine-vocabulary]\ncorpus = "small"\nrecipe = { size = 77 }\n'
    edited = spec(add_source(text, "mine/1", MINE, "mine", "mine", like=spec()))
    assert edited.document.vocabularies["mine-vocabulary"].recipe == {"size": 77}


def test_a_source_can_be_added_to_an_empty_spec():
    edited = spec(add_source("", "mine/1", {"reader": "jsonl", "path": "m.jsonl"}, "mine", "mine"))
    assert edited.run("mine").corpus == "mine"


def test_a_source_without_a_path_is_named_with_its_line():
    text = GOOD + '\n[sources."bare/1"]\nreader = "jsonl"\n'
    with pytest.raises(SpecError, match=r"stemma.toml:\d+: reader 'jsonl' needs a path"):
        spec(text)


def test_a_source_that_joins_a_corpus_makes_no_second_run():
    edited = spec(add_source(GOOD, "mine/1", MINE, "small", "small", like=spec()))
    assert edited.document.runs.keys() == spec().document.runs.keys()
