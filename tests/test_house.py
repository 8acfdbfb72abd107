"""The house: imports run one way, as the data does, and dagster appears in assets/ alone."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
ROOMS = ("pipelines", "training", "evals", "assets")
FOUNDATION = {"numpy", "pyarrow", "blake3", "pydantic", "fsspec"}  # what provenance may need (fsspec: remote stores)
TRAINER = {"torch", "numpy", "pyarrow", "safetensors", "pydantic", "blake3"}


def imported(tree: ast.AST, package: str, top_level_only: bool = False) -> set[str]:
    """Dotted names of everything that is imported: statements, relative ones resolved, and import_module calls."""
    found: set[str] = set()
    nodes = tree.body if top_level_only else list(ast.walk(tree))  # type: ignore[attr-defined]
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            found.add(".".join([*base, *([node.module] if node.module else [])]))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            if name in ("import_module", "__import__", "find_spec", "run_module"):
                found.add(str(node.args[0].value))
    return found


def forbidden(source: str, path: str) -> list[str]:
    """Imports that a file at this path may not have."""
    room = path.split("/", maxsplit=1)[0]
    package = ".".join(path.split("/")[:-1])
    names = imported(ast.parse(source), package)
    wrong = []
    for name in sorted(names):
        top = name.split(".")[0]
        if top in ROOMS and ROOMS.index(top) > ROOMS.index(room):
            wrong.append(f"{path} imports {name}: {room} stands to the left of {top}")
        if top == "dagster" and room != "assets":
            wrong.append(f"{path} imports dagster, which appears in assets/ alone")
    return wrong


FILES = sorted(str(p.relative_to(CHECKOUT)) for room in ROOMS for p in (CHECKOUT / room).rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_imports_run_one_way(path):
    assert forbidden((CHECKOUT / path).read_text(encoding="utf-8"), path) == []


@pytest.mark.parametrize(
    ("path", "planted"),
    [
        ("pipelines/clean.py", "import dagster"),
        ("pipelines/clean.py", "import dagster as dg"),
        ("pipelines/clean.py", "from dagster import asset"),
        ("pipelines/clean.py", "def f():\n    from training.loop import train"),
        ("training/loop.py", "from evals import scores"),
        ("training/loop.py", "from ..evals import scores"),
        ("pipelines/provenance/store.py", "from ...assets import definitions"),
        ("evals/scores.py", "import importlib\nimportlib.import_module('assets.definitions')"),
        ("evals/scores.py", "__import__('dagster')"),
        ("training/models/gpt.py", "try:\n    import evals.scores as s\nexcept ImportError:\n    s = None"),
    ],
)
def test_a_planted_wrong_import_is_found(path, planted):
    assert forbidden(planted, path)


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("training/run.py", "def f():\n    import dagster_pipes"),
        ("evals/scores.py", "from pipelines.provenance.store import Store\nfrom training import recipes"),
        ("assets/definitions.py", "import dagster as dg"),
    ],
)
def test_an_allowed_import_is_not_reported(path, allowed):
    assert forbidden(allowed, path) == []


def third_party(names: set[str]) -> set[str]:
    return {n.split(".")[0] for n in names} - set(sys.stdlib_module_names) - set(ROOMS) - {"__future__", ""}


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("pipelines/provenance/")])
def test_provenance_needs_four_libraries(path):
    names = imported(ast.parse((CHECKOUT / path).read_text(encoding="utf-8")), "pipelines.provenance")
    assert third_party(names) <= FOUNDATION


@pytest.mark.parametrize("path", [p for p in FILES if p.startswith("training/")])
def test_the_trainer_imports_little_at_module_level(path):
    tree = ast.parse((CHECKOUT / path).read_text(encoding="utf-8"))
    assert third_party(imported(tree, "training", top_level_only=True)) <= TRAINER


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_definitions_load_without_the_heavy_libraries():
    loaded = loaded_by("import assets.definitions")
    assert not loaded & {"torch", "transformers", "lm_eval", "ray", "sklearn", "datasets", "numba", "matplotlib"}
    assert "dagster" in loaded


def test_the_audit_needs_neither_dagster_nor_torch():
    loaded = loaded_by(
        "import assets.verbs, assets.cli_audit, assets.cli_audit_document, pipelines.provenance.verify, pipelines.provenance.trace"
    )
    assert not loaded & {"dagster", "torch", "polars", "numba", "tokenizers", "datasketch"}


def test_no_room_without_a_noun():
    named = [p for p in FILES if Path(p).stem in ("utils", "util", "common", "helpers", "helper", "misc")]
    assert named == []


def test_no_unsafe_loading():
    for path in FILES:
        calls = [
            ast.unparse(n.func)
            for n in ast.walk(ast.parse((CHECKOUT / path).read_text(encoding="utf-8")))
            if isinstance(n, ast.Call)
        ]
        assert not {"torch.load", "pickle.load", "pickle.loads", "eval", "exec"} & set(calls), path
