"""A file of the hub is named by a commit and found in the cache; a branch is no name."""

from __future__ import annotations

import pytest

from pipelines.hub_file import HubFile, HubFileError, hub_file

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of huggingface_hub with one file; the network is not there."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "models--some--words" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    return tmp_path


def test_a_cached_file_is_found_without_a_network(cache):
    found = hub_file(f"hf://some/words@{COMMIT}", "tokenizer.json")
    assert found == HubFile("some/words", COMMIT, "tokenizer.json")
    assert found.local().read_text() == "{}"
    assert str(found) == f"hf://some/words@{COMMIT}/tokenizer.json"
    assert hub_file(str(found), "other.json") == found


@pytest.mark.parametrize("name", [f"hf://some/words@{COMMIT}/tokenizer.model", f"hf://some/other@{COMMIT}"])
def test_what_is_not_there_is_named_with_a_command(cache, name):
    with pytest.raises(
        HubFileError, match=rf"is not in the cache.*hf download some/\w+ tokenizer.* --revision {COMMIT}"
    ):
        hub_file(name, "tokenizer.json").local()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://some/words", r"names no commit.*Write hf://some/words@COMMIT, 40 hexadecimal"),
        ("hf://some/words@main", "names main: what a branch or tag holds may change"),
        ("hf://some/words@0123", "names 0123"),
        ("hf://words", r"no name on the hub; expected hf://OWNER/NAME@COMMIT"),
        ("hf://../../etc", "no name on the hub"),
    ],
)
def test_a_name_that_may_mean_something_else_tomorrow_is_refused(name, message):
    with pytest.raises(HubFileError, match=message):
        hub_file(name, "tokenizer.json")
