"""Runs with a base in stemma.toml: another run, or a model from elsewhere."""

import pytest

from assets.blueprint import BLUEPRINTS
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec, SpecError
from training import shapes

MORE = """
[runs.more]
corpus = "small"
base = "demo"
[runs.more.mixture]
sequence_length = 16
batch_size = 4
steps = 3
[runs.more.training]
warmup_steps = 1
dtype = "fp32"
compile = "off"
"""
CORPUS = """
[sources."a/1"]
reader = "jsonl"
path = "a.jsonl"
[corpora.small]
sources = ["a/1"]
vocabulary = "v"
[vocabularies.v]
corpus = "small"
[runs.first]
corpus = "small"
[runs.first.training]
layers = 3
qk_norm = true
[runs.second]
corpus = "small"
base = "first"
"""


def spec_of(tmp_path, text: str) -> Spec:
    path = tmp_path / "stemma.toml"
    path.write_text(text)
    return Spec.load(path)


def test_a_run_has_the_shape_of_its_base_and_its_own_optimisation(tmp_path):
    spec = spec_of(tmp_path, CORPUS + "[runs.second.training]\nlearning_rate = 1e-4\n")
    recipe = shapes.recipe_of(spec, "second", 64)
    assert (recipe.layers, recipe.qk_norm, recipe.sequence_length, recipe.learning_rate) == (3, True, 64, 1e-4)
    assert BLUEPRINTS["pretrained_model"](spec, "second").needs == [
        Key("mixture", "second"), Key("pretrained_model", "first"),
    ]  # fmt: skip


def test_a_run_may_stretch_the_positions_of_its_base(tmp_path):
    stretched = '[runs.second.training]\nrope_scaling = "linear"\nrope_factor = 4.0\n'
    recipe = shapes.recipe_of(spec_of(tmp_path, CORPUS + stretched), "second", 64)
    assert (recipe.layers, recipe.rope_scaling, recipe.rope_factor) == (3, "linear", 4.0)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("[runs.second.training]\nlayers = 4\n", r"stemma.toml:19: the run begins from first, which decides layers 3"),
        ("[runs.second.training]\npreset = '350m'\n", r"which decides what shape it has; leave preset out"),
    ],
)
def test_another_shape_than_that_of_the_base_is_refused_with_its_line(tmp_path, table, told):
    with pytest.raises(SpecError, match=told):
        shapes.recipe_of(spec_of(tmp_path, CORPUS + table), "second", 64)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('base = "first"', 'base = "frist"', r"no 'frist' in \[runs\]. Did you mean 'first'"),
        ("[runs.first]\n", "[runs.first]\nbase = 'second'\n", r"first begins from second begins from first"),
        ('base = "first"', "base_step = 4", "base_step is that of a run's milestone"),
        ("[runs.first]\n", "[models.first]\npath = 'x'\n[runs.first]\n", "names both a run and a model"),
    ],
)
def test_a_base_that_cannot_be_is_refused_with_its_line(tmp_path, before, after, told):
    assert before in CORPUS
    with pytest.raises(SpecError, match=told):
        spec_of(tmp_path, CORPUS.replace(before, after, 1))


def test_a_model_that_is_not_there_is_refused_with_its_line(tmp_path):
    text = CORPUS.replace('base = "first"', 'base = "theirs"') + '[models.theirs]\npath = "nowhere"\n'
    spec = spec_of(tmp_path, text)
    with pytest.raises(SpecError, match=r"stemma.toml:\d+: .*nowhere.*config.json.* cannot be read"):
        shapes.recipe_of(spec, "second", 64)
    with pytest.raises(
        SpecError, match=r"config.json, tokenizer.json, model.safetensors are missing; there are no files"
    ):
        BLUEPRINTS["imported_model"](spec, "theirs")


def test_a_run_goes_on_from_another_and_the_audit_names_both(workplace):
    with workplace.spec_path.open("a") as file:
        file.write(MORE)
    workplace.stemma("run", "more", "--select", "pretrained_model")
    told = workplace.json("audit", "checkpoint", "more")
    (base,) = told["bases"]
    assert base["checkpoint"]["digest"] == workplace.store.open("pretrained_model", "demo").digest
    assert {source["part"] for source in base["sources"]} == {source["part"] for source in told["sources"]}
    assert "what demo read" in workplace.stemma("audit", "checkpoint", "more")
    document = workplace.json("audit", "step", "demo", "1")["documents"][0]["doc_id"]
    (answer,) = workplace.json("audit", "document", document)
    assert {seen["checkpoint"]: seen.get("began_from") for seen in answer["read_by"]} == {
        "demo": None,
        "more": ["demo"],
    }


def test_an_exported_model_comes_back_as_the_base_of_a_run(workplace, tmp_path):
    workplace.stemma("export", "demo", "--out", str(tmp_path / "out"))
    text = MORE.replace('base = "demo"', 'base = "theirs"\nvocabulary = "theirs"')
    with workplace.spec_path.open("a") as file:
        file.write(f'[models.theirs]\npath = "{tmp_path / "out"}"\nlicense = "MIT"\n')
        file.write(f'[vocabularies.theirs]\ncorpus = "small"\npath = "{tmp_path / "out" / "tokenizer.json"}"\n{text}')
    workplace.stemma("run", "more", "--select", "pretrained_model")
    told = workplace.json("audit", "checkpoint", "more")
    assert [base["checkpoint"]["asset"] for base in told["bases"]] == ["imported_model"]
    assert told["bases"][0]["facts"]["licence"] == "MIT"
    assert "not known here" in workplace.stemma("audit", "checkpoint", "more")
    assert "what it was trained on is not known" in workplace.stemma("audit", "step", "theirs", "1", code=2)
    assert workplace.stemma("generate", "Every", "--run", "theirs", "--tokens", "4").startswith("Every")
    with (tmp_path / "out" / "config.json").open("a") as file:
        file.write(" ")
    rows = workplace.json("run", "more", "--select", "imported_model", "--dry-run")
    assert [(row["asset"], row["state"]) for row in rows if row["because"].startswith("recipe: files_digest")] == [
        ("imported_model", "stale")
    ]
