"""Sharded checkpoints: each process writes its rows, any number of processes reads what it needs."""

from __future__ import annotations

import shutil
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training import checkpoints, sharded
from training.state import State
from training.weights import weights_metadata

HEADER = {"run": "r", "step": "5"}
never = threading.Event().is_set


def parts_of(whole, world_size):
    """As FSDP2 cuts: rows in equal shares, the last ones short or empty."""
    found = [list(torch.chunk(tensor, world_size)) for tensor in whole.values()]
    empty = [tensor[:0] for tensor in whole.values()]
    cut = [pieces + [none] * (world_size - len(pieces)) for pieces, none in zip(found, empty, strict=True)]
    return [dict(zip(whole, rows, strict=True)) for rows in zip(*cut, strict=True)]


def write(folder, parts):
    folder.mkdir(parents=True, exist_ok=True)
    for rank, tensors in enumerate(parts):
        sharded.write_share(folder, rank, len(parts), tensors, HEADER)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.data())
def test_any_rows_come_back_from_whatever_files_they_lie_in(tmp_path_factory, num_rows, world_size, data):
    folder = tmp_path_factory.mktemp("s") / "f"
    whole = {"a.weight": torch.randn(num_rows, 3), "exp_avg.b": torch.randn(num_rows)}
    write(folder, parts_of(whole, world_size))
    found = sharded.Shards(folder)
    assert sorted(found) == sorted(whole)
    start = data.draw(st.integers(0, num_rows - 1))
    stop = data.draw(st.integers(start + 1, num_rows))
    for name, tensor in whole.items():
        assert torch.equal(found[name].read(start, stop), tensor[start:stop])
        assert torch.equal(found[name].like(torch.empty_like(tensor)), tensor)


def test_what_all_hold_whole_is_written_once():
    whole = {"norm": torch.ones(4)}
    assert torch.equal(sharded.shares(whole, 0)["norm"], whole["norm"])
    assert sharded.shares(whole, 1) == {}


def test_shares_do_not_change_with_what_they_were_made_from():
    weight = torch.ones(4)
    kept = sharded.shares({"w": weight}, 0)
    weight.add_(1)
    assert torch.equal(kept["w"], torch.ones(4))


def test_a_checkpoint_is_published_once_the_slowest_process_has_written(tmp_path):
    folder = checkpoints.begun(tmp_path, 5)
    parts = parts_of({"w": torch.randn(6, 2)}, 3)
    writing = [
        threading.Timer(0.2 * rank, sharded.write_share, (folder, rank, 3, parts[rank], HEADER)) for rank in range(3)
    ]
    for thread in writing:
        thread.start()
    files = sharded.written(folder, 3, never)
    kept = checkpoints.published(folder, {"step": 5}, files)
    names = [f"shard-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert [path.name for path in sharded.files_of(kept.path)] == names
    assert sorted(kept.state["files"]) == names, "no notes"
    assert sorted(path.name for path in kept.path.iterdir()) == [*names, "state.json"]
    assert kept.is_sharded
    assert checkpoints.latest(tmp_path).state == kept.state
    assert weights_metadata(kept.path / names[1]) == {"format": "pt", **HEADER}, "a bare file says what it is of"


@pytest.mark.parametrize("harm", ["missing", "short", "changed"])
def test_a_shard_that_is_not_as_it_was_written_passes_the_checkpoint_over(tmp_path, harm):
    for step in (5, 10):
        folder = checkpoints.begun(tmp_path, step)
        write(folder, parts_of({"w": torch.randn(6, 2)}, 2))
        checkpoints.published(folder, {"step": step}, sharded.written(folder, 2, never))
    shard = tmp_path / "step-00000010" / sharded.name_of(1, 2)
    data = shard.read_bytes()
    shard.unlink()
    if harm != "missing":
        shard.write_bytes(data[:-1] + (b"" if harm == "short" else bytes([data[-1] ^ 1])))
    told = []
    assert checkpoints.latest(tmp_path, told.append).step == 5
    assert "shard-00002-of-00002.safetensors" in told[0]


def test_processes_that_share_the_look_see_every_file_once(tmp_path):
    folder = checkpoints.begun(tmp_path, 5)
    write(folder, parts_of({"w": torch.randn(6, 2)}, 3))
    kept = checkpoints.published(folder, {"step": 5}, sharded.written(folder, 3, never))
    (kept.path / sharded.name_of(2, 3)).unlink()
    found = []
    for part in range(2):
        try:
            found.append(checkpoints.opened(kept.path, part, 2).step)
        except checkpoints.CheckpointError as error:
            found.append(str(error))
    assert found == ["step-00000005: shard-00003-of-00003.safetensors has no bytes, 136 were written.", 5]


def test_a_process_without_room_leaves_nothing_and_the_first_one_does_not_wait_for_it(tmp_path, monkeypatch):
    folder = checkpoints.begun(tmp_path, 5)
    sharded.write_share(folder, 0, 2, {"w": torch.ones(2)}, HEADER)

    def full(path, tensors, header):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sharded, "save_weights", full)
    with pytest.raises(OSError, match="No space left"):
        sharded.write_share(folder, 1, 2, {"w": torch.ones(2)}, HEADER)
    assert not folder.exists()
    with pytest.raises(sharded.GoneError, match="could not write its part"):
        sharded.written(folder, 2, never)
    with pytest.raises(sharded.GoneError):  # a third one that comes too late tells of no cause of its own
        sharded.write_share(folder, 2, 3, {"w": torch.ones(2)}, HEADER)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("w is bool")])
