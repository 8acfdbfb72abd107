"""The manifest: what an artifact is, in one canonical file that is written last."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from blake3 import blake3
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from pipelines.provenance.recipe import canonical_json, digest

SCHEMA_VERSION = 1
MANIFEST_SUFFIX = ".manifest.json"
WINDOW_BYTES = 64 << 20  # as fast as a map of the whole file
_KEY = re.compile(r"[A-Za-z0-9._@+\-/]+")
_MAX_KEY_BYTES = 240  # a percent-encoded key is one path segment, of which file systems allow 255 bytes
_HEX = r"^[0-9a-f]{64}$"


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
            an empty segment or a leading or trailing slash, and is short enough for a file system.
    """
    if not _KEY.fullmatch(key) or ".." in key or {"", "."} & set(key.split("/")):
        raise PartitionKeyError(
            f"partition key {key!r} is not allowed: use letters, digits and . _ @ + - /, "
            "no '..', no empty segment, no '|', no newline."
        )
    if len(key) + 2 * key.count("/") > _MAX_KEY_BYTES:  # a slash becomes three bytes
        raise PartitionKeyError(
            f"partition key {key[:40]!r}… has {len(key)} characters; allowed are {_MAX_KEY_BYTES}, a slash counting 3."
        )
    return key


def checked_file(path: str) -> str:
    """The path of a file inside an artifact, if it stays inside.

    Raises:
        ManifestError: if it is absolute, climbs, or could be taken for a manifest.
    """
    if {"", ".", ".."} & set(path.split("/")) or "\\" in path or "\0" in path or path.endswith(MANIFEST_SUFFIX):
        raise ManifestError(f"file name {path!r} is not allowed in an artifact: use a relative path without '..'.")
    return path


_Asset = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
_Partition = Annotated[str, AfterValidator(checked_partition)]
_Part = Annotated[str, AfterValidator(lambda part: checked_partition(part) if part else part)]
_Digest = Annotated[str, Field(pattern=_HEX)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Frozen):
    """One file of an artifact, by its path inside the artifact."""

    path: Annotated[str, AfterValidator(checked_file)]
    bytes: int = Field(ge=0)
    blake3: _Digest


class InputRef(_Frozen):
    """An artifact that a stage has read, pinned by both its digests."""

    asset: _Asset
    partition: _Partition
    part: _Part
    manifest: _Digest
    content: _Digest

    @property
    def key(self) -> Key:
        return Key(self.asset, self.partition, self.part)


class PartRef(_Frozen):
    """One part of an artifact that is kept in parts (usually one per source)."""

    part: _Partition
    manifest: _Digest
    content: _Digest


class Manifest(_Frozen):
    """Identity of one artifact. Circumstances (when, where, by whom) are kept apart, in the ledger."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1)
    asset: _Asset
    partition: _Partition
    part: _Part = ""
    version: str = Field(description="version of the stage that made it")
    recipe: dict[str, Any]
    numerics: dict[str, Any] = Field(default_factory=dict)
    inputs: list[InputRef] = Field(default_factory=list)
    parts: list[PartRef] = Field(default_factory=list)
    files: list[FileEntry] = Field(default_factory=list)
    counts: dict[str, int] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict)
    rows: str = Field(default="", description="logical digest of the rows, equal across library versions")

    @field_validator("recipe", "numerics", "facts")
    @classmethod
    def _plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        """JSON and nothing else: a set has no order to repeat, and bytes or NaN no form to compare."""
        return json.loads(canonical_json(value))

    @field_validator("files", "parts")
    @classmethod
    def _once(cls, entries: list[Any]) -> list[Any]:
        names = sorted(e.path if isinstance(e, FileEntry) else e.part for e in entries)
        if twice := [name for name, after in pairwise(names) if name == after]:
            raise ValueError(f"{twice[0]!r} is listed twice")
        return entries

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
            check_schema(fields, SCHEMA_VERSION, path)
            manifest = cls.model_validate(fields)
            canonical = manifest.canonical()
        except ManifestError:
            raise
        except (ValueError, RecursionError) as error:  # no JSON, no manifest, or text that is no Unicode
            raise ManifestError(f"{path}: not a manifest ({_first_line(error)}). The file was changed.") from None
        if canonical != data:
            raise ManifestError(f"{path}: not in canonical form. The file was changed after sealing.")
        return manifest


def check_schema(fields: Any, newest: int, path: str) -> None:
    """Raise if a document was written by a newer version than this one can read."""
    found = fields.get("schema_version") if isinstance(fields, dict) else None
    if isinstance(found, int) and found > newest:
        raise ManifestError(f"{path}: schema version {found} is newer than {newest}; update Stemma.")


def _first_line(error: Exception) -> str:
    return " ".join(str(error).splitlines()[:3])


def memo_key(version: str, recipe: dict[str, Any], numerics: dict[str, Any], inputs: Iterable[tuple[Key, str]]) -> str:
    """Digest of stage version, recipe, numerics and the *contents* of the inputs (not their manifests).

    Contents, because an input that was remade to the same bytes must not cause a rebuild: early cut-off.
    """
    named = [[*key, content] for key, content in inputs]
    return digest(canonical_json([version, recipe, numerics, named]))


def file_entry(root: Path, path: str) -> FileEntry:
    """Size and blake3 of one file."""
    size, hexdigest = hashed(root / path)
    return FileEntry(path=path, bytes=size, blake3=hexdigest)


def hashed(path: Path) -> tuple[int, str]:
    """Size and blake3 of a file, on all cores, with no more than ``WINDOW_BYTES`` of it in memory at once."""
    hasher, size = blake3(max_threads=blake3.AUTO), path.stat().st_size
    with path.open("rb") as file:
        for start in range(0, size, WINDOW_BYTES):
            length = min(WINDOW_BYTES, size - start)
            with mmap.mmap(file.fileno(), length, offset=start, access=mmap.ACCESS_READ) as window:
                hasher.update(window)
    return size, hasher.hexdigest()
