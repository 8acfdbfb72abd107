"""The ledger: an append-only, hash-chained account of everything that was published in a store.

Every writer (one process) has a segment of its own, so that no lock is needed. Each entry names the hash of the
entry before it; the first entry of a segment joins the heads of all other segments that it saw, and later entries
join what has appeared since. So every entry but the newest of each segment is held in place by another one.
"""

from __future__ import annotations

import getpass
import os
import platform
import sys
import time
import uuid
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.provenance.files import Files
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.recipe import canonical_json, digest

GENESIS = "0" * 64


class Entry(BaseModel):
    """One line of the account. ``event`` is ``sealed``, ``published`` (a ref moved) or ``removed`` (by gc)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1
    segment: str
    number: int
    previous: str
    joins: dict[str, str]
    event: str
    asset: str
    partition: str
    part: str
    manifest: str
    attempt: str
    generation: int = 0
    circumstances: str

    @property
    def key(self) -> Key:
        return Key(self.asset, self.partition, self.part)

    def canonical(self) -> bytes:
        return canonical_json(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        return digest(self.canonical())


class Ledger:
    """The writer's end: one segment for one process and store."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._segment = ""
        self._head = GENESIS
        self._number = 0
        self._joined: dict[str, str] = {}

    def append(self, event: str, key: Key, manifest: str, attempt: str, circumstances: dict[str, Any],
               generation: int = 0) -> Entry:
        """Add one entry; the circumstances record is put first, under its own hash."""
        if not self._segment:
            self._segment = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:12]}"
        body = canonical_json(circumstances)
        self._files.create(f"circumstances/{digest(body)}.json", body)
        joins = {s: h for s, h in heads(self._files).items() if s != self._segment and self._joined.get(s) != h}
        self._joined.update(joins)
        entry = Entry(
            segment=self._segment, number=self._number + 1, previous=self._head, joins=joins, event=event,
            asset=key.asset, partition=key.partition, part=key.part, manifest=manifest, attempt=attempt,
            generation=generation, circumstances=digest(body),
        )
        if not self._files.create(entry_path(entry.segment, entry.number), entry.canonical()):
            raise ManifestError(f"{entry_path(entry.segment, entry.number)} exists already: two writers, one segment.")
        self._number, self._head = entry.number, entry.digest
        return entry


def entry_path(segment: str, number: int) -> str:
    return f"ledger/{segment}/{number:08d}.json"


def segments(files: Files) -> list[str]:
    return files.names("ledger")


def heads(files: Files) -> dict[str, str]:
    """The newest entry of every segment, by its digest."""
    newest = {}
    for segment in segments(files):
        names = files.names(f"ledger/{segment}")
        if names:
            newest[segment] = digest(files.read(f"ledger/{segment}/{names[-1]}"))
    return newest


def read_entry(files: Files, path: str) -> Entry:
    """One entry, canonical byte for byte.

    Raises:
        ManifestError: if it is anything else.
    """
    data = files.read(path)
    try:
        entry = Entry.model_validate_json(data)
    except ValidationError:
        raise ManifestError(f"{path}: not a ledger entry. The file was changed.") from None
    if entry.canonical() != data:
        raise ManifestError(f"{path}: not in canonical form. The file was changed.")
    return entry


def entries(files: Files) -> list[Entry]:
    """All entries, segment by segment (segments sort by the time at which they were opened)."""
    return [
        read_entry(files, f"ledger/{segment}/{name}")
        for segment in segments(files)
        for name in files.names(f"ledger/{segment}")
    ]


def circumstances(started: float, extra: dict[str, Any] | None = None) -> dict[str, Any]:
    """When, where, by whom and with what: true of this attempt, no part of what was made."""
    return {
        "started": round(started, 3),
        "seconds": round(time.time() - started, 3),
        "host": platform.node(),
        "user": _user(),
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": library_versions(),
        **(extra or {}),
    }


def library_versions() -> dict[str, str]:
    """Versions of the installed distributions that make bytes."""
    names = ("numpy", "pyarrow", "polars", "numba", "datasketch", "tokenizers", "torch", "safetensors", "lm_eval",
             "transformers", "dagster", "blake3", "pydantic")
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return str(os.getuid())
