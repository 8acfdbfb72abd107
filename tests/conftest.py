"""One small end-to-end run, shared by every test that looks at a finished store. Tests that write take a copy."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from filelock import FileLock

from pipelines.provenance.store import Store
from pipelines.spec import Spec
from tests.workers import in_order, keep_to_own_cores

CHECKOUT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = ("datasketch", "structlog", "tomlkit", "typer")

SPEC = """\
default_run = "demo"
{sources}
[sources."notes/1"]
reader = "jsonl"
path = "notes.jsonl"
license = "CC-BY-4.0"
id_field = "id"
cleaning = "docs"

[cleaning.docs]
preset = "docs"
min_words = 20
min_mean_word_length = 2.5
max_mean_word_length = 15.0
max_ellipsis_ratio = 0.2
min_alpha_words_ratio = 0.35
min_stop_words = 1
min_language_confidence = 0.02

[corpora.small]
sources = [{names}]
vocabulary = "docs-2048"
suites = ["docs"]
[corpora.small.heldout]
ratio = 0.15

[vocabularies.docs-2048]
corpus = "small"
[vocabularies.docs-2048.recipe]
size = 512

[suites.docs]
corpus = "small"
[suites.docs.recipe]
max_items = 12

[runs.demo]
corpus = "small"
[runs.demo.mixture]
sequence_length = 64
batch_size = 8
steps = 130
[runs.demo.training]
layers = 2
width = 64
heads = 2
kv_heads = 1
mlp_width = 128
checkpoint_every = 25
warmup_steps = 5
dtype = "fp32"

[finetunes.demo-source]
base = "demo"
task = "classifier"
[finetunes.demo-source.training]
max_steps = 10
[finetunes.demo-source.data]
max_tokens = 64
min_examples = 10

[finetunes.demo-summary]
base = "demo"
task = "summary"
[finetunes.demo-summary.data]
max_tokens = 64
[finetunes.demo-summary.training]
max_steps = 10

[gate]
min_gain = -1.0
"""


def notes() -> list[str]:
    """Forty records; two are twins, one is not JSON, one has no text, one carries an e-mail address."""
    subjects = ["The river", "A quiet engine", "The old archive", "Every clerk", "That ledger", "The north gate"]
    verbs = ["keeps", "returns", "carries", "remembers", "describes", "measures"]
    objects = [
        "the names of the ships",
        "a list of the books that were lent",
        "the weight of the grain",
        "what the council decided",
        "the hours at which the tide turns",
        "the letters that were never sent",
    ]
    lines = []
    for n in range(36):
        text = " ".join(
            f"{subjects[(n + i) % 6]} {verbs[(n * i + i) % 6]} {objects[(n // 6 + i * n) % 6]} in the "
            f"year {1700 + n * 7 + i}, and nobody asked why it was so."
            for i in range(5)
        )
        lines.append(json.dumps({"id": f"n{n}", "text": text}))
    twin = json.loads(lines[3])
    lines.append(json.dumps({"id": "twin", "text": twin["text"]}))
    lines.append(json.dumps({"id": "mail", "text": twin["text"] + " Write to a.clerk@archive.example.org for that."}))
    lines += ['{"id": "torn", "text": ', json.dumps({"id": "empty-handed", "body": "no text here"})]
    return lines


def write_spec(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    keys = [f"pypi-docs.{name}/{metadata.version(name)}" for name in DISTRIBUTIONS]
    tables = "\n".join(f'[sources."{key}"]\nreader = "installed-docs"\ncleaning = "docs"' for key in keys)
    names = ", ".join(f'"{key}"' for key in [*keys, "notes/1"])
    (folder / "notes.jsonl").write_text("\n".join(notes()) + "\n")
    path = folder / "stemma.toml"
    path.write_text(SPEC.format(sources=tables, names=names))
    return path


@dataclass(frozen=True)
class Workplace:
    """A spec and a store, and the command line on them."""

    folder: Path

    @property
    def spec_path(self) -> Path:
        return self.folder / "stemma.toml"

    @property
    def url(self) -> Path:
        return self.folder / "store"

    @property
    def store(self) -> Store:
        return Store(self.url)

    @property
    def spec(self) -> Spec:
        return Spec.load(self.spec_path)

    def stemma(self, *arguments: str, code: int = 0, **variables: str) -> str:
        """Run the command as a person would; returns what it printed, after checking the exit code."""
        environment = {
            **os.environ,
            "STEMMA_STORE": str(self.url),
            "STEMMA_SPEC": str(self.spec_path),
            "COLUMNS": "200",
            **variables,
        }
        done = subprocess.run(
            [sys.executable, "-m", "assets", *arguments],
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == code, f"stemma {' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + (done.stderr if code else "")

    def json(self, *arguments: str, **options):
        return json.loads(self.stemma(*arguments, "--json", **options))

    def edit(self, before: str, after: str) -> None:
        text = self.spec_path.read_text()
        assert before in text, f"{before!r} is not in the spec"
        self.spec_path.write_text(text.replace(before, after, 1))

    def copy(self, folder: Path) -> "Workplace":
        """The same store and spec elsewhere: digests do not know where they lie."""
        shutil.copytree(self.folder, folder, copy_function=shutil.copy)
        return Workplace(folder)


def pytest_configure(config):
    keep_to_own_cores(config)


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        items[:] = in_order(items, shared="finished")


@pytest.fixture(scope="session", autouse=True)
def absl_leaves_our_streams_open():
    """absl, which rouge-score brings, keeps the sys.stderr that it meets first, here pytest's capture. When Dagster
    sets up its logging, every handler is closed, and this one closes its stream, unless it is the real one."""
    from absl import logging

    logging.get_absl_handler().python_handler.stream = sys.__stderr__


@pytest.fixture(scope="session")
def finished(request, tmp_path_factory) -> Workplace:
    """A whole run: raw text to audit bundle. Read only, also for other workers; use ``workplace`` to write.

    The first worker that asks builds it for all of them, the others wait at the lock.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if hasattr(request.config, "workerinput") else folder) / "finished"
    made, there = Workplace(folder), folder / "there"
    with FileLock(f"{folder}.lock"):
        if not there.exists():
            shutil.rmtree(folder, ignore_errors=True)  # another worker failed at it
            write_spec(folder)
            made.stemma("run")
            there.touch()
    return made


@pytest.fixture
def workplace(finished, tmp_path) -> Workplace:
    """A copy of the finished run that a test may change."""
    return finished.copy(tmp_path / "copy")


@pytest.fixture
def empty(tmp_path) -> Workplace:
    """A spec without a store."""
    write_spec(tmp_path / "new")
    return Workplace(tmp_path / "new")
