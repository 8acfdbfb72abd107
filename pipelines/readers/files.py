"""Files: which files of a path a reader reads, by their names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from pipelines.readers.streams import COMPRESSED

SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv", ".tsv"),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
    "text": (".txt", ".md", ".markdown", ".rst"),
    "html": (".html", ".htm", ".xhtml"),
    "warc": (".warc", ".wet", ".wat", ".arc"),
    "wikipedia": (".xml",),
}
TABLES = ("jsonl", "csv", "parquet", "arrow", "text")  # what a data set of the hub is made of
_OWN_COMPRESSION = ("parquet", "arrow")


def endings(reader: str) -> tuple[str, ...]:
    """The ends of the names that a reader reads."""
    if reader == "hub":
        return tuple(ending for name in TABLES for ending in endings(name))
    plain = SUFFIXES[reader]
    return plain if reader in _OWN_COMPRESSION else plain + tuple(e + c for e in plain for c in COMPRESSED)


def reader_of(name: str) -> str:
    """The reader of a file by its name, or ""."""
    return next((reader for reader in SUFFIXES if name.lower().endswith(endings(reader))), "")


def chosen(names: Iterable[str], reader: str) -> tuple[list[str], list[str]]:
    """Names that the reader reads and names that it ignores, both sorted; hidden files are ignored."""
    wanted, ignored = [], []
    for name in sorted(names):
        is_wanted = name.lower().endswith(endings(reader)) and not name.rpartition("/")[2].startswith(".")
        (wanted if is_wanted else ignored).append(name)
    return wanted, ignored


def listed_files(path: Path, reader: str) -> tuple[Path, list[str], list[str]]:
    """Root, files that the reader reads and files that it ignores, both as sorted paths relative to the root.

    A file that is named itself is read whatever its suffix. Links to files are followed, links to directories are
    not: they may lead in circles, and what they lead to would be read twice.

    Raises:
        ValueError: if there is nothing at the path.
    """
    if path.is_file():
        return path.parent, [path.name], []
    if not path.is_dir():
        raise ValueError(f"{path}: no such file or directory. Give the source the path of its data.")
    names: list[str] = []
    for folder, _, found in os.walk(path, onerror=_refused):
        here = [os.path.join(folder, file) for file in found]
        names += [Path(file).relative_to(path).as_posix() for file in here if _is_regular(file)]
    return path, *chosen(names, reader)


def check_readable(path: Path) -> None:
    """Open the file once.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        _refused(error)


def _refused(error: OSError) -> None:
    reason = (error.strerror or str(error)).lower()
    raise ValueError(f"{error.filename}: cannot be read ({reason}). Change its permissions, or move it away.") from None


def _is_regular(path: str) -> bool:
    """Whether it is a file or a link to one: no socket, no pipe, no link that leads nowhere or to itself."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if isinstance(error, PermissionError):
            _refused(error)
        return False
