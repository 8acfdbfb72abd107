"""Small worlds for the tests of the graph, none of which trains a model.

``outline``: every asset sealed as the blueprints say, with a line of text for bytes; for planner, status and the like.
``library``: real documents of two sources, from raw text to the plan of a run, with a checkpoint in name only.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from assets.blueprint import BLUEPRINTS, ORDER, ends_of_run
from assets.builder import build_key
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.spec import Spec

SPEC = """\
default_run = "demo"

[sources."poems/1"]
reader = "jsonl"
path = "poems.jsonl"
license = "CC0-1.0"
id_field = "id"
cleaning = "plain"

[sources."letters/1"]
reader = "jsonl"
path = "letters.jsonl"
license = "CC-BY-4.0"
id_field = "id"
cleaning = "plain"

[cleaning.plain]
preset = "docs"
min_words = 12
min_mean_word_length = 2.0
min_alpha_words_ratio = 0.3
min_stop_words = 1
min_language_confidence = 0.0

[corpora.small]
sources = ["poems/1", "letters/1"]
vocabulary = "words"
suites = ["quiz"]
[corpora.small.heldout]
ratio = 0.2

[vocabularies.words]
corpus = "small"
[vocabularies.words.recipe]
size = 384

[suites.quiz]
corpus = "small"
[suites.quiz.recipe]
max_items = 4
min_words = 20
tasks = ["bpb"]

[runs.demo]
corpus = "small"
[runs.demo.mixture]
sequence_length = 16
batch_size = 4
steps = 12
[runs.demo.training]
layers = 2
warmup_steps = 5
dtype = "fp32"
compile = "off"

[finetunes.demo-source]
base = "demo"
task = "classifier"
[finetunes.demo-source.training]
max_steps = 10
"""

WHO = ("The miller", "A tall sailor", "My old aunt", "The clerk of the court", "Every gardener", "That same printer")
DID = ("carried", "counted", "forgot", "painted", "mended", "described")
WHAT = ("the copper kettles", "a row of winter pears", "the bells of the abbey", "two letters from the coast")
WHERE = ("behind the north wall", "at the end of the long market", "in a house without windows", "on the last ferry")


def prose(number: int, sentences: int = 4) -> str:
    """A few sentences that no other number gives."""
    return " ".join(
        f"{WHO[(number + i) % 6]} {DID[(number * i + i) % 6]} {WHAT[(number // 6 + i) % 4]} {WHERE[(number + i * i) % 4]}, "
        f"and in the year {1400 + 7 * number + i} the people of parish {number * 31 + i} spoke of it."
        for i in range(sentences)
    )


def records() -> dict[str, list[str]]:
    """Lines of the two sources: twins across them, text that looks like markup, an address, a short and a torn one."""
    poems = [{"id": f"p{n}", "text": prose(n)} for n in range(24)]
    letters = [{"id": f"l{n}", "text": prose(100 + n)} for n in range(16)]
    letters += [
        {"id": "twin", "text": prose(3)},
        {"id": "mail", "text": prose(150) + " Write to m.clerk@abbey.example.org for the rest of it."},
        {"id": "markup", "text": prose(151) + " The sign said [bold]no entry[/] and [/red] | nothing else | at all."},
        {"id": "short", "text": "Too short."},
    ]
    return {
        "poems": [json.dumps(record) for record in poems],
        "letters": [*(json.dumps(record) for record in letters), '{"id": "torn", "text": "It'],
    }


class Place:
    """A folder with sources, spec and store, and the command line on them, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec_path, self.url = folder / "stemma.toml", folder / "store"

    @classmethod
    def new(cls, folder: Path, text: str = SPEC) -> "Place":
        folder.mkdir(parents=True)
        for name, lines in records().items():
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "stemma.toml").write_text(text)
        return cls(folder)

    @property
    def store(self) -> Store:
        return Store(self.url)

    @property
    def spec(self) -> Spec:
        return Spec.load(self.spec_path)

    def edit(self, before: str, after: str) -> None:
        text = self.spec_path.read_text()
        assert before in text, f"{before!r} is not in the spec"
        self.spec_path.write_text(text.replace(before, after, 1))

    def copy(self, folder: Path) -> "Place":
        shutil.copytree(self.folder, folder, copy_function=shutil.copy)
        return Place(folder)

    def keys(self, run: str = "demo") -> list[Key]:
        """Every key that a run stands on, upstream first."""
        spec, found = self.spec, {}

        def collect(key: Key) -> None:
            for need in BLUEPRINTS[key.asset](spec, key.partition).needs if key not in found else ():
                collect(need)
            found[key] = None

        for key in ends_of_run(spec, run):
            collect(key)
        return sorted(found, key=lambda key: ORDER.index(key.asset))

    def pretend(self, key: Key, text: str = "") -> Artifact:
        """Seal and publish a key as its blueprint says, with this text for bytes."""
        blueprint = BLUEPRINTS[key.asset](self.spec, key.partition)
        store, under = self.store, blueprint.under or key
        facts = {"partition": key.partition} if key.asset == "champion" else {}

        def make(draft):
            draft.path("text.txt").write_text(text or str(key))
            return draft.seal(facts=facts)

        return build(
            store, under, blueprint.version, blueprint.recipe, blueprint.open(store), make, numerics=blueprint.numerics
        ).artifact

    def seal(self, key: Key, write: Callable, inputs=(), **seal) -> Artifact:
        """Publish what ``write`` writes under a key, whatever the blueprints say of it."""

        def make(draft):
            return draft.seal(parts=write(draft) or (), **seal)

        return build(self.store, key, "1", Recipe(), list(inputs), make, force=True).artifact


