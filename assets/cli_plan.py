"""stemma plan: what training a network would take, before anybody rents a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from assets.cli import JsonOption, SpecOption, WrongUseError, app, console, load_spec, show_json, table

if TYPE_CHECKING:
    from training.models.recipe import GPTRecipe

GB = 1e9


@app.command()
def plan(
    name: Annotated[
        str, typer.Argument(metavar="SHAPE|RUN", help="A named shape, such as 7b, or a run of stemma.toml")
    ],
    gpus: Annotated[str, typer.Option(metavar="NxNAME", help="Devices, such as 8xH200")] = "1xH200",
    tokens: Annotated[str, typer.Option(metavar="NUMBER", help="Tokens to train on, such as 140B")] = "",
    mfu: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of the peak that is assumed to be reached")
    ] = 0.4,
    price: Annotated[float, typer.Option(min=0.0, help="Dollars of a GPU hour, assumed")] = 3.0,
    sequence_length: Annotated[int, typer.Option(min=0, help="Targets of a sequence; 0: the shape's")] = 0,
    json: JsonOption = False,
    spec: SpecOption = "",
) -> None:
    """Parameters, memory of each GPU, operations, time and cost of a training run, without a GPU.

    Parameters and activations are counted on the network itself, made of tensors without memory.
    """
    from training.estimate import Gpus, estimate, parse_count

    recipe = _network(name, spec, sequence_length)
    try:
        found = estimate(recipe, Gpus.parse(gpus), parse_count(tokens) if tokens else _enough(recipe), mfu, price)
    except ValueError as error:
        raise WrongUseError(str(error)) from None
    if json:
        show_json({"name": name, "network": recipe.identity(), **found})
    else:
        _show(name, recipe, found)


def _enough(recipe: GPTRecipe) -> int:
    """Twenty tokens a parameter (Hoffmann et al. 2022, arXiv:2203.15556, table 3)."""
    return 20 * recipe.num_parameters


def _network(name: str, spec_path: str, sequence_length: int) -> GPTRecipe:
    from pipelines.mixture import MixtureRecipe
    from pipelines.vocabulary import VocabularyRecipe
    from training import shapes
    from training.models.recipe import GPTRecipe

    longer = {"sequence_length": sequence_length} if sequence_length else {}
    if name in shapes.SHAPES:
        return shapes.network(name, **longer)
    spec = load_spec(spec_path)
    if name not in spec.document.runs:
        known = [*shapes.SHAPES, *spec.document.runs]
        raise WrongUseError(f"no shape and no run {name!r}; there are: {', '.join(known)}.")
    length = sequence_length or spec.recipe(MixtureRecipe, ("runs", name, "mixture")).sequence_length
    recipe = shapes.recipe_of(spec, name, length)
    fields = {field: getattr(recipe, field) for field in GPTRecipe.model_fields}
    size = spec.recipe(VocabularyRecipe, ("vocabularies", spec.vocabulary_of(name), "recipe")).size
    return GPTRecipe(**{**fields, "vocab_size": recipe.vocab_size or size})


def _show(name: str, recipe: GPTRecipe, found: dict[str, Any]) -> None:
    gpus, assumed = found["gpus"], found["assumed"]
    rows = [
        ["parameters", f"{found['parameters']:,}"],
        ["of them in matrices that every token meets", f"{found['matrix_parameters']:,}"],
        ["tokens", f"{found['tokens']:,} ({found['tokens_per_parameter']:g} a parameter)"],
        ["operations", f"{found['flops']:.3g} ({found['flops_per_token']:.3g} a token)"],
        ["speed", f"{found['tokens_per_second']:,.0f} tokens/s at {assumed['mfu']:.0%} of {gpus['peak_flops']:.3g}/s"],
        ["time", f"{_duration(found['seconds'])} on {gpus['number']} x {gpus['name']}"],
        ["cost", f"${found['cost']:,.0f}: {found['gpu_hours']:,.0f} GPU hours at ${assumed['price_per_gpu_hour']:g}"],
    ]
    shape = f"{recipe.layers} blocks, {recipe.width} wide, sequences of {recipe.sequence_length}"
    console.print(table(f"{name}: {shape}", "what", "figure", rows=rows))
    names = ("weights", "gradients", "moments", "activations_per_sequence", "total")
    memory = [
        [way["way"], *[f"{way[name] / GB:.3g}" for name in names], way["largest_microbatch"] or "does not fit"]
        for way in found["memory"]
    ]
    header = ("#weights", "#gradients", "#moments", "#a sequence", "#in all", "#sequences that fit")
    title = f"memory of each GPU, GB of {gpus['bytes'] / GB:.0f}"
    console.print(table(title, "way", *header, rows=memory))


def _duration(seconds: float) -> str:
    hours = seconds / 3600
    return (
        f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} hours" if hours >= 1 else f"{seconds / 60:.1f} min"
    )
