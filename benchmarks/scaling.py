"""A scaling law on the demo's corpus: four sizes by three budgets of tokens, and a fifth size that the law predicts.

There is no peer: the measure is by how much the law misses the run that it was not fitted to. ``--quick`` trains smaller
runs on fewer tokens. ``--store`` goes on in a store where some of it is done (another number of cores is another run).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.report import report, versions

CHECKOUT = Path(__file__).resolve().parent.parent
RUNG = """
[runs.rung]
corpus = "small"
[runs.rung.mixture]
sequence_length = 128
batch_size = 8
[runs.rung.training]
warmup_steps = 20

[sweeps.ladder]
base = "rung"
"""
LADDER = """tokens = [200_000, 400_000, 800_000]
held_back = "w192"
[sweeps.ladder.sizes] # one depth; rates fall with the square root of the width, from 3e-3 at 128
w32 = { layers = 4, width = 32, learning_rate = 0.006 }
w64 = { layers = 4, width = 64, learning_rate = 0.0042 }
w96 = { layers = 4, width = 96, learning_rate = 0.0035 }
w128 = { layers = 4, width = 128, learning_rate = 0.003 }
w192 = { layers = 4, width = 192, learning_rate = 0.0024 }
"""
QUICK = """tokens = [50_000, 100_000, 200_000]
held_back = "w96"
[sweeps.ladder.sizes]
w16 = { layers = 1, width = 16 }
w32 = { layers = 2, width = 32 }
w64 = { layers = 2, width = 64 }
w96 = { layers = 3, width = 96 }
"""


def swept(spec: Path, store: Path) -> dict[str, Any]:
    """What `stemma run ladder --json` says at its end."""
    environment = {**os.environ, "STEMMA_STORE": str(store), "STEMMA_SPEC": str(spec)}
    command = [sys.executable, "-m", "assets", "run", "ladder", "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ten small runs; a law of no great worth")
    parser.add_argument("--store", type=Path, help="a store to go on in [default: a new one]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "stemma.toml"
        shipped = (CHECKOUT / "stemma.toml").read_text(encoding="utf-8")
        spec.write_text(shipped + RUNG + (QUICK if options.quick else LADDER), encoding="utf-8")
        began = time.perf_counter()
        found = swept(spec, options.store or Path(folder) / "store")
        show(found, built=found["built"], seconds=round(time.perf_counter() - began, 1))


def show(found: dict[str, Any], **figures: Any) -> None:
    """What `stemma scaling ladder --json` says."""
    rows = [
        [row["run"].removeprefix("ladder/"), f"{row['N']:,}", f"{row['D']:,}", f"{row['loss']:.4f}",
         f"{row['predicted']:.4f}", f"{row['low']:.4f} to {row['high']:.4f}", f"{row['predicted'] / row['loss'] - 1:+.2%}",
         "held back" if row["held_back"] else ""]
        for row in found["runs"]
    ]  # fmt: skip
    rows += [
        [name, "", "", f"{each['value']:.4g}", "", f"{each['low']:.4g} to {each['high']:.4g}", "", ""]
        for name, each in found["constants"].items()
    ]
    held = [row for row in found["runs"] if row["held_back"]]
    report(
        "scaling",
        rows,
        ("run", "parameters", "tokens", "bits per byte", "law", "95 % interval", "off", ""),
        ratios={},
        constants=found["constants"],
        missed_by={row["run"]: round(row["predicted"] / row["loss"] - 1, 5) for row in held},
        **figures,
        versions=versions("torch", "scipy"),
    )


if __name__ == "__main__":
    main()
