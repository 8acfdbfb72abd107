"""Distributions: the documentation of the Python packages that are installed, as records.

Every environment carries megabytes of technical prose with known provenance: docstrings, READMEs (in METADATA),
documents and licence texts. Modules are parsed, never imported, so nothing of a package runs.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import warnings
from collections.abc import Iterator, Sequence
from email import message_from_string
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from pipelines.documents import Record
from pipelines.licences import UNSTATED, spdx, spdx_of_classifiers, spdx_of_text
from pipelines.provenance.manifest import FileEntry

PREFIX = "pypi-docs."
_PROSE = (".md", ".rst", ".txt")
_LICENCE_NAME = re.compile(r"(licen[sc]e|copying|notice|authors|copyright)", re.IGNORECASE)
_TESTS = {"test", "tests", "testing_data", "test_data"}
_DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


class Docstring(NamedTuple):
    """One docstring: qualified name of what it documents, line on which it begins, text without indentation."""

    name: str
    line: int
    text: str


def normalised(name: str) -> str:
    """A project name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def installed_distributions() -> list[tuple[str, str]]:
    """(name, version) of every distribution of this environment, names normalised, sorted.

    Of one that is there twice, the first on the path, which is the one that is imported.
    """
    found: dict[str, str] = {}
    for each in metadata.distributions():
        if each.metadata["Name"]:
            found.setdefault(normalised(each.metadata["Name"]), each.version)
    return sorted(found.items())


def distribution(source: str, snapshot: str) -> metadata.Distribution:
    """The installed distribution that a source names.

    Raises:
        ValueError: if it is not installed, or in another version.
    """
    name = source.removeprefix(PREFIX)
    if name == source or not name:
        raise ValueError(f"source {source!r}: a source of installed documentation is named {PREFIX}NAME.")
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise ValueError(
            f"source {source}/{snapshot}: {name} is not installed. Run pip install '{name}=={snapshot}', "
            "or take the source out of the corpus in stemma.toml."
        ) from None
    if found.version != snapshot:
        raise ValueError(
            f"source {source}/{snapshot}: version {found.version} of {name} is installed. "
            f"Run pip install '{name}=={snapshot}', or name the snapshot {found.version} in stemma.toml."
        )
    return found


def listed_documents(found: metadata.Distribution) -> tuple[Path, list[FileEntry]]:
    """Root of the environment's packages and the files of a distribution that are read, sorted by path.

    Those are modules that may hold a docstring, documents, licence texts and METADATA. RECORD, INSTALLER, entry
    scripts and compiled files are left out: installers write them, and they differ between environments. Tests
    are left out: their docstrings describe no behaviour that a reader could use.

    Raises:
        ValueError: if the distribution has no list of its files (an old-style or system package).
    """
    if found.files is None:
        raise ValueError(f"{found.metadata['Name']}: has no RECORD of its files. Reinstall it with pip.")
    root = Path(str(found.locate_file("")))
    entries = []
    for path in sorted({p.as_posix() for p in found.files}):
        if not _is_read(path) or not (root / path).is_file():
            continue
        data = (root / path).read_bytes()
        if not path.endswith(".py") or b'"""' in data or b"'''" in data:
            entries.append(FileEntry(path=path, bytes=len(data), blake3=blake3(data).hexdigest()))
    return root, entries


def _is_read(path: str) -> bool:
    *folders, name = path.split("/")
    if ".." in folders or path.startswith("/") or not _TESTS.isdisjoint(folders) or "__pycache__" in folders:
        return False
    if folders and folders[0].endswith((".dist-info", ".egg-info")):
        return name in {"METADATA", "PKG-INFO"} or is_licence(path)
    if name.endswith(".py"):
        return not (name.startswith("test_") or name.endswith("_test.py") or name == "conftest.py")
    return name.endswith(_PROSE) or is_licence(path)


def is_licence(path: str) -> bool:
    """Whether a file is a licence, notice or list of authors, by its name or the folder that wheels keep them in."""
    *folders, name = path.split("/")
    in_folder = len(folders) > 1 and folders[0].endswith(".dist-info") and folders[1] == "licenses"
    return in_folder or (_LICENCE_NAME.match(name) is not None and Path(name).suffix.lower() in {"", *_PROSE})


