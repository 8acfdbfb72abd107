"""The family tree of an artifact: everything that it was made from, as a walk over manifests."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from pipelines.provenance.artifact import Artifact
from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store


def ancestors(*starts: Artifact) -> Iterator[Artifact]:
    """The given artifacts, their parts and inputs, and theirs, each once, nearest first."""
    seen: set[str] = set()
    queue = deque(starts)
    while queue:
        artifact = queue.popleft()
        if artifact.digest in seen:
            continue
        seen.add(artifact.digest)
        yield artifact
        if artifact.manifest.parts:
            queue.extend(artifact.parts())
        queue.extend(artifact.inputs())


def upstream_first(*starts: Artifact) -> Iterator[Artifact]:
    """The same artifacts as :func:`ancestors`, each behind everything that it was made from."""
    opened: set[str] = set()
    stack = [(artifact, False) for artifact in reversed(starts)]
    while stack:
        artifact, is_done = stack.pop()
        if is_done:
            yield artifact
        elif artifact.digest not in opened:
            opened.add(artifact.digest)
            parts = artifact.parts() if artifact.manifest.parts else []
            stack += [(artifact, True), *((needed, False) for needed in reversed([*artifact.inputs(), *parts]))]


def ancestor(artifact: Artifact, asset: str) -> Artifact:
    """The nearest whole (not a part) artifact of an asset in the family tree.

    Raises:
        StoreError: if there is none.
    """
    for found in ancestors(artifact):
        if found.key.asset == asset and not found.key.part:
            return found
    raise StoreError(f"{artifact.key} was not made from any {asset}.")


def checkpoint(store: Store, name: str) -> Artifact:
    """The checkpoint of a run or of a fine-tune, by the name that the spec gives it.

    Raises:
        StoreError: if neither exists; the message lists what there is.
    """
    for asset in ("pretrained_model", "finetuned_model"):
        found = store.get(Key(asset, name))
        if found is not None:
            return found
    there = sorted({k.partition for k in store.keys() if k.asset in ("pretrained_model", "finetuned_model")})
    raise StoreError(f"no checkpoint {name!r} in {store.url}; there are: {', '.join(there) or 'none'}.")
