"""Garbage: what no kept ref leads to."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass

from pipelines.provenance.files import LocalFiles
from pipelines.provenance.leases import collector
from pipelines.provenance.ledger import circumstances
from pipelines.provenance.lineage import ancestors
from pipelines.provenance.manifest import MANIFEST_SUFFIX, Key
from pipelines.provenance.store import Store, decoded


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
    published = [artifact for key in store.keys() if (artifact := store.get(key))]  # noqa: SIM118 - a method
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
        if isinstance(store.files, LocalFiles):
            store.files.sweep()
    return freed


def _standing(store: Store) -> set[tuple[str, str]]:
    return {(item.prefix, item.manifest) for item in find_garbage(store)}


def _remove(store: Store, item: Garbage) -> int:
    attempt = item.prefix.rsplit("/", 1)[1]
    store.ledger.append("removed", item.key, item.manifest, attempt, circumstances(time.time()))
    store.remove_attempt(item.prefix)
    return item.num_bytes
