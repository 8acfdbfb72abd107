"""An artifact: a sealed set of files with its manifest; and the draft that it is written as."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pyarrow as pa

from pipelines.provenance.manifest import (
    FileEntry,
    InputRef,
    Key,
    Manifest,
    ManifestError,
    PartRef,
    checked_file,
    file_entry,
    memo_key,
)
from pipelines.provenance.recipe import Recipe, canonical_json, digest
from pipelines.provenance.tables import read_table, write_table

if TYPE_CHECKING:
    from pipelines.provenance.store import Store


@dataclass(frozen=True)
class Artifact:
    """A complete artifact: read its files with :meth:`local` and :meth:`table`, its parts with :meth:`parts`."""

    store: Store
    manifest: Manifest
    prefix: str

    @property
    def key(self) -> Key:
        return self.manifest.key

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def content(self) -> str:
        return self.manifest.content

    @property
    def attempt(self) -> str:
        return self.prefix.rsplit("/", 1)[1]

    @property
    def counts(self) -> dict[str, int]:
        return self.manifest.counts

    @property
    def facts(self) -> dict[str, Any]:
        return self.manifest.facts

    def as_input(self) -> InputRef:
        return InputRef(**self.key._asdict(), manifest=self.digest, content=self.content)

    def names(self, suffix: str = "") -> list[str]:
        """Paths of the files, sorted."""
        return sorted(f.path for f in self.manifest.files if f.path.endswith(suffix))

    def entry(self, name: str) -> FileEntry:
        for file in self.manifest.files:
            if file.path == name:
                return file
        raise ManifestError(f"{self.key} has no file {name}; it has {', '.join(self.names()) or 'none'}.")

    def local(self, name: str) -> Path:
        """A local path of one file (through the digest-checked cache when the store is remote)."""
        entry = self.entry(name)
        if self.store.files.local_root is not None:
            return self.store.files.local_root / self.prefix / name
        return self.store.cached(f"{self.prefix}/{name}", entry.blake3)

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """One Arrow IPC file, memory-mapped."""
        return read_table(self.local(name), columns)

    def json(self, name: str) -> Any:
        return json.loads(self.local(name).read_bytes())

    def part(self, name: str) -> Artifact:
        for ref in self.manifest.parts:
            if ref.part == name:
                return self.store.artifact(Key(self.key.asset, self.key.partition, name), ref.manifest)
        raise ManifestError(f"{self.key} has no part {name!r}.")

    def parts(self) -> list[Artifact]:
        """The parts in the order of the manifest; an artifact without parts is its own only part."""
        return [self.part(ref.part) for ref in self.manifest.parts] or [self]

    def inputs(self, asset: str = "") -> list[Artifact]:
        """What it was made from, exactly as it was read."""
        return [self.store.artifact(i.key, i.manifest) for i in self.manifest.inputs if asset in ("", i.asset)]

    def input(self, asset: str) -> Artifact:
        """The one input of that asset."""
        found = self.inputs(asset)
        if len(found) != 1:
            raise ManifestError(f"{self.key} has {len(found)} inputs of {asset}, expected one.")
        return found[0]


class Draft:
    """An artifact in the making. Nothing of it is visible to others until :meth:`seal`."""

    def __init__(
        self,
        store: Store,
        key: Key,
        prefix: str,
        directory: Path,
        version: str,
        recipe: dict[str, Any],
        inputs: list[InputRef],
        numerics: dict[str, Any],
        circumstance: dict[str, Any],
    ) -> None:
        self.store = store
        self.key = key
        self.prefix = prefix
        self.directory = directory
        self.circumstance = circumstance  # extra facts about this attempt, for the ledger
        self.started = time.time()
        self.sealing = self.started  # when hashing began: the ledger tells what provenance cost
        self.logged = ""  # digest of the manifest, once the ledger knows of it
        self.recalls = True  # whether parts may come from the memo
        self.tell: Callable[[int, int], None] = lambda done, total: None  # how far its stage has come
        self._version, self._recipe, self._inputs, self._numerics = version, recipe, inputs, numerics

    @property
    def attempt(self) -> str:
        return self.prefix.rsplit("/", 1)[1]

    @property
    def workshop(self) -> Path:
        """Where pieces of unfinished work lie, so that the next attempt at the same work finds them; not evidence."""
        work = memo_key(self._version, self._recipe, self._numerics, [(i.key, i.content) for i in self._inputs])
        return self.store.scratch / "pieces" / digest(canonical_json([*self.key, work]))

    def path(self, name: str) -> Path:
        """Where to write one file."""
        path = self.directory / checked_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, table: pa.Table) -> None:
        """One Arrow IPC file, uncompressed, in record batches of fixed length."""
        write_table(self.path(name), table)

    def write_json(self, name: str, value: Any) -> None:
        self.path(name).write_bytes(canonical_json(value))

    def part(
        self, name: str, recipe: Recipe, inputs: Sequence[Artifact], make: Callable[[Draft], Artifact]
    ) -> Artifact:
        """One sealed part, from the memo where the same inputs gave it before, else by calling ``make`` on a draft.

        Args:
            name: of the part, usually the source that it comes from.
            recipe: what of the stage's recipe steers this part alone.
            inputs: what this part is made from, and nothing more, so that other parts' changes do not touch it.
            make: writes the files and returns ``draft.seal(...)``.
        """
        from pipelines.provenance.memo import made

        key = Key(self.key.asset, self.key.partition, name)
        refs = [i.as_input() for i in inputs]
        known = self.recalls and self.store.recall(key, self._version, recipe.identity(), self._numerics, refs)
        return known or made(
            self.store, key, self._version, recipe.identity(), inputs, make, self._numerics, {}, force=not self.recalls
        )

    def seal(
        self,
        counts: dict[str, int] | None = None,
        facts: dict[str, Any] | None = None,
        rows: str = "",
        parts: Iterable[Artifact] = (),
    ) -> Artifact:
        """Hash what was written and make it an artifact.

        Args:
            counts: whole numbers that people read (``docs``, ``kept``, ``tokens`` …).
            facts: small deterministic JSON that later stages or people read.
            rows: logical digest of the rows (see ``tables.rows_digest``).
            parts: sealed parts of the same asset and partition.

        Raises:
            ManifestError: for a part of something else, or a file that is a link or has a name of ours.
        """
        if self.logged:
            raise ManifestError(f"{self.key}: this draft was sealed already; a stage seals once.")
        self.sealing = time.time()
        sealed = list(parts)
        for part in sealed:
            if part.key[:2] != self.key[:2] or not part.key.part:
                raise ManifestError(f"{part.key} is no part of {self.key}; make parts with draft.part().")
        for path in self.directory.rglob("*"):
            if path.is_symlink():
                raise ManifestError(f"{self.key}: {path.name} is a link; an artifact holds the bytes themselves.")
        written = sorted(p.relative_to(self.directory).as_posix() for p in self.directory.rglob("*") if p.is_file())
        manifest = Manifest(
            **self.key._asdict(),
            version=self._version,
            recipe=self._recipe,
            numerics=self._numerics,
            inputs=self._inputs,
            counts=counts or {},
            facts=facts or {},
            rows=rows,
            files=[file_entry(self.directory, name) for name in written],
            parts=[PartRef(part=p.key.part, manifest=p.digest, content=p.content) for p in sealed],
        )
        artifact = self.store.seal(self, manifest)
        _forget(self.workshop)
        return artifact


def _forget(folder: Path) -> None:
    """Remove a folder beside whatever comes next, since a gigabyte takes a second; at once nothing has its name."""
    with suppress(OSError):  # most stages have none, and what stays is removed by gc
        gone = folder.rename(folder.with_name(f"{folder.name}.{uuid4().hex}"))
        Thread(target=shutil.rmtree, name="forget", args=(gone,), kwargs={"ignore_errors": True}).start()
