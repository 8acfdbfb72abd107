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
