"""Sources: where text comes from, and how it is read piece by piece.

A source is NAME/SNAPSHOT, for example ``pypi-docs.networkx/3.6.1`` or ``wiki/2026-11``. Documents keep their ids
from one snapshot to the next; the origin digest says whether the files behind a snapshot are still the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field

from pipelines import distributions
from pipelines.documents import Record
from pipelines.licences import spdx
from pipelines.provenance.manifest import FileEntry
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.readers import files, parquet
from pipelines.readers.fields import Fields
from pipelines.readers.html import HtmlRecipe
from pipelines.readers.known_hashes import known_entry
from pipelines.readers.lines import Span, spans
from pipelines.readers.remote import Remote, is_url
from pipelines.tasks import PIECE_BYTES


class IngestRecipe(HtmlRecipe):
    """How one source is read."""

    reader: Literal[
        "installed-docs", "jsonl", "csv", "parquet", "arrow", "text", "html", "warc", "wikipedia", "hub"
    ] = Field(description="what kind of data it is")
    source: str = Field(min_length=1, description="name of the source without its snapshot")
    snapshot: str = Field(min_length=1, description="which state of the source: a version or a date")
    license: str = Field(default="", description="SPDX expression of all documents; empty: as the data state it")
    text_field: str = Field(default="text", min_length=1, description="field or column that holds the text")
    id_field: str = Field(default="", description="field or column that names the record; empty: there is none")
    license_field: str = Field(default="", description="field or column with the licence of the record")
    group_field: str = Field(
        default="", description="field or column (thread, site) whose documents are held out together"
    )
    url_field: str = Field(default="", description="field or column with the address of the record")
    title_field: str = Field(default="", description="field or column with the title of the record")
    date_field: str = Field(default="", description="field or column with the date of the record")
    delimiter: str = Field(
        default="", max_length=1, pattern=r'^[^"\r\n]?$', description="between the cells of a CSV file; empty: as found"
    )
    hub_config: str = Field(default="", description="subset of a data set of the hub; empty: its default")
    hub_split: str = Field(default="train", min_length=1, description="split of a data set of the hub")
    min_docstring_chars: int = Field(default=150, ge=1, description="docstrings that are shorter are no documents")
    max_record_bytes: int = Field(
        default=64 << 20, ge=1, description="longer records are quarantined without being held"
    )
    passage_bytes: int = Field(
        default=0, ge=0, description="cut text files at blank lines into documents of this size; 0: a file is one"
    )
    origin: str = Field(default="", pattern=r"^([0-9a-f]{64})?$", description="digest of the files that are read")

    @property
    def fields(self) -> Fields:
        return Fields(
            self.text_field,
            self.id_field,
            self.license_field,
            self.group_field,
            self.url_field,
            self.title_field,
            self.date_field,
        )


class Listing(NamedTuple):
    """The files of a source that are read, sorted by path, and those that are not."""

    root: Path
    files: list[FileEntry]
    ignored: list[str]
    distribution: metadata.Distribution | None = None
    licence: str = ""  # of the whole distribution
    remote: Remote | None = None

    def apart(self, groups: Iterable[Sequence[Unit]]) -> Iterator[Listing]:
        """For each group of units their files alone, which is what a worker is sent; in time linear in both."""
        entries = {entry.path: entry for entry in self.files}
        for group in groups:
            names = dict.fromkeys(unit.file for unit in group)
            yield self._replace(files=[entries[name] for name in names], ignored=[])

    @property
    def origin(self) -> str:
        return origin_digest(self.files)

    def local(self, file: str) -> Path:
        """Where a file lies on this machine; a remote one is fetched first."""
        if self.remote is None:
            return self.root / file
        return self.remote.fetched(next(entry for entry in self.files if entry.path == file))


class Unit(NamedTuple):
    """A piece of a source that can be read by itself: a file, a row group of Parquet, a stripe of Arrow, some lines."""

    file: str
    part: int = -1  # -1: all of the file
    num_bytes: int = 0  # about what it costs
    span: Span | None = None  # of lines


def origin_digest(entries: list[FileEntry]) -> str:
    """blake3 over the sorted (path, bytes, blake3): changed input changes the memo key, its place does not."""
    return digest(canonical_json(sorted([f.path, f.bytes, f.blake3] for f in entries)))


def located(home: Path, path: str, reader: str) -> Path | str | None:
    """Where a source lies that a spec in ``home`` names: a path beside the spec, a URL, or a name on the hub."""
    if not path:
        return None
    if is_url(path) or (reader == "hub" and not (home / path).exists()):
        return path
    return home / path


def listing(recipe: IngestRecipe, path: Path | str | None, *, is_hashed: bool = True) -> Listing:
    """Find and hash the files of a source (no text is parsed; a large file that did not change is not read again).

    The fingerprint of a remote file is what its store tells of it: it is not fetched.

    Args:
        recipe: what to read.
        path: file, directory or URL; with reader ``hub`` also a name on the hub.
        is_hashed: whether local files are hashed; a look at the first records need not wait for that.

    Raises:
        ValueError: if there is no such distribution, path or readable file.
    """
    name = f"{recipe.source}/{recipe.snapshot}"
    if recipe.reader == "installed-docs":
        found = distributions.distribution(recipe.source, recipe.snapshot)
        root, entries = distributions.listed_documents(found)
        licence = distributions.stated_licence(found, root, [entry.path for entry in entries])
        return Listing(root, entries, [], found, licence)
    if path is None:
        raise ValueError(f"source {name}: reader {recipe.reader!r} needs a path.")
    root, names, ignored = Path(), list[str](), list[str]()
    remote = Remote(str(path)) if is_url(path) else None
    if recipe.reader == "hub" and remote is None:
        from pipelines.readers.hub import split_files

        place, names = split_files(str(path), recipe.hub_config, recipe.hub_split)
        root, remote = (Path(), place) if isinstance(place, Remote) else (place, None)
    elif remote is None:
        root, names, ignored = files.listed_files(Path(path), recipe.reader)
    if remote is not None:
        entries, ignored = remote.listed(recipe.reader)
        entries = [entry for entry in entries if not names or entry.path in names]
    else:
        entries = [_entry(root, file, is_hashed) for file in names]
    if not entries:
        raise ValueError(
            f"source {name}: {path} has no file that reader {recipe.reader!r} reads "
            f"({', '.join(files.endings(recipe.reader))}); {len(ignored)} other files are there."
        )
    return Listing(root, entries, ignored, remote=remote)


def _entry(root: Path, name: str, is_hashed: bool) -> FileEntry:
    files.check_readable(root / name)
    if is_hashed:
        return known_entry(root, name)
    return FileEntry(path=name, bytes=(root / name).stat().st_size, blake3="0" * 64)


def origin_of(recipe: IngestRecipe, path: Path | str | None = None) -> str:
    """The origin digest of a source as it is now; the recipe's own origin is not looked at."""
    return listing(recipe, path).origin