def test_whatever_keeps_a_process_from_writing_the_first_one_does_not_wait_for_it(tmp_path, monkeypatch, error):
    folder = checkpoints.begun(tmp_path, 5)
    sharded.write_share(folder, 0, 2, {"w": torch.ones(2)}, HEADER)
    monkeypatch.setattr(sharded, "save_weights", lambda *_: (_ for _ in ()).throw(error))
    with pytest.raises(type(error)):
        sharded.write_share(folder, 1, 2, {"w": torch.ones(2)}, HEADER)
    with pytest.raises(sharded.GoneError):
        sharded.written(folder, 2, never)


def test_a_file_that_another_process_makes_meanwhile_does_not_keep_a_folder_that_is_given_up(tmp_path, monkeypatch):
    """On a network file system a file that is open elsewhere stays under another name, too."""
    folder = checkpoints.begun(tmp_path, 5)
    remove = shutil.rmtree

    def with_a_newcomer(path, **how):
        remove(path, **how)
        path.mkdir()  # as if a file had been made between the last look and the removal

    monkeypatch.setattr(checkpoints.shutil, "rmtree", with_a_newcomer)
    with pytest.raises(OSError, match="No space left"), checkpoints.whole_or_gone(folder):
        raise OSError(28, "No space left on device")
    with pytest.raises(sharded.GoneError):
        sharded.written(folder, 2, never)
    monkeypatch.undo()
    checkpoints.sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_header_of_each_file_is_asked_for_its_names_once(tmp_path, monkeypatch):
    """64 files of 2,000 tensors each: once a name and a file would be 8 million times."""
    folder = checkpoints.begun(tmp_path, 5)
    write(folder, parts_of({f"w{n}": torch.randn(6, 2) for n in range(5)}, 3))
    asked, opening = [], sharded.safe_open

    class Counted:
        def __init__(self, *where, **how):
            self.file = opening(*where, **how)

        def keys(self):
            asked.append(1)
            return self.file.keys()

        def get_slice(self, name):
            return self.file.get_slice(name)

    monkeypatch.setattr(sharded, "safe_open", Counted)
    assert sharded.Shards(folder)["w3"].read(0, 6).shape == (6, 2)
    assert len(asked) == 3


def test_a_run_that_is_given_up_waits_a_while_for_the_others_and_no_longer(tmp_path, monkeypatch):
    folder = checkpoints.begun(tmp_path, 5)
    sharded.write_share(folder, 0, 2, {"w": torch.ones(2)}, HEADER)
    late = threading.Timer(0.3, sharded.write_share, (folder, 1, 2, {"w": torch.ones(2)}, HEADER))
    late.start()
    assert len(sharded.written(folder, 2, lambda: True)) == 2
    monkeypatch.setattr(sharded, "GRACE", 0.2)
    shutil.rmtree(folder)
    folder.mkdir()
    before = time.monotonic()
    with pytest.raises(sharded.GoneError):
        sharded.written(folder, 2, lambda: True)
    assert time.monotonic() - before < 10


def test_a_machine_that_does_not_see_the_newest_checkpoint_yet_goes_on_from_no_other(tmp_path, monkeypatch):
    for step in (5, 10):
        folder = checkpoints.begun(tmp_path, step)
        write(folder, parts_of({"w": torch.randn(6, 2)}, 2))
        checkpoints.published(folder, {"step": step}, sharded.written(folder, 2, never))
    of_the_first = checkpoints.newest_first(tmp_path)

    class OnTheSecond(State):
        def __init__(self):
            self.run = SimpleNamespace(rank=1, world_size=2, say=lambda line: None)

        def _gathered(self, mine):
            return [of_the_first, mine] if isinstance(mine, list) else ["", mine]

    monkeypatch.setattr(checkpoints, "newest_first", lambda root: of_the_first[1:])
    assert OnTheSecond().latest(tmp_path).step == 10
