"""The convention of benchmarks: turns are taken, the table lines up, and the last line is one JSON object."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from benchmarks import report as module
from benchmarks.report import alternating, machine, medians, report, table, versions

ROWS = [["stemma", 1.25, "12 MB"], ["a much longer name", 10, ""]]


def test_the_last_line_is_one_json_object_with_the_figures_and_the_machine(capsys):
    report("dedup", ROWS, ("tool", "seconds", "memory"), ratio=4.5, seconds={"stemma": 1.25}, note="é\n")
    printed = capsys.readouterr().out
    assert printed.endswith("\n")
    said = json.loads(printed.splitlines()[-1])
    assert said == {
        "benchmark": "dedup", "ratio": 4.5, "seconds": {"stemma": 1.25}, "note": "é\n", "machine": machine(),
    }  # fmt: skip
    assert list(said) == sorted(said)
    assert said["machine"].keys() == {"processor", "cores", "python"}
    assert said["machine"]["cores"] >= 1


def test_columns_begin_at_the_same_place_in_every_line(capsys):
    report("dedup", ROWS, ("tool", "seconds", "memory"), ratio=1)
    *lines, _ = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in lines] == [
        "tool                seconds  memory", "stemma              1.25     12 MB", "a much longer name  10",
    ]  # fmt: skip


def test_the_table_is_as_wide_as_its_widest_cell_and_may_be_empty():
    assert table([], "a", "bc") == "a  bc"
    assert table([["xyz", 1]], "a", "b").splitlines() == ["a    b", "xyz  1"]
    with pytest.raises((ValueError, IndexError)):
        table([["one cell"]], "a", "b")


def test_without_being_asked_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.delenv("STEMMA_BENCH_SAVE", raising=False)
    report("dedup", ROWS, ("a", "b", "c"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_is_what_was_printed_and_a_second_run_takes_its_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("STEMMA_BENCH_SAVE", "1")
    for ratio in (1, 2):
        report("dedup", ROWS, ("tool", "seconds", "memory"), ratio=ratio)
    printed = capsys.readouterr().out.splitlines()
    kept = (tmp_path / "results" / "dedup.txt").read_text().splitlines()
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["dedup.txt"]
    assert [line for line in kept if line] == printed[len(printed) // 2 :]
    assert json.loads(kept[-1])["ratio"] == 2


@pytest.mark.parametrize("figure", [object(), {1, 2}, b"bytes"])
def test_a_figure_that_no_program_can_read_is_an_error_and_not_a_line(capsys, figure):
    with pytest.raises(TypeError, match="not JSON serializable"):
        report("dedup", ROWS, ("a", "b", "c"), figure=figure)
    assert capsys.readouterr().out == ""


def test_contestants_take_turns(monkeypatch):
    """A busy moment of the machine hits all of them, and no one always comes first after it."""
    now, calls = [0.0], []
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])

    def runner(name: str, seconds: float):
        def run() -> None:
            calls.append(name)
            now[0] += seconds * len(calls)

        return run

    found = alternating(3, one=runner("one", 1.0), other=runner("other", 2.0))
    assert calls == ["one", "other"] * 3
    assert found == {"one": [1.0, 3.0, 5.0], "other": [4.0, 8.0, 12.0]}
    assert medians(found) == {"one": 3.0, "other": 8.0}
    assert alternating(0, one=runner("one", 1.0)) == {"one": []}


def test_a_contestant_that_fails_ends_the_benchmark():
    with pytest.raises(ZeroDivisionError):
        alternating(2, broken=lambda: 1 // 0)


def test_versions_are_those_of_the_installed_distributions():
    found = versions("numpy", "blake3")
    assert found["numpy"] == np.__version__
    assert re.fullmatch(r"\d+(\.\d+)+.*", found["blake3"])


def test_a_machine_that_says_nothing_of_its_processor_has_a_report_all_the_same(monkeypatch):
    monkeypatch.setattr(module, "_lines", lambda path: [])
    monkeypatch.setattr(module.platform, "processor", lambda: "")
    assert machine()["processor"] == ""
    monkeypatch.setattr(module, "_lines", lambda path: ["model name\t: Some CPU: 3 GHz", "model name\t: Another"])
    assert machine()["processor"] == "Some CPU: 3 GHz"


def test_a_file_that_is_missing_has_no_lines(tmp_path):
    (tmp_path / "two").write_text("a\nb\n")
    assert (module._lines(str(tmp_path / "nowhere")), module._lines(str(tmp_path / "two"))) == ([], ["a", "b"])
