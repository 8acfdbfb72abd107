"""The logical digests of one small corpus, stage by stage.

A digest that changes means that a stage makes other bytes than before: raise its VERSION, then write the new digest
here. Library versions do not matter to these rows, but for those of the tokenizer.
"""

from __future__ import annotations

import pytest
from test_decontaminate import ITEMS, QUESTION, trained
from test_mixture import mixed
from test_shards import texts

from pipelines import decontaminate, dedup, heldout, mixture, shards, signatures, unique, vocabulary

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
    "duplicate_clusters": ("1", "3229394484127c90"),
    "unique_documents": ("1", "b44aafe4feef48f1"),
    "heldout_documents": ("1", "290b5fc7515233bd"),
    "training_documents": ("1", "d06db5670fbcdf7b"),
    "vocabulary": ("1", "8a9f954ebde48e68"),
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
