"""Blueprints of the group corpus: from what lies on disk to the documents that a model may train on."""

from __future__ import annotations

from assets.making import Blueprint, Runtime
from pipelines import (
    clean,
    clean_recipe,
    decontaminate,
    dedup,
    dedup_presets,
    heldout,
    ingest,
    signatures,
    sources,
    unique,
)
from pipelines.instruments import instruments
from pipelines.profile import measure as profile
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec


def raw_documents(spec: Spec, source: str) -> Blueprint:
    said = spec.source(source)
    name, _, snapshot = source.rpartition("/")
    path = sources.located(spec.path.parent, said.path, said.reader)
    fields = said.model_dump(exclude={"path", "cleaning"}, exclude_unset=True)
    recipe = spec.checked(sources.IngestRecipe, ("sources", source), source=name, snapshot=snapshot, **fields)
    return Blueprint(
        ingest.INGEST_VERSION,
        sources.pinned(recipe, path),
        [],
        lambda inputs, recipe, draft, runtime: ingest.ingest(recipe, draft, path=path),
    )


def clean_documents(spec: Spec, source: str) -> Blueprint:
    cleaning = spec.source(source).cleaning
    recipe, lists = clean_recipe.recipe_of(spec, cleaning), clean_recipe.lists_of(spec, cleaning)
    models = {instruments.CLASSIFIER: recipe.classifier, instruments.REFERENCE: recipe.reference}

    def make(inputs: list[Artifact], recipe: clean_recipe.CleanRecipe, draft: Draft, runtime: Runtime) -> Artifact:
        found = {model.key.asset: instruments.Place.of(model) for model in inputs[1:]}
        if [model.key.partition for model in inputs[1:]] != [n for n in (recipe.classifier, recipe.reference) if n]:
            raise ValueError("a classifier or reference model is chosen in stemma.toml: it is an input, not a number.")
        brought = instruments.Instruments(*lists, found.get(instruments.CLASSIFIER), found.get(instruments.REFERENCE))
        return clean.clean(inputs[0], recipe, draft, instruments=brought)

    needs = [Key("raw_documents", source), *(Key(asset, name) for asset, name in models.items() if name)]
    return Blueprint(clean.CLEAN_VERSION, recipe, needs, make)


def source_profile(spec: Spec, source: str) -> Blueprint:
    return Blueprint(
        profile.PROFILE_VERSION,
        spec.recipe(profile.ProfileRecipe, ("profile",)),
        [Key("raw_documents", source), Key("clean_documents", source)],
        lambda inputs, recipe, draft, runtime: profile.profile(inputs[0], inputs[1], recipe, draft),
    )


def signature(spec: Spec, source: str) -> Blueprint:
    return Blueprint(
        signatures.VERSION,
        dedup_presets.signature_recipe(spec),
        [Key("clean_documents", source)],
        lambda inputs, recipe, draft, runtime: signatures.sign(inputs[0], recipe, draft),
    )


def duplicate_clusters(spec: Spec, corpus: str) -> Blueprint:
    chosen = spec.sources_of(corpus)
    size = len(chosen)
    recipe = dedup_presets.dedup_recipe(spec, corpus)
    read = ["clean_documents", "signatures", *(["raw_documents"] if recipe.keep == "oldest" else [])]

    def make(inputs: list[Artifact], recipe: dedup.DedupRecipe, draft: Draft, runtime: Runtime) -> Artifact:
        return dedup.cluster(inputs[:size], inputs[size : 2 * size], recipe, draft, inputs[2 * size :])

    return Blueprint(dedup.VERSION, recipe, [Key(asset, source) for asset in read for source in chosen], make)


def unique_documents(spec: Spec, corpus: str) -> Blueprint:
    recipe, model = dedup_presets.unique_recipe(spec, corpus)
    return Blueprint(
        unique.version(recipe),
        recipe,
        [*(Key("clean_documents", s) for s in spec.sources_of(corpus)), Key("duplicate_clusters", corpus)],
        lambda inputs, recipe, draft, runtime: unique.unique(inputs[:-1], inputs[-1], recipe, draft, model=model),
    )


def heldout_documents(spec: Spec, corpus: str) -> Blueprint:
    return Blueprint(
        heldout.VERSION,
        spec.recipe(heldout.HeldoutRecipe, ("corpora", corpus, "heldout")),
        [Key("unique_documents", corpus)],
        lambda inputs, recipe, draft, runtime: heldout.hold_out(inputs[0], recipe, draft),
    )


def training_documents(spec: Spec, corpus: str) -> Blueprint:
    return Blueprint(
        decontaminate.VERSION,
        spec.recipe(decontaminate.DecontaminateRecipe, ("corpora", corpus, "decontaminate")),
        [
            Key("unique_documents", corpus),
            Key("heldout_documents", corpus),
            *(Key("benchmark_prompts", suite) for suite in spec.corpus(corpus).suites),
        ],
        lambda inputs, recipe, draft, runtime: decontaminate.training_documents(
            inputs[0], inputs[1], inputs[2:], recipe, draft
        ),
    )
