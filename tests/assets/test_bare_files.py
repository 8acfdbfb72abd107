"""A safetensors file alone, without its store's names, is found in the store by its bytes."""

import shutil

import pytest

from assets.cli_audit import _checkpoint
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store


class Weights(Recipe):
    says: str


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "store")


def sealed(store: Store, name: str, says: str, milestones: tuple[str, ...] = ()) -> Artifact:
    def weights(draft: Draft, text: str, parts: list[Artifact] | None = None) -> Artifact:
        draft.path("model.safetensors").write_text(text)
        return draft.seal(parts=parts or [])

    def make(draft: Draft) -> Artifact:
        parts = [draft.part(m, Weights(says=m), [], lambda d, m=m: weights(d, f"{says} at {m}")) for m in milestones]
        return weights(draft, says, parts)

    return build(store, Key("pretrained_model", name), "1", Weights(says=says), [], make).artifact


def copied(artifact: Artifact, folder) -> str:
    return shutil.copyfile(artifact.local("model.safetensors"), folder / "bare.safetensors").as_posix()


def test_a_checkpoint_is_known_by_its_bytes_and_not_by_the_name_of_the_file(store, tmp_path):
    one, other = sealed(store, "one", "1"), sealed(store, "other", "2")
    assert _checkpoint(store, copied(one, tmp_path)) == one
    assert _checkpoint(store, copied(other, tmp_path)) == other


def test_a_superseded_checkpoint_is_known_as_well(store, tmp_path):
    old, new = sealed(store, "run", "old"), sealed(store, "run", "new")
    assert store.open("pretrained_model", "run") == new
    assert _checkpoint(store, copied(old, tmp_path)) == old


def test_a_milestone_is_known_as_the_part_that_it_is(store, tmp_path):
    run = sealed(store, "run", "end", ("step-00000050", "step-00000100"))
    for name in ("step-00000050", "step-00000100"):
        assert _checkpoint(store, copied(run.part(name), tmp_path)) == run.part(name)
    assert _checkpoint(store, copied(run, tmp_path)) == run


def test_a_file_with_one_other_byte_is_not_known(store, tmp_path):
    bare = copied(sealed(store, "run", "weights"), tmp_path)
    with open(bare, "r+b") as file:
        file.write(b"W")
    with pytest.raises(ValueError, match=r"bare\.safetensors: no checkpoint in .* it is from another store, or it was"):
        _checkpoint(store, bare)
