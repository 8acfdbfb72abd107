"""Tasks: each piece of work is done once, whole, in any number of processes."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tasks import CUT, PIECE_BYTES, STOP, UNFINISHED, Task, TaskError, cores, grouped, run_tasks, work_off


def write(folder, name, text):
    (folder / name).write_text(text)


def fail(folder, name, text):
    (folder / name).write_text("half")
    raise ValueError(f"{text} is no good")


def is_worker():
    return multiprocessing.parent_process() is not None


def kill_worker(folder, text):
    """The worker goes while it holds a task; this process has then long begun the other, and waits for that."""
    if is_worker():
        os.kill(os.getpid(), signal.SIGKILL)
    wait_for(lambda: len(list(folder.parent.glob(f"*{UNFINISHED}"))) == 2)


def wait_for(happened):
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 30 s")


def tell_environment(folder):
    """Both processes have one task each: neither ends its own before the other has begun."""
    (folder / "said").write_text(
        f"{is_worker()} {os.environ.get('STEMMA_WORKERS')} {os.environ.get('POLARS_MAX_THREADS')}"
    )
    wait_for(lambda: len([*folder.parent.glob("*/said")]) == 2)


def fail_in_worker(folder, number):
    if is_worker():
        raise ValueError("this worker is no good")
    wait_for((folder.parent / STOP).is_dir)


class TwoSidedError(Exception):
    """Python takes it apart into its message alone, and cannot put that together again."""

    def __init__(self, message, place):
        super().__init__(message)
        self.place = place


def fail_strangely_in_worker(folder, number):
    if is_worker():
        raise TwoSidedError("the shelf is full", "left")
    wait_for((folder.parent / STOP).is_dir)


def finished(folder):
    return [p for p in folder.glob("*/*") if not p.name.endswith(UNFINISHED)]


TASKS = [Task(f"{n}", ("t", f"text {n}")) for n in range(5)]


@pytest.mark.parametrize("workers", [1, 3])
def test_pieces_come_in_the_order_of_the_tasks(tmp_path, workers):
    pieces = run_tasks(write, TASKS, tmp_path / "w", workers=workers)
    assert [(p / "t").read_text() for p in pieces] == [f"text {n}" for n in range(5)]


def test_what_is_done_is_not_done_again(tmp_path):
    run_tasks(write, TASKS[:3], tmp_path, workers=1)
    told = []
    pieces = run_tasks(fail, TASKS[:3], tmp_path, workers=1, tell=lambda done, total: told.append((done, total)))
    assert told == [(3, 3)]
    assert (pieces[0] / "t").read_text() == "text 0"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_piece_that_failed_has_no_name(tmp_path, workers):
    with pytest.raises(ValueError, match="is no good"):
        run_tasks(fail, TASKS[:2], tmp_path, workers=workers)
    assert finished(tmp_path) == []
    pieces = run_tasks(write, TASKS[:2], tmp_path, workers=1)
    assert [(p / "t").read_text() for p in pieces] == ["text 0", "text 1"]
    assert list(tmp_path.glob(f"*/*{UNFINISHED}")) == []


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(TaskError, match=r"memory.*STEMMA_WORKERS=1"):
        run_tasks(kill_worker, [Task("a", ("",)), Task("b", ("",))], tmp_path, workers=2)
    assert len(finished(tmp_path)) == 1, "the piece of this process stays"


def test_a_worker_has_one_thread_and_no_workers_of_its_own(tmp_path, monkeypatch):
    """And this process works beside it, as it is."""
    monkeypatch.setenv("STEMMA_WORKERS", "2")
    monkeypatch.delenv("POLARS_MAX_THREADS", raising=False)
    pieces = run_tasks(tell_environment, [Task("a", ()), Task("b", ())], tmp_path, workers=2)
    assert sorted((p / "said").read_text() for p in pieces) == ["False 2 None", "True 1 1"]


def test_nobody_begins_a_task_after_one_has_failed(tmp_path):
    with pytest.raises(ValueError, match="this worker is no good"):
        run_tasks(fail_in_worker, [Task(f"{n}", (n,)) for n in range(9)], tmp_path, workers=2)
    assert len(finished(tmp_path)) == 1, "the one that this process had begun"


def test_an_error_that_cannot_travel_is_told_and_is_no_kill(tmp_path):
    with pytest.raises(TaskError, match=r"^a worker raised TwoSidedError: the shelf is full$"):
        run_tasks(fail_strangely_in_worker, [Task("a", (0,)), Task("b", (1,))], tmp_path, workers=2)


def test_a_task_that_another_does_stops_nobody_whatever_it_is_called(tmp_path):
    for name in ("stop", "0", " "):
        (tmp_path / f"{name}{UNFINISHED}").mkdir()
        work_off(write, [Task(name, ("t", "")), Task(f"after {name}", ("t", ""))], tmp_path)
    assert sorted(path.parent.name for path in tmp_path.glob("*/t")) == ["after  ", "after 0", "after stop"]


def test_what_stopped_an_earlier_attempt_does_not_stop_the_next(tmp_path):
    (tmp_path / f"{PIECE_BYTES}.{CUT}" / STOP).mkdir(parents=True)
    run_tasks(write, TASKS, tmp_path, workers=1)
    assert len(finished(tmp_path)) == 5


def test_a_listener_that_takes_its_time_is_told_less_often(tmp_path, monkeypatch):
    clock, told = [0.0], []
    monkeypatch.setattr("pipelines.tasks.time.monotonic", lambda: clock[0])

    def tell(done, total):
        told.append((done, total))
        clock[0] += 10.0  # seconds

    run_tasks(write, TASKS, tmp_path, workers=1, tell=tell)
    assert told == [(0, 5), (5, 5)]


def test_two_processes_share_the_tasks_and_each_is_done_once(tmp_path):
    """Two that start at once and have nothing to do but to get in each other's way."""
    tasks = [Task(f"{n:04d}", ("t", f"text {n}")) for n in range(500)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        for helping in [pool.submit(work_off, write, tasks, tmp_path) for _ in range(2)]:
            helping.result()
    assert [(tmp_path / task.name / "t").read_text() for task in tasks] == [f"text {n}" for n in range(500)]
    assert list(tmp_path.glob(f"*{UNFINISHED}")) == []


def test_small_items_are_grouped_and_a_large_one_stands_alone():
    sizes = [3, 3, 3, 20, 1, 9, 1]
    assert grouped(enumerate(sizes), 10) == [[0, 1, 2], [3], [4, 5], [6]]
    assert grouped([], 10) == []


def test_the_number_of_workers_can_be_said(monkeypatch):
    monkeypatch.setenv("STEMMA_WORKERS", "7")
    assert cores() == 7


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 40))
def test_groups_hold_every_item_once_in_order_and_are_as_large_as_they_may_be(sizes, limit):
    groups = grouped(enumerate(sizes), limit)
    assert [item for group in groups for item in group] == list(range(len(sizes)))
    filled = [sum(sizes[item] for item in group) for group in groups]
    assert all(size <= limit or len(group) == 1 for size, group in zip(filled, groups, strict=True))
    following = [sizes[group[0]] for group in groups[1:]]
    assert all(size + more > limit for size, more in zip(filled, following, strict=False)), "no group ends too early"


