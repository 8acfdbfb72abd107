"""The builder: one (asset, partition) through its blueprint and the memo. Used by Dagster, pool and tests alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from assets.blueprint import BLUEPRINTS, Blueprint, Runtime
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import Built, build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.spec import Spec, SpecError


def build_key(
    spec: Spec,
    store: Store,
    key: Key,
    *,
    overrides: dict[str, Any] | None = None,
    force: bool = False,
    launch: Callable[..., None] | None = None,
    circumstance: dict[str, Any] | None = None,
    waiting: Callable[[str], None] = lambda holder: None,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Make sure that a key is published as the spec (or a one-off override of its recipe) says.

    ``waiting`` is told who holds the lease, ``tell`` how many of its pieces a stage has done.

    Raises:
        SpecError: for an override that the recipe does not have, or out of bounds.
        StoreError: if an input has not been made.
    """
    blueprint = BLUEPRINTS[key.asset](spec, key.partition)
    key = blueprint.under or key
    recipe = overridden(blueprint.recipe, overrides or {})
    if (answer := standing(store, key, blueprint, recipe)) is not None and not force:
        return Built(answer, computed=False)
    inputs = blueprint.open(store)
    if not force and (published := store.get(key)) and blueprint.earlier(published, recipe, inputs):
        return Built(published, computed=False)
    runtime = Runtime(store.scratch, launch)

    def make(draft: Draft) -> Artifact:
        draft.tell = tell
        return blueprint.make(inputs, recipe, draft, runtime)

    return build(
        store,
        key,
        blueprint.version,
        recipe,
        inputs,
        make,
        numerics=blueprint.numerics,
        circumstance=circumstance,
        force=force,
        waiting=waiting,
    )


def standing(store: Store, key: Key, blueprint: Blueprint, recipe: Recipe) -> Artifact | None:
    """The published artifact, where it is pinned to what it was made from or a decision that has been taken."""
    published = store.get(key)
    if published is None:
        return None
    if blueprint.settled is not None:
        return published if blueprint.settled(store) else None
    same = published.manifest.recipe == recipe.identity()
    return published if blueprint.pinned and same else None


def overridden(recipe: Recipe, overrides: dict[str, Any]) -> Recipe:
    """The recipe with some fields set anew, checked like any other."""
    try:
        return type(recipe).model_validate({**recipe.model_dump(), **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(step) for step in first["loc"])
        raise SpecError(
            f"recipe field {name}: {first['msg']}, found {first['input']!r}. Fields: "
            f"{', '.join(type(recipe).model_fields)}."
        ) from None
