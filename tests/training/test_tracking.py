"""Trackers: what they are told, and that none of them can end or hold up a run."""

from __future__ import annotations

import importlib.util
import threading

import pytest
from jobs import in_process, small_job

from training import tracking
from training.tracking import TRACKERS, Told, TrackerError, chosen, tracked

STEPS = [{"step": 1, "steps": 2, "loss": 3.0, "lr": 0.1}, {"step": 2, "steps": 2, "loss": 2.0, "lr": 0.1}]


@pytest.fixture
def told(tmp_path):
    return Told("demo", "f" * 64, tmp_path / "tracking", {"layers": 2})


@pytest.fixture
def fake(monkeypatch):
    """A tracker that keeps what it is told."""
    seen = []

    def opened(told, first):
        seen.append(("opened", told.run, first))
        return lambda step, figures: seen.append((step, figures)), lambda is_whole: seen.append(("closed", is_whole))

    monkeypatch.setitem(TRACKERS, "fake", opened)
    monkeypatch.setitem(tracking.PACKAGES, "fake", "json")
    return seen


def test_a_tracker_is_told_every_step_and_how_it_ended(told, fake):
    with tracked(["fake"], told, print) as track:
        track(STEPS)
        track([{"step": 2, "bpb": 1.5, "by_part": {"a/1": {"bpb": 1.25, "docs": 3}}}])
    assert fake == [
        ("opened", "demo", 1), (1, {"loss": 3.0, "lr": 0.1}), (2, {"loss": 2.0, "lr": 0.1}),
        (2, {"heldout_bpb": 1.5, "heldout_bpb/a/1": 1.25}), ("closed", True),
    ]  # fmt: skip


def test_a_run_that_failed_is_not_told_as_finished(told, fake):
    def diverge():
        with tracked(["fake"], told, print) as track:
            track(STEPS)
            raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        diverge()
    assert fake[-1] == ("closed", False)


@pytest.mark.parametrize("when", ["opening", "writing", "closing"])
def test_a_tracker_that_fails_is_told_once_and_the_run_goes_on(told, monkeypatch, when):
    def fail(*_):
        raise OSError("the server is gone")

    def opened(told, first):
        if when == "opening":
            fail()
        return fail if when == "writing" else lambda *_: None, fail if when == "closing" else lambda *_: None

    monkeypatch.setitem(TRACKERS, "fake", opened)
    said = []
    with tracked(["fake"], told, said.append) as track:
        for _ in range(20):
            track(STEPS)
    (line,) = said
    assert "the server is gone" in line
    assert "training goes on" in line


def test_an_error_is_told_without_the_password_of_the_server(told, monkeypatch):
    def opened(told, first):
        raise OSError("API request to https://ada:s3cret@tracks.example:5000/api failed for ada@example.org")

    monkeypatch.setitem(TRACKERS, "fake", opened)
    said = []
    with tracked(["fake"], told, said.append) as track:
        track(STEPS)
    assert "request to https://tracks.example:5000/api failed for ada@example.org" in said[0]


def test_a_tracker_that_hangs_holds_up_no_step(told, monkeypatch):
    release = threading.Event()

    def opened(told, first):
        return lambda *_: release.wait(60), lambda *_: None

    monkeypatch.setitem(TRACKERS, "fake", opened)
    monkeypatch.setattr(tracking, "LAST_SECONDS", 0.01)
    said = []
    with tracked(["fake"], told, said.append) as track:
        for _ in range(tracking.WAITING + 5):
            track(STEPS)
    release.set()
    assert len(said) == 1
    assert "too slow" in said[0]


def test_an_unknown_tracker_is_refused_with_those_that_there_are():
    with pytest.raises(TrackerError, match=r"'tensorbord': no such tracker. There are tensorboard, mlflow, wandb"):
        chosen("tensorbord")


def test_a_tracker_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TrackerError, match=r"needs the package mlflow.*\.\[tracking\]"):
        chosen("mlflow")


def test_the_spec_goes_before_the_environment(fake, monkeypatch):
    assert chosen("") == []
    monkeypatch.setenv("STEMMA_TRACK", "fake, fake")
    assert chosen("") == ["fake", "fake"]
    monkeypatch.setenv("STEMMA_TRACK", "nothing")
    assert chosen("fake") == ["fake"]


def test_a_tracked_run_ends_with_the_same_bytes_and_has_the_same_identity(world, tmp_path, fake):
    plain = small_job(world, tmp_path / "plain", eval_every=6)
    job = plain.model_copy(update={"directory": tmp_path / "tracked", "track": "fake", "tracking": tmp_path})
    assert job.identity == plain.identity
    assert in_process(job).state == in_process(plain).state
    assert [entry[0] for entry in fake if isinstance(entry[0], int)] == [*range(1, 7), 6, *range(7, 13), 12]


# -- the real ones ---------------------------------------------------------------------------------------------


def test_tensorboard_reads_what_was_told(told):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (pip install -e '.[tracking]')")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for lines in (STEPS, [{"step": 2, "steps": 2, "loss": 1.0, "lr": 0.1}]):  # killed after step 1, and gone on
        with tracked(["tensorboard"], told, print) as track:
            track(lines)
    (folder,) = (told.folder / "tensorboard").iterdir()
    read = EventAccumulator(str(folder))
    read.Reload()
    assert [(event.step, event.value) for event in read.Scalars("loss")] == [(1, 3.0), (2, 1.0)]


def test_mlflow_reads_what_was_told(told, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed (pip install -e '.[tracking]')")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    said = []
    for lines in (STEPS, [{"step": 3, "bpb": 1.5, "by_part": {"a+b@c/1": {"bpb": 1.25, "docs": 1}}}]):
        with tracked(["mlflow"], told, said.append) as track:
            track(lines)
    assert said == []
    client = MlflowClient(f"sqlite:///{told.folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("stemma").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params) == ("demo", "FINISHED", {"layers": "2"})
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")] == [
        (1, 3.0),
        (2, 2.0),
    ]
    assert run.data.metrics["heldout_bpb/a-b-c/1"] == 1.25


def test_wandb_keeps_a_run_offline_by_itself(told, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed (pip install -e '.[tracking]')")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    said = []
    with tracked(["wandb"], told, said.append) as track:
        track(STEPS)
    assert said == []
    assert list((told.folder / "wandb").glob("offline-run-*/*.wandb"))
