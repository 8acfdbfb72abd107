"""The ledger: an append-only, hash-chained account of everything that was published in a store.

Every writer (one process) has a segment of its own, so that no lock is needed. Each entry is a file named by its
number and its digest, and names the digest of the entry before it; the first entry of a segment joins the heads of all other segments that it saw, and later entries
join what has appeared since. So every entry but the newest of each segment is held in place by another one.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipelines.provenance.files import Files
from pipelines.provenance.manifest import Key, ManifestError, check_schema
from pipelines.provenance.recipe import canonical_json, digest

GENESIS = "0" * 64
SCHEMA_VERSION = 1
LOOK_SECONDS = 1.0  # a look at all segments costs 15 µs for each, and there is a segment for every process that wrote
LIBRARIES = (
    "numpy", "pyarrow", "polars", "numba", "datasketch", "tokenizers", "torch", "safetensors", "lm_eval",
    "transformers", "dagster", "blake3", "pydantic",
)  # fmt: skip
_ENTRY = re.compile(r"[0-9]{8}-([0-9a-f]{64})\.json")


class Entry(BaseModel):
    """One line of the account. ``event`` is ``sealed``, ``published`` (a ref moved) or ``removed`` (by gc)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1)
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

    @property
    def path(self) -> str:
        return f"ledger/{self.segment}/{self.number:08d}-{self.digest}.json"


@dataclass
class _Segment:
    """What one writer remembers of its own chain."""

    name: str = ""
    number: int = 0
    head: str = GENESIS
    joined: dict[str, str] = field(default_factory=dict)
    looked: float = float("-inf")  # when it last looked at the other segments, by the monotonic clock
    lock: threading.Lock = field(default_factory=threading.Lock)


class Ledger:
    """The writer's end: one segment for one process and store, whichever of its threads writes."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._segments: dict[int, _Segment] = {}  # by process id: a forked child begins a segment of its own

    def __reduce__(self) -> tuple[type[Ledger], tuple[Files]]:
        return Ledger, (self._files,)  # in another process, another segment

    def append(
        self, event: str, key: Key, manifest: str, attempt: str, circumstances: dict[str, Any], generation: int = 0
    ) -> Entry:
        """Add one entry; the circumstances record is put first, under its own hash."""
        segment = self._segments.setdefault(os.getpid(), _Segment())
        body = canonical_json(circumstances)
        with segment.lock:
            self._files.create(f"circumstances/{digest(body)}.json", body)
            segment.name = segment.name or f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:12]}"
            joins = self._new_heads(segment)
            entry = Entry(
                segment=segment.name, number=segment.number + 1, previous=segment.head, joins=joins, event=event,
                asset=key.asset, partition=key.partition, part=key.part, manifest=manifest, attempt=attempt,
                generation=generation, circumstances=digest(body),
            )  # fmt: skip
            try:
                self._files.create(entry.path, entry.canonical())
            except BaseException:
                segment.name, segment.number, segment.head = "", 0, GENESIS  # was it put? Go on in a new segment
                raise
            segment.joined.update(joins)
            segment.number, segment.head = entry.number, entry.digest
        return entry

    def _new_heads(self, segment: _Segment) -> dict[str, str]:
        """What other writers have added since this one looked."""
        if segment.number and time.monotonic() - segment.looked < LOOK_SECONDS:
            return {}
        segment.looked = time.monotonic()
        seen = heads(self._files)
        return {s: h for s, h in seen.items() if s != segment.name and segment.joined.get(s) != h}


def segments(files: Files) -> list[str]:
    return files.names("ledger")


def heads(files: Files) -> dict[str, str]:
    """The newest entry of every segment, by its digest."""
    newest = {}
    for segment in segments(files):
        found = [match[1] for name in files.names(f"ledger/{segment}") if (match := _ENTRY.fullmatch(name))]
        if found:
            newest[segment] = found[-1]
    return newest


def read_entry(files: Files, path: str) -> Entry:
    """One entry, canonical byte for byte, under the name that its number and digest give it.

    Raises:
        ManifestError: if it is anything else.
    """
    data = files.read(path)
    try:
        fields = json.loads(data)
        check_schema(fields, SCHEMA_VERSION, path)
        entry = Entry.model_validate(fields)
        canonical = entry.canonical()
    except ManifestError:
        raise
    except (ValueError, RecursionError):
        raise ManifestError(f"{path}: not a ledger entry. The file was changed.") from None
    if canonical != data:
        raise ManifestError(f"{path}: not in canonical form. The file was changed.")
    if entry.path != path:
        raise ManifestError(f"{path}: its contents belong at {entry.path}; it was changed or moved.")
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
        "user": user_name(),
        "pid": os.getpid(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": dict(library_versions()),
        **(extra or {}),
    }


@cache  # 9 ms, and every seal and every publication asks
def library_versions() -> dict[str, str]:
    """Versions of the installed distributions that make bytes."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a passwd entry
        return str(os.getuid())
