"""Tasks: each piece of work is done once, whole, in any number of processes."""

import os
import signal

import pytest

from pipelines.tasks import UNFINISHED, Task, TaskError, cores, grouped, run_tasks


def write(folder, name, text):
    (folder / name).write_text(text)


def fail(folder, name, text):
    (folder / name).write_text("half")
    raise ValueError(f"{text} is no good")


def kill_itself(folder, text):
    os.kill(os.getpid(), signal.SIGKILL)


def tell_environment(folder):
    (folder / "said").write_text(os.environ["STEMMA_WORKERS"] + os.environ["POLARS_MAX_THREADS"])


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
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(UNFINISHED)] == []
    pieces = run_tasks(write, TASKS[:2], tmp_path, workers=1)
    assert [(p / "t").read_text() for p in pieces] == ["text 0", "text 1"]
    assert list(tmp_path.glob(f"*{UNFINISHED}")) == []


def test_a_killed_worker_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(TaskError, match=r"memory.*STEMMA_WORKERS=1"):
        run_tasks(kill_itself, [Task("a", ("",)), Task("b", ("",))], tmp_path, workers=2)


def test_a_worker_has_one_thread_and_no_workers_of_its_own(tmp_path):
    pieces = run_tasks(tell_environment, [Task("a", ()), Task("b", ())], tmp_path, workers=2)
    assert [(p / "said").read_text() for p in pieces] == ["11", "11"]


def test_small_items_are_grouped_and_a_large_one_stands_alone():
    sizes = [3, 3, 3, 20, 1, 9, 1]
    assert grouped(enumerate(sizes), 10) == [[0, 1, 2], [3], [4, 5], [6]]
    assert grouped([], 10) == []


def test_the_number_of_workers_can_be_said(monkeypatch):
    monkeypatch.setenv("STEMMA_WORKERS", "7")
    assert cores() == 7
