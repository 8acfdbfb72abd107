"""Garbage: what no kept ref leads to."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipelines.provenance.ledger import circumstances
from pipelines.provenance.lineage import ancestors
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import MANIFEST_SUFFIX, Store, decoded


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
        if prefix in kept:
            continue
        before = found.get(prefix, Garbage(decoded(prefix.removeprefix("artifacts/")), prefix, "", 0))
        name = path.rsplit("/", 1)[1]
        manifest = name.removesuffix(MANIFEST_SUFFIX) if name.endswith(MANIFEST_SUFFIX) else before.manifest
        found[prefix] = Garbage(before.key, prefix, manifest, before.num_bytes + store.files.size(path))
    return list(found.values())


def collect(store: Store, garbage: list[Garbage]) -> int:
    """Remove what :func:`find_garbage` found, under the lease of each key; returns the number of bytes.

    The ledger keeps an entry for every complete artifact that goes, so that `verify` knows why it is not there.
    """
    freed = 0
    for item in garbage:
        with store.lease(item.key):
            if item.manifest:
                attempt = item.prefix.rsplit("/", 1)[1]
                store.ledger.append("removed", item.key, item.manifest, attempt, circumstances(time.time()))
            store.files.remove(item.prefix)
            freed += item.num_bytes
    return freed
