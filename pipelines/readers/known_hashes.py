"""Known hashes: what a large local file hashed to, kept beside what the file system says of it.

Planning asks for the origin of every source again and again; a dump of 100 GB must not be read each time. A file is
taken for unchanged while its size, inode, time of change and time of modification are (the rule of git's index; the
time of change cannot be set back). One that changed within the last seconds before it was hashed is not remembered:
it could change again within the grain of the clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from blake3 import blake3

from pipelines.provenance.manifest import FileEntry, hashed

MIN_BYTES = 64 << 20  # smaller files are hashed faster than their facts are looked up on a busy disk
SETTLED_NS = 2_000_000_000  # the grain of the coarsest clock (FAT: 2 s)


def known_entry(root: Path, name: str) -> FileEntry:
    """Size and blake3 of a file, from memory if it is large and did not change since it was hashed last."""
    path = root / name
    facts = _facts(path)
    if facts["bytes"] < MIN_BYTES:
        return FileEntry(path=name, bytes=facts["bytes"], blake3=hashed(path)[1])
    note = _note(path)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_bytes())
        if known["facts"] == facts:
            return FileEntry(path=name, bytes=facts["bytes"], blake3=known["blake3"])
    size, hexdigest = hashed(path)
    if _facts(path) == facts and time.time_ns() - max(facts["changed"], facts["modified"]) > SETTLED_NS:
        with contextlib.suppress(OSError):  # a memory that cannot be written is no reason to fail
            note.parent.mkdir(parents=True, exist_ok=True)
            scratch = note.with_suffix(f".{os.getpid()}")
            scratch.write_text(json.dumps({"facts": facts, "blake3": hexdigest}), encoding="utf-8")
            scratch.replace(note)
    return FileEntry(path=name, bytes=size, blake3=hexdigest)


def _facts(path: Path) -> dict[str, int]:
    told = path.stat()
    return {
        "bytes": told.st_size,
        "device": told.st_dev,
        "inode": told.st_ino,
        "changed": told.st_ctime_ns,
        "modified": told.st_mtime_ns,
    }


def _note(path: Path) -> Path:
    home = Path(os.environ.get("STEMMA_CACHE") or Path.home() / ".cache" / "stemma")
    return home / "hashes" / f"{blake3(str(path.resolve()).encode()).hexdigest()}.json"
