"""Tasks: each piece of work is done once, whole, in any number of processes."""

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.tasks import PIECE_BYTES, UNFINISHED, Task, TaskError, cores, grouped, run_tasks


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
    assert [p.name for p in tmp_path.glob("*/*") if not p.name.endswith(UNFINISHED)] == []
    pieces = run_tasks(write, TASKS[:2], tmp_path, workers=1)
    assert [(p / "t").read_text() for p in pieces] == ["text 0", "text 1"]
    assert list(tmp_path.glob(f"*/*{UNFINISHED}")) == []


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
    torn = tmp_path / str(PIECE_BYTES) / f"0{UNFINISHED}"
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
