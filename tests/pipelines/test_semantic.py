"""Documents that say the same in other words: found by cosine, each for one that stays, whatever the blocks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from corpora import doc_id
from hypothesis import given, settings
from hypothesis import strategies as st
from test_dedup import LONGER, TEXT, clustered
from tokenizers import Tokenizer, models, pre_tokenizers

from pipelines import semantic
from pipelines import unique as unique_documents
from pipelines.provenance import fates
from pipelines.semantic import SCALE, EmbedderError, embedded, embedder, k_means, model_digest, stars
from pipelines.unique import UniqueRecipe, unique

WORDS = ["<pad>", "the", "car", "automobile", "is", "red", "crimson", "fast", "house", "old", "river", *TEXT.split()]
MEANS = {"automobile": "car", "crimson": "red"}  # synonyms: one vector


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network without layers: the state of a token is its own axis, which it shares with its synonyms."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("model")
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=8, num_hidden_layers=0, num_attention_heads=2
    )
    network = LlamaModel(config)
    with torch.no_grad():
        network.embed_tokens.weight.zero_()
        for number, word in enumerate(WORDS):
            network.embed_tokens.weight[number, WORDS.index(MEANS.get(word, word))] = 1.0
    network.save_pretrained(folder, safe_serialization=True)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<pad>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def made(corpora, sources, model, force=False, **recipe):
    clusters = clustered(corpora, sources)
    cleans = [corpora.store.open("clean_documents", name) for name in sources]
    chosen = UniqueRecipe(model=model_digest(model), **{"threshold": 0.95, **recipe})
    return corpora.run(
        "unique_documents", "mine", unique_documents.VERSION, chosen, [*cleans, clusters],
        lambda d: unique(cleans, clusters, chosen, d, model=model), force=force,
    )  # fmt: skip


def gone(artifact):
    return {
        row["doc_id"]: (row["survivor"], row["method"], row["value"], row["jaccard"])
        for part in artifact.parts()
        for row in part.table(fates.FILE).to_pylist()
        if row["fate"] == "merged"
    }


# -- embeddings ----------------------------------------------------------------------------------------------------


def test_an_embedding_is_the_mean_of_the_states(model):
    vectors = embedded(["the car", "automobile the", "", "house"], model, 16)
    expected = np.zeros((4, 32))
    expected[:2, [1, 2]] = 1 / np.sqrt(2)
    expected[3, WORDS.index("house")] = 1.0
    assert np.abs(vectors / SCALE - expected).max() < 1e-4
    assert vectors.dtype == np.int16


def test_a_text_is_read_to_its_first_tokens(model):
    assert (embedded(["the car is old"], model, 2) == embedded(["the car"], model, 9)).all()
    assert (embedded([], model, 2)).shape[0] == 0


def test_a_directory_of_sentence_transformers_says_how_it_pools(model, tmp_path):
    folder = tmp_path / "st"
    folder.mkdir()
    inner, pooling = folder / "0_Transformer", folder / "1_Pooling"
    inner.symlink_to(model)
    pooling.mkdir()
    modules = [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
               {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
               {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (pooling / "config.json").write_text('{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}')
    assert embedder(folder).of_first
    assert (embedded(["old house"], folder, 9) == embedded(["old"], model, 9)).all()
    (pooling / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    assert (embedded(["old house"], folder, 9) == embedded(["house old"], model, 9)).all()
    (pooling / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(EmbedderError, match="pools by pooling_mode_max_tokens; the mean or the first"):
        embedder(folder)
    (folder / "modules.json").write_text(json.dumps([*modules, {"path": "3_Dense", "type": "s.models.Dense"}]))
    with pytest.raises(EmbedderError, match="has a module Dense"):
        embedder(folder)
    (folder / "modules.json").write_text("no JSON")
    with pytest.raises(EmbedderError, match=r"modules\.json: cannot be read as JSON"):
        embedder(folder)


def test_a_directory_without_a_network_is_refused(tmp_path, model):
    with pytest.raises(EmbedderError, match=r"expected config\.json, a tokenizer and weights in safetensors"):
        model_digest(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(EmbedderError, match="pickled weights are not read"):
        embedder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(EmbedderError, match="transformers cannot load it"):
        embedded(["a"], tmp_path, 4)


def test_the_digest_is_that_of_the_files(model, tmp_path):
    import shutil

    copied = tmp_path / "elsewhere"
    shutil.copytree(model, copied)
    assert model_digest(copied) == model_digest(model)
    (copied / "tokenizer_config.json").write_text("{}")
    assert model_digest(copied) != model_digest(model)


# -- stars ---------------------------------------------------------------------------------------------------------


def by_hand(vectors, threshold, home):
    """The rule, one pair after another."""
    survivor, cosine = [-1] * len(vectors), [0.0] * len(vectors)
    whole = vectors.astype(np.int64)
    for doc in range(len(vectors)):
        best, whose = -1.0, -1
        for other in range(doc):
            squares = int((whole[doc] ** 2).sum()) * int((whole[other] ** 2).sum())
            if survivor[other] < 0 and home[doc] == home[other] and squares:
                found = float(int((whole[doc] * whole[other]).sum()) / np.sqrt(float(squares)))
                if found > best:
                    best, whose = found, other
        if best >= threshold:
            survivor[doc], cosine[doc] = whose, best
    return survivor, cosine


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1 << 30), number=st.integers(0, 60), clusters=st.integers(1, 5), threshold=st.floats(0.5, 0.999)
)
def test_stars_are_those_of_the_rule(seed, number, clusters, threshold):
    chance = np.random.default_rng(seed)
    bases = chance.normal(size=(6, 8))
    vectors = bases[chance.integers(0, 6, number)] + chance.normal(scale=0.15, size=(number, 8))
    vectors = np.rint(SCALE * vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.int16)
    vectors[chance.random(number) < 0.1] = 0
    seeds = chance.permutation(number)
    home = k_means(vectors, seeds[:clusters]) if min(clusters, number) > 1 else np.zeros(number, np.int64)
    expected = by_hand(vectors, threshold, home)
    for block in (512, 7, 1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(semantic, "BLOCK", block)
            found = stars(vectors, threshold, clusters, seeds)
        assert found.survivor.tolist() == expected[0]
        assert found.cosine == pytest.approx(expected[1], abs=1e-12)


def test_clusters_hold_what_points_one_way():
    ways = np.eye(3)[np.arange(60) % 3] + np.random.default_rng(1).normal(scale=0.05, size=(60, 3))
    home = k_means(np.rint(SCALE * ways / 2).astype(np.int16), np.array([0, 1, 2]))
    assert all(len(set(home[way::3].tolist())) == 1 for way in range(3))
    assert len(set(home.tolist())) == 3


def test_one_cluster_finds_what_several_part():
    """Many documents to the left and right, and two alike on the border between the clusters."""
    angles = np.concatenate([np.linspace(0, 1, 20), np.linspace(2.2, 3.2, 20), [1.59, 1.61]])
    vectors = np.rint(SCALE * np.column_stack([np.cos(angles), np.sin(angles)])).astype(np.int16)
    assert stars(vectors, 0.9995, 1, np.array([0, 39])).survivor[41] == 40
    assert stars(vectors, 0.9995, 2, np.array([0, 39])).survivor[41] == -1


# -- the stage -----------------------------------------------------------------------------------------------------

SOURCES = {
    "a/1": ["the car is red", "an old house", TEXT],
    "b/1": ["the automobile is crimson", "the river is old", LONGER],
    "c/1": ["crimson is the automobile", "the river is fast"],
}


def test_a_paraphrase_goes_for_the_first_that_says_it(corpora, model):
    artifact = made(corpora, SOURCES, model)
    found = gone(artifact)
    assert {doc: (survivor, method) for doc, (survivor, method, _, _) in found.items()} == {
        doc_id("b/1:0"): (doc_id("a/1:0"), "semantic"),
        doc_id("c/1:0"): (doc_id("a/1:0"), "semantic"),
        doc_id("b/1:2"): (doc_id("a/1:2"), "near"),
    }
    assert found[doc_id("b/1:0")][2:] == (pytest.approx(1.0, abs=1e-4), None)
    assert artifact.counts["seen"] == 8 == artifact.counts["kept"] + artifact.counts["merged"]
    assert artifact.counts["merged_semantic"] == 2
    assert artifact.part("b/1").table("texts.arrow")["text"].to_pylist() == ["the river is old"]


def test_the_threshold_is_a_cosine(corpora, model):
    """Of four words three are the same: 0.75."""
    for threshold, goes in ((0.74, True), (0.76, False)):
        found = gone(made(corpora, SOURCES, model, threshold=threshold))
        assert (doc_id("c/1:1") in found) is goes
    assert gone(made(corpora, SOURCES, model, threshold=0.74))[doc_id("c/1:1")][2] == pytest.approx(0.75, abs=1e-3)


def test_twice_gives_the_same_digest_and_a_later_source_is_seen(corpora, model):
    first = made(corpora, SOURCES, model)
    assert made(corpora, SOURCES, model, force=True).content == first.content
    less = made(corpora, {"a/1": SOURCES["a/1"]}, model)
    assert less.part("a/1").manifest.rows == first.part("a/1").manifest.rows


def test_without_a_model_nothing_changes(corpora, model):
    clusters = clustered(corpora, SOURCES)
    cleans = [corpora.store.open("clean_documents", name) for name in SOURCES]
    plain = corpora.run(
        "unique_documents", "plain", unique_documents.VERSION, UniqueRecipe(), [*cleans, clusters],
        lambda d: unique(cleans, clusters, UniqueRecipe(), d),
    )  # fmt: skip
    assert {method for _, method, _, _ in gone(plain).values()} == {"near"}
    assert "merged_semantic" not in plain.counts


def test_another_directory_than_the_recipes_is_refused(corpora, model, tmp_path):
    clusters = clustered(corpora, SOURCES)
    cleans = [corpora.store.open("clean_documents", name) for name in SOURCES]
    recipe = UniqueRecipe(model="0" * 64, threshold=0.9)
    with pytest.raises(ValueError, match=r"the recipe's model has digest 0000.*set model in"):
        corpora.run(
            "unique_documents", "mine", unique_documents.VERSION, recipe, [*cleans, clusters],
            lambda d: unique(cleans, clusters, recipe, d, model=model),
        )  # fmt: skip


@pytest.mark.parametrize("fields", [{"threshold": 0.9}, {"model": "0" * 64}])
def test_a_model_and_a_threshold_belong_together(fields):
    with pytest.raises(ValueError, match="need both a model and a threshold"):
        UniqueRecipe(**fields)


def test_an_empty_corpus_has_no_paraphrases(corpora, model):
    assert made(corpora, {"a/1": [], "b/1": []}, model).counts["seen"] == 0
