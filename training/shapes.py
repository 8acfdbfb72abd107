"""Shapes: networks by name, with the optimisation that goes with their size. No torch here.

A run begins from one with ``preset = "350m"`` in its table ``[runs.NAME.training]``; whatever else stands there
overrules it. Sizes count all parameters, at the vocabulary named beside them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipelines.spec import Spec
from training import importing
from training.models.recipe import GPTRecipe
from training.recipes import PretrainRecipe


class Shape(NamedTuple):
    """Fields of :class:`PretrainRecipe`, and the vocabulary for which ``stemma plan`` counts."""

    fields: dict[str, Any]
    vocab_size: int


def _sized(layers: int, width: int, heads: int, mlp_width: int, **fields: Any) -> dict[str, Any]:
    return {"layers": layers, "width": width, "heads": heads, "kv_heads": heads, "mlp_width": mlp_width, **fields}


OWN = ("sequence_length", "dropout")  # what a run with a base chooses anew of its shape
STRETCHED = ("rope_theta", "rope_scaling", "rope_factor", "rope_original_length", "window")  # what it may change
BIG: dict[str, Any] = {"warmup_steps": 2000, "min_lr_ratio": 0.1, "decay_embeddings": False}
SHAPES = {
    "nano": Shape({}, 2048),  # the demo's
    # Radford et al. 2019, table 2; rates of Brown et al. 2020, table 2.1
    "gpt2_124m": Shape(
        _sized(12, 768, 12, 3072, blocks="gpt2", sequence_length=1024, learning_rate=6e-4, **BIG), 50257
    ),
    "350m": Shape(_sized(24, 1024, 16, 2816, sequence_length=2048, learning_rate=3e-4, **BIG), 50257),
    "1b": Shape(_sized(24, 2048, 16, 5632, sequence_length=2048, learning_rate=2e-4, **BIG), 32000),
    # Touvron et al. 2023, arXiv:2307.09288: 6.74 billion parameters
    "7b": Shape(
        _sized(32, 4096, 32, 11008, tied=False, sequence_length=4096, learning_rate=3e-4, **BIG), 32000
    ),
    # Qwen3's norm of queries and keys (arXiv:2505.09388) on the shape of 350m, with shared key heads
    "qwen3_350m": Shape(
        _sized(24, 1024, 16, 2816, qk_norm=True, sequence_length=2048, learning_rate=3e-4, rope_theta=1e6, **BIG)
        | {"kv_heads": 8},
        50257,
    ),
    # Boizard et al. 2025, arXiv:2503.05500: 210 million parameters, half of the tokens hidden
    "eurobert_210m": Shape(
        _sized(12, 768, 12, 3072, objective="masked", sequence_length=2048, learning_rate=1e-4,
               rope_theta=250_000.0, mask_ratio=0.5, **BIG),
        128256,
    ),
}  # fmt: skip


def network(name: str, **fields: Any) -> GPTRecipe:
    """The network of a shape at its own vocabulary."""
    shape = SHAPES[name]
    said = {"vocab_size": shape.vocab_size, **shape.fields, **fields}
    return GPTRecipe(**{field: value for field, value in said.items() if field in GPTRecipe.model_fields})


def is_encoder(spec: Spec, run: str) -> bool:
    """Whether a run trains one, by its table, by the shape that this names or by what it begins from."""
    said = spec.run(run).training
    if spec.run(run).base:
        return base_shape(spec, run).objective == "masked"
    shape = SHAPES.get(said.get("preset", "nano"), SHAPES["nano"])
    return said.get("objective", shape.fields.get("objective", "causal")) == "masked"


def recipe_of(spec: Spec, run: str, sequence_length: int) -> PretrainRecipe:
    """The recipe in the table ``[runs.NAME.training]``: a shape if it names one, and what it says otherwise.

    A run with a base has its shape.

    Raises:
        SpecError: for a shape or a field that does not exist, or a value out of bounds.
    """
    said = taught(spec, run)
    where = ("runs", run, "training")
    if spec.run(run).base:
        fields = _given(spec, run, said)
        return spec.checked(PretrainRecipe, where, **{**fields, "sequence_length": sequence_length, **said})
    name = said.pop("preset", "nano")
    if name not in SHAPES:
        raise spec.error((*where, "preset"), f"no preset {name!r}; there are: {', '.join(SHAPES)}")
    return spec.checked(PretrainRecipe, where, **{**SHAPES[name].fields, "sequence_length": sequence_length, **said})


def taught(spec: Spec, run: str) -> dict[str, Any]:
    """The table of a run without the name of its teacher, whose share of the loss is a half unless it says otherwise.

    Raises:
        SpecError: for a share without a teacher, or a teacher without a share.
    """
    said = dict(spec.run(run).training)
    teacher, where = said.pop("teacher", ""), ("runs", run, "training", "distil_weight")
    if not teacher and any(name in said for name in ("distil_weight", "distil_temperature")):
        raise spec.error(where, f"distillation needs a teacher: write teacher = RUN into [runs.{run}.training]")
    if teacher and said.get("distil_weight") == 0:
        raise spec.error(where, f"the teacher {teacher!r} would have no say; leave it out, or give it a share")
    return {"distil_weight": 0.5, **said} if teacher else said


def base_shape(spec: Spec, run: str) -> GPTRecipe:
    """The network of what a run begins from.

    Raises:
        SpecError: if it is none of ours.
    """
    base = spec.run(run).base
    if base in spec.document.runs:
        return recipe_of(spec, base, GPTRecipe().sequence_length)
    where = ("models", base, "path")
    try:
        directory, _ = importing.model_directory(spec.document.models[base].path, spec.path.parent)
        return importing.shape_of(directory)
    except ValueError as error:
        raise spec.error(where, str(error).removesuffix(".")) from None


def _given(spec: Spec, run: str, said: dict[str, Any]) -> dict[str, Any]:
    """The fields that a base decides; a table that says another is refused."""
    shape, base = base_shape(spec, run), spec.run(run).base
    fields = {name: getattr(shape, name) for name in GPTRecipe.model_fields if name not in OWN}
    for name, value in said.items():
        if name == "preset" or (name not in STRETCHED and value != fields.get(name, value)):
            told = "what shape it has" if name == "preset" else f"{name} {fields[name]}"
            raise spec.error(
                ("runs", run, "training", name),
                f"the run begins from {base}, which decides {told}; leave {name} out",
            )
    return fields
