"""Adding a source changes what must be changed and not one value, comment or line more."""

from __future__ import annotations

import re
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_spec import GOOD, MINE, spec

from pipelines.spec import SpecError
from pipelines.spec_edit import add_source

ROOM = {
    "tables": '[sources."w/1"]\nreader = "jsonl"\npath = "w"\n[corpora.c]\nsources = ["w/1"]\nvocabulary = "v"\n'
    '[vocabularies.v]\ncorpus = "c"\n[runs.r]\ncorpus = "c"\n',
    "tables of inline tables": '[sources]\n"w/1" = { reader = "jsonl", path = "w" } # inline\n[corpora]\n'
    'c = { sources = ["w/1"], vocabulary = "v" } # c\n[vocabularies]\nv = { corpus = "c" }\n[runs]\nr = { corpus = "c" } # r\n',
    "indented": '[sources]\n  [sources."w/1"] # w\n    reader = "jsonl"\n    path = "w"\n[corpora]\n  [corpora.c]\n'
    '    sources = ["w/1",]\n    vocabulary = "v"\n[vocabularies]\n  [vocabularies.v]\n    corpus = "c"\n[runs]\n  [runs.r]\n'
    '    corpus = "c"\n',
    "mixed up": '[runs.r]\ncorpus = "c"\n[corpora.c]\nsources = ["w/1"]\nvocabulary = "v"\n[sources."w/1"]\nreader = "jsonl"\n'
    'path = "w"\n[runs.r.training]\nlayers = 2\n[vocabularies.v]\ncorpus = "c"\n[sources."w/2"]\nreader = "jsonl"\npath = "x"\n',
}
ARRAYS = [
    '["w/1"]', '["w/1",]', '[ "w/1" ]', '[\n  "w/1"\n]', '[\n  "w/1",\n]', '[\n\t"w/1",\n\n]', '["w/1" # one\n]',
    '[ # first\n    "w/1"]', '[\n    "w/1" # one\n    # two\n]', '[\n    "w/1", # one\n    # two\n\n    # three\n]',
    '[\n    # zero\n    "w/1"\n    # two\n]', "['w/1']", '["""w/1"""]',
]  # fmt: skip


def expected(text: str, corpus: str, run: str, source: dict) -> dict:
    """The edit, done on plain dictionaries."""
    said = tomllib.loads(text)
    said.setdefault("sources", {})["mine/1"] = source
    if corpus in said.setdefault("corpora", {}):
        said["corpora"][corpus]["sources"].append("mine/1")
    else:
        said["corpora"][corpus] = {
            "sources": ["mine/1"],
            "vocabulary": f"{corpus}-vocabulary",
            "suites": [f"{corpus}-suite"],
        }
        said.setdefault("vocabularies", {})[f"{corpus}-vocabulary"] = {"corpus": corpus}
        said.setdefault("suites", {})[f"{corpus}-suite"] = {"corpus": corpus}
    runs = said.setdefault("runs", {})
    if run not in runs and corpus not in [value["corpus"] for value in runs.values()]:
        runs[run] = {"corpus": corpus}
    return said


SOURCE = {"reader": "jsonl", "path": 'm "quoted" \\ é.jsonl', "passage_bytes": 2000}


@pytest.mark.parametrize("room", ROOM)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(("corpus", "run"), [("c", "r"), ("c", "mine"), ("mine", "mine"), ("mine", "r")])
def test_the_values_are_those_of_the_edit_and_no_others_change(room, newline, corpus, run):
    text = ROOM[room].replace("\n", newline)
    edited = add_source(text, "mine/1", SOURCE, corpus, run)
    assert tomllib.loads(edited) == expected(text, corpus, run, SOURCE)
    for comment in re.findall(r"#.*", text):
        assert edited.count(comment.strip()) == 1


