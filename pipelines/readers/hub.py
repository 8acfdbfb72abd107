"""Hub: the files of one split of a Hugging Face data set, by hub name or in a local directory.

A data set is nothing but Parquet, JSON lines, CSV, Arrow or text files with a list of which belong to which split;
``datasets`` reads that list, and the files go through the readers of their formats, so that every record keeps its
file and row and every file its checksum. Loading scripts are not run.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from pipelines.readers.files import chosen
from pipelines.readers.remote import Remote

_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?|[\w.-]+")
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


class Split(NamedTuple):
    """The files of a split: under a local root, or under a URL."""

    root: Path | Remote
    names: list[str]


def split_files(place: str, config: str, split: str) -> Split:
    """The files of a split.

    Args:
        place: a directory (with data files, or as ``save_to_disk`` wrote it), or ``user/name``, ``user/name@revision``.
        config: which subset of the data set; empty: its default.
        split: ``train``, ``test``, …

    Raises:
        ValueError: if there is no such data set or split, or it is not cached and there is no network.
    """
    folder = Path(place)
    if folder.is_dir():
        return _saved(folder, split) or _in_directory(folder, config, split)
    if not _NAME.fullmatch(place):
        raise ValueError(f"{place}: neither a directory nor a name of the hub (user/name, user/name@revision).")
    return _on_hub(place, config, split)


def _saved(folder: Path, split: str) -> Split | None:
    """What ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote."""
    if (folder / "dataset_dict.json").is_file():
        splits = json.loads((folder / "dataset_dict.json").read_text("utf-8"))["splits"]
        if split not in splits:
            raise ValueError(f"{folder}: has no split {split!r}; it has {', '.join(splits)}. Name it in hub_split.")
        folder /= split
    if not (folder / "state.json").is_file():
        return None
    state = json.loads((folder / "state.json").read_text("utf-8"))
    return Split(folder, [file["filename"] for file in state["_data_files"]])


def _in_directory(folder: Path, config: str, split: str) -> Split:
    found = _data_files(str(folder.resolve()), config, "", split)
    names = [Path(os.path.relpath(file, folder.resolve())).as_posix() for file in found]
    return Split(folder, chosen(names, "hub")[0])


def _on_hub(place: str, config: str, split: str) -> Split:
    name, _, revision = place.partition("@")
    if any(os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"} for variable in OFFLINE):
        return _cached(name, config, split)
    try:
        found = _data_files(name, config, revision, split)
    except ConnectionError:
        return _cached(name, config, split)
    base = re.match(r"hf://datasets/[^/]+(/[^/]+)?@[^/]+", found[0]) if found else None
    if base is None:
        raise ValueError(f"{place}: its split {split!r} has no files that can be read one by one.")
    return Split(Remote(base[0]), chosen([file.removeprefix(f"{base[0]}/") for file in found], "hub")[0])


def _data_files(name: str, config: str, revision: str, split: str) -> list[str]:
    """Paths or URLs of a split's files, as ``datasets`` resolves them.

    Raises:
        ValueError: if it cannot.
        ConnectionError: if the hub does not answer.
    """
    try:
        from datasets import load_dataset_builder
    except ImportError:
        raise ValueError(f"{name}: data sets of the hub need pip install -e '.[hub]'.") from None
    try:
        builder = load_dataset_builder(name, config or None, revision=revision or None)
    except ConnectionError:
        raise
    except Exception as error:
        raise ValueError(f"{name}: cannot be opened as a data set ({type(error).__name__}: {error}).") from error
    splits = {str(key): [str(file) for file in files] for key, files in (builder.config.data_files or {}).items()}
    if split not in splits:
        there = ", ".join(splits) or "none that lie in files"
        raise ValueError(f"{name}: has no split {split!r}; it has {there}. Name it in hub_split.")
    return splits[split]


def _cached(name: str, config: str, split: str) -> Split:
    """The Arrow files that ``load_dataset`` left in its cache, the newest version of them.

    Raises:
        ValueError: if there are none.
    """
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    root = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets") / name.replace("/", "___")
    found = [
        *root.glob(f"{config or '*'}/*/*/*-{split}.arrow"),
        *root.glob(f"{config or '*'}/*/*/*-{split}-*-of-*.arrow"),
    ]
    folders = sorted({path.parent for path in found}, key=lambda folder: (folder.stat().st_mtime_ns, str(folder)))
    if not folders:
        raise ValueError(
            f"{name}: the hub does not answer (or HF_HUB_OFFLINE is set), and split {split!r} is not in the cache "
            f"{root}. Load it once where there is a network, or give the source a directory with its files."
        )
    return Split(folders[-1], sorted(path.name for path in found if path.parent == folders[-1]))
