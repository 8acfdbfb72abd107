"""Garbage: what no kept ref leads to."""

from __future__ import annotations

import contextlib
import shutil
import time
from dataclasses import dataclass

from pipelines.provenance.files import LocalFiles
from pipelines.provenance.leases import collector
from pipelines.provenance.ledger import circumstances, entries
from pipelines.provenance.lineage import ancestors
from pipelines.provenance.manifest import MANIFEST_SUFFIX, Key
from pipelines.provenance.store import Store, decoded
from pipelines.provenance.verify import Account


@dataclass(frozen=True)
class Garbage:
    """One attempt that could go: superseded (complete, but nothing kept leads to it) or unfinished."""

    key: Key
    prefix: str
    manifest: str  # empty if unfinished
    num_bytes: int


def find_garbage(store: Store) -> list[Garbage]:
    """Attempts that no published artifact leads to, through parts and inputs; nothing is changed.

    The artifacts of every asset that other artifacts were *pinned* to stay, because refs lead to them.
    """
    published = [artifact for key in store.keys() if (artifact := store.get(key))]
    kept = {artifact.prefix for artifact in ancestors(*published)}
    found: dict[str, Garbage] = {}
    for path in store.files.walk("artifacts"):
        prefix = "/".join(path.split("/")[:5])
        if prefix in kept or path.count("/") < 5:  # a file outside of any attempt is for verify to report
            continue
        before = found.get(prefix, Garbage(decoded(prefix.removeprefix("artifacts/")), prefix, "", 0))
        name = path.rsplit("/", 1)[1]
        manifest = name.removesuffix(MANIFEST_SUFFIX) if name.endswith(MANIFEST_SUFFIX) else before.manifest
        with contextlib.suppress(FileNotFoundError):  # a draft that was just taken back
            found[prefix] = Garbage(before.key, prefix, manifest, before.num_bytes + store.files.size(path))
    return list(found.values())


def collect(store: Store, garbage: list[Garbage]) -> int:
    """Remove what :func:`find_garbage` found and what is garbage still; returns the number of bytes.

    The ledger keeps an entry for everything that goes, so that `verify` knows why it is not there.

    Raises:
        StoreError: if anything is being built in a local store: its parts and inputs look like garbage until the end.
        ManifestError: if the ledger was changed; see what verify says first.
    """
    root = store.files.local_root
    with collector(root / "leases") if root else contextlib.nullcontext():
        still = _standing(store)
        freed = 0
        for item in garbage:
            if root:
                freed += _remove(store, item) if (item.prefix, item.manifest) in still else 0
                continue
            with store.lease(Key(item.key.asset, item.key.partition)):  # no builder of the same key, or of its parts
                freed += _remove(store, item) if (item.prefix, item.manifest) in _standing(store) else 0
        _tidy(store)
    return freed


def _tidy(store: Store) -> None:
    """What killed writers left beside attempts: seals that the ledger knows and nobody finished, and small files.

    A published artifact that somebody removed by hand is a problem for verify still; nothing here excuses it.
    """
    account = Account(entries(store.files))
    there = {"/".join(path.split("/")[:5]) for path in store.files.walk("artifacts")}
    for prefix in sorted(account.standing.keys() - there):
        key, attempt = decoded(prefix.removeprefix("artifacts/")), prefix.rsplit("/", 1)[1]
        store.ledger.append("removed", key, "", attempt, circumstances(time.time()))
        store.files.remove(prefix)
    if isinstance(store.files, LocalFiles):  # elsewhere a writer may be between its circumstances and its entry
        named = {f"circumstances/{entry.circumstances}.json" for entry in entries(store.files)}
        for path in set(store.files.walk("circumstances")) - named:
            store.files.remove(path)
        store.files.sweep()
        shutil.rmtree(store.scratch / "pieces", ignore_errors=True)  # of stages that were killed; nobody builds now


def _standing(store: Store) -> set[tuple[str, str]]:
    return {(item.prefix, item.manifest) for item in find_garbage(store)}


def _remove(store: Store, item: Garbage) -> int:
    attempt = item.prefix.rsplit("/", 1)[1]
    store.ledger.append("removed", item.key, item.manifest, attempt, circumstances(time.time()))
    store.remove_attempt(item.prefix)
    return item.num_bytes
