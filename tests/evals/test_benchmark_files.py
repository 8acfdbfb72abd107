"""Benchmark folders as files: what is read, what must not be reached, and what a broken one says."""

import gzip
import json
import os
from pathlib import Path

import pytest
import yaml

from evals.benchmarks import (
    BenchmarkError,
    data_files,
    files_digest,
    guarded,
    item_text,
    manager,
    offline,
    own_tasks,
    read_config,
    write_tasks,
)

COLOURS = {
    "task": "colours",
    "dataset_path": "json",
    "test_split": "test",
    "dataset_kwargs": {"data_files": {"test": "colours.jsonl"}},
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": ["blue", "green"],
    "doc_to_target": "answer",
}
ROWS = [{"question": "The sky is", "answer": 0, "cluster": "sky"}, {"question": "Grass is", "answer": 1}]


def folder_of(path, config=None, rows=ROWS, file="colours.yaml"):
    path.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (path / file).write_text(yaml.safe_dump(config, sort_keys=False))
    (path / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# -- what is read ----------------------------------------------------------------------------------------------


def test_a_task_gives_question_and_right_answer_of_every_item_in_order(tmp_path):
    [task] = own_tasks([folder_of(tmp_path / "own", COLOURS)])
    assert (task.name, task.facts["n"], task.facts["output"]) == ("colours", 2, "multiple_choice")
    assert [(i.position, i.text, i.cluster) for i in task.items] == [
        (0, "The sky is blue", "sky"),
        (1, "Grass is green", ""),
    ]
    assert sorted(task.files) == ["colours.jsonl", "colours.yaml"]


class Task:
    """As much of an lm-eval task as the text of an item needs."""

    def __init__(self, output, text, target, choices=None, delimiter=" "):
        self.OUTPUT_TYPE = output
        self.doc_to_text, self.doc_to_target = lambda doc: text, lambda doc: target
        self.doc_to_choice = lambda doc: choices
        self.config = type("Config", (), {"target_delimiter": delimiter})


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        (Task("multiple_choice", "Q:", 1, ["a", "b"]), "Q: b"),
        (Task("multiple_choice", "Q:", [0, 1], ["a", "b"]), "Q: a b"),  # several right answers
        (Task("multiple_choice", "Q:", "b", ["a", "b"]), "Q: b"),  # named by its text
        (Task("loglikelihood", "Q", "x", delimiter=""), "Qx"),
        (Task("generate_until", "Q:", ["x", "y"]), "Q: x y"),
        (Task("loglikelihood_rolling", "ignored", "the whole text"), "the whole text"),
    ],
)
def test_the_text_of_an_item_is_what_a_model_would_read(task, wanted):
    assert item_text(task, {}) == wanted


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        (Task("multiple_choice", "Question: Why?\nAnswer:", 1, ["a", "b"]), ("Why? b", 5)),
        (Task("generate_until", "Q: Is an answer: enough?\nA:", "yes"), ("Is an answer: enough? yes", 22)),
        (Task("loglikelihood", "Banana: a", " fruit", delimiter=""), ("Banana: a fruit", 9)),
        (Task("multiple_choice", "Q:", 1, ["a", "b"]), ("b", None)),  # a label is no question
        (Task("loglikelihood_rolling", "ignored", "the whole text"), ("the whole text", None)),
    ],
)
def test_labels_are_not_part_of_what_must_not_be_seen(task, wanted):
    assert guarded(task, {}) == wanted


