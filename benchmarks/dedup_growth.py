"""Stemma's deduplication of growing corpora: cost and memory by size, and what a new source costs.

Read by ``benchmarks/dedup.py``; no benchmark of its own. The text is real documents with their words in another order,
so that any amount of it has their words and lengths; of twenty documents one nearly repeats the one before it, and
one stands, but for some words, in other sources as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.planted import CHECKOUT, Named
from pipelines import dedup, signatures, unique
from pipelines.dedup import DedupRecipe
from pipelines.documents import CLEAN_SCHEMA, DOCUMENTS, TEXTS, TEXTS_SCHEMA
from pipelines.provenance import fates
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.signatures import SignatureRecipe
from pipelines.unique import UniqueRecipe

SOURCE_BYTES = 250_000_000
SHARED = 20_000  # documents that stand in several sources
WORDED = 10_000  # real documents whose words are taken


class Given(Recipe):
    """Stands for whatever made the input of the benchmark."""


def doc_id(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def clean_documents(store: Store, rows: Named, source: str = "bench/1") -> Artifact:
    """The input as the stages have it: a sealed artifact."""

    def make(draft: Draft) -> Artifact:
        ids = [doc_id(name) for name, _ in rows]
        data = [text.encode() for _, text in rows]
        empty = pa.array([""] * len(rows), pa.string())
        digests = pa.array([hashlib.sha256(text).digest() for text in data], pa.binary(32))
        columns: dict[str, Any] = {
            "doc_id": pa.array(ids, pa.binary(16)), "key": [name for name, _ in rows], "language": ["en"] * len(rows),
            "position": np.arange(len(rows)), "num_bytes": [len(text) for text in data], "num_words": [0] * len(rows),
            "sha256_in": digests, "sha256_out": digests,
        }  # fmt: skip
        draft.write(DOCUMENTS, pa.table([columns.get(n, empty) for n in CLEAN_SCHEMA.names], CLEAN_SCHEMA))
        draft.write(TEXTS, pa.table([columns["doc_id"], [text for _, text in rows]], TEXTS_SCHEMA))
        kept = fates.all_kept(columns["doc_id"])
        draft.write(fates.FILE, kept)
        return draft.seal(counts={"docs": len(rows), **fates.counted(kept)})

    return build(store, Key("clean_documents", source), "1", Given(), [], make).artifact


def deduplicated(
    store: Store, cleans: Sequence[Artifact], recipe: DedupRecipe, *, force: bool = True
) -> tuple[Artifact, Artifact]:
    """The three stages: duplicate_clusters and unique_documents; computed anew unless ``force`` is off."""
    signing, taking = SignatureRecipe(), UniqueRecipe()
    signed = [
        build(
            store, Key("signatures", clean.key.partition), signatures.VERSION, signing, [clean],
            lambda draft, clean=clean: signatures.sign(clean, signing, draft), force=force,
        ).artifact
        for clean in cleans
    ]  # fmt: skip
    clusters = build(
        store, Key("duplicate_clusters", "bench"), dedup.VERSION, recipe, [*cleans, *signed],
        lambda draft: dedup.cluster(cleans, signed, recipe, draft), force=force,
    ).artifact  # fmt: skip
    left = build(
        store, Key("unique_documents", "bench"), unique.VERSION, taking, [*cleans, clusters],
        lambda draft: unique.unique(cleans, clusters, taking, draft), force=force,
    ).artifact  # fmt: skip
    return clusters, left


def split(texts: list[str]) -> list[np.ndarray]:
    """The words of some of the texts, each word one object however often it occurs."""
    return [np.array([sys.intern(word) for word in text.split()], object) for text in texts[:WORDED]]


def grown(texts: list[np.ndarray], source: int, num_bytes: int) -> Iterator[tuple[str, str]]:
    """The documents of one source from split texts: any amount, the same for the same numbers."""
    dice, number, size, some = np.random.default_rng([3, source]), 0, 0, np.zeros(0, object)
    while size < num_bytes:
        if number % 20 == 9:  # the document before, but for its last words
            some = some[: max(1, len(some) * 19 // 20)]
        else:
            shared = int(dice.integers(SHARED)) if number % 20 == 19 else None
            which = dice if shared is None else np.random.default_rng([5, shared])
            some = texts[int(which.integers(len(texts)))]
            some = some[which.permutation(len(some))]
            if shared is not None and len(some) > 40:
                some = some[: len(some) - source % 3]
        text = " ".join(some.tolist())
        yield f"{source}-{number}", text
        number, size = number + 1, size + len(text.encode())


def clock() -> float:
    """Seconds of processor time, those of children included."""
    return sum(os.times()[:4])


def peak_resident() -> int:
    """Bytes; getrusage would tell the peak of the parent that forked this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def stages(store: Path) -> None:
    """What a child process does: the three stages on what the store holds, and how much memory that took."""
    place = Store(store)
    warm = Store(store / "warm")
    deduplicated(warm, [clean_documents(warm, [("a", "a b c d e f"), ("b", "A b c d e f")])], DedupRecipe())
    cleans = [place.open(*key) for key in sorted(place.keys()) if key.asset == "clean_documents"]
    started = clock()
    _, left = deduplicated(place, cleans, DedupRecipe())
    seconds = clock() - started
    found = {"seconds": seconds, "resident": peak_resident(), "kept": left.counts["kept"], "seen": left.counts["seen"]}
    sys.stdout.write(json.dumps(found) + "\n")


