"""Shapes by name: parameters as published, and tables that begin from one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.spec import Spec, SpecError
from training.recipes import PretrainRecipe
from training.shapes import SHAPES, is_encoder, network, recipe_of

TEXT = """
[sources."a/1"]
reader = "text"
path = "a.txt"
[corpora.c]
sources = ["a/1"]
vocabulary = "v"
[vocabularies.v]
corpus = "c"
[runs.r]
corpus = "c"
[runs.r.training]
"""


def spec(training):
    return Spec(TEXT + training, Path("stemma.toml"))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gpt2_124m", 124_439_808 + 47 * 768),  # transformers' gpt2, and 47 rows to a multiple of 64
        ("7b", 6_738_415_616),  # Llama 2 7B
        ("eurobert_210m", 211_766_016),  # tied, as published: 128,256 rows and twelve blocks
        ("350m", 361_000_000),
        ("1b", 1_299_000_000),
    ],
)
def test_parameters_are_those_of_the_published_networks(name, parameters):
    assert network(name).num_parameters == pytest.approx(parameters, rel=0.005 if parameters % 1000 == 0 else 0)


def test_every_shape_is_a_recipe():
    for shape in SHAPES.values():
        assert PretrainRecipe(**shape.fields)


def test_a_table_begins_from_a_shape_and_overrules_it():
    found = recipe_of(spec('preset = "gpt2_124m"\nlayers = 6\nlearning_rate = 0.01'), "r", 512)
    assert (found.blocks, found.layers, found.width, found.learning_rate) == ("gpt2", 6, 768, 0.01)
    assert found.sequence_length == 512  # the mixture's: what is cut and what is read must agree


def test_without_a_shape_the_recipe_is_the_demos():
    assert recipe_of(spec(""), "r", 256) == PretrainRecipe()
    assert recipe_of(spec('preset = "nano"'), "r", 256) == PretrainRecipe()


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ('preset = "8b"', r"^stemma.toml:13: no preset '8b'; there are: nano, gpt2_124m"),
        ("layers = 0", r"^stemma.toml:13: layers: .*greater than or equal to 1, found 0"),
        ('objectiv = "masked"', r"^stemma.toml:13: unknown key 'objectiv'; did you mean 'objective'"),
        ('blocks = "gpt2"', r"^stemma.toml:12: a gpt2 shares no key heads: set kv_heads to heads \(4\)"),
        ("whole_words = true", r"^stemma.toml:12: whole_words hides words from an encoder"),
        ('attend = "page"', r"^stemma.toml:13: attend: .*'sequence' or 'document', found 'page'"),
        ("window = 1", r"^stemma.toml:12: a window of 1 shows a token nothing but itself"),
        ('rope_scaling = "yarn"\nrope_factor = 2.0', r"^stemma.toml:12: .* llama3 and yarn need the length"),
        ('dtype = "fp8"\nmlp_width = 350', r"^stemma.toml:12: .* sides divide by 16; mlp_width \(350\) does not"),
        ("sentence_order = 1.0", r"^stemma.toml:12: sentence_order is asked of an encoder"),
        ('objective = "masked"\ncontrast = 0.5', r"^stemma.toml:12: contrast \(0.5\) needs attend = 'document'"),
        ("patience = 2", r"^stemma.toml:12: patience \(2\) counts evaluations: set eval_every"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(training, told):
    with pytest.raises(SpecError, match=told):
        recipe_of(spec(training), "r", 256)


def test_an_encoder_is_known_by_its_table_or_its_shape():
    assert is_encoder(spec('objective = "masked"'), "r")
    assert is_encoder(spec('preset = "eurobert_210m"'), "r")
    assert not is_encoder(spec('preset = "eurobert_210m"\nobjective = "causal"'), "r")
    assert not is_encoder(spec(""), "r")
