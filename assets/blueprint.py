"""Blueprints: what each asset is made from and by which library call, according to the spec. No Dagster here.

One function an asset, in the order in which the data flows (``blueprint_corpus.py`` has those of documents, ``blueprint_models.py`` those of models). The
planner asks them what would be built; the builder, the Dagster assets and the process pool ask them to build it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from assets import blueprint_corpus, blueprint_models, text_models
from assets.making import Blueprint, Runtime
from evals import bundle, card, gate, harness, scores, suites
from pipelines import hub_file, mixture, shards, tokenizer_file, vocabulary
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.spec import Spec
from training import shapes
from training.numerics import numerics

# -- tokens ----------------------------------------------------------------------------------------------------


def vocabularies(spec: Spec, name: str) -> Blueprint:
    said = spec.document.vocabularies[name]
    file, fixed = _tokenizer_file(spec, name)
    return Blueprint(
        vocabulary.VERSION,
        spec.recipe(vocabulary.VocabularyRecipe, ("vocabularies", name, "recipe"), **fixed),
        [Key("training_documents", said.corpus)],
        lambda inputs, recipe, draft, runtime: vocabulary.train_vocabulary(inputs[0], recipe, draft, file=file),
        pinned=True,
    )


def _tokenizer_file(spec: Spec, name: str) -> tuple[Path | None, dict[str, str]]:
    """Where the file of a vocabulary lies, and what its recipe says of it; on the hub, it is fetched first."""
    path, where = spec.document.vocabularies[name].path, ("vocabularies", name)
    if not path:
        return None, {}
    try:
        on_hub = hub_file.hub_file(path, vocabulary.FILE) if path.startswith(hub_file.PREFIX) else None
        file = on_hub.local() if on_hub else spec.path.parent / path
        fixed = {"file_digest": tokenizer_file.file_digest(file), "origin": str(on_hub or "")}
    except ValueError as error:
        raise spec.error((*where, "path"), str(error).removesuffix(".")) from None
    encoding = spec.recipe(vocabulary.VocabularyRecipe, (*where, "recipe")).encoding
    try:
        tokenizer_file.checked_encoding(file, encoding)
    except ValueError as error:
        raise spec.error((*where, "recipe", "encoding") if encoding else where, str(error).removesuffix(".")) from None
    return file, fixed


def _tokens(spec: Spec, key: str) -> tuple[str, str]:
    """Corpus and vocabulary of a partition of token shards."""
    corpus, _, name = key.partition("@")
    return corpus, name or spec.corpus(corpus).vocabulary


def token_shards(spec: Spec, key: str) -> Blueprint:
    corpus, name = _tokens(spec, key)
    return Blueprint(
        shards.VERSION,
        spec.recipe(shards.ShardRecipe, ("corpora", corpus, "shards")),
        [Key("training_documents", corpus), Key("vocabulary", name)],
        lambda inputs, recipe, draft, runtime: shards.shard(inputs[0], inputs[1], recipe, draft),
    )


def heldout_shards(spec: Spec, key: str) -> Blueprint:
    corpus, name = _tokens(spec, key)
    return Blueprint(
        shards.HELDOUT_VERSION,
        spec.recipe(shards.HeldoutShardRecipe, ("corpora", corpus, "heldout_shards")),
        [Key("heldout_documents", corpus), Key("training_documents", corpus), Key("vocabulary", name)],
        lambda inputs, recipe, draft, runtime: shards.shard_heldout(inputs[0], inputs[1], inputs[2], recipe, draft),
    )


def mixtures(spec: Spec, run: str) -> Blueprint:
    tokens = spec.tokens_of(run)
    return Blueprint(
        mixture.VERSION,
        spec.recipe(mixture.MixtureRecipe, ("runs", run, "mixture")),
        [Key("token_shards", tokens), Key("heldout_shards", tokens), Key("vocabulary", spec.vocabulary_of(run))],
        lambda inputs, recipe, draft, runtime: mixture.mix(inputs[0], inputs[1], inputs[2], recipe, draft),
        pinned=True,
    )


# -- benchmarks ------------------------------------------------------------------------------------------------


def benchmark_prompts(spec: Spec, suite: str) -> Blueprint:
    said = spec.document.suites[suite]
    files = [spec.path.parent / said.path] if said.path else []
    fixed: dict[str, Any] = {"tasks": [], "files_digest": suites.files_digest(files)} if files else {}
    return Blueprint(
        suites.PROMPTS_VERSION,
        spec.recipe(suites.SuiteRecipe, ("suites", suite, "recipe"), **fixed),
        [Key("heldout_documents", said.corpus)] if said.corpus else [],
        lambda inputs, recipe, draft, runtime: suites.make_prompts(
            inputs[0] if inputs else None, recipe, draft, files=files
        ),
        pinned=True,
    )


def _checkpoint(spec: Spec, name: str) -> Key:
    if name in spec.document.compressions:
        return Key("compressed_model", name)
    return Key("finetuned_model" if name in spec.document.finetunes else "pretrained_model", name)


def _suites(spec: Spec, name: str) -> list[str]:
    """The suites that a checkpoint answers: those of its run's corpus; a fine-tune has its own test examples."""
    if name in spec.document.compressions:
        name = spec.document.compressions[name].base
    return [] if name in spec.document.finetunes else spec.corpus(spec.run(name).corpus).suites


