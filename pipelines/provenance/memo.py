"""Building through the memo: compute only what no complete artifact answers."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.files import StoreError, disk_is_full, unwritable
from pipelines.provenance.ledger import circumstances
from pipelines.provenance.manifest import MANIFEST_SUFFIX, Key, memo_key
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store


@dataclass(frozen=True)
class Built:
    """What a build gave, and whether anything had to be computed for it."""

    artifact: Artifact
    computed: bool


def build(
    store: Store,
    key: Key,
    version: str,
    recipe: Recipe,
    inputs: Sequence[Artifact],
    make: Callable[[Draft], Artifact],
    *,
    numerics: dict[str, Any] | None = None,
    circumstance: dict[str, Any] | None = None,
    force: bool = False,
    waiting: Callable[[str], None] = lambda _: None,
) -> Built:
    """Publish the artifact of ``key``, from the memo where it can be, else by calling ``make`` on a draft.

    ``make`` writes the files and returns ``draft.seal(...)``; ``force`` computes even if the memo has an answer;
    ``waiting`` is told who holds the lease, if someone else is building the same key.

    Raises:
        StoreError: if the disk is full or the store cannot be written, or if the ref moved meanwhile.
    """
    if not force:  # what is published already needs no lease, so that a store on read-only media answers, too
        published = store.get(key)
        wanted = memo_key(version, recipe.identity(), numerics or {}, [(i.key, i.content) for i in inputs])
        if published and published.manifest.memo_key == wanted:
            return Built(published, computed=False)
    with store.lease(key, waiting):
        before = store.ref(key)
        known = None
        if not force:
            known = store.recall(key, version, recipe.identity(), numerics or {}, [i.as_input() for i in inputs])
        artifact = known or made(
            store, key, version, recipe.identity(), inputs, make, numerics, circumstance, force=force
        )
        store.publish(artifact, before["manifest"] if before else None)
        return Built(artifact, known is None)


def made(
    store: Store,
    key: Key,
    version: str,
    recipe: dict[str, Any],
    inputs: Sequence[Artifact],
    make: Callable[[Draft], Artifact],
    numerics: dict | None,
    circumstance: dict | None,
    *,
    force: bool = False,
) -> Artifact:
    """Call ``make`` on a fresh draft; whatever goes wrong, nothing half-written is left behind.

    ``force`` computes parts as well, and puts the result in the place of an equal one that was damaged.
    """
    draft = store.draft(key, version, recipe, list(inputs), numerics, circumstance)
    draft.recalls = not force
    if force:
        shutil.rmtree(draft.workshop, ignore_errors=True)
    try:
        artifact = make(draft)
    except BaseException as error:
        store.discard(draft)
        if disk_is_full(error):
            raise unwritable(key, store.url if store.files.local_root else draft.directory, error) from error
        raise
    if not isinstance(artifact, Artifact) or artifact.prefix != draft.prefix:
        store.discard(draft)
        raise StoreError(f"{key}: the stage returned {artifact!r:.60}; a stage ends in `return draft.seal(...)`.")
    return _only_sound(store, artifact) if force else artifact


def _only_sound(store: Store, artifact: Artifact) -> Artifact:
    """Of equal artifacts keep one: the older one if every byte of it is still right, else the new one."""
    from pipelines.provenance.verify import verify_artifact

    name = f"{artifact.digest}{MANIFEST_SUFFIX}"
    for prefix in store.attempts(artifact.key):
        if prefix == artifact.prefix or name not in store.files.names(prefix):
            continue
        twin = Artifact(store, artifact.manifest, prefix)
        gone, artifact = (twin, artifact) if verify_artifact(twin) else (artifact, twin)
        store.ledger.append("removed", gone.key, "", gone.attempt, circumstances(time.time()))
        store.remove_attempt(gone.prefix)
    return artifact


@dataclass(frozen=True)
class Comparison:
    """A recomputed artifact beside the sealed one."""

    key: Key
    sealed: str
    recomputed: str
    files: tuple[str, ...]  # that differ, appeared or vanished

    @property
    def identical(self) -> bool:
        return self.sealed == self.recomputed


def rematerialize(artifact: Artifact, make: Callable[[Draft], Artifact]) -> Comparison:
    """Compute an artifact again from its recorded inputs, into scratch, and compare; nothing is published."""
    manifest = artifact.manifest
    with TemporaryDirectory(dir=artifact.store.scratch) as folder:
        other = Store(folder)
        draft = other.draft(artifact.key, manifest.version, manifest.recipe, artifact.inputs(), manifest.numerics)
        again = make(draft)
        before, after = _contents(artifact), _contents(again)
        differing = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
        return Comparison(artifact.key, artifact.content, again.content, tuple(differing))


def _contents(artifact: Artifact) -> dict[str, str]:
    """Digests of the files and, under ``part NAME``, of the parts."""
    manifest = artifact.manifest
    return {f.path: f.blake3 for f in manifest.files} | {f"part {p.part}": p.content for p in manifest.parts}
