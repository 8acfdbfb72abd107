"""Every key of a spec, misspelt: each time the message begins with the line on which it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import Field
from test_spec import GOOD, line_of

from pipelines.provenance.recipe import Recipe
from pipelines.spec import Spec, SpecError

RECIPES = {"min_words", "threshold", "size", "steps", "layers"}  # checked by the room that knows them, later


class Any1(Recipe):
    min_words: int = Field(default=50, ge=1)
    size: int = Field(default=50, ge=1)
    steps: int = Field(default=50, ge=1)
    layers: int = Field(default=50, ge=1)
    threshold: float = Field(default=0.5, ge=0, le=1)


def spec(text: str) -> Spec:
    return Spec(text, Path("stemma.toml"))


def refusal(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        spec(text)
    return str(caught.value)


def keys(text: str) -> list[tuple[int, str]]:
    """(line, key) of each assignment."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.match(r"(\w+)\s*=", line):
            found.append((number, match[1]))
    return found


def respelt(text: str, number: int, before: str, after: str) -> str:
    lines = text.split("\n")
    assert before in lines[number - 1]
    lines[number - 1] = lines[number - 1].replace(before, after, 1)
    return "\n".join(lines)


@pytest.mark.parametrize(("number", "key"), [pair for pair in keys(GOOD) if pair[1] not in RECIPES])
def test_a_misspelt_key_is_reported_on_its_own_line(number, key):
    for wrong in (key[:-1] + "x", key + "s" if not key.endswith("s") else key[:-1] + "z", key.upper(), f"x_{key}"):
        message = refusal(respelt(GOOD, number, key, wrong))
        assert message.startswith(f"stemma.toml:{number}: unknown key {wrong!r}; "), (wrong, message)


WHERE = {
    "min_words": ("cleaning", "prose"), "threshold": ("corpora", "small", "dedup"), "size": ("vocabularies", "small", "recipe"),
    "steps": ("runs", "demo", "mixture"), "layers": ("runs", "demo", "training"),
}  # fmt: skip


@pytest.mark.parametrize(("key", "where"), WHERE.items())
def test_a_misspelt_key_of_a_recipe_is_reported_on_its_own_line(key, where):
    number = line_of(f"{key} = ")
    wrong = key[:-1] + "x"
    with pytest.raises(SpecError) as caught:
        spec(respelt(GOOD, number, key, wrong)).recipe(Any1, where)
    assert str(caught.value) == f"stemma.toml:{number}: unknown key {wrong!r}; did you mean {key!r}?."


@pytest.mark.parametrize(("key", "where"), WHERE.items())
@pytest.mark.parametrize("value", ["-1", '"many"', "[1]", "nan"])
def test_a_wrong_value_of_a_recipe_is_reported_on_its_own_line(key, where, value):
    number = line_of(f"{key} = ")
    text = re.sub(rf"{key} = [\d.]+", f"{key} = {value}", GOOD)
    with pytest.raises(SpecError) as caught:
        spec(text).recipe(Any1, where)
    assert str(caught.value).startswith(f"stemma.toml:{number}: {key}: ")
    assert "found" in str(caught.value)


HEADERS = [(n, line) for n, line in enumerate(GOOD.splitlines(), 1) if line.startswith("[")]


@pytest.mark.parametrize(("number", "header"), HEADERS)
def test_a_misspelt_table_is_reported_on_the_line_of_its_header(number, header):
    """Its kind first (`[corpora…`), then the last name of a recipe table (`….dedup]`)."""
    kind = re.match(r"\[(\w+)", header)[1]
    text = GOOD.replace(f"[{kind}.", f"[{kind[:-1]}x.")
    first = next(n for n, line in HEADERS if line.startswith(f"[{kind}."))
    assert refusal(text).startswith(f"stemma.toml:{first}: unknown key '{kind[:-1]}x'")
    last = header.strip("[]").split(".")[-1]
    if header.count(".") == 2 and not header.endswith('"]'):
        message = refusal(respelt(GOOD, number, f".{last}]", f".{last}x]"))
        assert message == f"stemma.toml:{number}: unknown key '{last}x'; did you mean {last!r}?."


# -- the same mistake in every style of TOML -----------------------------------------------------------------------

