"""The workspace: the store and the spec as one Dagster resource, and the one way in which assets are made."""

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import dagster as dg
from dagster._config.config_type import ConfigScalar, ConfigScalarKind  # no public type has bounds
from dagster._config.errors import PostProcessingError
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from assets.builder import build_key
from assets.metadata import described
from pipelines.provenance.manifest import Key
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.spec import Spec

CHECKOUT = Path(__file__).resolve().parent.parent
# `stemma run` adds its terminal
listeners: list[Callable[[str], None]] = []
watchers: list[Callable[[Key, int, int], None]] = []  # pieces of a stage: done, total
TOLD_EVERY = 10.0  # seconds between two lines of a run's log about pieces


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
            tell=Progress(context, key),
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


class Progress:
    """Tells the log of a run, and whoever watches it, how many pieces of a large stage are done."""

    def __init__(self, context: dg.AssetExecutionContext, key: Key) -> None:
        self._context, self._key = context, key
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        for watch in watchers:
            watch(self._key, done, total)
        if time.monotonic() - self._told >= TOLD_EVERY:
            self._told = time.monotonic()
            self._context.log.info("%s: %d of %d pieces", self._key, done, total)


@functools.cache  # Dagster wants one instance of a type, also where two assets have the same recipe
def form(recipe: type[Recipe]) -> dict[str, dg.Field]:
    """The launchpad form of a recipe: every field typed, bounded and described; left out means as the spec says."""
    fields = {
        "force": dg.Field(
            bool, is_required=False, default_value=False, description="Compute even if the memo has an answer."
        )
    }
    for name, info in recipe.model_fields.items():
        bounds = "; ".join(str(bound) for bound in info.metadata)
        text = f"{info.description or name}{f' ({bounds})' if bounds else ''}. Left out: as stemma.toml says."
        kind = _config_type(f"{recipe.__name__}.{name}", info)
        fields[name] = dg.Field(kind, is_required=False, description=text)
    return fields


class Bounded(ConfigScalar):
    """A number or a word whose bounds are checked when a run is asked for, before it starts."""

    def __init__(self, key: str, kind: ConfigScalarKind, info: FieldInfo) -> None:
        super().__init__(key, given_name=key, scalar_kind=kind)  # one name a type, which the errors print
        bounded: Any = Annotated.__class_getitem__((info.annotation, *info.metadata))  # pyright: ignore[reportAttributeAccessIssue]
        self._rule: TypeAdapter[Any] = TypeAdapter(bounded)

    def post_process(self, value: Any) -> Any:
        try:
            self._rule.validate_python(value)
        except ValidationError as error:
            raise PostProcessingError(f"{error.errors()[0]['msg']}, found {value!r}.") from None
        return value


_KINDS = {int: ConfigScalarKind.INT, float: ConfigScalarKind.FLOAT, str: ConfigScalarKind.STRING}


def _config_type(key: str, info: FieldInfo) -> Any:
    annotation = info.annotation
    if get_origin(annotation) is Literal:
        return dg.Enum(key, [dg.EnumValue(choice) for choice in get_args(annotation)])
    if info.metadata and annotation in _KINDS:
        return Bounded(key, _KINDS[annotation], info)
    return _plain_type(annotation)


def _plain_type(annotation: Any) -> Any:
    if get_origin(annotation) is Literal:
        return str
    if get_origin(annotation) is list:
        return [_plain_type(get_args(annotation)[0])]
    inner = [a for a in get_args(annotation) if a is not type(None)]
    if len(inner) != len(get_args(annotation)):
        return dg.Noneable(_plain_type(inner[0]))
    return annotation
