"""The workspace: the store and the spec as one Dagster resource, and the one way in which assets are made."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import dagster as dg

from assets.builder import build_key
from assets.metadata import described
from pipelines.provenance.manifest import Key
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.spec import Spec

CHECKOUT = Path(__file__).resolve().parent.parent
listeners: list[Callable[[str], None]] = []  # `stemma run` adds its terminal


def store_url(given: str = "") -> str:
    """``--store``, else STEMMA_STORE, else ``.stemma`` in the checkout."""
    return given or os.environ.get("STEMMA_STORE", "") or str(CHECKOUT / ".stemma")


def spec_path(given: str = "") -> Path:
    """``--spec``, else STEMMA_SPEC, else ``stemma.toml`` in the checkout."""
    return Path(given or os.environ.get("STEMMA_SPEC", "") or CHECKOUT / "stemma.toml")


class Workspace(dg.ConfigurableResource):
    """Where artifacts are kept and where the spec stands; empty means as the environment says."""

    store: str = ""
    spec: str = ""

    def open_store(self) -> Store:
        return Store(store_url(self.store))

    def load_spec(self) -> Spec:
        return Spec.load(spec_path(self.spec))

    def materialize(self, context: dg.AssetExecutionContext, launch: Any = None) -> dg.MaterializeResult:
        """Build the asset and partition of this step through the memo, and describe the result."""
        config = dict(context.op_execution_context.op_config or {})
        force = bool(config.pop("force", False))
        spec, store = self.load_spec(), self.open_store()
        key = Key(context.asset_key.path[-1], context.partition_key)
        built = build_key(
            spec,
            store,
            key,
            overrides=config,
            force=force,
            launch=launch,
            circumstance={"dagster_run": context.run.run_id},
            waiting=lambda holder: _waiting(context, key, holder),
        )
        how = "computed" if built.computed else "answered by the memo"
        context.log.info("%s: %s, %s", key, how, built.artifact.digest)
        return dg.MaterializeResult(
            metadata=described(built.artifact), data_version=dg.DataVersion(built.artifact.content)
        )


def _waiting(context: dg.AssetExecutionContext, key: Key, holder: str) -> None:
    message = f"{key}: waiting for the lease of {holder}"
    context.log.warning(message)
    for tell in listeners:
        tell(message)


def form(recipe: type[Recipe]) -> dict[str, dg.Field]:
    """The launchpad form of a recipe: every field typed and described; what is left out is as the spec says."""
    fields = {
        "force": dg.Field(
            bool, is_required=False, default_value=False, description="Compute even if the memo has an answer."
        )
    }
    for name, info in recipe.model_fields.items():
        bounds = "; ".join(str(bound) for bound in info.metadata)
        text = f"{info.description or name}{f' ({bounds})' if bounds else ''}. Left out: as stemma.toml says."
        fields[name] = dg.Field(_config_type(info.annotation), is_required=False, description=text)
    return fields


def _config_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return str
    if get_origin(annotation) is list:
        return [_config_type(get_args(annotation)[0])]
    inner = [a for a in get_args(annotation) if a is not type(None)]
    if len(inner) != len(get_args(annotation)):
        return dg.Noneable(_config_type(inner[0]))
    return annotation
