"""How one asset and partition comes to be, and where it runs. No Dagster here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
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

    def open(self, store: Store) -> list[Artifact]:
        """The inputs, as they are published now."""
        if self.through is not None:
            return self.through(store)
        return [store.open(*key) for key in self.needs]