def stated_licence(found: metadata.Distribution, root: Path, files: list[str]) -> str:
    """SPDX expression of a distribution: its expression, licence field, classifiers, or licence file."""
    about = found.metadata
    for stated in [*(about.get_all("License-Expression") or []), *(about.get_all("License") or [])]:
        if spdx(stated) != UNSTATED:
            return spdx(stated)
    from_classifiers = spdx_of_classifiers(about.get_all("Classifier") or [])
    if from_classifiers != UNSTATED:
        return from_classifiers
    own = re.compile(r"(licen[sc]e|copying)(\.(txt|md|rst))?", re.IGNORECASE)
    texts = [p for p in files if ".dist-info/" in p and own.fullmatch(Path(p).name)]
    read = {spdx_of_text((root / p).read_text("utf-8", "replace")) for p in texts}
    return read.pop() if len(read) == 1 else UNSTATED


def documentation(
    found: metadata.Distribution, root: Path, files: Sequence[str], min_chars: int, licence: str
) -> Iterator[Record]:
    """The records of some files of a distribution; docstrings shorter than ``min_chars`` are no records."""
    base = f"pkg:pypi/{normalised(found.metadata['Name'])}@{found.version}#"
    for path in files:
        stable = re.sub(r"^[^/]+\.(dist|egg)-info/", "dist-info/", path)  # the folder's name holds the version
        data = (root / path).read_bytes()
        if path.endswith(".py"):
            records = _module(path, data, min_chars)
        else:
            key = "METADATA" if stable in {"dist-info/METADATA", "dist-info/PKG-INFO"} else stable
            records = iter([_file(path, key, data)])
        for record in records:
            uri = f"{base}{path}:{record.position}"
            yield record._replace(uri=uri, group=stable, licence=licence)


def _file(path: str, key: str, data: bytes) -> Record:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        problem = f"invalid UTF-8: {path} (bytes 0-{len(data)}), byte {error.start}"
        return Record(path, 1, "", key=key, problem=problem, raw=data)
    if key == "METADATA":
        message = message_from_string(text)
        text = str(message.get_payload()) or message.get("Description", "")
    return Record(path, 1, "", text.removeprefix("\ufeff"), key=key)


def _module(path: str, data: bytes, min_chars: int) -> Iterator[Record]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in other people's modules
            tree = ast.parse(data)
        found = list(docstrings(tree))
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None) or 1
        problem = f"not Python: {path} line {line} (bytes 0-{len(data)}), {type(error).__name__}"
        yield Record(path, line, "", key=path, problem=problem, raw=data)
        return
    for docstring in found:
        if len(docstring.text) >= min_chars:
            yield Record(path, docstring.line, "", docstring.text, key=f"{path}:{docstring.name}")


def docstrings(tree: ast.Module) -> Iterator[Docstring]:
    """Docstrings of a module and of its classes and functions, nested ones included, in the order of the file.

    A name that is defined again (overloads, property setters, branches) gets #2, #3 … from its second definition.
    """
    times: dict[str, int] = {}

    def of(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Iterator[Docstring]:
        text = ast.get_docstring(node, clean=False)
        if text is not None:
            yield Docstring(name, node.body[0].lineno, inspect.cleandoc(text))

    def inside(node: ast.AST, prefix: str) -> Iterator[Docstring]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _DEFINITIONS):
                name = prefix + child.name
                times[name] = times.get(name, 0) + 1
                yield from of(child, name if times[name] == 1 else f"{name}#{times[name]}")
                yield from inside(child, f"{name}." if isinstance(child, ast.ClassDef) else f"{name}.<locals>.")
            elif isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
                yield from inside(child, prefix)

    yield from of(tree, "<module>")
    yield from inside(tree, "")


def measured_distributions(min_chars: int = 150, names: Sequence[str] = ()) -> list[dict[str, str | int]]:
    """What distributions would bring: name, version, licence, files, documents, bytes; by name.

    Without names all installed ones are measured (45 s for 130 of them, torch and transformers among them).
    """
    rows: list[dict[str, str | int]] = []
    for name, version in installed_distributions():
        if names and name not in names:
            continue
        found = metadata.distribution(name)
        if found.files is None:
            continue
        root, entries = listed_documents(found)
        paths = [e.path for e in entries]
        licence = stated_licence(found, root, paths)
        records = [r for r in documentation(found, root, paths, min_chars, licence) if not r.problem]
        rows.append({
            "name": name, "version": version, "licence": licence, "files": len(paths),
            "docs": len(records), "bytes": sum(len(r.text.encode("utf-8", "replace")) for r in records),
        })  # fmt: skip
    return rows
