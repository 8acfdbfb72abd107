"""The store: artifacts, refs and leases under one root. Only this file knows how they are laid out.

    artifacts/ASSET/PARTITION/PART/ATTEMPT/...   the files of one attempt, written once, never moved
    artifacts/.../ATTEMPT/<digest>.manifest.json written last: its presence means "complete"
    refs/ASSET/PARTITION/PART/00000001.json      generations of a ref; the newest is the published artifact
    ledger/, circumstances/                      see ledger.py
    leases/, scratch/, dagster/                  not evidence: locks, rolling checkpoints, the UI's history
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, unquote

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.files import Files, StoreError, open_files
from pipelines.provenance.ledger import Ledger, circumstances
from pipelines.provenance.manifest import (
    InputRef,
    Key,
    Manifest,
    ManifestError,
    checked_partition,
    memo_key,
)
from pipelines.provenance.recipe import canonical_json, digest

MANIFEST_SUFFIX = ".manifest.json"
LEASE_SECONDS = 120.0  # a remote lease that was not renewed for this long belongs to a dead process


def encoded(key: Key) -> str:
    """ASSET/PARTITION/PART with every partition percent-encoded to one path segment."""
    checked_partition(key.partition)
    part = quote(checked_partition(key.part), safe="@+") if key.part else "_"
    return f"{key.asset}/{quote(key.partition, safe='@+')}/{part}"


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
        if (key, manifest_digest) not in self._manifests:
            self._manifests[key, manifest_digest] = self._find(key, manifest_digest)
        manifest, prefix = self._manifests[key, manifest_digest]
        return Artifact(self, manifest, prefix)

    def _find(self, key: Key, manifest_digest: str) -> tuple[Manifest, str]:
        for attempt in self.attempts(key):
            path = f"{attempt}/{manifest_digest}{MANIFEST_SUFFIX}"
            try:
                data = self.files.read(path)
            except FileNotFoundError:
                continue
            if digest(data) != manifest_digest:
                raise ManifestError(f"{path}: has blake3 {digest(data)[:12]}…, its name says {manifest_digest[:12]}….")
            manifest = Manifest.parse(data, path)
            if manifest.key != key:
                raise ManifestError(f"{path}: is the manifest of {manifest.key}, it lies where {key} belongs.")
            return manifest, attempt
        raise ManifestError(f"{key}: manifest {manifest_digest[:12]}… is missing from {self.url}.")

    def attempts(self, key: Key) -> list[str]:
        """Prefixes of all attempts at one key, sealed or not."""
        base = f"artifacts/{encoded(key)}"
        return [f"{base}/{name}" for name in self.files.names(base)]

    def sealed(self, key: Key) -> list[Artifact]:
        """Every complete artifact of one key, superseded ones included."""
        found = []
        for attempt in self.attempts(key):
            for name in self.files.names(attempt):
                if name.endswith(MANIFEST_SUFFIX):
                    found.append(self.artifact(key, name.removesuffix(MANIFEST_SUFFIX)))
        return found

    def keys(self) -> list[Key]:
        """Keys of all published artifacts, parts included, sorted."""
        folders = {path.rsplit("/", 1)[0].removeprefix("refs/") for path in self.files.walk("refs")}
        return sorted(decoded(folder) for folder in folders)

    @cached_property
    def scratch(self) -> Path:
        """A local directory for rolling checkpoints and the like; not evidence, removed by gc."""
        base = self.files.local_root or self._cache / "scratch" / digest(self.url.encode())[:16]
        path = base / "scratch"
        path.mkdir(parents=True, exist_ok=True)
        return path

    # -- refs ------------------------------------------------------------------------------------------------

    def ref(self, key: Key) -> dict | None:
        """The newest generation of a ref: asset, partition, part, manifest, generation."""
        names = self.files.names(f"refs/{encoded(key)}")
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
            named = Key(ref["asset"], ref["partition"], ref["part"])
            sound = canonical_json(ref) == data and ref["generation"] == generation and len(ref["manifest"]) == 64
        except (OSError, ValueError, KeyError, TypeError):
            raise ManifestError(f"{path}: not a ref. The file was changed.") from None
        if not sound or named != key:
            raise ManifestError(f"{path}: says generation {ref['generation']} of {named}; it was changed or moved.")
        return ref

    def publish(self, artifact: Artifact, expected: str | None, event: str = "published",
                circumstance: dict | None = None) -> None:
        """Point the ref of a key at an artifact, if it still points at ``expected``.

        The ledger entry precedes the ref, so that a ref that vanishes later is missed.

        Raises:
            StoreError: if someone else moved the ref in between.
        """
        key = artifact.key
        current = self.ref(key)
        found = current["manifest"] if current else None
        if found == artifact.digest:
            return
        if found != expected:
            raise StoreError(f"{key}: the ref moved to {str(found)[:12]}… while this was built; run again.")
        generation = (current["generation"] if current else 0) + 1
        self.ledger.append(event, key, artifact.digest, artifact.attempt, circumstance or circumstances(time.time()),
                           generation)
        body = canonical_json({**key._asdict(), "manifest": artifact.digest, "generation": generation})
        if not self.files.create(f"refs/{encoded(key)}/{generation:08d}.json", body):
            raise StoreError(f"{key}: generation {generation} of the ref was taken by another writer; run again.")

    # -- writing ---------------------------------------------------------------------------------------------

    def draft(self, key: Key, version: str, recipe: dict, inputs: Sequence[Artifact], numerics: dict | None = None,
              circumstance: dict | None = None) -> Draft:
        """Begin an attempt. Its files are written under a prefix that nobody else uses."""
        prefix = f"artifacts/{encoded(key)}/{uuid.uuid4().hex}"
        if self.files.local_root is not None:
            directory = self.files.local_root / prefix
            try:
                directory.mkdir(parents=True)
            except OSError as error:
                raise StoreError(f"the store {self.url} cannot be written: {error}") from error
        else:
            directory = Path(tempfile.mkdtemp(prefix="stemma-draft-"))
        refs = [i.as_input() for i in inputs]
        return Draft(self, key, prefix, directory, version, recipe, refs, numerics or {}, circumstance or {})

    def seal(self, draft: Draft, manifest: Manifest) -> Artifact:
        """Put the files, the ledger entry and, last, the manifest."""
        for entry in manifest.files:
            self.files.upload(draft.directory / entry.path, f"{draft.prefix}/{entry.path}")
        facts = circumstances(draft.started, draft.circumstance)
        attempt = draft.prefix.rsplit("/", 1)[1]
        self.ledger.append("sealed", manifest.key, manifest.digest, attempt, facts)
        self.files.create(f"{draft.prefix}/{manifest.digest}{MANIFEST_SUFFIX}", manifest.canonical())
        if self.files.local_root is None:
            shutil.rmtree(draft.directory, ignore_errors=True)
        return Artifact(self, manifest, draft.prefix)

    def discard(self, draft: Draft) -> None:
        """Take back an attempt that failed."""
        shutil.rmtree(draft.directory, ignore_errors=True)
        if self.files.local_root is None:
            self.files.remove(draft.prefix)

    def recall(self, key: Key, version: str, recipe: dict, numerics: dict, inputs: list[InputRef]) -> Artifact | None:
        """The memo: a complete artifact made by the same stage from the same recipe and input contents."""
        wanted = memo_key(version, recipe, numerics, [(i.key, i.content) for i in inputs])
        published = self.get(key)
        if published and published.manifest.memo_key == wanted:
            return published
        return next((a for a in self.sealed(key) if a.manifest.memo_key == wanted), None)

    def cached(self, path: str, blake3_digest: str) -> Path:
        """A local copy of a remote file, checked against its digest."""
        from blake3 import blake3

        target = self._cache / "files" / blake3_digest
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch = target.with_name(f"{target.name}.{uuid.uuid4().hex}")
            self.files.download(path, scratch)
            found = blake3().update_mmap(scratch).hexdigest() if scratch.stat().st_size else digest(b"")
            if found != blake3_digest:
                scratch.unlink()
                raise ManifestError(f"{path}: has blake3 {found[:12]}…, the manifest says {blake3_digest[:12]}….")
            scratch.replace(target)
        return target

    # -- leases ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lease(self, key: Key, waiting: Callable[[str], None] = lambda holder: None,
              timeout_seconds: float = 86_400.0) -> Iterator[None]:
        """Only one builder of a key at a time; the next one waits and is told whose turn it is.

        On a local store the lease is a kernel lock that dies with its process; on an object store it is a
        numbered file that is renewed by a thread and lapses after ``LEASE_SECONDS``.
        """
        holder = {"user": circumstances(time.time())["user"], "host": os.uname().nodename, "pid": os.getpid(),
                  "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        body = canonical_json(holder)
        if self.files.local_root is not None:
            manager = _local_lease(self.files.local_root / "leases" / encoded(key), body, waiting, timeout_seconds)
        else:
            manager = _remote_lease(self.files, f"leases/{encoded(key)}", body, waiting, timeout_seconds)
        with manager:
            yield


@contextlib.contextmanager
def _local_lease(path: Path, body: bytes, waiting: Callable[[str], None], timeout_seconds: float) -> Iterator[None]:
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a+b") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    waiting(_described(path.read_bytes()))
                    told = True
                if time.monotonic() > deadline:
                    raise StoreError(f"lease {path.name} is still held by {_described(path.read_bytes())}.") from None
                time.sleep(0.1)
        file.truncate(0)
        file.write(body)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextlib.contextmanager
def _remote_lease(files: Files, folder: str, body: bytes, waiting: Callable[[str], None],
                  timeout_seconds: float) -> Iterator[None]:
    """Lease number n is alive while ``n.beat-*`` files keep appearing, and over when ``n.released`` exists."""
    deadline = time.monotonic() + timeout_seconds
    seen: tuple[list[str], float] = ([], time.monotonic())
    told = False
    while True:
        names = files.names(folder)
        numbers = [int(name.split(".")[0]) for name in names]
        newest = max(numbers, default=0)
        if names != seen[0]:
            seen = (names, time.monotonic())
        free = newest == 0 or f"{newest}.released" in names or time.monotonic() - seen[1] > LEASE_SECONDS
        if free and files.create(f"{folder}/{newest + 1}.held", body):
            break
        if not told and not free:
            waiting(_described(files.read(f"{folder}/{newest}.held")))
            told = True
        if time.monotonic() > deadline:
            raise StoreError(f"lease {folder} is still held.")
        time.sleep(0.5)
    mine = newest + 1
    for name in names:  # what earlier holders left
        files.remove(f"{folder}/{name}")
    stop = threading.Event()

    def renew() -> None:
        beat = 0
        while not stop.wait(LEASE_SECONDS / 4):
            beat += 1
            files.create(f"{folder}/{mine}.beat-{beat}", b"")

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        files.create(f"{folder}/{mine}.released", b"")


def _described(body: bytes) -> str:
    try:
        holder = json.loads(body)
        return f"{holder['user']}@{holder['host']} (pid {holder['pid']}) since {holder['since']}"
    except (ValueError, KeyError):
        return "another process"
