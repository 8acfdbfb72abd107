"""The store: artifacts, refs and leases under one root. Only this file knows how they are laid out.

artifacts/ASSET/PARTITION/PART/ATTEMPT/...   the files of one attempt, written once, never moved
artifacts/.../ATTEMPT/<digest>.manifest.json written last: its presence means "complete"
refs/ASSET/PARTITION/PART/00000001.json      generations of a ref; the newest is the published artifact
ledger/, circumstances/                      see ledger.py
pending/                                     publications under way; left over where a writer was killed
leases/, scratch/, dagster/, .writing/       not evidence: locks, rolling checkpoints, the UI's history, and
                                             small files that grow before they get their names
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.files import Files, StoreError, open_files, unwritable
from pipelines.provenance.leases import local_lease, remote_lease
from pipelines.provenance.ledger import Ledger, circumstances
from pipelines.provenance.manifest import (
    MANIFEST_SUFFIX,
    InputRef,
    Key,
    Manifest,
    ManifestError,
    checked_partition,
    hashed,
    memo_key,
)
from pipelines.provenance.recipe import canonical_json, digest

_HEX = re.compile(r"[0-9a-f]{64}")
_REF = re.compile(r"refs/[^/]+/[^/]+/[^/]+/[0-9]{8}\.json")


def encoded(key: Key) -> str:
    """ASSET/PARTITION/PART with every partition percent-encoded to one path segment."""
    checked_partition(key.partition)
    part = quote(checked_partition(key.part), safe="@+") if key.part else "_"
    part = "%5F" if key.part == "_" else part  # else it would be taken for the whole
    return f"{key.asset}/{quote(key.partition, safe='@+')}/{part}"


def pending(key: Key, generation: int, manifest_digest: str) -> str:
    """Where the note lies that a publication is under way."""
    return f"pending/{encoded(key)}/{generation:08d}-{manifest_digest}.json"


def decoded(path: str) -> Key:
    """Inverse of :func:`encoded`, from the first three segments of a path."""
    asset, partition, part = path.split("/")[:3]
    return Key(asset, unquote(partition), "" if part == "_" else unquote(part))


class Store:
    """All artifacts under one root.

    Args:
        root: a directory, or a URL of an object store that fsspec reaches.
        cache: where files of a remote store are kept, by digest; default ``~/.cache/stemma``.
    """

    def __init__(self, root: str | Path, cache: Path | None = None) -> None:
        self.files: Files = open_files(root)
        self.ledger = Ledger(self.files)
        self._cache = cache or Path(os.environ.get("STEMMA_CACHE", "~/.cache/stemma")).expanduser()
        self._manifests: dict[tuple[Key, str], tuple[Manifest, str]] = {}
        self._checked: set[str] = set()  # digests of the cached files that this process has hashed

    @property
    def url(self) -> str:
        return self.files.url

    # -- reading ---------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Artifact | None:
        """The published artifact of a key, or None."""
        ref = self.ref(key)
        return self.artifact(key, ref["manifest"]) if ref else None

    def open(self, asset: str, partition: str, part: str = "") -> Artifact:
        """The published artifact.

        Raises:
            StoreError: if there is none.
        """
        key = Key(asset, partition, part)
        found = self.get(key)
        if found is None:
            raise StoreError(f"{key} has not been made in {self.url}. Run `stemma run --select {asset}` first.")
        return found

    def artifact(self, key: Key, manifest_digest: str) -> Artifact:
        """The artifact with exactly this identity, published or not.

        Raises:
            ManifestError: if its manifest is missing or is not what its name says.
        """
        known = self._manifests.get((key, manifest_digest))
        if known is None or not self._stands(f"{known[1]}/{manifest_digest}{MANIFEST_SUFFIX}"):
            known = self._manifests[key, manifest_digest] = self._find(key, manifest_digest)
        return Artifact(self, *known)

    def _stands(self, path: str) -> bool:
        try:
            return self.files.size(path) > 0
        except FileNotFoundError:  # collected as garbage, perhaps by another process
            return False

    def _find(self, key: Key, manifest_digest: str) -> tuple[Manifest, str]:
        problem = ManifestError(f"{key}: manifest {manifest_digest[:12]}… is missing from {self.url}.")
        for attempt in self.attempts(key):
            try:
                return self.manifest(key, f"{attempt}/{manifest_digest}{MANIFEST_SUFFIX}"), attempt
            except FileNotFoundError:
                continue
            except ManifestError as error:  # another attempt may hold the same, unharmed
                problem = error
        raise problem

    def manifest(self, key: Key, path: str) -> Manifest:
        """The manifest in a file, which must be what its name and its place say.

        Raises:
            ManifestError: if it is anything else.
        """
        data, named = self.files.read(path), path.rsplit("/", 1)[1].removesuffix(MANIFEST_SUFFIX)
        manifest = Manifest.parse(data, path)
        if digest(data) != named:
            raise ManifestError(f"{path}: has blake3 {digest(data)[:12]}…, its name says {named[:12]}….")
        if manifest.key != key:
            raise ManifestError(f"{path}: is the manifest of {manifest.key}, it lies where {key} belongs.")
        return manifest

    def attempts(self, key: Key) -> list[str]:
        """Prefixes of all attempts at one key, sealed or not."""
        base = f"artifacts/{encoded(key)}"
        return [f"{base}/{name}" for name in self.files.names(base)]

    def sealed(self, key: Key) -> list[Artifact]:
        """Every complete artifact of one key, superseded ones included."""
        names = [name for attempt in self.attempts(key) for name in self.files.names(attempt)]
        return [self.artifact(key, n.removesuffix(MANIFEST_SUFFIX)) for n in names if n.endswith(MANIFEST_SUFFIX)]

    def keys(self) -> list[Key]:
        """Keys of all published artifacts, parts included, sorted."""
        folders = {path.rsplit("/", 1)[0] for path in self.files.walk("refs") if _REF.fullmatch(path)}
        return sorted(decoded(folder.removeprefix("refs/")) for folder in folders)

    @cached_property
    def scratch(self) -> Path:
        """A local directory for rolling checkpoints and the like; not evidence. Beside the cache if need be."""
        away = self._cache / "scratch" / digest(self.url.encode())[:16] / "scratch"
        if self.files.local_root is not None:
            path = self.files.local_root / "scratch"
            with contextlib.suppress(OSError):  # an auditor's store may be on read-only media
                path.mkdir(parents=True, exist_ok=True)
            if os.access(path, os.W_OK):
                return path
        away.mkdir(parents=True, exist_ok=True)
        return away

    # -- refs ------------------------------------------------------------------------------------------------

    def ref(self, key: Key) -> dict | None:
        """The newest generation of a ref: asset, partition, part, manifest, generation."""
        names = [n for n in self.files.names(f"refs/{encoded(key)}") if re.fullmatch(r"[0-9]{8}\.json", n)]
        return self.ref_file(key, int(names[-1].removesuffix(".json"))) if names else None

    def ref_file(self, key: Key, generation: int) -> dict:
        """One generation of a ref.

        Raises:
            ManifestError: if the file is not the canonical ref of that key and generation.
        """
        path = f"refs/{encoded(key)}/{generation:08d}.json"
        try:
            data = self.files.read(path)
            ref = json.loads(data)
            named, number = Key(ref["asset"], ref["partition"], ref["part"]), ref["generation"]
            sound = canonical_json(ref) == data and type(number) is int and bool(_HEX.fullmatch(ref["manifest"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            raise ManifestError(f"{path}: not a ref. The file was changed.") from None
        if not sound or (named, number) != (key, generation):
            raise ManifestError(f"{path}: says generation {number} of {named}; it was changed or moved.")
        return ref

    def publish(
        self, artifact: Artifact, expected: str | None, event: str = "published", circumstance: dict | None = None
    ) -> None:
        """Point the ref of a key at an artifact, if it still points at ``expected``.

        The ledger entry precedes the ref, so that a ref that vanishes later is missed; and a note of what is under
        way precedes both, so that a writer that was killed between them is told from a ref that was removed.

        Raises:
            StoreError: if someone else moved the ref in between, or the store cannot be written.
        """
        key = artifact.key
        current = self.ref(key)
        found = current["manifest"] if current else None
        if found == artifact.digest:
            return
        if found != expected:
            raise StoreError(f"{key}: the ref moved to {str(found)[:12]}… while this was built; run again.")
        generation = (current["generation"] if current else 0) + 1
        facts = circumstance or circumstances(time.time())
        body = canonical_json({**key._asdict(), "manifest": artifact.digest, "generation": generation})
        try:
            self.files.create(pending(key, generation, artifact.digest), body, durable=False)
            self.ledger.append(event, key, artifact.digest, artifact.attempt, facts, generation)
            won = self.files.create(f"refs/{encoded(key)}/{generation:08d}.json", body)
            self._settle(key, generation)
        except OSError as error:
            raise unwritable(key, self.url, error) from error
        if not won and self.ref_file(key, generation)["manifest"] != artifact.digest:
            raise StoreError(f"{key}: generation {generation} of the ref was taken by another writer; run again.")

    def _settle(self, key: Key, generation: int) -> None:
        """Remove the notes of publications that this one has ended."""
        folder = f"pending/{encoded(key)}"
        for name in self.files.names(folder):
            if name[:8] <= f"{generation:08d}":
                self.files.remove(f"{folder}/{name}")

    # -- writing ---------------------------------------------------------------------------------------------

    def draft(
        self,
        key: Key,
        version: str,
        recipe: dict,
        inputs: Sequence[Artifact],
        numerics: dict | None = None,
        circumstance: dict | None = None,
    ) -> Draft:
        """Begin an attempt. Its files are written under a prefix that nobody else uses."""
        prefix = f"artifacts/{encoded(key)}/{uuid.uuid4().hex}"
        if self.files.local_root is not None:
            directory = self.files.local_root / prefix
            try:
                directory.mkdir(parents=True)
            except OSError as error:
                raise unwritable(key, self.url, error) from error
        else:
            directory = Path(tempfile.mkdtemp(prefix="stemma-draft-"))
        refs = [i.as_input() for i in inputs]
        return Draft(self, key, prefix, directory, version, recipe, refs, numerics or {}, circumstance or {})

    def seal(self, draft: Draft, manifest: Manifest) -> Artifact:
        """Put the files, the ledger entry and, last, the manifest."""
        for entry in manifest.files:
            self.files.upload(draft.directory / entry.path, f"{draft.prefix}/{entry.path}")
        sealing = {"sealing_seconds": round(time.time() - draft.sealing, 4)}
        facts = circumstances(draft.started, {**draft.circumstance, **sealing})
        draft.logged = manifest.digest
        self.ledger.append("sealed", manifest.key, manifest.digest, draft.attempt, facts)
        self.files.create(f"{draft.prefix}/{manifest.digest}{MANIFEST_SUFFIX}", manifest.canonical())
        if self.files.local_root is None:
            shutil.rmtree(draft.directory, ignore_errors=True)
        return Artifact(self, manifest, draft.prefix)

    def discard(self, draft: Draft) -> None:
        """Take back an attempt that failed."""
        with contextlib.suppress(OSError):
            self.remove_attempt(draft.prefix)
            if draft.logged:
                self.ledger.append("removed", draft.key, "", draft.attempt, circumstances(draft.started))
        shutil.rmtree(draft.directory, ignore_errors=True)

    def remove_attempt(self, prefix: str) -> None:
        """Remove one attempt, its manifest first: whenever this is interrupted, nothing incomplete looks complete."""
        for name in self.files.names(prefix):
            if name.endswith(MANIFEST_SUFFIX):
                self.files.remove(f"{prefix}/{name}")
        self.files.remove(prefix)

    def recall(self, key: Key, version: str, recipe: dict, numerics: dict, inputs: list[InputRef]) -> Artifact | None:
        """The memo: a complete artifact made by the same stage from the same recipe and input contents."""
        wanted = memo_key(version, recipe, numerics, [(i.key, i.content) for i in inputs])
        published = self.get(key)
        if published and published.manifest.memo_key == wanted:
            return published
        return next((a for a in self.sealed(key) if a.manifest.memo_key == wanted), None)

    def cached(self, path: str, blake3_digest: str) -> Path:
        """A local copy of a remote file, checked against its digest."""
        target = self._cache / "files" / blake3_digest
        if blake3_digest in self._checked and target.exists():
            return target
        if not target.exists() or hashed(target)[1] != blake3_digest:  # a copy may be torn since the last process
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
            try:
                self.files.download(path, scratch)
                if (wrong := hashed(scratch)[1]) != blake3_digest:
                    raise ManifestError(f"{path}: has blake3 {wrong[:12]}…, the manifest says {blake3_digest[:12]}….")
                scratch.replace(target)
            finally:
                scratch.unlink(missing_ok=True)
        self._checked.add(blake3_digest)
        return target

    # -- leases ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lease(
        self, key: Key, waiting: Callable[[str], None] = lambda _: None, timeout_seconds: float = 86_400.0
    ) -> Iterator[None]:
        """Only one builder of a key at a time; the next one waits and is told whose turn it is.

        On a local store the lease is a kernel lock that dies with its process; on an object store it is a
        numbered file that is renewed by a thread and lapses after ``LEASE_SECONDS``.
        """
        if self.files.local_root is not None:
            manager = local_lease(self.files.local_root / "leases", encoded(key), waiting, timeout_seconds)
        else:
            manager = remote_lease(self.files, f"leases/{encoded(key)}", waiting, timeout_seconds)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(manager)
            except OSError as error:
                raise unwritable(key, self.url, error) from error
            yield
