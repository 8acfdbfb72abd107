"""`stemma preview mixture`: what a run would read, by source, licence, language and phase, before anything trains."""

from __future__ import annotations

import pytest

from assets.builder import build_key
from pipelines.provenance.manifest import Key


def told(stemma, place, *arguments: str) -> dict:
    return stemma.json(place, "preview", "mixture", *arguments)


def test_a_preview_is_what_the_run_has_been_given(library, stemma):
    """The mixture of the library is made: the preview of its own recipe says the same."""
    found = told(stemma, library)
    made = library.store.open("mixture", "demo")
    assert (found["run"], found["steps"], found["read"]) == ("demo", 12, made.counts["trained_tokens"])
    rows = {row["part"]: row for row in made.table("sources.arrow").to_pylist()}
    by_source = {group["name"]: group for group in found["by"]["source"]}
    assert {name: (g["docs"], g["tokens"], g["read"]) for name, g in by_source.items()} == {
        name: (row["docs"], row["tokens"], [row["slots"] * 16]) for name, row in rows.items()
    }
    assert {g["name"] for g in found["by"]["licence"]} == {"CC0-1.0", "CC-BY-4.0"}
    assert sum(g["docs"] for g in found["by"]["language"]) == sum(row["docs"] for row in rows.values())


def test_fields_are_tried_without_touching_store_or_spec(library, stemma):
    before = [(key, library.store.open(*key).digest) for key in library.store.keys()]
    changes = ("--set", "weights=poems=3", "--set", "weights=licence:CC-BY*=0", "--set", "steps=4")
    found = told(stemma, library, "demo", *changes)
    shares = {group["name"]: group["share"] for group in found["by"]["licence"]}
    assert (shares["CC0-1.0"], shares["CC-BY-4.0"], found["read"]) == (1.0, 0.0, 4 * 4 * 16)
    assert [(key, library.store.open(*key).digest) for key in library.store.keys()] == before


def test_phases_are_columns_and_packing_says_what_it_cuts(library, stemma):
    changes = ("--set", 'phases=["0.5: poems=0"]', "--set", "packing=best_fit")
    printed = stemma(library, "preview", "mixture", *changes)
    assert "tokens from step 7" in " ".join(printed.split())
    assert "best fit cuts" in printed
    found = told(stemma, library, *changes)
    poems = next(group for group in found["by"]["source"] if group["name"] == "poems/1")
    assert poems["read"][0] > 0 == poems["read"][1]
    assert found["packing"]["cut_docs"] <= found["packing"]["cut_docs_if_concatenated"]


@pytest.mark.parametrize(("arguments", "code", "says"), [
    (["demo", "--set", "weight=2"], 2, "a mixture has the fields sequence_length"),
    (["demo", "--set", "weights=poems"], 2, "expected NAME=FACTOR"),
    (["demo", "--set", "steps=0"], 2, "greater than or equal to 1"),
    (["demo", "--set", "weights=blog=2"], 1, "'blog=2' names no source of this corpus"),
    (["demo", "--set", "weights=poems=9 epochs", "--set", "max_epochs=4"], 2, "asks for more epochs than max_epochs"),
    (["nobody"], 2, "no 'nobody' in"),
])  # fmt: skip
def test_what_cannot_be_is_one_line_and_an_exit_code(library, stemma, arguments, code, says):
    printed = stemma(library, "preview", "mixture", *arguments, code=code)
    assert says in " ".join(printed.split())


def test_without_token_shards_it_says_how_to_make_them(blank, stemma):
    printed = stemma(blank, "preview", "mixture", "demo", code=2)
    assert "stemma run demo --select token_shards" in " ".join(printed.split())


def test_the_spec_switches_it_on_and_a_mistake_names_its_line(own_library, stemma):
    place = own_library
    place.edit(
        "steps = 12", 'steps = 12\nweights = ["poems=2", "language:en=1"]\nphases = ["0.5: letters=2"]\nmax_epochs = 8'
    )
    found = told(stemma, place)
    assert found["first_steps"] == [1, 7]
    made = build_key(place.spec, place.store, Key("mixture", "demo")).artifact
    assert made.json("plan.json")["continued"] is True
    assert sum(sum(g["read"]) for g in found["by"]["source"]) == made.counts["trained_tokens"]
    place.edit('"0.5: letters=2"', '"0.5 letters=2"')
    printed = stemma(place, "preview", "mixture", code=2)
    said = " ".join(printed.split())
    assert "phase '0.5 letters=2': expected FROM" in said
    assert "stemma.toml:" in said
