"""The demo: wall time, peak memory, the share of each stage, and what provenance costs.

There is no peer for the whole: the baseline is the demo's own work without sealing. Every attempt's record in the
ledger says how long it took and how much of that went into hashing, syncing and recording (``sealing_seconds``).
``--quick`` trains a tenth of the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.report import report, versions
from pipelines.provenance.files import open_files
from pipelines.provenance.ledger import entries

CHECKOUT = Path(__file__).resolve().parent.parent


def run(spec: Path, store: Path) -> tuple[float, int]:
    """Wall seconds of `stemma run`, and the peak resident bytes of its largest process."""
    environment = {**os.environ, "STEMMA_STORE": str(store), "STEMMA_SPEC": str(spec)}
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "assets", "run"], cwd=CHECKOUT, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def by_asset(store: Path) -> dict[str, tuple[float, float]]:
    """(seconds, seconds of sealing) of every asset; parts are inside their whole, but seal for themselves."""
    files = open_files(store)
    total: dict[str, float] = defaultdict(float)
    sealing: dict[str, float] = defaultdict(float)
    for entry in entries(files):
        if entry.event == "sealed":
            facts = json.loads(files.read(f"circumstances/{entry.circumstances}.json"))
            total[entry.asset] += 0.0 if entry.part else facts["seconds"]
            sealing[entry.asset] += facts["sealing_seconds"]
    return {asset: (total[asset], sealing[asset]) for asset in total}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="64 steps instead of 640; the gate then lets it pass")
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "stemma.toml"
        text = (CHECKOUT / "stemma.toml").read_text(encoding="utf-8")
        if parser.parse_args().quick:
            text = text.replace("steps = 640", "steps = 64").replace("min_gain = 0.1", "min_gain = -1.0")
        spec.write_text(text, encoding="utf-8")
        store = Path(folder) / "store"
        first, peak = run(spec, store)
        again, _ = run(spec, store)
        stages = by_asset(store)
        work, sealing = sum(t for t, _ in stages.values()), sum(s for _, s in stages.values())
        rows = [[asset, f"{t:.2f}", f"{t / work:.1%}", f"{s:.2f}"] for asset, (t, s) in stages.items()]
        rows += [
            ["all stages", f"{work:.1f}", "100%", f"{sealing:.2f}"],
            ["wall, first run", f"{first:.1f}", "", ""],
            ["wall, second run", f"{again:.1f}", "", ""],
            ["peak memory, MB", f"{peak / 1e6:.0f}", "", ""],
        ]
        report(
            "demo",
            rows,
            ("stage", "seconds", "share", "of that sealing"),
            ratios={},
            wall_seconds=round(first, 1),
            second_run_seconds=round(again, 2),
            peak_bytes=peak,
            sealing_share=round(sealing / work, 4),
            stages={a: round(t, 2) for a, (t, _) in stages.items()},
            versions=versions("torch", "dagster", "pyarrow", "polars"),
        )


if __name__ == "__main__":
    main()
