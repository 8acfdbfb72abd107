"""Sources: where text comes from, and the stage that takes it in.

A source is NAME/SNAPSHOT, for example ``pypi-docs.networkx/3.6.1`` or ``wiki/2026-11``. Documents keep their ids
from one snapshot to the next; the origin digest says whether the files behind a snapshot are still the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import pyarrow as pa
from pydantic import Field

from pipelines import distributions, records
from pipelines.documents import DOCUMENTS, FILES, FILES_SCHEMA, Record, RecordWriter
from pipelines.licences import spdx
from pipelines.passages import passage_records
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.fates import check_conservation
from pipelines.provenance.manifest import FileEntry, file_entry
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from pipelines.provenance.tables import read_batches, rows_digest, write_table

INGEST_VERSION = "1"


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
        return Listing(root, files, [], found)
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
        yield from distributions.documentation(found.distribution, found.root, names, recipe.min_docstring_chars)
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


def ingest(recipe: IngestRecipe, draft: Draft, *, path: Path | None = None) -> Artifact:
    """Take a source in: documents, texts, fates and the files that were read.

    Args:
        recipe: what to read, and the origin that its files must have.
        draft: where it goes.
        path: file or directory of the data; not for installed documentation.

    Raises:
        ValueError: if the source has no records, or is not what the recipe's origin says.
    """
    found = listing(recipe, path)
    name = f"{recipe.source}/{recipe.snapshot}"
    if recipe.origin and recipe.origin != found.origin:
        raise ValueError(
            f"source {name}: its files have origin {found.origin[:12]}…, the recipe says {recipe.origin[:12]}…. "
            "They changed after the run was planned; run again."
        )
    with RecordWriter(draft, recipe.source) as writer:
        for record in source_records(recipe, found):
            writer.add(record)
    if writer.counts["seen"] == 0:
        raise ValueError(f"source {name}: {len(found.files)} files, but no record in them. Check path and reader.")
    check_conservation(writer.counts)
    rows = [f.model_dump() for f in found.files]
    write_table(draft.path(FILES), pa.Table.from_pylist(rows, FILES_SCHEMA))
    documents = draft.path(DOCUMENTS)
    licences = sorted({cell for table in read_batches(documents) for cell in table["licence"].unique().to_pylist()})
    counts = {"docs": writer.counts["kept"], **writer.counts}
    counts |= {"files": len(found.files), "num_bytes": writer.num_bytes}
    return draft.seal(
        counts=counts,
        facts={
            "reader": recipe.reader,
            "license": " AND ".join(f"({n})" if " " in n and len(licences) > 1 else n for n in licences),
            "licences": licences,
            "files": len(found.files),
            "ignored_files": found.ignored,
            "origin": found.origin,
            "reasons": dict(sorted(writer.reasons.items())),
        },
        # a doc_id is a hash of its text, so this digest covers the texts too
        rows=rows_digest(read_batches(documents)),
    )
