"""Building through the memo: compute only what no complete artifact answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import Key
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
    waiting: Callable[[str], None] = lambda holder: None,
) -> Built:
    """Publish the artifact of ``key``, from the memo where it can be, else by calling ``make`` on a draft.

    Args:
        make: writes the files and returns ``draft.seal(...)``.
        force: compute even if the memo has an answer.
        waiting: told who holds the lease, if someone else is building the same key.
    """
    with store.lease(key, waiting):
        before = store.ref(key)
        known = None
        if not force:
            known = store.recall(key, version, recipe.identity(), numerics or {}, [i.as_input() for i in inputs])
        artifact = known or made(store, key, version, recipe.identity(), inputs, make, numerics, circumstance)
        store.publish(artifact, before["manifest"] if before else None)
        return Built(artifact, known is None)


def made(store: Store, key: Key, version: str, recipe: dict[str, Any], inputs: Sequence[Artifact],
         make: Callable[[Draft], Artifact], numerics: dict | None, circumstance: dict | None) -> Artifact:
    """Call ``make`` on a fresh draft; whatever goes wrong, nothing half-written is left behind."""
    draft = store.draft(key, version, recipe, list(inputs), numerics, circumstance)
    try:
        return make(draft)
    except OSError as error:
        store.discard(draft)
        if error.errno in (28, 122):  # ENOSPC, EDQUOT
            raise StoreError(f"{key}: the disk under {store.url} is full; nothing was sealed. Free space and run "
                             "again (`stemma gc` shows what could go).") from error
        raise
    except BaseException:
        store.discard(draft)
        raise


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
        before = {f.path: f.blake3 for f in manifest.files}
        after = {f.path: f.blake3 for f in again.manifest.files}
        differing = sorted(p for p in before.keys() | after.keys() if before.get(p) != after.get(p))
        return Comparison(artifact.key, artifact.content, again.content, tuple(differing))
