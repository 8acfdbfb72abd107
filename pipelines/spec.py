"""The spec: what should exist, as a person writes it in ``stemma.toml``.

Recipes stand in tables of their own and are turned into recipe objects by the room that knows them
(:meth:`Spec.recipe`); a mistake anywhere is reported with the line on which it stands. ``spec_edit.py`` edits it.
"""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipelines.provenance.manifest import PartitionKeyError
from pipelines.provenance.recipe import Recipe
from pipelines.spec_lines import fields_at, key_lines
from pipelines.spec_tables import ClassifierSpec, CorpusSpec, Document, RunSpec, SourceSpec
from pipelines.sweeps import SweepError, SweepSpec, run_tables

FILE = "stemma.toml"
LATEST = "latest"
INSTALLED = "installed-docs"  # as an entry of a corpus: every distribution of this environment
AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


class SpecError(ValueError):
    """``stemma.toml`` does not say what it must; the message names file, line and remedy."""


class Spec:
    """A validated ``stemma.toml``.

    Raises:
        SpecError: at the first thing that is wrong, with its line.
    """

    def __init__(self, text: str, path: Path) -> None:
        self.text, self.path = text, path
        self._sweep_of: dict[str, str] = {}
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"{path.name}: {error}.") from None
        try:
            self.document = Document.model_validate(tables)
        except ValidationError as error:
            raise self._explained(error, (), Document) from None
        self._tables = tables
        for name in self.document.sweeps:
            self._add_runs(name)
        self._check_references()

    @classmethod
    def load(cls, path: Path) -> Spec:
        """Read a file.

        Raises:
            SpecError: if it is missing or wrong.
        """
        try:
            return cls(path.read_bytes().decode("utf-8"), path)  # line ends as they are: an edit keeps them
        except FileNotFoundError:
            raise SpecError(f"{path} is missing. Run from the checkout, or give --spec FILE.") from None
        except UnicodeDecodeError as error:
            raise SpecError(f"{path.name}: is not UTF-8 ({error.reason} at byte {error.start}).") from None
        except OSError as error:
            raise SpecError(f"{path} cannot be read: it {(error.strerror or str(error)).lower()}.") from None

    def _add_runs(self, name: str) -> None:
        """The runs that a sweep stands for, beside those that are written out."""
        sweep = self.document.sweeps[name]
        if sweep.base not in self.document.runs:
            raise self._unknown("runs", sweep.base, ("sweeps", name, "base"))
        try:
            tables = run_tables(name, sweep, self._tables["runs"][sweep.base])
            runs = {run: RunSpec.model_validate(table) for run, table in tables.items()}
        except (SweepError, PartitionKeyError) as error:
            raise self.error(("sweeps", name), str(error).removesuffix(".")) from None
        if taken := [run for run in [name, *runs] if run in self.document.runs]:
            raise self.error(("sweeps", name), f"there is a run {taken[0]!r} already; take another name")
        self._tables = {**self._tables, "runs": {**self._tables["runs"], **tables}}
        self._sweep_of |= dict.fromkeys(runs, name)
        self.document = self.document.model_copy(update={"runs": {**self.document.runs, **runs}})

    # -- what it names ---------------------------------------------------------------------------------------

    def run(self, name: str) -> RunSpec:
        return self._named("runs", name)

    def sweep(self, name: str) -> SweepSpec:
        return self._named("sweeps", name)

    def corpus(self, name: str) -> CorpusSpec:
        return self._named("corpora", name)

    def source(self, key: str) -> SourceSpec:
        """The source of a partition key; an installed distribution need not be listed one by one."""
        if key not in self.document.sources and key in self._installed:
            return SourceSpec(reader="installed-docs", cleaning=self._docs_cleaning)
        return self._named("sources", key)

    def is_swept(self, run: str) -> bool:
        """Whether a run stands for a rung of a sweep, rather than in a table of its own."""
        return run in self._sweep_of

    def finetunes_of(self, run: str) -> list[str]:
        return [name for name, finetune in self.document.finetunes.items() if finetune.base == run]

    def compressions_of(self, run: str) -> list[str]:
        return [name for name, compression in self.document.compressions.items() if compression.base == run]

    def vocabulary_of(self, run: str) -> str:
        return self.run(run).vocabulary or self.corpus(self.run(run).corpus).vocabulary

    def tokens_of(self, run: str) -> str:
        """Partition key of a run's token shards: the corpus, or CORPUS@VOCABULARY for another than its own."""
        corpus, vocabulary = self.run(run).corpus, self.vocabulary_of(run)
        return corpus if vocabulary == self.corpus(corpus).vocabulary else f"{corpus}@{vocabulary}"

    def sources_of(self, corpus: str) -> list[str]:
        """Partition keys of a corpus's sources, in the order in which survivors of dedup are preferred.

        An entry is ``NAME/SNAPSHOT``, ``NAME`` or ``NAME/latest`` (the newest snapshot that the spec lists), or
        ``installed-docs`` (every distribution in this environment).
        """
        return self._keys(self.corpus(corpus).sources, ("corpora", corpus, "sources"))

    def classifier_sources(self, name: str) -> tuple[list[str], list[str]]:
        """Partition keys of the positive and of the negative sources of a classifier; entries as a corpus has them."""
        said: ClassifierSpec = self._named("classifiers", name)
        where = ("classifiers", name)
        return self._keys(said.positive, (*where, "positive")), self._keys(said.negative, (*where, "negative"))

    def reference_sources(self, name: str) -> list[str]:
        """Partition keys of the sources of a reference model; entries as a corpus has them."""
        return self._keys(self._named("references", name).sources, ("references", name, "sources"))

    def all_sources(self) -> list[str]:
        """Every listed source and every one that a corpus, classifier or reference selects by rule."""
        keys = dict.fromkeys(self.document.sources)
        for where, entries in self._selections():
            keys.update(dict.fromkeys(self._keys(entries, where)))
        return list(keys)

    def recipe(self, kind: type[AnyRecipe], where: tuple[str, ...], **fixed: Any) -> AnyRecipe:
        """The recipe in the table at ``where``, over the defaults of its class.

        Raises:
            SpecError: for a key that the recipe does not have or a value out of bounds, with its line.
        """
        table: Any = self._tables
        for name in where:
            table = table.get(name, {})
        return self.checked(kind, where, **{**fixed, **table})

    def checked(self, kind: type[AnyRecipe], where: tuple[str, ...], **fields: Any) -> AnyRecipe:
        """A recipe from fields that stand at ``where`` in the file.

        Raises:
            SpecError: as :meth:`recipe`.
        """
        try:
            return kind.model_validate(fields)
        except ValidationError as error:
            raise self._explained(error, where, kind) from None

    def _selections(self) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        """Every list of sources with where it is written."""
        document = self.document
        yield from ((("corpora", name, "sources"), corpus.sources) for name, corpus in document.corpora.items())
        for name, classifier in document.classifiers.items():
            yield ("classifiers", name, "positive"), classifier.positive
            yield ("classifiers", name, "negative"), classifier.negative
        yield from ((("references", name, "sources"), said.sources) for name, said in document.references.items())

    def _keys(self, entries: list[str], where: tuple[str, ...]) -> list[str]:
        return list(dict.fromkeys(key for entry in entries for key in self._selected(entry, where)))

    def _selected(self, entry: str, where: tuple[str, ...]) -> list[str]:
        if entry == INSTALLED:
            return list(self._installed)
        if entry in self.document.sources:
            return [entry]
        name = entry.removesuffix(f"/{LATEST}")
        snapshots = [key for key in self.document.sources if key.rpartition("/")[0] == name]
        if snapshots:
            return [max(snapshots, key=_natural)]
        raise self._unknown("sources", entry, where)

    @cached_property
    def _installed(self) -> dict[str, None]:
        if not any(INSTALLED in entries for _, entries in self._selections()):
            return {}
        from pipelines.distributions import installed_distributions

        return dict.fromkeys(f"pypi-docs.{name}/{version}" for name, version in installed_distributions())

    @property
    def _docs_cleaning(self) -> str:
        listed = [s.cleaning for s in self.document.sources.values() if s.reader == "installed-docs"]
        return listed[0] if listed else ""

    def _named(self, kind: str, name: str) -> Any:
        table = getattr(self.document, kind)
        if name not in table:
            raise self._unknown(kind, name, ())
        return table[name]

    def error(self, where: tuple[str, ...], message: str) -> SpecError:
        """What is wrong with the table or key at ``where``, with its line."""
        return SpecError(f"{self._at(where)}: {message}.")

    # -- errors ----------------------------------------------------------------------------------------------

    def _check_references(self) -> None:
        document = self.document
        for where, kind, name in self._references():
            if name and name not in getattr(document, kind):
                raise self._unknown(kind, name, where)
        for where, entries in self._selections():
            for entry in entries:
                if entry != INSTALLED:  # always there; listing the environment takes 0.4 s
                    self._selected(entry, where)
        self._check_shapes()

    def _check_shapes(self) -> None:
        document = self.document
        for key, source in document.sources.items():
            if source.reader != INSTALLED and not source.path:
                raise SpecError(f"{self._at(('sources', key))}: reader {source.reader!r} needs a path.")
        for name, suite in document.suites.items():
            if bool(suite.corpus) == bool(suite.path):
                raise SpecError(f"{self._at(('suites', name))}: a suite has either a corpus or a path.")
        checkpoints = {"runs": "run", "finetunes": "fine-tune", "models": "model", "compressions": "compression"}
        for (first, one), (second, other) in itertools.combinations(checkpoints.items(), 2):
            if both := sorted(getattr(document, first).keys() & getattr(document, second).keys()):
                raise self.error(
                    (second, both[0]),
                    f"{both[0]!r} names both a {one} and a {other}; checkpoints are addressed by name, so take another one",
                )
        for name in document.runs:
            self._check_bases(name)
            self._check_teachers(name)

    def _check_bases(self, name: str) -> None:
        """A run begins from one that does not begin from it."""
        line, at = [name], ("runs", name, "base")
        while base := (self.document.runs[line[-1]].base if line[-1] in self.document.runs else ""):
            if base in line:
                raise self.error(at, f"{' begins from '.join([*line, base])}; a run cannot begin from itself")
            line.append(base)
        said = self.document.runs[name]
        if said.base_step and said.base not in self.document.runs:
            raise self.error((*at[:2], "base_step"), "base_step is that of a run's milestone; name the run in base")

    def _check_teachers(self, name: str, line: tuple[str, ...] = ()) -> None:
        """Nobody learns from a run that begins or learns from it, in however many steps."""
        said = self.document.runs.get(name)
        if said is None:
            return
        line, at = (*line, name), ("runs", (*line, name)[0], "training", "teacher")
        taught = said.training.get("teacher", "")
        if taught and taught == said.base:
            raise self.error(at, f"{name} has {taught} for base and for teacher; leave one of them out")
        for parent in filter(None, (said.base, taught)):
            if parent in line:
                raise self.error(at, f"{' stands on '.join([*line, parent])}; a run cannot learn from itself")
            self._check_teachers(parent, line)

    def _references(self) -> Iterator[tuple[tuple[str, ...], str, str]]:
        """(where it is written, table that must have it, name); an empty name refers to nothing."""
        document = self.document
        yield ("default_run",), "runs", document.default_run
        for key, source in document.sources.items():
            yield ("sources", key, "cleaning"), "cleaning", source.cleaning
        for name, corpus in document.corpora.items():
            yield ("corpora", name, "vocabulary"), "vocabularies", corpus.vocabulary
            yield from ((("corpora", name, "suites"), "suites", suite) for suite in corpus.suites)
        for kind in ("vocabularies", "suites", "runs"):
            yield from (((kind, name, "corpus"), "corpora", e.corpus) for name, e in getattr(document, kind).items())
        for name, run in document.runs.items():
            yield ("runs", name, "vocabulary"), "vocabularies", run.vocabulary
            yield ("runs", name, "training", "teacher"), "runs", str(run.training.get("teacher", ""))
            yield ("runs", name, "base"), "models" if run.base in document.models else "runs", run.base
        for name, finetune in document.finetunes.items():
            yield ("finetunes", name, "base"), "runs", finetune.base
        for name, compression in document.compressions.items():
            yield ("compressions", name, "base"), "runs", compression.base

    def _unknown(self, kind: str, name: str, where: tuple[str, ...]) -> SpecError:
        there = sorted(getattr(self.document, kind))
        close = difflib.get_close_matches(name, there, 1)
        hint = f" Did you mean {close[0]!r}?" if close else f" There are: {', '.join(there) or 'none'}."
        place = self._at(where) if where else self.path.name
        return SpecError(f"{place}: no {name!r} in [{kind}].{hint}")

    def _explained(self, error: ValidationError, where: tuple[str, ...], kind: type[BaseModel]) -> SpecError:
        # a misspelt key is both unknown and missing; that it is unknown says more
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        location = tuple(str(step) for step in first["loc"])
        message = first["msg"].removeprefix("Value error, ").removesuffix(".")
        if first["type"] == "extra_forbidden":
            known = fields_at(kind, location[:-1])
            close = difflib.get_close_matches(location[-1], known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
            message = f"unknown key {location[-1]!r}; {hint}"
        elif location:
            found = "" if first["type"] == "missing" else f", found {first['input']!r}"
            message = f"{'.'.join(location)}: {message}{found}"
        return SpecError(f"{self._at((*where, *location))}: {message}.")

    def _at(self, where: tuple[str, ...]) -> str:
        """FILE:LINE of the deepest key on this path that is written in the file."""
        lines = key_lines(self.text)
        if len(where) > 1 and where[0] == "runs" and where[1] in self._sweep_of:
            where = ("sweeps", self._sweep_of[where[1]])
        for depth in range(len(where), 0, -1):
            if where[:depth] in lines:
                return f"{self.path.name}:{lines[where[:depth]]}"
        return self.path.name


def _natural(key: str) -> list[Any]:
    """Sort key by which 1.10 is newer than 1.9."""
    return [(1, int(piece), "") if piece.isdigit() else (0, 0, piece) for piece in re.split(r"(\d+)", key)]
