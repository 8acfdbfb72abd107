from __future__ import annotations

import json

import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

from training import checkpoints
from training.weights import load_weights, save_weights, weights_metadata

WEIGHTS = {"b.weight": torch.arange(6.0).view(2, 3), "a.weight": torch.ones(3, dtype=torch.bfloat16)}
HEADER = {"run": "demo", "plan": "p" * 64, "mixture": "m" * 64, "vocabulary": "v" * 64}


def saved(root, step, **more):
    losses = pa.table({"step": pa.array([step], pa.int64())})
    state = {"step": step, "consumption": "c", "identity": "i", "evaluations": []}
    return checkpoints.save(root, state, WEIGHTS, {"exp_avg.a": torch.zeros(2)}, losses, HEADER, **more)


def test_a_weight_file_reads_back_by_the_library_and_names_itself(tmp_path):
    path = tmp_path / "model.safetensors"
    save_weights(path, WEIGHTS, HEADER)
    for read in (load_file(str(path)), load_weights(path)):
        assert set(read) == set(WEIGHTS)
        assert all(torch.equal(read[name], WEIGHTS[name]) for name in WEIGHTS)
        assert read["a.weight"].dtype == torch.bfloat16
    assert weights_metadata(path) == {"format": "pt", **HEADER}


def test_weight_files_are_the_same_bytes_whatever_the_order_of_names(tmp_path):
    save_weights(tmp_path / "one", WEIGHTS, HEADER)
    turned = dict(reversed(HEADER.items()))
    save_weights(tmp_path / "two", dict(reversed(WEIGHTS.items())), turned)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_something_else_is_no_weight_file(tmp_path):
    for data in (b"", b"abc", b"\xff" * 100, b"\x04\0\0\0\0\0\0\0[1,]"):
        path = tmp_path / "x"
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a safetensors file"):
            weights_metadata(path)


def test_a_checkpoint_comes_back_whole(tmp_path):
    saved(tmp_path, 7, finish=lambda folder: (folder / "extra.txt").write_text("x"))
    found = checkpoints.latest(tmp_path)
    assert (found.step, found.state["consumption"]) == (7, "c")
    assert torch.equal(found.model()["b.weight"], WEIGHTS["b.weight"])
    assert set(found.state["files"]) == {"extra.txt", "losses.arrow", "model.safetensors", "optimizer.safetensors"}
    assert weights_metadata(found.path / "model.safetensors")["step"] == "7"


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def removed(path):
    path.unlink()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "losses.arrow", "state.json"])
@pytest.mark.parametrize("damage", [truncated, flipped, removed])
def test_any_damage_falls_back_to_the_checkpoint_before(tmp_path, name, damage):
    saved(tmp_path, 5)
    damage(saved(tmp_path, 10).path / name)
    told = []
    assert checkpoints.latest(tmp_path, told.append).step == 5
    assert "passed over a torn checkpoint: step-00000010" in told[0]


def test_a_state_that_was_edited_is_noticed(tmp_path):
    path = saved(tmp_path, 5).path / "state.json"
    state = json.loads(path.read_bytes())
    path.write_text(json.dumps({**state, "step": 6}))
    with pytest.raises(checkpoints.CheckpointError, match="changed after it was written"):
        checkpoints.opened(path.parent)


