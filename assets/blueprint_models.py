"""Blueprints of models: imported, pretrained, fine-tuned, compressed, and the law of a ladder of them. No Dagster here."""

from __future__ import annotations

from assets.making import Blueprint
from evals import scaling
from evals import scaling_law as scaling_fit
from pipelines import mixture, sweeps
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.lineage import ancestor, milestone
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec
from training import compress, finetune, finetune_data, importing, pretrain, recipes, shapes
from training.numerics import numerics


def imported_model(spec: Spec, name: str) -> Blueprint:
    said = spec.document.models[name]
    try:
        directory, origin = importing.model_directory(said.path, spec.path.parent)
        digest = importing.files_digest(directory)
    except ValueError as error:
        raise spec.error(("models", name, "path"), str(error).removesuffix(".")) from None
    return Blueprint(
        importing.IMPORT_VERSION,
        importing.ImportRecipe(files_digest=digest, origin=origin, licence=said.license),
        [],
        lambda inputs, recipe, draft, runtime: importing.import_model(directory, recipe, draft),
        pinned=True,
    )


def _base(spec: Spec, run: str) -> list[Key]:
    """What a run begins from."""
    base = spec.run(run).base
    return [Key("imported_model" if base in spec.document.models else "pretrained_model", base)] if base else []


def _teacher(spec: Spec, run: str) -> list[Key]:
    """What a run learns from, beside its text."""
    teacher = spec.run(run).training.get("teacher", "")
    return [Key("pretrained_model", teacher)] if teacher else []


def pretrained_model(spec: Spec, run: str) -> Blueprint:
    mixed = spec.recipe(mixture.MixtureRecipe, ("runs", run, "mixture"))
    recipe = recipes.resolve(shapes.recipe_of(spec, run, mixed.sequence_length))
    compute = spec.recipe(recipes.Compute, ("runs", run, "compute"))
    declared = numerics(recipe.compile, compute.processes, 0, compute.sharding, recompute=compute.recompute)

    begins_from, taught_by = _base(spec, run), _teacher(spec, run)

    def through(store: Store) -> list[Artifact]:
        said = spec.run(run)
        begun = milestone(store.open("pretrained_model", said.base), said.base_step)
        return [store.open("mixture", run), begun, *(store.open(*key) for key in taught_by)]

    return Blueprint(
        pretrain.PRETRAIN_VERSION,
        recipe,
        [Key("mixture", run), *begins_from, *taught_by],
        lambda inputs, recipe, draft, runtime: pretrain.pretrain(
            inputs[0], recipe, draft, base=inputs[1] if begins_from else None, teacher=inputs[-1] if taught_by else None,
            numerics=declared, launch=runtime.launch, scratch=runtime.scratch, track=compute.track,
        ),
        numerics=declared,
        through=through if spec.run(run).base_step else None,
        stands=pretrain.STANDING_VERSIONS,
    )  # fmt: skip


def _demo_recipe(task: str) -> recipes.FinetuneRecipe:
    return {"classifier": recipes.classifier, "summary": recipes.summary}[task]()


def _data_recipe(spec: Spec, name: str) -> recipes.FinetuneDataRecipe:
    said = spec.document.finetunes[name]
    return spec.checked(recipes.FinetuneDataRecipe, ("finetunes", name), **{"task": said.task, **said.data})


def finetuning_shards(spec: Spec, name: str) -> Blueprint:
    said = spec.document.finetunes[name]

    def through(store: Store) -> list[Artifact]:
        mixed = store.open("mixture", said.base)
        return [ancestor(mixed, "training_documents"), ancestor(mixed, "heldout_documents"), mixed.input("vocabulary")]

    return Blueprint(
        finetune_data.FINETUNE_DATA_VERSION,
        _data_recipe(spec, name),
        [Key("mixture", said.base)],
        lambda inputs, recipe, draft, runtime: finetune_data.make_finetuning_shards(
            inputs[0], inputs[1], inputs[2], recipe, draft
        ),
        through=through,
    )


def finetuned_model(spec: Spec, name: str) -> Blueprint:
    said = spec.document.finetunes[name]
    defaults = _demo_recipe(_data_recipe(spec, name).task).model_dump()
    recipe = recipes.resolve(spec.recipe(recipes.FinetuneRecipe, ("finetunes", name, "training"), **defaults))
    declared = numerics(recipe.compile)
    return Blueprint(
        finetune.FINETUNE_VERSION,
        recipe,
        [Key("pretrained_model", said.base), Key("finetuning_shards", name)],
        lambda inputs, recipe, draft, runtime: finetune.finetune(
            inputs[0], inputs[1], recipe, draft, numerics=declared, launch=runtime.launch, scratch=runtime.scratch
        ),
        numerics=declared,
    )


def compressed_model(spec: Spec, name: str) -> Blueprint:
    said = spec.document.compressions[name]
    where = ("compressions", name)
    declared = numerics()
    return Blueprint(
        compress.COMPRESSION_VERSION,
        spec.checked(compress.CompressionRecipe, where, **{"method": said.method, **said.recipe}),
        [Key("pretrained_model", said.base)],
        lambda inputs, recipe, draft, runtime: compress.compress(
            inputs[0], recipe, draft, numerics=declared, launch=runtime.launch, scratch=runtime.scratch
        ),
        numerics=declared,
    )


def scaling_law(spec: Spec, name: str) -> Blueprint:
    sweep = spec.sweep(name)
    held_back = sweeps.held_back(name, sweep)
    sizes, budgets = len(sweep.sizes) - bool(held_back), len(set(sweep.tokens))
    if min(sizes, budgets) < scaling_fit.DISTINCT:  # told before anything is trained
        raise spec.error(
            ("sweeps", name),
            f"{sizes} sizes by {budgets} budgets of tokens to fit, needed are {scaling_fit.DISTINCT} of either: two leave an "
            "exponent open (the held-back size is not fitted)",
        )
    return Blueprint(
        scaling.SCALING_VERSION,
        spec.recipe(scaling.ScalingRecipe, ("sweeps", name, "law"), held_back=held_back),
        [Key("pretrained_model", run) for run in sweeps.run_names(name, sweep)],
        lambda inputs, recipe, draft, runtime: scaling.scaling_law(inputs, recipe, draft),
    )