def _source(place: Path, worded: list[np.ndarray], number: int, most: int) -> int:
    """Write one source of the input; bytes of its texts, none of which stays in memory."""
    rows = list(grown(worded, number, most))
    clean_documents(Store(place), rows, f"s{number:03d}/1")
    return sum(len(text.encode()) for _, text in rows)


def growing(folder: Path, texts: list[str], sizes: Sequence[int]) -> dict[int, dict[str, float]]:
    """By megabytes of input: seconds and resident memory of a process of its own."""
    found, worded = {}, split(texts)
    for size in sizes:
        place, num_bytes, number = folder / f"{size} MB", 0, 0
        while num_bytes < size * 1_000_000:
            num_bytes += _source(place, worded, number, min(SOURCE_BYTES, size * 1_000_000 - num_bytes))
            number += 1
        command = [sys.executable, "-m", "benchmarks.dedup", "--stages", str(place)]
        done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, check=True)
        found[size] = {**json.loads(done.stdout), "bytes": num_bytes, "sources": number}
        shutil.rmtree(place)
    return found


def incremental(folder: Path, texts: list[str], size: int, rounds: int = 3) -> dict[str, Any]:
    """Eleven sources, the last of which is new: seconds for it alone and for all of them; both must agree."""
    seconds: dict[str, list[float]] = {"new_source": [], "rebuild": []}
    ratios, num_docs, worded = [], 0, split(texts)
    for _ in range(rounds):
        parts = [list(grown(worded, number, size * 1_000_000 // 11)) for number in range(11)]
        num_docs, contents = sum(map(len, parts)), []
        for name in ("new_source", "rebuild"):
            store = Store(folder / name)
            cleans = [clean_documents(store, rows, f"s{number:03d}/1") for number, rows in enumerate(parts)]
            if name == "new_source":
                deduplicated(store, cleans[:10], DedupRecipe(), force=False)
            started = clock()
            both = deduplicated(store, cleans, DedupRecipe(), force=False)
            seconds[name].append(clock() - started)
            contents.append([one.content for one in both])
            shutil.rmtree(folder / name)
        if contents[0] != contents[1]:
            raise SystemExit(f"the new source gave {contents[0]}, the rebuild {contents[1]}.")
        ratios.append(seconds["new_source"][-1] / seconds["rebuild"][-1])
    medians = {name: round(statistics.median(some), 2) for name, some in seconds.items()}
    return {"ratio": round(statistics.median(ratios), 3), "seconds": medians, "megabytes": size, "documents": num_docs}
