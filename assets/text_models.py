"""Blueprints of the models that judge text: classifiers, and models of reference text. No Dagster here.

They learn from raw documents, so that clean documents may be judged by them.
"""

from __future__ import annotations

from assets.making import Blueprint
from pipelines.instruments import classifier, ngram_model
from pipelines.provenance.manifest import Key
from pipelines.spec import Spec


def text_classifier(spec: Spec, name: str) -> Blueprint:
    positive, negative = spec.classifier_sources(name)
    said = spec.document.classifiers[name].recipe
    where = ("classifiers", name, "recipe")
    # which inputs are positive stands in the recipe: the same inputs parted otherwise make another model
    recipe = spec.checked(classifier.ClassifierRecipe, where, **{**said, "classifier_positive": positive})
    first_negative = len(positive)
    return Blueprint(
        classifier.VERSION,
        recipe,
        [Key("raw_documents", source) for source in [*positive, *negative]],
        lambda inputs, recipe, draft, runtime: classifier.train_classifier(
            inputs[:first_negative], inputs[first_negative:], recipe, draft
        ),
    )


def reference_model(spec: Spec, name: str) -> Blueprint:
    return Blueprint(
        ngram_model.VERSION,
        spec.recipe(ngram_model.PerplexityRecipe, ("references", name, "recipe")),
        [Key("raw_documents", source) for source in spec.reference_sources(name)],
        lambda inputs, recipe, draft, runtime: ngram_model.train_ngram_model(inputs, recipe, draft),
    )
