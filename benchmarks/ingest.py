"""Ingest: one core from a file on disk to documents on disk, beside datatrove's readers and writer.

Stemma hashes the file, reads it, names every document by the hash of its content, judges it and writes documents,
texts and fates as a sealed artifact. datatrove reads the file and writes its own JSON lines, uncompressed. Both read
the same file, in turns; documents and characters must agree. Seconds are those of the processor, of all threads of
the one process, so waiting for the disk is charged to neither and a busy machine disturbs neither.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from benchmarks.peer import Peer, python_with
from benchmarks.report import report, versions
from pipelines.distributions import documentation, listed_documents
from pipelines.documents import doc_id
from pipelines.ingest import INGEST_VERSION, ingest
from pipelines.provenance.manifest import Key, hashed
from pipelines.provenance.memo import build
from pipelines.provenance.store import Store
from pipelines.sources import IngestRecipe, listing, source_records

PEER = ("datatrove[io]==0.10.1", "orjson")
TEXTS_OF = ("numpy", "networkx", "pyarrow", "polars")  # real documents: the docstrings of these distributions
PAGE_BYTES = 5000  # of text on a page of the web (FineWeb: about 3 to 5 kB)
FORMATS = {"jsonl": "a.jsonl", "jsonl.gz": "a.jsonl.gz", "parquet": "a.parquet"}


def real_texts() -> list[str]:
    """The documentation of some distributions of this environment."""
    texts = []
    for name in TEXTS_OF:
        found = metadata.distribution(name)
        root, files = listed_documents(found)
        records = documentation(found, root, [f.path for f in files], 150, "")
        texts += [record.text for record in records if not record.problem]
    return texts


def written(folder: Path, num_bytes: int) -> tuple[int, int]:
    """The same documents in three formats; how many, and the bytes of their texts."""
    texts, rows, size = real_texts(), [], 0
    while size < num_bytes:
        number = len(rows)
        text = f"{number}: {texts[number % len(texts)]}"
        rows.append({"id": str(number), "url": f"https://example.com/{number}", "text": text})
        size += len(text.encode())
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    (folder / "a.jsonl").write_bytes(lines)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(lines, 6))
    parquet.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", compression="zstd", row_group_size=10_000)
    return len(rows), size


def recipe(name: str) -> IngestRecipe:
    reader = "parquet" if name.endswith(".parquet") else "jsonl"
    return IngestRecipe(reader=reader, source="bench", snapshot="1", id_field="id", url_field="url")


def taken_in(folder: Path, name: str) -> tuple[float, int]:
    """Processor seconds and documents of one ingest into a fresh store."""
    said, home = recipe(name), folder / "store"
    shutil.rmtree(home, ignore_errors=True)
    started = time.process_time()
    made = build(
        Store(home), Key("raw_documents", "bench/1"), INGEST_VERSION, said, [],
        lambda draft: ingest(said, draft, path=folder / name, workers=1),
    ).artifact  # fmt: skip
    return time.process_time() - started, made.counts["kept"]


def read_seconds(folder: Path, name: str) -> tuple[float, int]:
    """Processor seconds of reading alone, and the characters that were read."""
    said = recipe(name)
    started = time.process_time()
    chars = sum(len(r.text) for r in source_records(said, listing(said, folder / name, is_hashed=False)))
    return time.process_time() - started, chars


def hash_speeds(folder: Path) -> dict[str, float]:
    """MB/s of the hash of a file (blake3), and of the names of documents (SHA-256 of each) as they are and of 5 kB."""
    said = recipe("a.parquet")
    texts = [r.text.encode() for r in source_records(said, listing(said, folder / "a.parquet", is_hashed=False))]
    joined = b"".join(texts)
    pages = [joined[start : start + PAGE_BYTES] for start in range(0, len(joined), PAGE_BYTES)]
    return {
        "file": speed((folder / "a.jsonl").stat().st_size, lambda: hashed(folder / "a.jsonl")),
        "documents": speed(len(joined), lambda: [doc_id("bench", "", text, 0) for text in texts]),
        f"documents of {PAGE_BYTES} bytes": speed(
            len(joined), lambda: [doc_id("bench", "", page, 0) for page in pages]
        ),
    }


def speed(num_bytes: int, call: Callable[[], Any]) -> float:
    """MB/s of processor time, the best of five."""
    seconds = []
    for _ in range(5):
        started = time.process_time()
        call()
        seconds.append(time.process_time() - started)
    return round(num_bytes / 1e6 / min(seconds), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 MB and three rounds instead of 200 MB and five")
    quick = parser.parse_args().quick
    python = Path(os.environ.get("STEMMA_INGEST_PEER") or python_with("datatrove-ingest", *PEER))
    script = Path(__file__).with_name("ingest_peer.py")
    with tempfile.TemporaryDirectory() as scratch, Peer(python, script) as peer:
        folder = Path(scratch)
        num_docs, size = written(folder, 40_000_000 if quick else 200_000_000)
        rows, ratios, ours_mb_s, peer_mb_s, reading = [], {}, {}, {}, {}
        for form, name in FORMATS.items():
            ours, theirs, reads = [], [], []
            for _ in range(3 if quick else 5):
                seconds, kept = taken_in(folder, name)
                told = peer.ask(ask="copy", folder=str(folder), pattern=name, out=str(folder / "peer"))
                read, chars = read_seconds(folder, name)
                if not kept == told["documents"] == num_docs or chars != told["chars"]:
                    raise SystemExit(f"{form}: {kept} documents, {chars} characters; datatrove: {told}.")
                ours.append(seconds)
                theirs.append(told["seconds"])
                reads.append(read)
            speeds = [size / 1e6 / statistics.median(each) for each in (ours, theirs, reads)]
            ours_mb_s[form], peer_mb_s[form], reading[form] = (round(speed, 1) for speed in speeds)
            ratios[f"datatrove_{form.replace('.', '_')}"] = round(speeds[0] / speeds[1], 2)
            rows.append([form, *(f"{speed:.0f}" for speed in speeds), f"{speeds[0] / speeds[1]:.1f}x"])
        hashes = hash_speeds(folder)
        told = peer.ask(ask="versions")
    rows += [[f"hash of the {name}", f"{speed:.0f}", "", "", ""] for name, speed in hashes.items()]
    report(
        "ingest",
        rows,
        ("input", "Stemma MB/s", "datatrove MB/s", "Stemma, reading alone", "ratio"),
        ratios={"datatrove": min(ratios.values()), **ratios},
        mb_s=ours_mb_s,
        datatrove_mb_s=peer_mb_s,
        reading_mb_s=reading,
        hash_mb_s=hashes,
        documents=num_docs,
        num_bytes=size,
        versions={**versions("pyarrow", "orjson", "blake3"), **{f"peer {k}": v for k, v in told.items()}},
    )


if __name__ == "__main__":
    main()
