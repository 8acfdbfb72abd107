"""The graph itself, as a snapshot: keys, what they stand on, groups, partitions, checks. A change is a visible diff.

Renew: python -m tests.test_graph > tests/golden/graph.json, and read the diff.
"""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets.blueprint import BLUEPRINTS, ORDER
from assets.definitions import defs

GOLDEN = Path(__file__).parent / "golden" / "graph.json"
CHECKOUT = Path(__file__).resolve().parent.parent


def snapshot() -> dict:
    graph = defs.resolve_asset_graph()
    assets = {}
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        assets[key.to_user_string()] = {
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "group": node.group_name,
            "owners": sorted(node.owners),
            "kinds": sorted(node.kinds),
            "partitions": node.partitions_def.name
            if isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
            else None,
            "checks": sorted(check.name for check in node.check_keys),
        }
    return assets


def test_the_graph_is_the_one_in_the_snapshot():
    assert snapshot() == json.loads(GOLDEN.read_text())


def test_every_asset_has_a_blueprint_and_every_blueprint_an_asset():
    assert set(snapshot()) == set(BLUEPRINTS) == set(ORDER)


def test_every_asset_speaks_of_its_data_and_has_an_owner():
    for key in defs.resolve_asset_graph().get_all_asset_keys():
        node = defs.resolve_asset_graph().get(key)
        assert node.description, key
        assert len(node.description) > 40, key
        assert node.owners, key
        assert node.code_version, key


def test_the_definitions_can_be_loaded_by_dagster():
    dg.Definitions.validate_loadable(defs)


@pytest.mark.parametrize(
    "command",
    [["dg", "check", "defs"], ["dg", "list", "defs", "--json"], ["dagster", "definitions", "validate"]],
    ids=" ".join,
)
def test_dagsters_own_commands_work_from_the_checkout(command, tmp_path):
    import os

    program = Path(sys.executable).with_name(command[0])
    environment = {**os.environ, "DAGSTER_HOME": str(tmp_path), "STEMMA_STORE": str(tmp_path / "store")}
    done = subprocess.run(
        [program, *command[1:]], cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_help_teaches_every_verb():
    """dg --help shows no commands with typer 0.26 and newer; ours must, too."""
    done = subprocess.run(
        [sys.executable, "-m", "assets", "--help"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    for verb in ("run", "ui", "status", "show", "generate", "export", "artifacts", "gc", "audit", "source"):
        assert verb in done.stdout
    program = Path(sys.executable).with_name("dg")
    assert "launch" in subprocess.run([program, "--help"], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.stdout.write(json.dumps(snapshot(), indent=1, sort_keys=True) + "\n")