STYLES = {
    "header": '[runs.r]\ncorpus = "c"\ncorpsu = "c"\n',
    "header with spaces": '[ runs . r ]  # a run\ncorpus = "c"\n  corpsu   =   "c"\n',
    "quoted header": '["runs"."r"]\ncorpus = "c"\n"corpsu" = "c"\n',
    "literal header": "['runs'.'r']\ncorpus = \"c\"\n'corpsu' = \"c\"\n",
    "dotted key": '[runs]\nr.corpus = "c"\nr.corpsu = "c"\n',
    "comment with a bracket": '[runs.r] # see [1] = "x"\ncorpus = "c" # corpsu = 1\ncorpsu = "c"\n',
    "tabs": '[runs.r]\n\tcorpus = "c"\n\tcorpsu = "c"\n',
}
BASE = '[sources."s/1"]\nreader = "jsonl"\npath = "s"\n[corpora.c]\nsources = ["s/1"]\nvocabulary = "v"\n[vocabularies.v]\ncorpus = "c"\n'


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_mistake_is_found_on_its_line_in_every_style(style, newline):
    text = (BASE + STYLES[style]).replace("\n", newline)
    number = BASE.count("\n") + 3
    assert refusal(text) == f"stemma.toml:{number}: unknown key 'corpsu'; did you mean 'corpus'?."


@pytest.mark.parametrize(("text", "line"), [
    ('runs.r.corpus = "c"\nruns.r.corpsu = "c"\n', 2),
    ('runs.r = { corpus = "c", corpsu = "c" }\n', 1),
    ('[runs]\n# a run\nr = { corpus = "c", corpsu = "c" }\n', 3),
])  # fmt: skip
def test_a_mistake_in_a_dotted_or_inline_table_is_found_on_the_line_of_the_table(text, line):
    """Keys at the root must stand before the first table."""
    behind = text if text.startswith("[") else ""
    whole = (text if not behind else "") + BASE + behind
    offset = BASE.count("\n") if behind else 0
    assert refusal(whole).startswith(f"stemma.toml:{line + offset}: unknown key 'corpsu'")


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\u0085"])
def test_characters_that_end_a_line_elsewhere_end_none_in_toml(mark):
    """str.splitlines would count a line more than the editor and the TOML parser do."""
    text = f'# first{mark}still the first\n{BASE}[runs.r]\ncorpus = "c"\ncorpsu = 1\n'
    assert refusal(text).startswith(f"stemma.toml:{BASE.count(chr(10)) + 4}: unknown key 'corpsu'")


def test_a_missing_key_of_a_dotted_table_is_reported_on_its_first_line():
    text = 'runs.r.vocabulary = "v"\nruns.r.training.layers = 4\n' + BASE
    assert refusal(text) == "stemma.toml:1: runs.r.corpus: Field required."


def test_a_multi_line_text_that_looks_like_keys_does_not_shift_the_line():
    text = f'{BASE}[runs.r]\ncorpus = "c"\n[runs.r.mixture]\nnote = """\n[runs.r]\ncorpus = 1\n"""\n[runs.r.trainnig]\nx = 1\n'
    assert refusal(text).startswith(f"stemma.toml:{line_of('trainnig', text)}: unknown key 'trainnig'")


def test_the_same_key_in_two_tables_is_reported_in_the_one_that_is_wrong():
    text = BASE + '[runs.a]\ncorpus = "c"\n[runs.b]\ncorpus = 3\n[runs.c]\ncorpus = "c"\n'
    assert (
        refusal(text)
        == f"stemma.toml:{line_of('corpus = 3', text)}: runs.b.corpus: Input should be a valid string, found 3."
    )


def test_of_several_mistakes_an_unknown_key_is_told_first():
    """A misspelt key is missing as well; that it is unknown says more."""
    text = BASE + '[runs.a]\ncorpsu = "c"\nmixture = 3\n'
    assert refusal(text).endswith("unknown key 'corpsu'; did you mean 'corpus'?.")


@pytest.mark.parametrize("licence", ["free", "BSD", "see file", "CC-BY"])
def test_a_licence_that_names_none_is_reported_on_its_own_line(licence):
    number, stated = next((n, line) for n, line in enumerate(GOOD.splitlines(), 1) if line.startswith("license ="))
    message = refusal(respelt(GOOD, number, stated, f'license = "{licence}"'))
    assert message.startswith(f"stemma.toml:{number}: "), message
    assert f"{licence!r} names no licence; give an SPDX expression" in message


@pytest.mark.parametrize("licence", ["", "CC0-1.0", "Apache License 2.0", "LicenseRef-house", "MIT OR Apache-2.0"])
def test_a_licence_that_can_be_told_is_taken(licence):
    number, stated = next((n, line) for n, line in enumerate(GOOD.splitlines(), 1) if line.startswith("license ="))
    spec(respelt(GOOD, number, stated, f'license = "{licence}"'))