def test_two_folders_are_one_benchmark(tmp_path):
    one = folder_of(tmp_path / "one", COLOURS)
    shades = {**COLOURS, "task": "shades", "dataset_kwargs": {"data_files": {"test": ["a.jsonl", "b.jsonl"]}}}
    other = tmp_path / "other"
    other.mkdir()
    (other / "shades.yaml").write_text(yaml.safe_dump(shades))
    for name, row in zip("ab", ROWS, strict=True):
        (other / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    found = own_tasks([one, other])
    assert [(task.name, len(task.items)) for task in found] == [("colours", 2), ("shades", 2)]
    assert sorted(found[1].files) == ["a.jsonl", "b.jsonl", "shades.yaml"]


def test_compressed_data_are_the_same_items(tmp_path):
    plain = own_tasks([folder_of(tmp_path / "plain", COLOURS)])[0]
    config = {**COLOURS, "dataset_kwargs": {"data_files": {"test": "colours.jsonl.gz"}}}
    folder = folder_of(tmp_path / "packed", config)
    with gzip.open(folder / "colours.jsonl.gz", "wt") as file:
        file.write((folder / "colours.jsonl").read_text())
    assert own_tasks([folder])[0].items == plain.items


def test_no_folder_is_no_task():
    assert own_tasks([]) == []


# -- the digest ------------------------------------------------------------------------------------------------


def test_the_digest_is_that_of_names_and_bytes_wherever_they_lie(tmp_path):
    one, other = folder_of(tmp_path / "a", COLOURS), folder_of(tmp_path / "deep" / "b", COLOURS)
    assert files_digest([one]) == files_digest([other])
    (other / ".hidden").write_text("an editor's own")
    (other / "notes").mkdir()
    assert files_digest([one]) == files_digest([other])
    (other / "colours.jsonl").rename(other / "colors.jsonl")
    assert files_digest([one]) != files_digest([other])


def test_bytes_that_move_from_one_file_to_the_next_are_another_benchmark(tmp_path):
    for name, pieces in (("a", ("12", "3")), ("b", ("1", "23")), ("c", ("123", ""))):
        (tmp_path / name).mkdir()
        for file, data in zip(("x", "y"), pieces, strict=True):
            (tmp_path / name / file).write_text(data)
    assert len({files_digest([tmp_path / name]) for name in "abc"}) == 3


def test_the_order_of_folders_does_not_matter_and_twins_are_refused(tmp_path):
    one, other = folder_of(tmp_path / "a", COLOURS), tmp_path / "b"
    other.mkdir()
    (other / "more.txt").write_text("x")
    assert files_digest([one, other]) == files_digest([other, one])
    (other / "colours.jsonl").write_text("x")
    with pytest.raises(BenchmarkError, match=r"two benchmark folders hold colours\.jsonl; rename one"):
        files_digest([one, other])


# -- what must not be reached ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../escaped", "deep/er", "/tmp/stemma-escaped", "..", "shades"])
def test_the_name_of_a_task_is_no_path_out_of_the_scratch_folder(tmp_path, monkeypatch, name):
    """Task files are written under the task's name: it must be that of the file, which has no directory."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("evals.benchmarks.tempfile.tempdir", str(scratch))
    with pytest.raises(BenchmarkError, match=r"colours\.yaml: holds task "):
        own_tasks([folder_of(tmp_path / "own", {**COLOURS, "task": name})])
    assert list(scratch.rglob("*")) == []
    assert not Path("/tmp/stemma-escaped.yaml").exists()


@pytest.mark.parametrize(
    "outside", ["../other.jsonl", "/etc/passwd", "sub/x.jsonl", "..\\x.jsonl", ".hidden.jsonl", 7, None]
)
def test_data_stand_beside_the_task_and_nowhere_else(outside):
    config = {**COLOURS, "dataset_kwargs": {"data_files": {"test": ["colours.jsonl", outside]}}}
    with pytest.raises(BenchmarkError, match="data files must stand beside it; found"):
        data_files(config, "colours.yaml")


@pytest.mark.parametrize(
    "include",
    ["/etc/task.yaml", "other.yaml", "lm_eval/tasks/../../secret.yaml", "lm_eval/models/x.yaml", ["a"], 7, ""],
)
def test_only_tasks_of_lm_eval_can_be_included(tmp_path, include):
    files = {"colours.jsonl": folder_of(tmp_path / "own") / "colours.jsonl"}
    (tmp_path / "out").mkdir()
    with pytest.raises(BenchmarkError, match="include must name a file of lm-eval"):
        write_tasks({"colours": {**COLOURS, "include": include}}, files, tmp_path / "out")


@pytest.mark.parametrize(
    "kwargs",
    [None, {}, [], "colours.jsonl", {"data_files": None}, {"data_files": {}}, {"data_files": "colours.jsonl"},
     {"data_files": ["colours.jsonl"]}, {"data_dir": "."}],
)  # fmt: skip
def test_data_files_are_a_table_by_split(kwargs):
    """datasets takes a bare name or a list as well; here each file belongs to a split that the task names."""
    with pytest.raises(BenchmarkError, match=r"must read local data: dataset_path: json, dataset_kwargs: \{data_files"):
        data_files({**COLOURS, "dataset_kwargs": kwargs}, "colours.yaml")


def test_what_is_written_for_lm_eval_has_absolute_paths_and_its_own_cache(tmp_path):
    files = {"colours.jsonl": folder_of(tmp_path / "own") / "colours.jsonl"}
    out = tmp_path / "out"
    out.mkdir()
    write_tasks({"colours": {**COLOURS, "include": "lm_eval/tasks/hellaswag/hellaswag.yaml"}}, files, out)
    found = yaml.safe_load((out / "colours.yaml").read_text())
    assert found["dataset_kwargs"] == {
        "data_files": {"test": str(out / "colours.jsonl")},
        "cache_dir": str(out / "cache"),
    }
    assert Path(found["include"]).is_file()
    assert (out / "colours.jsonl").read_text() == files["colours.jsonl"].read_text()
    assert COLOURS["dataset_kwargs"] == {"data_files": {"test": "colours.jsonl"}}  # the given one is left as it was


# -- what a broken one says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("task: [", r"bad\.yaml: not plain YAML"),
        ("doc_to_text: !function tricks.run\ntask: bad", r"not plain YAML .*Code \(!function\) can only be included"),
        ("- a\n- b", "names no task; write `task: bad`"),
        ("", "names no task"),
        ("task:\n  - arc_easy\n  - hellaswag", "names no task"),  # a group
        ("task: 7", "names no task"),
    ],
)
def test_a_file_that_is_no_task_is_told(tmp_path, text, told):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(BenchmarkError, match=told):
        read_config(tmp_path / "bad.yaml")


def test_a_file_that_is_no_text_is_told(tmp_path):
    (tmp_path / "bad.yaml").write_bytes(b"task: \xff\xfe")
    with pytest.raises(BenchmarkError, match=r"bad\.yaml: not plain YAML"):
        read_config(tmp_path / "bad.yaml")


def test_a_task_in_a_yml_file_is_told_what_to_call_it(tmp_path):
    with pytest.raises(BenchmarkError, match=r"colours\.yml: holds task 'colours'; name the file colours\.yaml"):
        own_tasks([folder_of(tmp_path / "own", COLOURS, file="colours.yml")])


@pytest.mark.parametrize(
    ("change", "rows", "told"),
    [
        ({"test_split": "exam"}, ROWS, "KeyError: 'exam'"),
        ({"test_split": None}, ROWS, "must have valid or test docs"),
        ({"doc_to_text": "{{nothing}}"}, ROWS, "'nothing' is undefined"),
        ({"output_type": "dance"}, ROWS, "invalid output_type 'dance'"),
        ({"surprise": 1}, ROWS, "unexpected keyword argument 'surprise'"),
        ({}, [], "StopIteration"),
        ({}, [{"question": "x", "answer": 5}], "IndexError"),
    ],
    ids=["split", "no split", "column", "output", "key", "empty", "answer"],
)
def test_what_lm_eval_cannot_read_is_told_with_the_file_and_where_to_look(tmp_path, change, rows, told):
    with pytest.raises(BenchmarkError, match=rf"colours\.yaml: lm-eval cannot read this task .*{told}") as error:
        own_tasks([folder_of(tmp_path / "own", COLOURS | change, rows)])
    assert "Look at its splits, its columns and colours.jsonl." in str(error.value)


def test_the_network_is_allowed_again_afterwards(monkeypatch):
    import huggingface_hub.constants as hub

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)

    def evaluation_that_fails():
        with offline():
            assert (os.environ["HF_HUB_OFFLINE"], hub.HF_HUB_OFFLINE) == ("1", True)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        evaluation_that_fails()
    assert ("HF_HUB_OFFLINE" in os.environ, hub.HF_HUB_OFFLINE) == (False, False)
    assert os.environ["TOKENIZERS_PARALLELISM"] == "true"


def test_the_tasks_that_lm_eval_brings_are_not_indexed(tmp_path):
    own = folder_of(tmp_path / "own")
    out = tmp_path / "out"
    out.mkdir()
    write_tasks({"colours": COLOURS}, {"colours.jsonl": own / "colours.jsonl"}, out)
    assert list(manager(out).all_tasks) == ["colours"]
