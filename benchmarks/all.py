"""`make bench`: every benchmark, its output kept in benchmarks/results/."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

NOT_BENCHMARKS = {
    "__init__",
    "all",
    "report",
    "peer",
    "planted",
    "dedup_growth",
}  # nor what runs in a peer's environment, NAME_peer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="each within five minutes")
    options = parser.parse_args()
    here = Path(__file__).resolve().parent
    names = sorted(
        path.stem for path in here.glob("*.py") if path.stem not in NOT_BENCHMARKS and not path.stem.endswith("_peer")
    )
    failed = []
    for name in names:
        sys.stdout.write(f"== {name}\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, cwd=here.parent, env={**os.environ, "STEMMA_BENCH_SAVE": "1"}, check=False)
        if done.returncode:
            failed.append(name)
    if failed:
        sys.stdout.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
