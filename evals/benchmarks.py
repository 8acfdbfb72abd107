"""A benchmark of one's own: a folder with lm-eval task files (YAML) and their data, taken in as it is.

An official task is served offline by an overlay of three keys; its prompts and metrics stay those of lm-eval::

    include: lm_eval/tasks/hellaswag/hellaswag.yaml
    task: hellaswag
    dataset_path: json
    dataset_name: null
    training_split: null
    dataset_kwargs: {data_files: {validation: validation.jsonl.gz}}

``include`` names a file of the installed lm-eval; data files stand beside the YAML.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3

BUILT_IN = "lm_eval/tasks/"


class BenchmarkError(ValueError):
    """A benchmark folder cannot be used: what was found, and what to do."""


@dataclass(frozen=True)
class OwnItem:
    """Where an item stands among the evaluated rows, what of it must not be seen in training, and its cluster."""

    position: int
    text: str
    cluster: str
    answer_start: int | None = None  # character at which the answer begins; None if it is one piece


@dataclass(frozen=True)
class OwnTask:
    """One task of a benchmark folder."""

    name: str
    facts: dict[str, Any]
    files: dict[str, Path]
    items: list[OwnItem] = field(repr=False)

    def copy_to(self, directory: Path) -> None:
        for name, path in sorted(self.files.items()):
            if (directory / name).exists() and (directory / name).read_bytes() != path.read_bytes():
                raise BenchmarkError(f"two different benchmark files are named {name}; rename one of them.")
            shutil.copyfile(path, directory / name)


def files_digest(folders: list[Path]) -> str:
    """blake3 over the names and bytes of all files of benchmark folders, in the order of their names."""
    hasher = blake3()
    for name, path in sorted(_files(folders).items()):
        hasher.update(f"{len(name)}:{name}:{path.stat().st_size}:".encode())
        hasher.update_mmap(path) if path.stat().st_size else None
    return hasher.hexdigest()


def _files(folders: list[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise BenchmarkError(f"{folder} is not a folder; give one with <task>.yaml and its data.")
        for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
            if path.name in found:
                raise BenchmarkError(f"two benchmark folders hold {path.name}; rename one of them.")
            found[path.name] = path
    return found


def own_tasks(folders: list[Path]) -> list[OwnTask]:
    """The tasks of benchmark folders, by name, with the text of every item as lm-eval will show it to a model."""
    files = _files(folders)
    configs = {name: read_config(path) for name, path in files.items() if path.suffix in {".yaml", ".yml"}}
    for name, config in sorted(configs.items()):
        if name != f"{config['task']}.yaml":  # the name becomes a path below
            raise BenchmarkError(f"{name}: holds task {config['task']!r}; name the file {config['task']}.yaml.")
    if folders and not configs:
        raise BenchmarkError(f"{', '.join(str(f) for f in folders)}: no task file (*.yaml) was found.")
    if not configs:
        return []
    with tempfile.TemporaryDirectory(prefix="stemma-benchmark-") as scratch:
        write_tasks({c["task"]: c for c in configs.values()}, files, Path(scratch))
        return [_own_task(name, config, files, Path(scratch)) for name, config in sorted(configs.items())]


def _own_task(file: str, config: dict[str, Any], files: dict[str, Path], scratch: Path) -> OwnTask:
    name = config["task"]
    try:
        with offline():
            task = loaded(scratch, [name])[name]
            items = [_own_item(position, task, doc) for position, doc in enumerate(task.eval_docs)]
    except Exception as error:
        raise BenchmarkError(
            f"{file}: lm-eval cannot read this task ({type(error).__name__}: {error}). Look at its splits, its "
            f"columns and {', '.join(data_files(config, file))}."
        ) from error
    if not items:
        raise BenchmarkError(f"{file}: the evaluated split is empty.")
    data = {n: files[n] for n in [file, *data_files(config, file)]}
    facts = {"n": len(items), "output": task.OUTPUT_TYPE, "version": str(task.VERSION)}
    return OwnTask(name, facts, data, items)


def _own_item(position: int, task: Any, doc: dict[str, Any]) -> OwnItem:
    text, answer_start = guarded(task, doc)
    return OwnItem(position, text, str(doc.get("cluster") or ""), answer_start)


def item_text(task: Any, doc: dict[str, Any]) -> str:
    """Question and right answer of one item of an lm-eval task, as a model would read them."""
    return "".join(_parts(task, doc))


def guarded(task: Any, doc: dict[str, Any]) -> tuple[str, int | None]:
    """What training text must not show of an item, and the character at which its answer begins.

    Labels are left off, because whoever copies an item seldom copies "Question:" and "Answer:" with it.
    """
    question, space, answer = _parts(task, doc)
    question = _ENDS.sub("", _BEGINS.sub("", question))
    text = f"{question}{space}{answer}"
    return (text, len(question) + len(space)) if question and answer.strip() else (text.strip(), None)


_BEGINS = re.compile(r"\A\s*(?:question|problem|q)\s*:\s*", re.IGNORECASE)
_ENDS = re.compile(r"\s*\b(?:answer|a)\s*:\s*\Z", re.IGNORECASE)


def _parts(task: Any, doc: dict[str, Any]) -> tuple[str, str, str]:
    """Question, what stands between, and right answer; a text of one piece is an answer."""
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return "", "", str(target)
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(doc)
        golds = target if isinstance(target, list) else [target]
        target = " ".join(str(choices[gold]) if isinstance(gold, int) else str(gold) for gold in golds)
    elif isinstance(target, list):
        target = " ".join(str(t) for t in target)
    return str(task.doc_to_text(doc)), str(task.config.target_delimiter), str(target)


# -- task files as lm-eval reads them --------------------------------------------------------------------------


def read_config(path: Path) -> dict[str, Any]:
    """A task file as plain YAML.

    Raises:
        BenchmarkError: if it is not YAML, holds code (``!function``), or does not name a task.
    """
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise BenchmarkError(
            f"{path.name}: not plain YAML ({first}). Code (!function) can only be included from lm-eval's "
            f"own tasks: include: {BUILT_IN}…"
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("task"), str):
        raise BenchmarkError(f"{path.name}: names no task; write `task: {path.stem}`.")
    return config


def data_files(config: dict[str, Any], file: str) -> list[str]:
    """Names of the data files of a task, all beside its YAML."""
    kwargs = config.get("dataset_kwargs")
    named = kwargs.get("data_files") if isinstance(kwargs, dict) else None
    values = named.values() if isinstance(named, dict) else []
    flat = [n for value in values for n in (value if isinstance(value, list) else [value])]
    if config.get("dataset_path") != "json" or not flat:
        raise BenchmarkError(
            f"{file}: must read local data: dataset_path: json, "
            "dataset_kwargs: {data_files: {validation: FILE.jsonl}}."
        )
    outside = [n for n in flat if not isinstance(n, str) or "/" in n or "\\" in n or n.startswith(".")]
    if outside:
        raise BenchmarkError(f"{file}: data files must stand beside it; found {outside[0]!r}.")
    return sorted(set(flat))


def write_tasks(configs: dict[str, dict[str, Any]], files: dict[str, Path], folder: Path) -> None:
    """Write task files with absolute paths into a folder, beside links to their data."""
    import yaml

    for name, config in sorted(configs.items()):
        for data in data_files(config, f"{name}.yaml"):
            if data not in files:
                raise BenchmarkError(f"{name}.yaml: its data file {data} is missing.")
            if not (folder / data).exists():
                (folder / data).symlink_to(files[data].resolve())
        absolute = dict(config)
        kwargs = dict(config["dataset_kwargs"])
        kwargs["data_files"] = {s: _absolute(v, folder) for s, v in kwargs["data_files"].items()}
        absolute["dataset_kwargs"] = {**kwargs, "cache_dir": str(folder / "cache")}
        if "include" in config:
            absolute["include"] = str(_built_in(config["include"], name))
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(absolute, sort_keys=False), encoding="utf-8")


def _absolute(value: str | list[str], folder: Path) -> str | list[str]:
    return [str(folder / v) for v in value] if isinstance(value, list) else str(folder / value)


def _built_in(include: Any, name: str) -> Path:
    from importlib.resources import files

    if not isinstance(include, str) or not include.startswith(BUILT_IN) or ".." in include:
        raise BenchmarkError(
            f"{name}.yaml: include must name a file of lm-eval, as in {BUILT_IN}hellaswag/hellaswag.yaml; "
            f"found {include!r}."
        )
    path = Path(str(files("lm_eval") / "tasks")) / include.removeprefix(BUILT_IN)
    if not path.is_file():
        raise BenchmarkError(f"{name}.yaml: lm-eval has no {include}.")
    return path


def loaded(folder: Path, names: list[str]) -> dict[str, Any]:
    """The tasks of a folder as lm-eval objects, without the 13,000 that it brings (6 s to index)."""
    return manager(folder).load(names)["tasks"]


def manager(folder: Path) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(folder), include_defaults=False)


@contextlib.contextmanager
def offline() -> Iterator[None]:
    """Keep lm-eval and ``datasets`` from asking the hub, and their caches and progress bars out of the way.

    The libraries read the environment once, at import, so what they remember is set as well and put back after.
    """
    environment = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    import datasets
    import datasets.config as data
    import huggingface_hub.constants as hub

    remembered = hub.HF_HUB_OFFLINE, data.HF_DATASETS_OFFLINE, datasets.is_progress_bar_enabled()
    hub.HF_HUB_OFFLINE = data.HF_DATASETS_OFFLINE = True
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, data.HF_DATASETS_OFFLINE = remembered[:2]
        if remembered[2]:
            datasets.enable_progress_bars()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
