"""The suite on two workers: no core is shared out twice, and nobody waits who could work."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.workers import in_order, own_cores


@pytest.mark.parametrize(
    ("cores", "workers", "shares"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([0, 1, 2, 3, 4], 2, [[0, 1], [2, 3]]),
        ([4, 9, 11, 12], 2, [[4, 9], [11, 12]]),
        ([3], 2, [[3], [3]]),
        ([0, 1], 3, [[0], [1], [0]]),
        ([0, 1, 2], 1, [[0, 1, 2]]),
    ],
)
def test_cores_are_shared_out_in_equal_parts(cores, workers, shares):
    assert [own_cores(cores, worker, workers) for worker in range(workers)] == shares


def items(**files: list[bool]) -> list[SimpleNamespace]:
    """A test a flag: does it need the finished run?"""
    return [
        SimpleNamespace(path=Path(f"{file}.py"), fixturenames=["finished"] if needs else ["tmp_path"], number=number)
        for file, flags in files.items()
        for number, needs in enumerate(flags)
    ]


def order(found) -> list[str]:
    return list(dict.fromkeys(item.path.stem for item in found))


def test_the_heaviest_user_of_the_finished_run_comes_first_and_the_others_last():
    given = items(clean=[False], audit=[True], words=[False, False], run=[False, True, True], readme=[True])
    assert order(in_order(given, "finished")) == ["run", "clean", "words", "audit", "readme"]


def test_the_order_inside_a_file_and_among_equals_stays_as_it_was_shuffled():
    given = items(words=[False], run=[True, False, True], clean=[False])
    found = in_order(given[::-1], "finished")
    assert order(found) == ["run", "clean", "words"]
    assert [item.number for item in found if item.path.stem == "run"] == [2, 1, 0]


def test_no_test_is_lost_where_nobody_needs_the_finished_run():
    given = items(words=[False], clean=[False, False])
    assert in_order(given, "finished") == given
