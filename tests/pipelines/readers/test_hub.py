"""Hub: the files of a split, of a directory, of what was saved, and of the cache, without a network."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from pipelines.readers.hub import split_files
from pipelines.sources import IngestRecipe, listing, source_records

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def texts(place, **others):
    recipe = IngestRecipe(reader="hub", source="h", snapshot="1", **others)
    return [r.text for r in source_records(recipe, listing(recipe, place))]


def test_a_directory_of_data_files_has_the_splits_that_their_names_say(tmp_path):
    (tmp_path / "d/data").mkdir(parents=True)
    parquet.write_table(pa.table({"text": ["a", "b"]}), tmp_path / "d/data/train-00000-of-00001.parquet")
    parquet.write_table(pa.table({"text": ["c"]}), tmp_path / "d/data/test-00000-of-00001.parquet")
    assert texts(tmp_path / "d") == ["a", "b"]
    assert texts(tmp_path / "d", hub_split="test") == ["c"]
    with pytest.raises(ValueError, match=r"has no split 'dev'; it has .*test.* Name it in hub_split"):
        texts(tmp_path / "d", hub_split="dev")


def test_subsets_are_those_that_the_card_lists(tmp_path):
    for name in ("de", "fr"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "train.jsonl").write_text(json.dumps({"text": name}))
    card = "---\nconfigs:\n" + "".join(f"- config_name: {n}\n  data_files: {n}/train.jsonl\n" for n in ("de", "fr"))
    (tmp_path / "d/README.md").write_text(card + "---\n")
    assert texts(tmp_path / "d", hub_config="fr") == ["fr"]


def test_what_save_to_disk_wrote_is_read(tmp_path):
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["a", "b"]})})
    saved.save_to_disk(tmp_path / "both")
    saved["train"].save_to_disk(tmp_path / "one")
    assert texts(tmp_path / "both") == texts(tmp_path / "one") == ["a", "b"]
    with pytest.raises(ValueError, match="has no split 'test'; it has train"):
        texts(tmp_path / "both", hub_split="test")


def test_a_cached_data_set_needs_no_network(tmp_path):
    folder = tmp_path / "cache/user___name/default/0.0.0/abc"
    folder.mkdir(parents=True)
    table = pa.table({"text": ["from the cache"]})
    with pa.ipc.new_stream(str(folder / "name-train.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert texts("user/name") == ["from the cache"]


def test_without_network_and_cache_the_error_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"user/other: the hub does not answer .* not in the cache .*Load it once"):
        texts("user/other")
    with pytest.raises(ValueError, match="neither a directory nor a name of the hub"):
        split_files("no such/place/here", "", "train")
