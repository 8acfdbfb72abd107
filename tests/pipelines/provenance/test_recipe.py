"""Recipes: one value has one canonical form, and every choice that changes the bytes is in it."""

from __future__ import annotations

import json
import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from pipelines.provenance.manifest import Manifest
from pipelines.provenance.recipe import Recipe, canonical_json, digest

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(("value", "written"), [
    (0.1, "0.1"), (1.0, "1.0"), (1, "1"), (-0.0, "-0.0"), (0.0, "0.0"), (1e16, "1e+16"), (1e15, "1000000000000000.0"),
    (1e-5, "1e-05"), (5e-324, "5e-324"), (0.1 + 0.2, "0.30000000000000004"), (1 / 3, "0.3333333333333333"),
    (2**53, "9007199254740992"), (-(10**30), "-1000000000000000000000000000000"), (True, "true"), (None, "null"),
    ("", '""'), ('"\\/\b\n\x1f', '"\\"\\\\/\\b\\n\\u001f"'), ("é中🎉\u2028\x7f", '"é中🎉\u2028\x7f"'), ([], "[]"), ({}, "{}"),
    ((1, 2), "[1,2]"), ([[], {"a": []}], '[[],{"a":[]}]'),
])  # fmt: skip
def test_the_form_of_each_kind_of_value_is_frozen(value, written):
    assert canonical_json(value) == written.encode()


def test_golden_digests_freeze_the_form_of_a_whole_recipe():
    value = {"ratio": 0.05, "seed": 1, "names": ["b", "a"], "é": {"z": None, "a": 1e-7}, "big": 2**64}
    assert canonical_json(value) == (
        '{"big":18446744073709551616,"names":["b","a"],"ratio":0.05,"seed":1,"é":{"a":1e-07,"z":null}}'.encode()
    )
    assert digest(canonical_json(value)) == "f95a9534757ad1771747f2dbc58efb0c28c295f20e3f3a67c5224f745280dec5"


@given(VALUES)
def test_the_form_is_read_back_and_written_again_alike(value):
    data = canonical_json(value)
    assert canonical_json(json.loads(data)) == data
    assert b"\n" not in data


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), st.integers(), max_size=6),
    st.randoms(),
)
def test_the_order_in_which_keys_were_put_does_not_matter(value, random):
    names = list(value)
    random.shuffle(names)
    assert canonical_json({name: value[name] for name in names}) == canonical_json(value)


def test_keys_come_in_the_order_of_their_code_points():
    """Not by UTF-16 units, in which U+10000 would precede U+FFFD, and not by letters of a language."""
    names = ["Z", "a", "z", "\u00e9", "\ufffd", "\U00010000"]
    assert list(json.loads(canonical_json(dict.fromkeys(reversed(names), 0)))) == names


def test_composed_and_decomposed_letters_are_two_values():
    assert canonical_json("\u00e9") != canonical_json("e\u0301")


@given(FINITE, FINITE)
def test_different_numbers_have_different_forms(one, other):
    equal = one == other and math.copysign(1, one) == math.copysign(1, other)
    assert (canonical_json(one) == canonical_json(other)) == equal


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [1, {"a": math.nan}]])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), 1 + 2j, {"a": {1}}])
def test_what_is_not_json_is_refused(value):
    with pytest.raises(TypeError, match="not JSON serializable"):
        canonical_json(value)


def test_half_a_character_is_refused():
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        canonical_json({"name": "\ud800"})


def test_keys_that_are_not_all_strings_are_refused_where_two_would_become_one():
    """JSON knows only strings: 1 and "1" would be one key, and one of the values would be lost."""
    with pytest.raises(TypeError, match="not supported between"):
        canonical_json({1: "a", "1": "b"})


# -- recipes -----------------------------------------------------------------------------------------------------


class Base(Recipe):
    ratio: float = Field(default=0.05, ge=0, le=1)
    mode: Literal["fast", "exact"] = "exact"
    names: list[str] = Field(default_factory=list)


class Wider(Base):
    seed: int = 1


def test_a_whole_number_in_the_place_of_a_float_is_the_same_recipe():
    """TOML says 1 where a person means 1.0; the memo must not compute anew for that."""
    assert Base(ratio=1).identity() == Base(ratio=1.0).identity()
    assert canonical_json(Base(ratio=1).identity()) == b'{"mode":"exact","names":[],"ratio":1.0}'


def test_a_default_that_is_written_out_is_the_same_recipe():
    assert Base(ratio=0.05, mode="exact", names=[]).identity() == Base().identity()
    assert Base(names=["a", "b"]).identity() != Base(names=["b", "a"]).identity()  # the order of a list may matter


def test_every_field_stands_in_the_identity_those_of_the_base_class_included():
    assert set(Wider().identity()) == {"ratio", "mode", "names", "seed"}
    assert Wider().identity() != Base().identity()


@pytest.mark.parametrize(("fields", "says"), [
    ({"ratio": 1.5}, "less than or equal to 1"), ({"ratio": math.nan}, "finite number"), ({"ratio": math.inf}, "finite number"),
    ({"mode": "slow"}, "'fast' or 'exact'"), ({"names": "a"}, "valid list"), ({"name": ["a"]}, "Extra inputs"),
    ({"names": [1]}, "valid string"),
])  # fmt: skip
def test_a_choice_that_is_none_is_refused_by_name(fields, says):
    with pytest.raises(ValidationError, match=says) as caught:
        Base(**fields)
    assert next(iter(fields)) in str(caught.value)


def test_a_recipe_survives_the_manifest(tmp_path):
    recipe = Base(ratio=1e-7, names=["é", "\U0001f389"])
    manifest = Manifest(asset="a", partition="b", version="1", recipe=recipe.identity())
    assert Base.model_validate(Manifest.parse(manifest.canonical(), "x").recipe) == recipe
