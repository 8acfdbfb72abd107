"""Scale: ingest and cleaning of growing inputs, their resident memory, and what a second worker brings.

No peer: the claims are about Stemma against itself. Cost per byte must stay the same, memory must not grow with the
input, and two workers must do the work of nearly two. The input are real documents (the docstrings of installed
distributions), numbered so that no two are equal, in files of JSON lines of 100 MB, cleaned with preset ``docs``, which
keeps and so masks most of them; every signal of every family is measured. Seconds are wall time of one process tree;
resident memory is the largest sum over its processes, read every 100 ms, shared pages counted once in each. One worker
and two alternate; up to 400 MB three times, and the median is printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.ingest import real_texts
from benchmarks.report import report, versions

FILE_BYTES = 100_000_000
ROUNDS = 3  # of each number of workers, alternating


def write_input(folder: Path, num_bytes: int) -> int:
    """Files of JSON lines with ``num_bytes`` of text at least; returns what their texts hold."""
    texts, number, total = real_texts(), 0, 0
    folder.mkdir()
    while total < num_bytes:
        in_file = 0
        with (folder / f"{number:08d}.jsonl").open("w", encoding="utf-8") as file:
            while in_file < FILE_BYTES and total < num_bytes:
                text = f"{number}: {texts[number % len(texts)]}"
                file.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
                in_file += len(text.encode())
                total += len(text.encode())
                number += 1
    return total


def stages(data: Path, store: Path, workers: int) -> None:
    """What a child process does: take the folder in and clean it, and say how long each took."""
    from pipelines.clean import CLEAN_VERSION, clean
    from pipelines.clean_recipe import docs
    from pipelines.ingest import INGEST_VERSION, ingest
    from pipelines.provenance.manifest import Key
    from pipelines.provenance.memo import build
    from pipelines.provenance.store import Store
    from pipelines.sources import IngestRecipe

    place, seconds, key = Store(store), {}, "bench/1"
    reading, cleaning = (
        IngestRecipe(reader="jsonl", source="bench", snapshot="1", id_field="id"),
        docs(),
    )
    started = time.perf_counter()
    raw = build(
        place, Key("raw_documents", key), INGEST_VERSION, reading, [],
        lambda draft: ingest(reading, draft, path=data, workers=workers),
    ).artifact  # fmt: skip
    seconds["ingest"] = time.perf_counter() - started
    started = time.perf_counter()
    done = build(
        place, Key("clean_documents", key), CLEAN_VERSION, cleaning, [raw],
        lambda draft: clean(raw, cleaning, draft, workers=workers),
    ).artifact  # fmt: skip
    seconds["clean"] = time.perf_counter() - started
    sys.stdout.write(json.dumps({**seconds, "documents": done.counts["seen"], "digest": done.digest}) + "\n")


def measured(data: Path, store: Path, workers: int) -> dict[str, Any]:
    """The seconds of both stages in a process tree of their own, and its largest resident memory in bytes."""
    import psutil

    command = [sys.executable, "-m", "benchmarks.scale", "--stages", str(data), str(store), str(workers)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parent.parent)
    process, peak = psutil.Process(child.pid), 0
    while child.poll() is None:
        total = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_info().rss
            except psutil.Error:  # it ended in between
                continue
        peak = max(peak, total)
        time.sleep(0.1)  # a look costs 1 ms of a core that the workers want
    if child.returncode or child.stdout is None:
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}.")
    return {**json.loads(child.stdout.read()), "resident": peak}


def compared(folder: Path, megabytes: int) -> tuple[int, dict[int, dict[str, float]]]:
    """Bytes of text, and what one and two workers took for an input of this size; their artifacts must agree."""
    data, store, runs = folder / f"{megabytes}", folder / "store", {1: [], 2: []}
    num_bytes = write_input(data, megabytes * 1_000_000)
    for workers in (1, 2) * (ROUNDS if megabytes <= 400 else 1):
        runs[workers].append(measured(data, store, workers))
        shutil.rmtree(store)
    shutil.rmtree(data)
    digests = {one["digest"] for taken in runs.values() for one in taken}
    if len(digests) > 1:
        raise SystemExit(f"{megabytes} MB: one worker and two made unequal artifacts: {sorted(digests)}.")
    names = ("ingest", "clean", "resident")
    return num_bytes, {w: {n: statistics.median(one[n] for one in taken) for n in names} for w, taken in runs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 and 400 MB instead of 100, 400, 1,600 and 2,000 MB")
    parser.add_argument("--stages", nargs=3, metavar=("DATA", "STORE", "WORKERS"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.stages:
        stages(Path(asked.stages[0]), Path(asked.stages[1]), int(asked.stages[2]))
        return
    sizes = (100, 400) if asked.quick else (100, 400, 1600, 2000)
    with tempfile.TemporaryDirectory() as scratch:
        compared(Path(scratch), 10)  # kernels and file caches, outside the clock
        found = {size: compared(Path(scratch), size) for size in sizes}
    rows, speeds, residents, gains = [], {}, {}, {}
    for size, (num_bytes, by_workers) in found.items():
        totals = {workers: one["ingest"] + one["clean"] for workers, one in by_workers.items()}
        gains[size] = round(totals[1] / totals[2], 2)
        for workers, one in by_workers.items():
            name = f"{size} MB, {workers} workers"
            speeds[name] = round(num_bytes / 1e6 / totals[workers], 1)
            residents[name] = round(one["resident"] / 1e6)
            parts = [f"{one[stage]:.1f}" for stage in ("ingest", "clean")]
            gain = f"{gains[size]:.2f}x" if workers == 2 else ""
            rows.append([f"{size} MB", workers, *parts, speeds[name], residents[name], gain])
    first, last = (speeds[f"{size} MB, 1 workers"] for size in (sizes[0], sizes[-1]))
    report(
        "scale",
        rows,
        ("input", "workers", "ingest s", "clean s", "MB/s", "resident MB", "gain"),
        ratios={"two_workers": gains[sizes[-1]], "cost_per_byte_last_to_first": round(first / last, 3)},
        mb_s=speeds,
        resident_mb=residents,
        two_workers=gains,
        versions=versions("pyarrow", "polars", "numba"),
    )


if __name__ == "__main__":
    main()