def benchmark_samples(spec: Spec, name: str) -> Blueprint:
    recipe = spec.recipe(harness.EvalRecipe, ("evaluation",))
    is_run = name not in spec.document.finetunes
    return Blueprint(
        harness.SAMPLES_VERSION,
        recipe,
        [_checkpoint(spec, name), *(Key("benchmark_prompts", suite) for suite in _suites(spec, name))],
        lambda inputs, recipe, draft, runtime: (
            harness.run_suite(inputs[0], inputs[1:], recipe, draft)
            if is_run
            else harness.finetune_samples(inputs[0], recipe, draft)
        ),
        numerics=numerics(),
    )


def benchmark_scores(spec: Spec, name: str) -> Blueprint:
    return Blueprint(
        scores.SCORES_VERSION,
        scores.ScoreRecipe(),
        [Key("benchmark_samples", name)],
        lambda inputs, recipe, draft, runtime: scores.score(inputs[0], recipe, draft),
    )


# -- release ---------------------------------------------------------------------------------------------------


def contest(spec: Spec, run: str) -> Key:
    """Where the champion stands: runs compete whose corpora have the same first suite."""
    corpus = spec.run(run).corpus
    return Key("champion", next(iter(spec.corpus(corpus).suites), corpus))


def champion(spec: Spec, run: str) -> Blueprint:
    needs = [Key("benchmark_scores", run), Key("pretrained_model", run)]
    crown = contest(spec, run)

    def through(store: Store) -> list[Artifact]:
        return [*(store.open(*need) for need in needs), *_incumbent(store, crown)]

    def settled(store: Store) -> bool:
        candidate = [store.open(*need).content for need in needs]
        return any([i.content for i in crowned.manifest.inputs[:2]] == candidate for crowned in store.sealed(crown))

    def make(inputs: list[Artifact], recipe: gate.GateRecipe, draft: Draft, runtime: Runtime) -> Artifact:
        candidate, checkpoint, incumbent, theirs = _parties(inputs)
        return gate.champion(candidate, incumbent, checkpoint, recipe, draft, incumbent_scores=theirs)

    return Blueprint(
        gate.CHAMPION_VERSION,
        spec.recipe(gate.GateRecipe, ("gate",)),
        needs,
        make,
        through=through,
        settled=settled,
        under=crown,
    )


