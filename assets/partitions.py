"""Partitions: they follow the spec by themselves."""

import dagster as dg

from pipelines.spec import Spec

SOURCES = dg.DynamicPartitionsDefinition(name="source")
CORPORA = dg.DynamicPartitionsDefinition(name="corpus")
TOKENS = dg.DynamicPartitionsDefinition(name="tokens")  # CORPUS, or CORPUS@VOCABULARY beside the corpus's own
SUITES = dg.DynamicPartitionsDefinition(name="suite")
CLASSIFIERS = dg.DynamicPartitionsDefinition(name="classifier")
REFERENCES = dg.DynamicPartitionsDefinition(name="reference")
VOCABULARIES = dg.DynamicPartitionsDefinition(name="vocabulary")
MODELS = dg.DynamicPartitionsDefinition(name="model")
RUNS = dg.DynamicPartitionsDefinition(name="run")
COMPRESSIONS = dg.DynamicPartitionsDefinition(name="compression")
SWEEPS = dg.DynamicPartitionsDefinition(name="sweep")
FINETUNES = dg.DynamicPartitionsDefinition(name="finetune")
CHECKPOINTS = dg.DynamicPartitionsDefinition(name="checkpoint")


def wanted(spec: Spec) -> dict[str, list[str]]:
    """Partition keys by the name of their definition, as the spec says."""
    document = spec.document
    tokens = dict.fromkeys(document.corpora)
    tokens.update(dict.fromkeys(spec.tokens_of(run) for run in document.runs))
    return {
        # Dagster plots the newest 120 partitions: those that people named come after those that a rule selects
        "source": sorted(spec.all_sources(), key=lambda source: source in document.sources),
        "corpus": list(document.corpora),
        "tokens": list(tokens),
        "suite": list(document.suites),
        "classifier": list(document.classifiers),
        "reference": list(document.references),
        "vocabulary": list(document.vocabularies),
        "model": list(document.models),
        "run": list(document.runs),
        "sweep": list(document.sweeps),
        "compression": list(document.compressions),
        "finetune": list(document.finetunes),
        "checkpoint": [
            *(run for run in document.runs if not spec.is_swept(run)),
            *document.finetunes,
            *document.compressions,
        ],
    }


def mirror(spec: Spec, instance: dg.DagsterInstance) -> int:
    """Make the instance's dynamic partitions those of the spec; returns how many were added or removed."""
    changed = 0
    for name, keys in wanted(spec).items():
        present = set(instance.get_dynamic_partitions(name))
        if missing := [key for key in keys if key not in present]:
            instance.add_dynamic_partitions(name, missing)
        for gone in present - set(keys):
            instance.delete_dynamic_partition(name, gone)
        changed += len(missing) + len(present - set(keys))
    return changed
