"""Semantic near-duplicates as a corpus asks for them: a table of the spec, a directory, and fates that name survivors."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from assets.blueprint import BLUEPRINTS
from assets.builder import build_key
from pipelines.spec import Spec

WORDS = [
    "<unk>",
    "the",
    "whole",
    "parish",
    "asked",
    "clerk",
    "one",
    "morning",
    "said",
    "wrote",
    "bell",
    "bells",
    "were",
    "mended",
    "rang",
    "in",
    "old",
    "new",
    "abbey",
]
SAID = "the bells in the old abbey were mended one morning said the clerk and the whole parish rang the new bell"
AGAIN = "one morning the whole parish rang the new bell said the clerk and the bells were mended in the old abbey"


def bag_of_words(folder):
    """A network without layers: each word is its own axis, so that the order of words does not matter."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    network = LlamaModel(
        LlamaConfig(
            vocab_size=len(WORDS), hidden_size=32, intermediate_size=8, num_hidden_layers=0, num_attention_heads=2
        )
    )
    with torch.no_grad():
        network.embed_tokens.weight.copy_(torch.eye(len(WORDS), 32))
    network.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def asked(place, text):
    place.edit("[corpora.small.heldout]", f"[corpora.small.semantic]\n{text}\n[corpora.small.heldout]")
    return place.spec


def test_a_corpus_that_asks_for_it_loses_what_says_the_same(blank, stemma):
    bag_of_words(blank.folder / "model")
    lines = [json.dumps({"id": f"t{n}", "text": text}) for n, text in enumerate((SAID, AGAIN))]
    (blank.folder / "letters.jsonl").write_text("\n".join(lines) + "\n")
    asked(blank, 'model = "model"\nthreshold = 0.97')
    for key in blank.keys():
        build_key(blank.spec, blank.store, key)
        if key.asset == "training_documents":
            break
    part = blank.store.open("unique_documents", "small").part("letters/1")
    assert part.counts["merged_semantic"] == 1
    gone = next(row for row in part.table("fates.arrow").to_pylist() if row["method"] == "semantic")
    assert gone["value"] > 0.97
    assert part.table("documents.arrow")["doc_id"].to_pylist() == [gone["survivor"]]
    told = stemma(blank, "audit", "document", gone["doc_id"].hex())
    assert f"into {gone['survivor'].hex()[:12]}…, cosine" in told
    shown = stemma(blank, "show", "unique_documents", "small", "--dropped", "semantic")
    assert "merged semantic into" in shown
    assert "cosine (" in shown


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('model = "nowhere"\nthreshold = 0.9', r"stemma\.toml:\d+: .*nowhere: expected config\.json"),
        ("model = 3\nthreshold = 0.9", r"stemma\.toml:\d+: model is 3; expected the path of a directory"),
        ("threshold = 0.9", r"stemma\.toml:\d+: semantic near-duplicates need both .* say model, a directory"),
        ('model = "model"', r"say threshold, a cosine such as 0\.95"),
        ('model = "model"\nthreshold = 2', r"stemma\.toml:\d+: threshold: .* less than or equal to 1"),
        ('model = "model"\ntreshold = 0.9', r"unknown key 'treshold'; did you mean 'threshold'"),
    ],
)
def test_a_mistake_in_the_table_is_named_with_its_line(blank, table, message):
    folder = blank.folder / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    spec: Spec = asked(blank, table)
    with pytest.raises(ValueError, match=message):
        BLUEPRINTS["unique_documents"](spec, "small")