def pinned(recipe: IngestRecipe, path: Path | str | None = None) -> IngestRecipe:
    """The recipe with the origin that its source has now."""
    return recipe.model_copy(update={"origin": origin_of(recipe, path)})


def units(recipe: IngestRecipe, found: Listing, *, are_lines_cut: bool = True) -> list[Unit]:
    """The source cut into pieces of work, in the order of its records; the same for the same files everywhere.

    Args:
        recipe: what to read.
        found: its files.
        are_lines_cut: whether large files of lines are cut, which takes reading them to their end.

    Raises:
        ValueError: if a column that the recipe names does not exist.
    """
    if found.distribution is not None:
        return [Unit(entry.path, -1, entry.bytes) for entry in found.files]
    return [unit for entry in found.files for unit in _file_units(recipe, found, entry, are_lines_cut)]


def _file_units(recipe: IngestRecipe, found: Listing, entry: FileEntry, are_lines_cut: bool) -> list[Unit]:
    reader = _reader(recipe, entry.path)
    if reader == "parquet":
        # of a remote file only the footer is read here
        at = found.local(entry.path) if found.remote is None else found.remote.read(entry)
        sizes = parquet.row_groups(at, entry.path, recipe.fields)
        if sizes:
            return [Unit(entry.path, part, size) for part, size in enumerate(sizes)]
    if reader == "arrow" and found.remote is None:
        from pipelines.readers import arrow

        num = arrow.stripes(found.local(entry.path), entry.path, recipe.fields)
        if num > 1:
            return [Unit(entry.path, part, entry.bytes // num) for part in range(num)]
    if reader == "jsonl" and found.remote is None and are_lines_cut:
        cuts = spans(found.local(entry.path), PIECE_BYTES)
        if cuts:
            return [Unit(entry.path, part, span.stop - span.start, span) for part, span in enumerate(cuts)]
    return [Unit(entry.path, -1, entry.bytes)]


def _reader(recipe: IngestRecipe, name: str) -> str:
    return files.reader_of(name) if recipe.reader == "hub" else recipe.reader


def unit_records(recipe: IngestRecipe, found: Listing, unit: Unit) -> Iterator[Record]:
    """All records of one unit, in order, with licences resolved.

    Raises:
        ValueError: if a column that the recipe names does not exist, or a file can no longer be fetched.
    """
    if found.distribution is not None:
        records = distributions.documentation(
            found.distribution, found.root, [unit.file], recipe.min_docstring_chars, found.licence
        )
    else:
        records = _read(recipe, found.local(unit.file), unit)
    stated = spdx(recipe.license) if recipe.license else ""
    for record in records:
        licence = stated or (record.licence if found.distribution is not None else _spdx(record.licence))
        yield record if licence == record.licence else record._replace(licence=licence)


@functools.lru_cache(10_000)  # a field that holds free text must not grow the process
def _spdx(stated: str) -> str:
    return spdx(stated)


def _read(recipe: IngestRecipe, path: Path, unit: Unit) -> Iterator[Record]:
    """The records of one unit; every format's reader is imported where it is needed."""
    from pipelines.readers import arrow, crawl, csv, jsonl, pages, passages, text, wikipedia

    name, fields, limit = unit.file, recipe.fields, recipe.max_record_bytes
    readers: dict[str, Callable[[], Iterator[Record]]] = {
        "jsonl": lambda: jsonl.jsonl_records(path, name, fields, limit, unit.span),
        "csv": lambda: csv.csv_records(path, name, fields, limit, recipe.delimiter),
        "parquet": lambda: parquet.parquet_records(path, name, fields, limit, unit.part),
        "arrow": lambda: arrow.arrow_records(path, name, fields, limit, unit.part),
        "html": lambda: pages.page_records(path, name, recipe, limit),
        "warc": lambda: crawl.warc_records(path, name, recipe, limit),
        "wikipedia": lambda: wikipedia.wikipedia_records(path, name, limit),
        "text": lambda: text.text_records(path, name, limit),
    }
    if recipe.passage_bytes:
        readers["text"] = lambda: passages.passage_records(path, name, recipe.passage_bytes, limit)
    return readers[_reader(recipe, name)]()


def source_records(recipe: IngestRecipe, found: Listing) -> Iterator[Record]:
    """All records of a source in the order of its files; whoever takes the first three waits for no more."""
    for unit in units(recipe, found, are_lines_cut=False):
        yield from unit_records(recipe, found, unit)