def test_a_write_that_is_cut_short_leaves_the_one_before(tmp_path):
    saved(tmp_path, 5)

    def dies(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path, 10, finish=dies)
    assert checkpoints.latest(tmp_path).step == 5
    checkpoints.prune(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000005"]


def test_no_checkpoint_is_none(tmp_path):
    assert checkpoints.latest(tmp_path / "nowhere") is None


def test_the_newest_two_stay_whatever_the_order_in_which_they_were_written(tmp_path):
    for step in (30, 7, 100, 20):
        saved(tmp_path, step)
    (tmp_path / ".writing-step-00000200").mkdir()
    checkpoints.prune(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000030", "step-00000100"]
    assert checkpoints.latest(tmp_path).step == 100


def test_as_many_stay_as_are_asked_for(tmp_path):
    for step in (1, 2, 3):
        saved(tmp_path, step)
    checkpoints.prune(tmp_path, keep=5)
    assert len(list(tmp_path.iterdir())) == 3
    checkpoints.prune(tmp_path, keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_if_all_are_torn_there_is_none_and_each_is_told(tmp_path):
    for step in (5, 10):
        truncated(saved(tmp_path, step).path / "model.safetensors")
    told = []
    assert checkpoints.latest(tmp_path, told.append) is None
    assert [line.split(": ")[1] for line in told] == ["step-00000010", "step-00000005"]
    assert all("bytes" in line for line in told)


def test_what_is_wrong_with_a_checkpoint_is_told_with_its_sizes(tmp_path):
    path = saved(tmp_path, 5).path
    size = (path / "model.safetensors").stat().st_size
    truncated(path / "model.safetensors")
    with pytest.raises(checkpoints.CheckpointError, match=f"model.safetensors has {size - 1} bytes, {size} were"):
        checkpoints.opened(path)
    (path / "model.safetensors").unlink()
    with pytest.raises(checkpoints.CheckpointError, match=f"model.safetensors has no bytes, {size} were written"):
        checkpoints.opened(path)


def test_bytes_that_changed_at_the_same_size_are_noticed(tmp_path):
    path = saved(tmp_path, 5).path
    flipped(path / "optimizer.safetensors")
    with pytest.raises(checkpoints.CheckpointError, match=r"optimizer\.safetensors has other bytes than were written"):
        checkpoints.opened(path)


@pytest.mark.parametrize("state", ["", "{", "[]", "7", "null", '"text"', "{}", '{"digest": 5}'])
def test_a_state_that_is_no_state_is_told_and_not_a_crash(tmp_path, state):
    saved(tmp_path, 5)
    path = saved(tmp_path, 10).path
    (path / "state.json").write_text(state)
    with pytest.raises(checkpoints.CheckpointError, match=r"step-00000010: state\.json"):
        checkpoints.opened(path)
    assert checkpoints.latest(tmp_path, lambda line: None).step == 5


def test_a_checkpoint_of_a_later_format_is_not_gone_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", 2)
    saved(tmp_path, 5)
    monkeypatch.setattr(checkpoints, "FORMAT", 1)
    assert checkpoints.latest(tmp_path, lambda line: None) is None


def test_a_stray_file_among_the_checkpoints_is_passed_over(tmp_path):
    saved(tmp_path, 5)
    (tmp_path / "step-99999999").write_text("not a directory")
    assert checkpoints.latest(tmp_path, lambda line: None).step == 5


def test_saving_a_step_again_replaces_what_was_torn_of_it(tmp_path):
    path = saved(tmp_path, 5).path
    (path / "left-over.bin").write_bytes(b"x")
    truncated(path / "model.safetensors")
    again = saved(tmp_path, 5)
    assert checkpoints.opened(again.path).state == again.state
    assert not (path / "left-over.bin").exists()


def test_the_same_state_is_the_same_bytes(tmp_path):
    one, other = saved(tmp_path / "a", 5), saved(tmp_path / "b", 5)
    for file in one.path.iterdir():
        assert file.read_bytes() == (other.path / file.name).read_bytes(), file.name
    assert one.state == checkpoints.opened(one.path).state  # what save gives back is what opened reads


def test_moments_and_losses_come_back_beside_the_weights(tmp_path):
    saved(tmp_path, 5)
    found = checkpoints.latest(tmp_path)
    assert torch.equal(found.optimizer()["exp_avg.a"], torch.zeros(2))
    assert found.losses().to_pylist() == [{"step": 5}]


def test_what_differs_is_told_by_name_and_nothing_else():
    there = {"recipe.clip": 1.0, "plan": "ab", "recipe.attend": "document"}
    here = {"recipe.clip": 0.5, "plan": "ab", "numerics.device": "cpu"}
    told = checkpoints.differing(there, here)
    assert told == (
        "What differs: numerics.device is 'not set' there and 'cpu' here; recipe.attend is 'document' there and "
        "'not set' here; recipe.clip is 1.0 there and 0.5 here."
    )
    assert checkpoints.differing({}, here) == "It does not say what it was made of."
