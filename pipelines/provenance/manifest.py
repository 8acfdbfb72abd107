"""The manifest: what an artifact is, in one canonical file that is written last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.provenance.recipe import canonical_json, digest

SCHEMA_VERSION = 1
_KEY = re.compile(r"[A-Za-z0-9._@+\-/]+")


class ManifestError(ValueError):
    """A manifest, or a file that it names, is not what it must be."""


class PartitionKeyError(ValueError):
    """A partition key holds characters that a path, a URL or the UI could misread."""


class Key(NamedTuple):
    """The name under which an artifact is published: asset, partition and, for artifacts kept in parts, part."""

    asset: str
    partition: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.asset}[{self.partition}]" + (f" part {self.part}" if self.part else "")


def checked_partition(key: str) -> str:
    """The partition key itself, if it is allowed.

    Raises:
        PartitionKeyError: unless it consists of letters, digits and ``. _ @ + - /``, without ``..``,
            an empty segment or a leading or trailing slash.
    """
    if not _KEY.fullmatch(key) or ".." in key or "" in key.split("/") or key in {"."}:
        raise PartitionKeyError(
            f"partition key {key!r} is not allowed: use letters, digits and . _ @ + - /, "
            "no '..', no empty segment, no '|', no newline."
        )
    return key


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Frozen):
    """One file of an artifact, by its path inside the artifact."""

    path: str
    bytes: int = Field(ge=0)
    blake3: str = Field(pattern=r"^[0-9a-f]{64}$")


class InputRef(_Frozen):
    """An artifact that a stage has read, pinned by both its digests."""

    asset: str
    partition: str
    part: str
    manifest: str
    content: str

    @property
    def key(self) -> Key:
        return Key(self.asset, self.partition, self.part)


class PartRef(_Frozen):
    """One part of an artifact that is kept in parts (usually one per source)."""

    part: str
    manifest: str
    content: str


class Manifest(_Frozen):
    """Identity of one artifact. Circumstances (when, where, by whom) are kept apart, in the ledger."""

    schema_version: int = SCHEMA_VERSION
    asset: str
    partition: str
    part: str = ""
    version: str = Field(description="version of the stage that made it")
    recipe: dict[str, Any]
    numerics: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InputRef] = Field(default_factory=list)
    parts: list[PartRef] = Field(default_factory=list)
    files: list[FileEntry] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    rows: str = Field(default="", description="logical digest of the rows, equal across library versions")

    @property
    def key(self) -> Key:
        return Key(self.asset, self.partition, self.part)

    @property
    def content(self) -> str:
        """blake3 over the sorted (path, bytes, blake3) of the files, then the sorted (part, content)."""
        files = sorted([f.path, f.bytes, f.blake3] for f in self.files)
        parts = sorted([p.part, p.content] for p in self.parts)
        return digest(canonical_json([files, parts]))

    @property
    def memo_key(self) -> str:
        """What decides whether a stage must run at all."""
        return memo_key(self.version, self.recipe, self.numerics, [(i.key, i.content) for i in self.inputs])

    def canonical(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """The lineage identity: names this artifact and, through its inputs, everything that it came from."""
        return digest(self.canonical())

    @classmethod
    def parse(cls, data: bytes, path: str) -> Manifest:
        """Read a manifest that must be canonical, byte for byte.

        Raises:
            ManifestError: if it is not JSON, has unknown or missing fields, comes from a newer schema,
                or is written in any other way than the canonical one.
        """
        try:
            fields = json.loads(data)
            found = fields.get("schema_version") if isinstance(fields, dict) else None
            if isinstance(found, int) and found > SCHEMA_VERSION:
                raise ManifestError(f"{path}: schema version {found} is newer than {SCHEMA_VERSION}; update Stemma.")
            manifest = cls.model_validate(fields)
        except (ValidationError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ManifestError(f"{path}: not a manifest ({_first_line(error)}). The file was changed.") from None
        if manifest.canonical() != data:
            raise ManifestError(f"{path}: not in canonical form. The file was changed after sealing.")
        return manifest


def _first_line(error: Exception) -> str:
    return " ".join(str(error).splitlines()[:3])


def memo_key(
    version: str, recipe: dict[str, Any], numerics: dict[str, Any], inputs: Iterable[tuple[Key, str]]
) -> str:
    """Digest of stage version, recipe, numerics and the *contents* of the inputs (not their manifests).

    Contents, because an input that was remade to the same bytes must not cause a rebuild: early cut-off.
    """
    named = [[*key, content] for key, content in inputs]
    return digest(canonical_json([version, recipe, numerics, named]))


def file_entry(root: Path, path: str) -> FileEntry:
    """Size and blake3 of one file, read through a memory map."""
    full = root / path
    hasher = blake3(max_threads=blake3.AUTO)
    size = full.stat().st_size
    if size:
        hasher.update_mmap(full)
    return FileEntry(path=path, bytes=size, blake3=hasher.hexdigest())
