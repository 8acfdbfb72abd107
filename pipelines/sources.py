"""Sources: where text comes from, and the stage that takes it in.

A source is NAME/SNAPSHOT, for example ``pypi-docs.networkx/3.6.1`` or ``wiki/2026-11``. Documents keep their ids
from one snapshot to the next; the origin digest says whether the files behind a snapshot are still the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from pipelines import distributions, records
from pipelines.documents import Record
from pipelines.licences import spdx
from pipelines.passages import passage_records
from pipelines.provenance.manifest import FileEntry, file_entry
from pipelines.provenance.recipe import Recipe, canonical_json, digest


class IngestRecipe(Recipe):
    """How one source is read."""

    reader: Literal["installed-docs", "jsonl", "parquet", "text"] = Field(description="what kind of data it is")
    source: str = Field(min_length=1, description="name of the source without its snapshot")
    snapshot: str = Field(min_length=1, description="which state of the source: a version or a date")
    license: str = Field(default="", description="SPDX expression of all documents; empty: as the data state it")
    text_field: str = Field(default="text", min_length=1, description="field or column that holds the text")
    id_field: str = Field(default="", description="field or column that names the record; empty: there is none")
    license_field: str = Field(default="", description="field or column with the licence of the record")
    group_field: str = Field(
        default="", description="field or column (thread, site) whose documents are held out together"
    )
    min_docstring_chars: int = Field(default=150, ge=1, description="docstrings that are shorter are no documents")
    max_record_bytes: int = Field(
        default=64 << 20, ge=1, description="longer records are quarantined without being held"
    )
    passage_bytes: int = Field(
        default=0, ge=0, description="cut text files at blank lines into documents of this size; 0: a file is one"
    )
    origin: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="digest of the files that are read")


class Listing(NamedTuple):
    """The files of a source that are read, sorted by path, and those that are not."""

    root: Path
    files: list[FileEntry]
    ignored: list[str]
    distribution: metadata.Distribution | None = None
    licence: str = ""  # of the whole distribution

    def only(self, units: Sequence[Unit]) -> Listing:
        """The files of some units alone: what a worker is sent."""
        names = {unit.file for unit in units}
        return self._replace(files=[f for f in self.files if f.path in names], ignored=[])

    @property
    def origin(self) -> str:
        return origin_digest(self.files)


def origin_digest(files: list[FileEntry]) -> str:
    """blake3 over the sorted (path, bytes, blake3): changed input changes the memo key, its place does not."""
    return digest(canonical_json(sorted([f.path, f.bytes, f.blake3] for f in files)))


def listing(recipe: IngestRecipe, path: Path | None) -> Listing:
    """Find and hash the files of a source (at about 1 GB/s a core; no text is parsed).

    Raises:
        ValueError: if there is no such distribution, path or readable file.
    """
    if recipe.reader == "installed-docs":
        found = distributions.distribution(recipe.source, recipe.snapshot)
        root, files = distributions.listed_documents(found)
        licence = distributions.stated_licence(found, root, [file.path for file in files])
        return Listing(root, files, [], found, licence)
    if path is None:
        raise ValueError(f"source {recipe.source}/{recipe.snapshot}: reader {recipe.reader!r} needs a path.")
    root, names, ignored = records.listed_files(path, recipe.reader)
    if not names:
        raise ValueError(
            f"source {recipe.source}/{recipe.snapshot}: {path} has no file that reader {recipe.reader!r} reads "
            f"({', '.join(records.SUFFIXES[recipe.reader])}); {len(ignored)} other files are there."
        )
    return Listing(root, [file_entry(root, name) for name in names], ignored)


def origin_of(recipe: IngestRecipe, path: Path | None = None) -> str:
    """The origin digest of a source as it is now; the recipe's own origin is not looked at."""
    return listing(recipe, path).origin


def pinned(recipe: IngestRecipe, path: Path | None = None) -> IngestRecipe:
    """The recipe with the origin that its source has now."""
    return recipe.model_copy(update={"origin": origin_of(recipe, path)})


class Unit(NamedTuple):
    """A piece of a source that can be read by itself: a file, or a part of one."""

    file: str
    part: int = -1
    num_bytes: int = 0


def units(found: Listing) -> list[Unit]:
    return [Unit(f.path, -1, f.bytes) for f in found.files]


def unit_records(recipe: IngestRecipe, found: Listing, unit: Unit) -> Iterator[Record]:
    return source_records(recipe, found._replace(files=[f for f in found.files if f.path == unit.file]))


def source_records(recipe: IngestRecipe, found: Listing) -> Iterator[Record]:
    """All records of a source in the order of its files, with licences resolved."""
    fields = records.Fields(recipe.text_field, recipe.id_field, recipe.license_field, recipe.group_field)
    stated = spdx(recipe.license) if recipe.license else ""
    known: dict[str, str] = {}
    for record in _read(recipe, found, fields):
        licence = stated
        if not licence and found.distribution is not None:
            licence = record.licence
        elif not licence:
            if len(known) > 10_000:  # a field that holds free text must not grow the process
                known.clear()
            licence = known.get(record.licence) or known.setdefault(record.licence, spdx(record.licence))
        yield record._replace(licence=licence)


def _read(recipe: IngestRecipe, found: Listing, fields: records.Fields) -> Iterator[Record]:
    names = [f.path for f in found.files]
    if found.distribution is not None:
        yield from distributions.documentation(
            found.distribution, found.root, names, recipe.min_docstring_chars, found.licence
        )
        return
    for name in names:
        if recipe.reader == "jsonl":
            yield from records.jsonl_records(found.root, name, fields, recipe.max_record_bytes)
        elif recipe.reader == "parquet":
            yield from records.parquet_records(found.root, name, fields)
        elif recipe.passage_bytes:
            yield from passage_records(found.root, name, recipe.passage_bytes, recipe.max_record_bytes)
        else:
            yield from records.text_records(found.root, name, recipe.max_record_bytes)
