"""The planner: what would be built, and why, according to the spec and the memo. Knows nothing of Dagster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assets.blueprint import BLUEPRINTS, ORDER, Blueprint, ends_of_run
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec

FRESH, PINNED, STALE, MISSING = "fresh", "pinned", "stale", "missing"


@dataclass(frozen=True)
class Step:
    """One asset and partition: its state, and the reason in words that a person can act on."""

    key: Key
    state: str  # fresh | pinned | stale | missing
    because: str = ""

    @property
    def due(self) -> bool:
        return self.state in (STALE, MISSING)


@dataclass
class Planner:
    """Walks the graph from raw to champion and asks the memo at every key.

    Args:
        force: asset names that are rebuilt whatever the memo says.
    """

    spec: Spec
    store: Store
    force: frozenset[str] = frozenset()
    _done: dict[Key, Step] = field(default_factory=dict)

    def steps(self, run: str, select: Iterable[str] = ()) -> list[Step]:
        """Every step of a run, upstream first; with ``select``, of those assets and what they need."""
        closure: dict[Key, None] = {}
        for key in ends_of_run(self.spec, run):
            self._collect(key, closure)
        needed = closure
        if wanted := set(select):
            needed = {}
            for key in closure:
                if key.asset in wanted:
                    self._collect(key, needed)
        return [self.step(key) for key in sorted(needed, key=lambda key: ORDER.index(key.asset))]

    def step(self, key: Key) -> Step:
        """State of one key, from the states of what it needs."""
        if key not in self._done:
            self._done[key] = self._judged(key)
        return self._done[key]

    def forget(self, key: Key) -> None:
        """Judge it anew when it is next asked for."""
        self._done.pop(key, None)

    def settle(self, key: Key) -> None:
        """A key has just been built as the spec says, forced or not."""
        self._done[key] = Step(key, FRESH)

    def blueprint(self, key: Key) -> Blueprint:
        return BLUEPRINTS[key.asset](self.spec, key.partition)

    def _collect(self, key: Key, needed: dict[Key, None]) -> None:
        if key in needed:
            return
        for need in self.blueprint(key).needs:
            self._collect(need, needed)
        needed[key] = None

    def _judged(self, key: Key) -> Step:
        blueprint = self.blueprint(key)
        published = self.store.get(blueprint.under or key)
        if published is None:
            return Step(key, MISSING, "not made yet")
        if key.asset in self.force:
            return Step(key, STALE, "forced")
        if refused(self.store, published.digest).exists():
            return Step(key, STALE, "a check refused it")
        if blueprint.settled is not None:
            return self._settled(key, blueprint)
        if blueprint.pinned:
            return self._pinned(key, blueprint, published)
        return self._compared(key, blueprint, published)

    def _compared(self, key: Key, blueprint: Blueprint, published: Artifact) -> Step:
        if waiting := [need for need in blueprint.needs if self.step(need).due]:
            return Step(key, STALE, f"{_names(waiting)} will be rebuilt (may stop at the early cut-off)")
        inputs = blueprint.open(self.store)
        refs = [i.as_input() for i in inputs]
        identity = blueprint.recipe.identity()
        known = self.store.recall(key, blueprint.version, identity, blueprint.numerics, refs)
        if known is not None and known.digest == published.digest:
            return Step(key, FRESH)
        if earlier := blueprint.earlier(published, blueprint.recipe, inputs):
            return Step(key, PINNED, f"made with {earlier}; it stays as it is (--force remakes it)")
        return Step(key, STALE, why(published, blueprint, inputs))

    def _pinned(self, key: Key, blueprint: Blueprint, published: Artifact) -> Step:
        if departs := difference(published.manifest.recipe, blueprint.recipe.identity()):
            return Step(key, STALE, f"recipe: {departs}")
        if any(self.step(need).due for need in blueprint.needs):
            return Step(key, PINNED, "its inputs will be rebuilt; it stays as it is (--force remakes it)")
        current = {i.as_input().content for i in blueprint.open(self.store)}
        moved = [str(i.key) for i in published.manifest.inputs if i.content not in current]
        return (
            Step(key, PINNED, f"made from an earlier {_listed(moved)}" if moved else "") if moved else Step(key, FRESH)
        )

    def _settled(self, key: Key, blueprint: Blueprint) -> Step:
        if waiting := [need for need in blueprint.needs if self.step(need).due]:
            return Step(key, STALE, f"{_names(waiting)} will be rebuilt")
        assert blueprint.settled is not None
        return Step(key, FRESH) if blueprint.settled(self.store) else Step(key, STALE, "not judged yet")


def refused(store: Store, manifest: str) -> Path:
    """Marks an artifact that a blocking check refused: the memo knows it, yet nothing may be built on it."""
    return store.scratch / "refused" / manifest


def why(published: Artifact, blueprint: Blueprint, inputs: list[Artifact]) -> str:
    """The first thing that differs between what is published and what the spec asks for."""
    manifest = published.manifest
    if changed := difference(manifest.recipe, blueprint.recipe.identity()):
        return f"recipe: {changed}"
    if manifest.version != blueprint.version:
        return f"stage version {manifest.version} -> {blueprint.version}"
    if changed := difference(manifest.numerics, blueprint.numerics):
        return f"numerics: {changed}"
    before = {i.key: i.content for i in manifest.inputs}
    after = {i.key: i.content for i in inputs}
    changed_keys = [str(k) for k in after if before.get(k) != after[k]] + [
        f"{k} (gone)" for k in sorted(before.keys() - after)
    ]
    return f"input {_listed(changed_keys)} changed" if changed_keys else "the order of its inputs changed"


def difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    """``min_words 20 -> 50`` for every field that differs, or the empty string."""
    names = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    return _listed([f"{n} {_short(before.get(n))} -> {_short(after.get(n))}" for n in names])


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def _names(keys: list[Key]) -> str:
    return _listed(sorted({key.asset for key in keys}))


def _listed(names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
