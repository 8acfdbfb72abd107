"""How one asset and partition comes to be, and where it runs. No Dagster here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key, memo_key
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store


@dataclass(frozen=True)
class Runtime:
    """Where a stage runs: never part of what it makes."""

    scratch: Path
    launch: Callable[[list[str], dict[str, str]], None] | None = None  # starts the trainer; None: as a plain child


Make = Callable[[list[Artifact], Any, Draft, Runtime], Artifact]


@dataclass(frozen=True)
class Blueprint:
    """How one (asset, partition) comes to be.

    Args:
        needs: keys that must have been made before; unless ``through`` says otherwise, they are the inputs.
        through: gives the inputs where they are reached through the lineage of what is needed.
        pinned: made once under its name; new inputs do not remake it, a new recipe does.
        settled: for a decision (the champion) rather than a product: has it been taken?
        under: the key in the store, where it is not the asset's own (one champion, whoever the candidate is).
        stands: earlier versions of the stage whose products stay as they are: an upgrade does not train again what was
            trained. What is made anew is made by ``version``.
    """

    version: str
    recipe: Recipe
    needs: list[Key]
    make: Make
    pinned: bool = False
    numerics: dict[str, Any] = field(default_factory=dict)
    through: Callable[[Store], list[Artifact]] | None = None
    settled: Callable[[Store], bool] | None = None
    under: Key | None = None
    stands: tuple[str, ...] = ()

    def open(self, store: Store) -> list[Artifact]:
        """The inputs, as they are published now."""
        if self.through is not None:
            return self.through(store)
        return [store.open(*key) for key in self.needs]

    def earlier(self, published: Artifact, recipe: Recipe, inputs: list[Artifact]) -> str:
        """Why a product that is not quite what would be made now stands all the same, or the empty string.

        It stands if it differs by no more than a stage version that still stands, and the lock file, whose digest
        another version of any package changes: what would change a model's bits by much is in its numerics besides.
        """
        manifest, lock = published.manifest, published.manifest.numerics.get("lock")
        numerics = self.numerics | ({"lock": lock} if lock and "lock" in self.numerics else {})
        given, identity = [(i.key, i.content) for i in inputs], recipe.identity()
        allowed = {memo_key(version, identity, numerics, given) for version in (self.version, *self.stands)}
        if manifest.memo_key not in allowed:
            return ""
        differs = [f"stage version {manifest.version}"] if manifest.version != self.version else []
        return " and ".join(differs + (["another lock file"] if numerics != self.numerics else []))