@pytest.mark.parametrize("array", ARRAYS)
def test_a_source_joins_a_list_however_it_is_written_and_its_comments_stay(array):
    text = ROOM["tables"].replace('["w/1"]', array)
    edited = add_source(text, "mine/1", SOURCE, "c", "r")
    assert tomllib.loads(edited) == expected(text, "c", "r", SOURCE)
    twice = add_source(edited, "mine/2", SOURCE, "c", "r")
    assert tomllib.loads(twice)["corpora"]["c"]["sources"] == ["w/1", "mine/1", "mine/2"]
    for comment in re.findall(r"# \w+", array):
        assert twice.count(comment) == 1
    kept = twice.splitlines()
    outside = ROOM["tables"].replace('sources = ["w/1"]\n', "").splitlines()
    assert all(line in kept for line in outside)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, GOOD.count("\n")), st.sampled_from(["# note {}", "", "   # {} indented"])), max_size=8
    )
)
def test_comments_and_blank_lines_survive_wherever_they_stand(marks):
    lines = GOOD.split("\n")
    for number, (place, mark) in enumerate(sorted(marks, reverse=True)):
        lines.insert(place, mark.format(f"n{number}."))
    text = "\n".join(lines)
    for corpus in ("small", "mine"):
        edited = add_source(text, "mine/1", MINE, corpus, "mine", like=spec(text))
        assert [
            edited.count(f"n{number}.") for number, (_, mark) in enumerate(sorted(marks, reverse=True)) if mark
        ] == [1 for _, mark in marks if mark]
        before, after = tomllib.loads(text), tomllib.loads(edited)
        assert after["sources"].pop("mine/1") == MINE
        assert before["sources"] == after["sources"]
        assert (before["cleaning"], before["finetunes"]) == (after["cleaning"], after["finetunes"])
        assert after["runs"]["demo"] == before["runs"]["demo"]


@pytest.mark.parametrize(("line", "kind"), [
    ('sources."w/1".reader = "jsonl"\nsources."w/1".path = "w"\n', "sources"),
    ('sources = { "w/1" = { reader = "jsonl", path = "w" } }\n', "sources"),
    ('runs = { r = { corpus = "c" } }\n', "runs"), ('runs.r.corpus = "c"\n', "runs"),
])  # fmt: skip
def test_tables_to_which_nothing_can_be_added_are_refused_with_the_remedy(line, kind):
    tables = re.split(r"^(?=\[)", ROOM["tables"], flags=re.MULTILINE)
    text = line + "".join(table for table in tables if not table.startswith(f"[{kind}."))
    assert spec(text).sources_of("c") == ["w/1"]
    with pytest.raises(SpecError, match=rf"stemma\.toml: '{kind}' is written in dotted keys .* \[{kind}\.NAME\]"):
        add_source(text, "mine/1", SOURCE, "mine", "mine")


def test_what_is_refused_leaves_nothing_to_undo():
    """The text that was given is the only state; an error returns none."""
    for key, source in (("w/1", SOURCE), ("a|b", SOURCE), ("mine/1", {**SOURCE, "cleaning": "no"})):
        with pytest.raises(SpecError):
            add_source(ROOM["tables"], key, source, "c", "r")
    assert tomllib.loads(add_source(ROOM["tables"], "mine/1", SOURCE, "c", "r")) == expected(
        ROOM["tables"], "c", "r", SOURCE
    )


def test_a_new_corpus_takes_over_every_recipe_of_the_default_run_and_of_what_it_stands_on():
    text = GOOD.replace(
        "[vocabularies.small]", "[corpora.small.shards]\nmax_tokens_per_shard = 9\n\n[vocabularies.small]"
    )
    after = tomllib.loads(add_source(text, "mine/1", MINE, "mine", "mine", like=spec(text)))
    assert after["corpora"]["mine"] == {
        "sources": ["mine/1"], "vocabulary": "mine-vocabulary", "suites": ["mine-suite"],
        "dedup": {"threshold": 0.8}, "shards": {"max_tokens_per_shard": 9},
    }  # fmt: skip
    assert after["vocabularies"]["mine-vocabulary"] == {"corpus": "mine", "recipe": {"size": 2048}}
    assert after["runs"]["mine"] == {"corpus": "mine", "mixture": {"steps": 200}, "training": {"layers": 4}}
    nobody = tomllib.loads(add_source(text.replace('default_run = "demo"', 'default_run = ""'), "mine/1", MINE, "mine", "mine",
                                      like=spec(text.replace('default_run = "demo"', 'default_run = ""'))))  # fmt: skip
    assert nobody["runs"]["mine"] == {"corpus": "mine"}
