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


CHECKPOINTS = ("pretrained_model", "finetuned_model", "compressed_model", "imported_model")


def bases(model: Artifact) -> Iterator[Artifact]:
    """What a model began from, what that began from, and so on: runs, their milestones, models from elsewhere."""
    while found := next((one for one in _models(model) if one.digest != model.facts.get("teacher")), None):
        yield found
        model = found


def teacher(model: Artifact) -> Artifact | None:
    """The model that it was distilled from."""
    return next((one for one in _models(model) if one.digest == model.facts.get("teacher")), None)


def _models(model: Artifact) -> list[Artifact]:
    return [one for one in model.inputs() if one.key.asset in CHECKPOINTS]


def milestone(run: Artifact, step: int) -> Artifact:
    """The checkpoint of a step that a run has kept for good.

    Raises:
        StoreError: if it has kept none of that step; the message lists those that it has.
    """
    kept = {part.facts["step"]: part for part in run.parts()} if run.manifest.parts else {}
    if step not in kept:
        there = ", ".join(map(str, sorted(kept))) or "none (milestone_every in its training recipe asks for them)"
        raise StoreError(f"{run.key} has kept no checkpoint of step {step}; milestones: {there}.")
    return kept[step]


def checkpoint(store: Store, name: str) -> Artifact:
    """A checkpoint by the name that the spec gives it: that of a run, a fine-tune, a compression or a model from elsewhere.

    RUN@STEP is a milestone of a run.

    Raises:
        StoreError: if there is none; the message lists what there is.
    """
    for asset in CHECKPOINTS:
        found = store.get(Key(asset, name))
        if found is not None:
            return found
    run, _, step = name.rpartition("@")
    if run and step.isdecimal() and (found := store.get(Key("pretrained_model", run))) is not None:
        return milestone(found, int(step))
    there = sorted({k.partition for k in store.keys() if k.asset in CHECKPOINTS})
    raise StoreError(f"no checkpoint {name!r} in {store.url}; there are: {', '.join(there) or 'none'}.")
