"""Manifests are canonical byte for byte, say what an artifact is, and refuse everything else."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from urllib.parse import quote

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from pipelines.provenance.manifest import (
    FileEntry,
    InputRef,
    Key,
    Manifest,
    ManifestError,
    PartitionKeyError,
    PartRef,
    checked_partition,
    file_entry,
    hashed,
)
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from pipelines.provenance.store import decoded, encoded

GOLDEN = Path(__file__).with_name("golden") / "manifest-1.json"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def golden() -> Manifest:
    return Manifest(
        asset="loud",
        partition="a/1",
        version="1",
        recipe={"marks": 1},
        numerics={"device": "cpu"},
        inputs=[InputRef(asset="raw", partition="a/1", part="", manifest="1" * 64, content="2" * 64)],
        parts=[PartRef(part="x/y", manifest="3" * 64, content="4" * 64)],
        files=[
            FileEntry(path="about/text.json", bytes=3, blake3="5" * 64),
            FileEntry(path="words.arrow", bytes=0, blake3="6" * 64),
        ],
        counts={"words": 3},
        facts={"loudest": 'é\n"', "ratio": 0.1, "none": None, "list": [1, 2.5, True]},
        rows="7" * 64,
    )


def test_the_golden_manifest_of_schema_1_is_written_and_read_byte_for_byte():
    data = GOLDEN.read_bytes()
    assert golden().canonical() == data
    assert Manifest.parse(data, "golden") == golden()
    assert golden().digest == "bcd7dfbf8fff9a347eabaa8b178a63e6b306ab2a4e3f7ebd0a90c336dcd21a37"
    assert golden().content == "d52bda111ffcac95aae0df61b7c7116ad4b6b02302561c195a9462c4c63fc060"
    assert golden().memo_key == "936a3d6a9b913c7c1ed0cf0adf876e7286d3ed568f6df764a7ce8a381957c4cd"


@pytest.mark.parametrize(
    "style", [{"indent": 1}, {"separators": (", ", ": ")}, {"ensure_ascii": True}, {"sort_keys": False}]
)
def test_a_reformatted_manifest_is_refused(style):
    fields = dict(reversed(json.loads(GOLDEN.read_bytes()).items()))
    options = {"sort_keys": True, "separators": (",", ":"), "ensure_ascii": False} | style
    with pytest.raises(ManifestError, match="golden: not in canonical form"):
        Manifest.parse(json.dumps(fields, **options).encode(), "golden")


def test_a_newer_schema_is_refused_with_the_advice_to_update():
    newer = {**json.loads(GOLDEN.read_bytes()), "schema_version": 2, "a_field_of_tomorrow": 1}
    with pytest.raises(ManifestError, match="schema version 2 is newer than 1; update Stemma"):
        Manifest.parse(canonical_json(newer), "golden")


@pytest.mark.parametrize("data", [
    b"", b"{}", b"[]", b"null", b"\xff\xfe", b"{" * 100_000, b"9" * 5000,
    GOLDEN.read_bytes()[:-1], GOLDEN.read_bytes() + b"\n", b" " + GOLDEN.read_bytes(),
    GOLDEN.read_bytes().replace(b"0.1", b"1e999"), GOLDEN.read_bytes().replace(b"0.1", b"NaN"),
    GOLDEN.read_bytes().replace("é".encode(), b"\\ud800"),
    GOLDEN.read_bytes().replace(b'"words":3', b'"words":3.0'), GOLDEN.read_bytes().replace(b'"words":3', b'"words":true'),
    GOLDEN.read_bytes().replace(b'"schema_version":1', b'"schema_version":0'),
    GOLDEN.read_bytes().replace(b'"schema_version":1', b'"schema_version":true'),
    GOLDEN.read_bytes().replace(b"words.arrow", b"../../secret"), GOLDEN.read_bytes().replace(b"words.arrow", b"/etc/passwd"),
    GOLDEN.read_bytes().replace(b"words.arrow", b"about/text.json"), GOLDEN.read_bytes().replace(b'"loud"', b'"../loud"'),
    GOLDEN.read_bytes().replace(b'"a/1"', b'"a|1"'), GOLDEN.read_bytes().replace(b'"x/y"', b'""'),
    GOLDEN.read_bytes().replace(b'"rows"', b'"cols"'), GOLDEN.read_bytes().replace(b"3333", b"../.", 1),
], ids=range(25))  # fmt: skip
def test_whatever_is_no_manifest_is_refused_with_the_name_of_the_file(data):
    with pytest.raises(ManifestError, match=r"^here\.json: "):
        Manifest.parse(data, "here.json")


@given(st.permutations(range(5)), st.permutations(range(4)))
def test_the_content_digest_does_not_know_the_order_of_files_and_parts(file_order, part_order):
    files = [FileEntry(path=f"f{n}", bytes=n, blake3=f"{n}" * 64) for n in range(5)]
    parts = [PartRef(part=f"p{n}", manifest="0" * 64, content=f"{n}" * 64) for n in range(4)]
    one = Manifest(asset="a", partition="b", version="1", recipe={}, files=files, parts=parts)
    other = one.model_copy(update={"files": [files[n] for n in file_order], "parts": [parts[n] for n in part_order]})
    assert one.content == other.content


@pytest.mark.parametrize("change", [{"path": "g"}, {"bytes": 2}, {"blake3": "1" * 64}])
def test_the_content_digest_knows_every_path_size_and_hash(change):
    entry = FileEntry(path="f", bytes=1, blake3="0" * 64)
    one = Manifest(asset="a", partition="b", version="1", recipe={}, files=[entry])
    assert one.content != one.model_copy(update={"files": [entry.model_copy(update=change)]}).content


def test_the_content_does_not_know_how_it_was_made_but_the_manifest_digest_does():
    one = golden()
    for change in ({"version": "2"}, {"recipe": {}}, {"facts": {}}, {"inputs": []}, {"partition": "b"}, {"rows": ""}):
        other = one.model_copy(update=change)
        assert other.content == one.content
        assert other.digest != one.digest


def test_the_memo_key_knows_the_contents_of_the_inputs_and_not_their_manifests():
    one, remade = golden(), golden().inputs[0].model_copy(update={"manifest": "9" * 64})
    assert one.model_copy(update={"inputs": [remade]}).memo_key == one.memo_key
    changed = remade.model_copy(update={"content": "9" * 64})
    assert one.model_copy(update={"inputs": [changed]}).memo_key != one.memo_key
    assert one.model_copy(update={"numerics": {"device": "gpu"}}).memo_key != one.memo_key


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", float("nan"), float("inf"), object()])
def test_what_is_not_json_never_enters_a_manifest(value):
    with pytest.raises((TypeError, ValueError)):
        Manifest(asset="a", partition="b", version="1", recipe={}, facts={"x": [value]})


@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_facts_survive_the_way_to_disk_and_back(facts):
    try:
        one = Manifest(asset="a", partition="b", version="1", recipe={}, facts=facts)
    except ValueError:  # a lone surrogate is no text
        return
    assert Manifest.parse(one.canonical(), "x") == one


def test_canonical_json_is_one_byte_string_for_one_value():
    assert canonical_json({"b": 1, "a": [1.0, -0.0, "é\u2028", None, True]}) == (
        b'{"a":[1.0,-0.0,"\xc3\xa9\xe2\x80\xa8",null,true],"b":1}'
    )
    assert digest(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_a_recipe_writes_out_its_defaults_and_refuses_what_it_does_not_know():
    class Mild(Recipe):
        heat: float = 1
        names: list[str] = Field(default_factory=list)

    assert Mild().identity() == {"heat": 1.0, "names": []}
    for wrong in ({"heath": 1}, {"heat": float("nan")}, {"heat": "warm"}):
        with pytest.raises(ValueError, match="heat"):
            Mild(**wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="frozen"):
        Mild().heat = 2  # pyright: ignore[reportAttributeAccessIssue]


# -- partition keys --------------------------------------------------------------------------------------------

FORBIDDEN = [
    "", "a|b", "a\nb", "a\n", "../a", "a/../b", "a..b", "/a", "a/", "a//b", ".", "a/.", "./a", "a b", "é", "a%2Fb", "a\\b", "a\0",
    "x" * 241, "a/" * 81 + "a",
]  # fmt: skip


@pytest.mark.parametrize("key", FORBIDDEN)
def test_forbidden_partition_keys_are_refused_everywhere(key, store):
    with pytest.raises(PartitionKeyError, match="partition key"):
        checked_partition(key)
    with pytest.raises(ValueError, match="partition key"):
        store.draft(Key("raw", key), "1", {}, [])
    with pytest.raises(ValueError, match="partition key"):
        Manifest(asset="a", partition=key, version="1", recipe={})


@pytest.mark.parametrize("asset", ["", "../a", "a/b", "1a", "a\n"])
def test_forbidden_asset_names_are_refused(asset):
    with pytest.raises(ValueError, match="asset"):
        Manifest(asset=asset, partition="a", version="1", recipe={})


KEYS = st.text("aZ09._@+-/", min_size=1, max_size=40)


@given(KEYS, st.just("") | KEYS)
def test_percent_encoding_brings_every_allowed_key_back(partition, part):
    key = Key("raw", partition, part)
    try:
        checked_partition(partition), checked_partition(part or "a")
    except PartitionKeyError:
        with pytest.raises(PartitionKeyError):
            encoded(key)
        return
    path = encoded(key)
    assert path.count("/") == 2
    assert not {"", ".", ".."} & set(path.split("/"))
    assert decoded(path) == key


def test_a_part_named_like_the_mark_of_the_whole_is_not_taken_for_it():
    assert encoded(Key("raw", "a", "_")) != encoded(Key("raw", "a", ""))
    assert decoded(encoded(Key("raw", "a", "_"))) == Key("raw", "a", "_")


def test_the_longest_allowed_key_fits_a_path_segment():
    key = "a/" * 59 + "abc"
    assert len(quote(checked_partition(key), safe="@+")) <= 255


def test_a_file_entry_is_its_size_and_blake3(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_entry(tmp_path, "empty").blake3 == digest(b"")
    assert file_entry(tmp_path, "abc") == FileEntry(path="abc", bytes=3, blake3=digest(b"abc"))


@pytest.mark.parametrize("extra", [-1, 0, 1])
@pytest.mark.parametrize("windows", [0, 1, 2, 3])
def test_a_hash_does_not_depend_on_the_window_through_which_a_file_is_read(tmp_path, monkeypatch, windows, extra):
    window = mmap.ALLOCATIONGRANULARITY
    monkeypatch.setattr("pipelines.provenance.manifest.WINDOW_BYTES", window)
    data = bytes(range(256)) * ((windows * window) // 256 + 1)
    data = data[: max(0, windows * window + extra)]
    (tmp_path / "f").write_bytes(data)
    assert hashed(tmp_path / "f") == (len(data), blake3(data).hexdigest())