def test_the_cut_of_the_work_does_not_know_the_number_of_workers(monkeypatch):
    """Pieces of one attempt must fit the next one, which may have more cores."""
    cuts = []
    for workers in ("1", "2", "64"):
        monkeypatch.setenv("STEMMA_WORKERS", workers)
        cuts.append(grouped((n, 1 << 20) for n in range(40)))
    assert cuts[0] == cuts[1] == cuts[2]
    assert {len(group) for group in cuts[0][:-1]} == {8}  # MiB


def test_a_torn_piece_of_an_earlier_attempt_is_thrown_away(tmp_path):
    torn = tmp_path / f"{PIECE_BYTES}.{CUT}" / f"0{UNFINISHED}"
    torn.mkdir(parents=True)
    (torn / "t").write_text("half")
    (torn / "left over").write_text("from the attempt before")
    (piece,) = run_tasks(write, TASKS[:1], tmp_path, workers=1)
    assert [path.name for path in piece.iterdir()] == ["t"]
    assert (piece / "t").read_text() == "text 0"


def test_pieces_of_another_cut_are_not_taken_for_these(tmp_path, monkeypatch):
    """A stage that an older release was killed in left pieces of other rows under the same names."""
    run_tasks(write, [Task("0", ("t", "rows 0 to 9"))], tmp_path, workers=1)
    monkeypatch.setattr("pipelines.tasks.PIECE_BYTES", 7)
    (piece,) = run_tasks(write, [Task("0", ("t", "rows 0 to 4"))], tmp_path, workers=1)
    assert (piece / "t").read_text() == "rows 0 to 4"


@pytest.mark.parametrize("workers", [1, 2])
def test_how_much_is_done_is_told_from_what_was_there_to_the_end(tmp_path, workers):
    run_tasks(write, TASKS[:2], tmp_path, workers=1)
    told = []
    run_tasks(write, TASKS, tmp_path, workers=workers, tell=lambda done, total: told.append((done, total)))
    assert told[0] == (2, 5)
    assert told[-1] == (5, 5)
    assert told == sorted(told)


@pytest.mark.parametrize("said", ["0", "-3"])
def test_fewer_than_one_worker_is_one(monkeypatch, said):
    monkeypatch.setenv("STEMMA_WORKERS", said)
    assert cores() == 1
