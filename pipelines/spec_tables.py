"""The tables of ``stemma.toml`` as values: what may be written where. Recipes stay tables here; see :mod:`pipelines.spec`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.licences import checked_licence
from pipelines.provenance.manifest import checked_partition
from pipelines.sweeps import SweepSpec

Name = Annotated[str, AfterValidator(checked_partition)]  # names become partition keys


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSpec(Table):
    """One snapshot of one source: where its records lie and how they are read and cleaned."""

    reader: str
    path: str = ""
    license: Annotated[str, AfterValidator(checked_licence)] = ""
    text_field: str = "text"
    id_field: str = ""
    license_field: str = ""
    group_field: str = ""
    url_field: str = ""
    title_field: str = ""
    date_field: str = ""
    delimiter: str = ""
    hub_config: str = ""
    hub_split: str = "train"
    extractor: str = ""
    passage_bytes: int = 0
    cleaning: str = ""


class CorpusSpec(Table):
    """A selection of sources that is deduplicated, held out, decontaminated and tokenized together."""

    sources: list[str] = Field(min_length=1)
    vocabulary: str
    suites: list[str] = []
    dedup: dict[str, Any] = {}
    semantic: dict[str, Any] = {}
    heldout: dict[str, Any] = {}
    decontaminate: dict[str, Any] = {}
    shards: dict[str, Any] = {}
    heldout_shards: dict[str, Any] = {}


class ClassifierSpec(Table):
    """A text classifier: the sources whose documents it is to like, and those that it is to tell from them."""

    positive: list[str] = Field(min_length=1)
    negative: list[str] = Field(min_length=1)
    recipe: dict[str, Any] = {}


class ReferenceSpec(Table):
    """A model of reference text, by which the perplexity of documents is measured."""

    sources: list[str] = Field(min_length=1)
    recipe: dict[str, Any] = {}


class VocabularySpec(Table):
    """A vocabulary, trained once on a corpus or taken from a tokenizer.json, and then frozen under its name."""

    corpus: str
    path: str = ""
    recipe: dict[str, Any] = {}


class SuiteSpec(Table):
    """A set of benchmark items, made once from a corpus's held-out documents or from files, then frozen."""

    corpus: str = ""
    path: str = ""
    recipe: dict[str, Any] = {}


class ModelSpec(Table):
    """A model from elsewhere that runs may begin from: a directory that transformers reads, or one on the hub."""

    path: str = Field(min_length=1)
    license: Annotated[str, AfterValidator(checked_licence)] = ""


class RunSpec(Table):
    """One pretraining run, from nothing or from the weights of a ``base``: another run or a model from elsewhere."""

    corpus: str
    vocabulary: str = ""
    base: str = ""
    base_step: int = Field(default=0, ge=0)  # of a milestone; 0: the last checkpoint
    mixture: dict[str, Any] = {}
    training: dict[str, Any] = {}
    compute: dict[str, Any] = {}


class FinetuneSpec(Table):
    """One fine-tune of a run's checkpoint."""

    base: str
    task: str
    data: dict[str, Any] = {}
    training: dict[str, Any] = {}


class CompressionSpec(Table):
    """A smaller version of a run's checkpoint."""

    base: str
    method: str
    recipe: dict[str, Any] = {}


class Document(Table):
    """The whole of ``stemma.toml``."""

    default_run: str = ""
    sources: dict[Name, SourceSpec] = {}
    cleaning: dict[str, dict[str, Any]] = {}
    profile: dict[str, Any] = {}
    signatures: dict[str, Any] = {}
    corpora: dict[Name, CorpusSpec] = {}
    classifiers: dict[Name, ClassifierSpec] = {}
    references: dict[Name, ReferenceSpec] = {}
    vocabularies: dict[Name, VocabularySpec] = {}
    suites: dict[Name, SuiteSpec] = {}
    models: dict[Name, ModelSpec] = {}
    runs: dict[Name, RunSpec] = {}
    finetunes: dict[Name, FinetuneSpec] = {}
    compressions: dict[Name, CompressionSpec] = {}
    sweeps: dict[Name, SweepSpec] = {}
    evaluation: dict[str, Any] = {}
    gate: dict[str, Any] = {}
