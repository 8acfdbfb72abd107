"""The logical digests of one small corpus, stage by stage.

A digest that changes means that a stage makes other bytes than before: raise its VERSION, then write the new digest
here. Library versions do not matter to these rows, but for those of the tokenizer.
"""

from __future__ import annotations

import json

import pytest
from test_decontaminate import ITEMS, QUESTION, trained
from test_mixture import mixed
from test_shards import texts

from pipelines import decontaminate, dedup, heldout, mixture, shards, signatures, unique, vocabulary
from pipelines.clean import CLEAN_VERSION, clean
from pipelines.clean_recipe import docs
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import digest
from pipelines.provenance.store import Store
from pipelines.provenance.tables import rows_digest
from pipelines.sources import IngestRecipe

VERSIONS = {
    "signatures": signatures.VERSION,
    "duplicate_clusters": dedup.VERSION,
    "unique_documents": unique.VERSION,
    "heldout_documents": heldout.VERSION,
    "training_documents": decontaminate.VERSION,
    "vocabulary": vocabulary.VERSION,
    "token_shards": shards.VERSION,
    "heldout_shards": shards.HELDOUT_VERSION,
    "mixture": mixture.VERSION,
}
SOURCES = {"a/1": [*texts("a"), QUESTION], "b/1": texts("b", 12)}
GOLDEN = {
    "signatures": ("1", "0393f831c1ed73b7"),
    "duplicate_clusters": ("2", "3229394484127c90"),
    "unique_documents": ("2", "b44aafe4feef48f1"),
    "heldout_documents": ("1", "290b5fc7515233bd"),
    "training_documents": ("3", "2cd64d34ab81623d"),
    "vocabulary": ("2", "8a9f954ebde48e68"),
    "token_shards": ("1", "5072a2de1f639651"),
    "heldout_shards": ("1", "bb79abc7296482ce"),
    "mixture": ("1", "0044574f8a8ac9b0"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    from corpora import Corpora

    corpora = Corpora(tmp_path_factory.mktemp("golden"))
    run = mixed(corpora, SOURCES)
    training = trained(corpora, SOURCES, ITEMS, ratio=0.2)
    partitions = {"signatures": "a/1", "vocabulary": "v", "mixture": run.key.partition}
    made = {asset: corpora.store.open(asset, partitions.get(asset, "mine")) for asset in VERSIONS}
    return {**made, "training_documents": training}


@pytest.mark.parametrize("asset", VERSIONS)
def test_rows_change_only_with_the_version_of_their_stage(made, asset):
    assert (VERSIONS[asset], made[asset].manifest.rows[:16]) == GOLDEN[asset]  # (version, digest)


# -- before the corpus: a source as it is taken in, and cleaned ------------------------------------------------------------

PAGES = [
    {
        "id": "1",
        "text": "The keeper of the light wrote down the tide, and sent it to keeper@light.example each day. " * 9,
    },
    {
        "id": "2",
        "text": "caf\u00c3\u00a9 and\r\ntea\u00a0are what we had, and nothing of it was cold when it came. " * 6,
    },
    {"id": "3", "text": "short"},
    {"id": "4", "text": "lorem ipsum dolor sit amet " * 30},
    {"id": "5", "text": ""},
    {"id": "1", "text": "Wir haben den ganzen Tag am Meer verbracht und nichts davon vergessen. " * 9},
]
TAKEN_IN = {
    "raw_documents": ("2", "330c412f48f28977"),
    "clean_documents": ("3", "76c89a5d52b83b9b"),
}


def test_a_source_and_its_cleaning_change_only_with_their_versions(tmp_path):
    """Rows, and what cleaning writes beside them: fates with values, spans and every signal."""
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(page) + "\n" for page in PAGES), encoding="utf-8")
    given = IngestRecipe(reader="jsonl", source="golden", snapshot="1", license="CC0-1.0", id_field="id")
    store, cleaning = Store(tmp_path / "store"), docs()
    raw = build(
        store, Key("raw_documents", "golden/1"), INGEST_VERSION, given, [],
        lambda draft: ingest(given, draft, path=tmp_path / "a.jsonl"),
    ).artifact  # fmt: skip
    clean_ones = build(
        store, Key("clean_documents", "golden/1"), CLEAN_VERSION, cleaning, [raw],
        lambda draft: clean(raw, cleaning, draft),
    ).artifact  # fmt: skip
    beside = [rows_digest([clean_ones.table(name)]) for name in ("fates.arrow", "spans.arrow", "signals.arrow")]
    found = {
        "raw_documents": (INGEST_VERSION, raw.manifest.rows[:16]),
        "clean_documents": (CLEAN_VERSION, digest("".join([clean_ones.manifest.rows, *beside]).encode())[:16]),
    }
    assert found == TAKEN_IN
