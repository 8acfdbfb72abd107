"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import threading

import pytest
import torch
from jobs import in_process, small_job
from torch import nn

from training import checkpoints
from training.parallel import copied
from training.writing import Writer


def test_work_is_done_one_after_another_and_the_block_waits_for_the_last():
    done, go = [], threading.Event()
    with Writer() as writer:
        writer.begin(lambda: (go.wait(), done.append(1)))
        assert done == []
        go.set()
        writer.begin(lambda: done.append(2))
    assert done == [1, 2]


def full():
    raise OSError(28, "No space left on device")


WAYS = {
    "begin": lambda writer: writer.begin(lambda: None),
    "wait": lambda writer: writer.wait(),
    "leave": lambda writer: writer.__exit__(None, None, None),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_error_reaches_whoever_comes_next_and_only_once(way):
    writer = Writer()
    writer.begin(full)
    with pytest.raises(OSError, match="No space left"):
        WAYS[way](writer)
    writer.wait()


def test_an_error_on_the_way_out_does_not_hide_the_one_that_ended_the_run():
    with pytest.raises(KeyError), Writer() as writer:  # noqa: PT012
        writer.begin(full)
        raise KeyError


def test_copies_do_not_change_with_what_they_were_made_from():
    network = nn.Linear(2, 2)
    kept = copied(network.state_dict(), is_kept=True)
    before = kept["weight"].clone()
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(kept["weight"], before)
    assert copied(network.state_dict(), is_kept=False) == {}


def test_steps_are_taken_while_a_checkpoint_is_written(world, tmp_path, monkeypatch):
    """The first one waits for a later step: if the loop waited for it, nothing would ever go on."""
    job = small_job(world, tmp_path / "run", steps=12, checkpoint_every=5)
    reached, save, waited = threading.Event(), checkpoints.save, []

    def slow(root, state, *rest):
        if state["step"] == 5:
            waited.append(reached.wait(60))
        return save(root, state, *rest)

    def told(path, rows, *rest):
        if rows[-1].step == 10:
            reached.set()

    monkeypatch.setattr(checkpoints, "save", slow)
    monkeypatch.setattr("training.loop.report", told)
    last = in_process(job)
    assert waited == [True]
    monkeypatch.undo()
    again = in_process(small_job(world, tmp_path / "again", steps=12, checkpoint_every=5))
    assert last.state["files"] == again.state["files"]


def test_a_disk_that_is_full_ends_the_run_with_the_checkpoint_before(world, tmp_path, monkeypatch):
    job = small_job(world, tmp_path / "run", steps=12, checkpoint_every=3)
    save = checkpoints.save

    def filling(root, state, *rest):
        return full() if state["step"] >= 6 else save(root, state, *rest)

    monkeypatch.setattr(checkpoints, "save", filling)
    with pytest.raises(OSError, match="No space left"):
        in_process(job)
    found = checkpoints.latest(job.directory / "rolling")
    assert found is not None
    assert found.step == 3