@pytest.fixture(scope="session")
def _outline(tmp_path_factory) -> Place:
    place = Place.new(tmp_path_factory.mktemp("outline") / "place")
    for key in place.keys():
        place.pretend(key)
    return place


@pytest.fixture
def outline(_outline, tmp_path) -> Place:
    """Every asset of a run in name: right recipes, inputs and digests, a line of text each. Yours to change."""
    return _outline.copy(tmp_path / "outline")


@pytest.fixture
def blank(tmp_path) -> Place:
    """Sources and a spec, no store."""
    return Place.new(tmp_path / "blank")


@pytest.fixture(scope="session")
def _library(tmp_path_factory) -> Place:
    place = Place.new(tmp_path_factory.mktemp("library") / "place")
    spec, store = place.spec, place.store
    for key in place.keys():
        if key.asset == "pretrained_model":
            break
        build_key(spec, store, key)
    name_checkpoint(place)
    return place


@pytest.fixture
def library(_library) -> Place:
    """Two sources from raw text to the plan of a run, and a checkpoint without weights. Read only."""
    return _library


@pytest.fixture
def own_library(_library, tmp_path) -> Place:
    """A library that a test may damage."""
    return _library.copy(tmp_path / "library")


def name_checkpoint(place: Place, **facts) -> Artifact:
    """A checkpoint whose bytes are no weights, with the mixture and the consumption digest of a real one."""
    from pipelines.consumption import recompute_consumption
    from pipelines.provenance.trace import Tracer

    mixed = place.store.open("mixture", "demo")

    def write(draft):
        draft.path("model.safetensors").write_bytes(b"no weights")
        draft.write("losses.arrow", pa.table({"step": [1, 6, 12], "loss": [5.5, 4.0, 3.25]}))

    found = {"step": 12, "tokens": 768, "parameters": 1234, "heldout_bpb": 2.5, "heldout_bpb_clean": None}
    found |= {"unigram_bpb": 4.0, "bigram_bpb": 3.0, "trigram_bpb": 2.75} | facts
    key = Key("pretrained_model", "demo")
    tracer = Tracer(mixed)
    fed = recompute_consumption(tracer.plan, tracer.readers, 12)
    return place.seal(key, write, [mixed], facts={"consumption": fed} | found)


@pytest.fixture
def stemma(monkeypatch, capfd):
    """Run a command in this process, as main() would; returns what it printed after checking the exit code."""

    def run(place: Place, *arguments: str, code: int = 0) -> str:
        from assets.cli import console, main

        monkeypatch.setattr(console, "_width", 130)  # whatever COLUMNS or a terminal say
        monkeypatch.setenv("STEMMA_STORE", str(place.url))
        monkeypatch.setenv("STEMMA_SPEC", str(place.spec_path))
        monkeypatch.setattr(sys, "argv", ["stemma", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capfd.readouterr()
        assert (ended.value.code or 0) == code, said.out + said.err
        return said.out + said.err

    def as_json(place: Place, *arguments: str, code: int = 0):
        return json.loads(run(place, *arguments, "--json", code=code))

    run.json = as_json
    return run


def doc_id(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


@pytest.fixture(scope="session")
def worlds() -> SimpleNamespace:
    """What tests of this room build by hand, since no test imports its conftest."""
    return SimpleNamespace(SPEC=SPEC, Place=Place, doc_id=doc_id, prose=prose, name_checkpoint=name_checkpoint)