def _incumbent(store: Store, crown: Key) -> list[Artifact]:
    """The champion in charge and its scores as they are now (they may cover suites that came after its crowning)."""
    incumbent = store.get(crown)
    if incumbent is None:
        return []
    theirs = store.get(Key("benchmark_scores", incumbent.facts["partition"]))
    return [incumbent, *([theirs] if theirs else [])]


def _parties(inputs: list[Artifact]) -> tuple[Artifact, Artifact, Artifact | None, Artifact | None]:
    """Candidate's scores, its checkpoint, the incumbent and the incumbent's scores."""
    padded: list[Artifact | None] = [*inputs, None, None]
    return inputs[0], inputs[1], padded[2], padded[3]


def judged(spec: Spec, store: Store, run: str) -> gate.Verdict:
    """What the gate says of a run as things stand; nothing is published."""
    candidate, checkpoint, incumbent, theirs = _parties(champion(spec, run).open(store))
    recipe = spec.recipe(gate.GateRecipe, ("gate",))
    return gate.judge(candidate, incumbent, checkpoint, recipe, incumbent_scores=theirs)


def model_card(spec: Spec, name: str) -> Blueprint:
    return Blueprint(
        card.CARD_VERSION,
        card.CardRecipe(),
        [_checkpoint(spec, name), Key("benchmark_scores", name)],
        lambda inputs, recipe, draft, runtime: card.model_card(inputs[0], inputs[1], recipe, draft),
    )


def audit_bundle(spec: Spec, name: str) -> Blueprint:
    return Blueprint(
        bundle.BUNDLE_VERSION,
        bundle.BundleRecipe(),
        [_checkpoint(spec, name)],
        lambda inputs, recipe, draft, runtime: bundle.audit_bundle(inputs[0], recipe, draft),
    )


BLUEPRINTS: dict[str, Callable[[Spec, str], Blueprint]] = {
    "raw_documents": blueprint_corpus.raw_documents,
    "text_classifier": text_models.text_classifier,
    "reference_model": text_models.reference_model,
    "clean_documents": blueprint_corpus.clean_documents,
    "source_profile": blueprint_corpus.source_profile,
    "signatures": blueprint_corpus.signature,
    "duplicate_clusters": blueprint_corpus.duplicate_clusters,
    "unique_documents": blueprint_corpus.unique_documents,
    "heldout_documents": blueprint_corpus.heldout_documents,
    "benchmark_prompts": benchmark_prompts,
    "training_documents": blueprint_corpus.training_documents,
    "vocabulary": vocabularies,
    "token_shards": token_shards,
    "heldout_shards": heldout_shards,
    "mixture": mixtures,
    "imported_model": blueprint_models.imported_model,
    "pretrained_model": blueprint_models.pretrained_model,
    "scaling_law": blueprint_models.scaling_law,
    "compressed_model": blueprint_models.compressed_model,
    "finetuning_shards": blueprint_models.finetuning_shards,
    "finetuned_model": blueprint_models.finetuned_model,
    "benchmark_samples": benchmark_samples,
    "benchmark_scores": benchmark_scores,
    "model_card": model_card,
    "audit_bundle": audit_bundle,
    "champion": champion,  # last: a candidate that the gate refuses has its card and its bundle all the same
}
ORDER = list(BLUEPRINTS)


def ends_of_run(spec: Spec, run: str) -> list[Key]:
    """What a run is for; everything else is made because one of these needs it."""
    if run in spec.document.sweeps:
        return [Key("scaling_law", run)]
    if spec.is_swept(run):
        return [Key("pretrained_model", run)]  # what it was trained for is the law
    names = [run, *spec.finetunes_of(run), *spec.compressions_of(run)]
    profiles = [Key("source_profile", source) for source in spec.sources_of(spec.run(run).corpus)]
    if shapes.is_encoder(spec, run):
        return [*profiles, Key("pretrained_model", run), Key("audit_bundle", run)]  # benchmarks ask what comes next
    papers = [Key(asset, name) for asset in ("model_card", "audit_bundle") for name in names]
    return [*profiles, Key("champion", run), *papers]
