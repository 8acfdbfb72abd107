"""Classifiers and reference models of a spec: made from the raw documents of the sources that it names."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from assets.builder import build_key
from assets.checks import better_than_chance
from assets.partitions import wanted
from pipelines.instruments.classifier import Classifier
from pipelines.instruments.ngram_model import NgramModel
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec, SpecError

SOURCES = ("good/1", "good/2", "junk/1")
SPEC = (
    "".join(
        f'[sources."{name}"]\nreader = "jsonl"\npath = "{name.replace("/", "-")}.jsonl"\nlicense = "CC0-1.0"\n'
        for name in SOURCES
    )
    + """
[classifiers.prose]
positive = ["good"]
negative = ["junk/1"]
[classifiers.prose.recipe]
classifier_bits = 12

[references.prose]
sources = ["good/latest"]
[references.prose.recipe]
perplexity_order = 2
"""
)


@pytest.fixture
def place(tmp_path):
    for name in SOURCES:
        words = ["ship", "tide", "river", "harbour"] if name.startswith("good") else ["buy", "free", "bonus", "now"]
        rows = [{"text": " ".join(words[(n // 4**i) % 4] for i in range(5)) + f" {name[-1]} {n}"} for n in range(150)]
        (tmp_path / f"{name.replace('/', '-')}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "stemma.toml").write_text(SPEC)
    return tmp_path


def spec_of(place, before: str = "", after: str = "") -> Spec:
    return Spec(SPEC.replace(before, after) if before else SPEC, place / "stemma.toml")


def test_both_models_are_made_from_raw_documents_and_score_text(place):
    spec, store = spec_of(place), Store(place / "store")
    for source in ("good/2", "junk/1"):
        build_key(spec, store, Key("raw_documents", source))
    made = build_key(spec, store, Key("text_classifier", "prose")).artifact
    reference = build_key(spec, store, Key("reference_model", "prose")).artifact
    texts = pa.array(["ship and tide", "free bonus now"], pa.large_string())
    good, junk = Classifier.load(made).scores(texts)
    assert good > 0.5 > junk
    low, high = NgramModel.load(reference).perplexities(texts)
    assert low < high
    assert better_than_chance(made)[0]
    assert [ref.partition for ref in made.manifest.inputs] == ["good/2", "junk/1"]
    assert not build_key(spec, store, Key("text_classifier", "prose")).computed


def test_moving_a_source_to_the_other_side_makes_another_model(place):
    store, first = Store(place / "store"), spec_of(place, '["good"]', '["good/1", "good/2"]')
    for source in SOURCES:
        build_key(first, store, Key("raw_documents", source))
    one = build_key(first, store, Key("text_classifier", "prose"))
    moved = Spec(
        SPEC.replace('["good"]', '["good/1"]').replace('["junk/1"]', '["good/2", "junk/1"]'), place / "stemma.toml"
    )
    other = build_key(moved, store, Key("text_classifier", "prose"))
    assert one.computed
    assert other.computed
    assert other.artifact.counts["positive"] == 150
    assert one.artifact.counts["positive"] == 300


def test_partitions_and_sources_follow_the_spec(place):
    spec = spec_of(place)
    assert wanted(spec)["classifier"] == wanted(spec)["reference"] == ["prose"]
    assert spec.classifier_sources("prose") == (["good/2"], ["junk/1"])
    assert spec.reference_sources("prose") == ["good/2"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('["good"]', '["god/1"]', r"stemma\.toml:15: no 'god/1' in \[sources\]. Did you mean 'good/1'"),
        ('["good/latest"]', "[]", "references.prose.sources"),
        ("negative", "negatives", "unknown key 'negatives'; did you mean 'negative'"),
    ],
)
def test_mistakes_in_the_spec_are_named(place, before, after, message):
    with pytest.raises(SpecError, match=message):
        spec_of(place, before, after)


def test_a_recipe_out_of_bounds_is_named_with_its_line(place):
    spec = spec_of(place, "perplexity_order = 2", "perplexity_order = 6")
    with pytest.raises(SpecError, match=r"stemma\.toml:23: perplexity_order"):
        build_key(spec, Store(place / "store"), Key("reference_model", "prose"))
