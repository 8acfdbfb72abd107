"""Near-duplicate removal as peers do it, in environments of their own: a question a line, an answer a line.

Run by ``benchmarks/dedup.py``; imports nothing of Stemma. Every contestant reads a file of documents (``id``,
``text``), uses word 5-grams and 14 bands of 8 rows, and writes the documents that stay. Seconds are of processor
time, its children's included.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

NGRAM, BANDS, ROWS, THRESHOLD = 5, 14, 8, 0.8
WORD = re.compile(r"\w+")


def datatrove(folder: Path, out: Path) -> set[str]:
    """The four stages of its MinHash pipeline, one worker."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)
    places = {name: str(out / name) for name in ("signatures", "buckets", "remove", "kept", "logs")}
    reader = JsonlReader(str(folder), glob_pattern="documents.jsonl", compression=None)
    stages = [
        ([reader, MinhashDedupSignature(places["signatures"], config=config)], 1),
        ([MinhashDedupBuckets(places["signatures"], places["buckets"], config=config)], BANDS),
        ([MinhashDedupCluster(places["buckets"], places["remove"], config=config)], 1),
        ([reader, MinhashDedupFilter(places["remove"]), JsonlWriter(places["kept"], compression=None)], 1),
    ]
    for number, (pipeline, tasks) in enumerate(stages):
        logs = f"{places['logs']}/{number}"
        LocalPipelineExecutor(pipeline=pipeline, tasks=tasks, workers=1, logging_dir=logs).run()
    lines = (line for path in (out / "kept").glob("*.jsonl") for line in path.open(encoding="utf-8"))
    return {json.loads(line)["id"] for line in lines}


def text_dedup(folder: Path, out: Path) -> set[str]:
    """Its MinHash command with verification off, as its defaults have it."""
    from datasets import load_from_disk
    from text_dedup.config.base import load_config_from_toml
    from text_dedup.minhash import main

    out.mkdir(parents=True)
    said = out / "config.toml"
    said.write_text(
        "debug = {}\n"
        "[input]\ninput_type = 'local_files'\nfile_type = 'parquet'\n"
        f"[input.read_arguments]\npath = 'parquet'\ndata_files = '{folder / 'documents.parquet'}'\n"
        f"split = 'train'\ncache_dir = '{out / 'cache'}'\n"
        "[algorithm]\nalgorithm_name = 'minhash'\ntext_column = 'text'\nnum_proc = 1\nmin_length = 1\n"
        f"ngram_size = {NGRAM}\nnum_perm = {BANDS * ROWS}\nbands = {BANDS}\nrows = {ROWS}\nthreshold = {THRESHOLD}\n"
        f"[output]\noutput_dir = '{out / 'kept'}'\n",
        encoding="utf-8",
    )
    main(load_config_from_toml(said))
    return set(load_from_disk(str(out / "kept"))["id"])


def rensa(folder: Path, out: Path) -> set[str]:
    """R-MinHash of every shingle with the documented deduplicator, shingles made in Python."""
    import pyarrow as pa
    from pyarrow import parquet
    from rensa import RMinHashDeduplicator

    found = RMinHashDeduplicator(threshold=THRESHOLD, num_perm=BANDS * ROWS, use_lsh=True, num_bands=BANDS, seed=1)
    source, kept = parquet.ParquetFile(folder / "documents.parquet"), set()
    out.mkdir(parents=True)
    with parquet.ParquetWriter(out / "kept.parquet", source.schema_arrow, compression="none") as writer:
        for batch in source.iter_batches(1000):
            names = batch["id"].to_pylist()
            keep = found.add_pairs(zip(names, map(shingles, batch["text"].to_pylist()), strict=True))
            writer.write_batch(batch.filter(pa.array(keep)))
            kept.update(name for name, stays in zip(names, keep, strict=True) if stays)
    return kept


def shingles(text: str) -> list[str]:
    """Word 5-grams; a shorter text is one shingle."""
    words = WORD.findall(text.lower())
    return list(grams(words)) if len(words) > NGRAM else [" ".join(words)]


def grams(words: list[str]) -> Iterator[str]:
    return map(" ".join, zip(*(words[start:] for start in range(NGRAM)), strict=False))


def answer(question: dict) -> dict:
    if question["ask"] == "version":
        return {"version": metadata.version(question["name"])}
    out = Path(question["out"])
    shutil.rmtree(out, ignore_errors=True)
    run = {"datatrove": datatrove, "text-dedup": text_dedup, "rensa": rensa}[question["ask"]]
    started = processor_seconds()
    wall = time.perf_counter()
    kept = run(Path(question["folder"]), out)
    seconds, wall = processor_seconds() - started, time.perf_counter() - wall
    Path(question["answer"]).write_text(json.dumps(sorted(kept)), encoding="utf-8")
    return {"seconds": seconds, "wall": wall, "resident": peak_resident()}


def peak_resident() -> int:
    """Bytes, of this process; getrusage would tell the peak of the parent that forked it."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def processor_seconds() -> float:
    return sum(os.times()[:4])


if __name__ == "__main__":
    said, errors = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")
    for stream in (1, 2):  # progress bars and logs of the peers are no answer
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    try:
        for line in sys.stdin:
            said.write(json.dumps(answer(json.loads(line))) + "\n")
            said.flush()
    except Exception:
        errors.write(traceback.format_exc())
        raise
