"""Near-duplicate removal beside datatrove, text-dedup and rensa: seconds, recall by Jaccard, precision, memory.

All read the same documents from disk, use word 5-grams, 14 bands of 8 rows and one core, and write what stays.
Stemma's side is what a run does: signatures, clusters with every candidate verified, unique documents, all sealed.
Seconds are of processor time, children included, in turns; what a side loads or compiles once is outside the clock.

Recall is of planted pairs of known Jaccard: a pair is found if one of the two goes. Precision asks of every document
that goes whether one that stays is as like as the threshold says; its truth is exhaustive (corpus ``planted`` of the
shared data). text-dedup 0.4.1 removes every member of a cluster, so its precision is that of a corpus with holes.

``incremental`` is what a source of one eleventh costs when it comes last, against all eleven from nothing; their
results must be the same. ``--scale`` tells cost and memory of Stemma alone at three sizes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from benchmarks.dedup_growth import clean_documents, deduplicated, doc_id, growing, incremental, stages
from benchmarks.peer import Peer, python_with
from benchmarks.planted import BINS, Named, judged, planted_pairs, recall, shared_planted, theory
from benchmarks.report import report, versions
from pipelines.dedup import DedupRecipe
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.store import Store
from pipelines.provenance.tables import BATCH_ROWS
from pipelines.signatures import CACHE_BYTES

PEERS = {
    "datatrove": ("datatrove[io]==0.10.1", "spacy==3.8.18", "nltk==3.10.4", "xxhash==3.8.2", "tokenizers", "orjson"),
    "text-dedup": ("text-dedup==0.4.1",),
    "rensa": ("rensa==0.5.0", "pyarrow"),
}
BANDS, ROWS = 14, 8
SAME = DedupRecipe(bands=BANDS, rows=ROWS)  # as the peers; verified at 0.8
ALONE = DedupRecipe(bands=56, rows=2, threshold=0.2)  # who stays is like nobody else
LOOSE = DedupRecipe(bands=BANDS, rows=ROWS, threshold=0.2)  # so that every candidate that was planted goes


def merged(clusters: Artifact, names: dict[bytes, str]) -> dict[str, tuple[str, float]]:
    """Who went, for whom, at which Jaccard."""
    rows = (row for part in clusters.parts() for row in part.table("merged.arrow").to_pylist())
    return {names[row["doc_id"]]: (names[row["survivor"]], row["jaccard"]) for row in rows}


# -- the contestants -----------------------------------------------------------------------------------------------


class Corpus:
    """One input on disk in the form that each contestant reads, and what each of them makes of it."""

    def __init__(self, folder: Path, rows: Named, peers: dict[str, Peer]) -> None:
        folder.mkdir()
        self.folder, self.peers = folder, peers
        self.names = {doc_id(name): name for name, _ in rows}
        self.num_bytes = sum(len(text.encode()) for _, text in rows)
        self.store = Store(folder / "store")
        self.clean = clean_documents(self.store, rows)
        lines = (json.dumps({"id": name, "text": text}, ensure_ascii=False) + "\n" for name, text in rows)
        (folder / "documents.jsonl").write_text("".join(lines), encoding="utf-8")
        table = pa.table({"id": [name for name, _ in rows], "text": [text for _, text in rows]})
        parquet.write_table(table, folder / "documents.parquet", compression="none", row_group_size=BATCH_ROWS)

    def stemma(self, recipe: DedupRecipe = SAME) -> dict[str, Any]:
        started = sum(os.times()[:4])
        clusters, _ = deduplicated(self.store, [self.clean], recipe)
        seconds = sum(os.times()[:4]) - started
        return {"seconds": seconds, "gone": set(merged(clusters, self.names))}

    def peer(self, name: str) -> dict[str, Any]:
        answer = self.folder / f"{name}.json"
        told = self.peers[name].ask(ask=name, folder=str(self.folder), out=str(self.folder / name), answer=str(answer))
        return {**told, "gone": set(self.names.values()) - set(json.loads(answer.read_text(encoding="utf-8")))}


def pythons() -> dict[str, Path | str]:
    """The interpreter of each peer, or why there is none."""
    found: dict[str, Path | str] = {}
    for name, requirements in PEERS.items():
        base = sys.executable if name != "text-dedup" or sys.version_info >= (3, 12) else other_python()
        try:
            found[name] = python_with(f"{name}-dedup", *requirements, base=base) if base else "needs Python 3.12"
        except (subprocess.CalledProcessError, OSError) as error:
            found[name] = f"not installed ({error})"
    return found


def other_python() -> str:
    """A Python 3.12 beside this one, or nothing."""
    places = [shutil.which("python3.12"), *map(str, Path.home().glob(".pyenv/versions/3.12*/bin/python3.12"))]
    for place in filter(None, places):
        if subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode == 0:
            return place
    return ""


# -- Stemma alone --------------------------------------------------------------------------------------------------


def kernel_mb_s(texts: list[str], rounds: int) -> dict[str, float]:
    """MB of text a second, in memory, of each step from text to signature, and of all together."""
    from pipelines import minhash, words

    column = pa.array(texts, pa.large_string())
    a, b = minhash.permutations(BANDS * ROWS, 1)
    best: dict[str, float] = {}
    for _ in range(rounds):
        took: dict[str, float] = dict.fromkeys(("words", "shingles", "sets", "signatures"), 0.0)
        for piece in words.pieces(column, CACHE_BYTES):
            clock = [time.process_time()]
            hashes, offsets = words.word_hashes(piece)
            clock.append(time.process_time())
            shingles, starts = words.shingle_hashes(hashes, offsets, 5)
            clock.append(time.process_time())
            sets, places = minhash.distinct(shingles, starts)
            clock.append(time.process_time())
            minhash.signatures(sets, places, a, b)
            clock.append(time.process_time())
            for step, seconds in zip(took, np.diff(clock), strict=True):
                took[step] += seconds
        took["text to signature"] = sum(took.values())
        best = {step: min(seconds, best.get(step, seconds)) for step, seconds in took.items()}
    size = sum(len(text.encode()) for text in texts) / 1e6
    return {step: round(size / float(seconds), 1) for step, seconds in best.items()}


def named(texts: list[str], num_bytes: int) -> Named:
    """Documents with names, until there are so many bytes of them."""
    ends = np.cumsum([len(text.encode()) for text in texts])
    return [(str(number), text) for number, text in enumerate(texts[: int(np.searchsorted(ends, num_bytes)) + 1])]


def timed(corpus: Corpus, warm: Corpus, contestants: dict[str, Any], *, quick: bool) -> dict[str, dict[str, Any]]:
    """Of each contestant the last answer, with the median of its seconds; one that takes long runs once."""
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for call in contestants.values():
        call(warm)  # loaded and compiled, outside the clock
    for number in range(3):
        for name, call in contestants.items():
            if number == 0 or answers[name][0]["seconds"] < (5 if quick else 60):
                answers[name].append(call(corpus))
    return {
        name: {**told[-1], "seconds": statistics.median(answer["seconds"] for answer in told)}
        for name, told in answers.items()
    }


def measure(scratch: Path, texts: list[str], peers: dict[str, Peer], *, quick: bool) -> dict[str, Any]:
    """Everything that the report tells."""
    random.Random(1).shuffle(texts)
    contestants = {"stemma": Corpus.stemma, **{name: partial(Corpus.peer, name=name) for name in peers}}
    rows = named(texts, 10_000_000 if quick else 40_000_000)
    whole, warm = Corpus(scratch / "whole", rows, peers), Corpus(scratch / "warm", rows[:200], peers)
    found = {"times": timed(whole, warm, contestants, quick=quick), "bytes": whole.num_bytes}
    alike = whole.stemma(ALONE)["gone"]
    rows, pairs = planted_pairs([text for name, text in rows if name not in alike], 200 if quick else 1500)
    corpus = Corpus(scratch / "pairs", rows, peers)
    gone = {name: call(corpus)["gone"] for name, call in contestants.items()} | {"stemma": corpus.stemma(LOOSE)["gone"]}
    found["recall"] = {"theory": theory(pairs, BANDS, ROWS), **{name: recall(pairs, ids) for name, ids in gone.items()}}
    if planted := shared_planted():
        corpus = Corpus(scratch / "planted", planted[0], peers)
        answers = {"stemma": corpus.stemma(DedupRecipe()), **{n: contestants[n](corpus) for n in peers}}
        names = set(corpus.names.values())
        found["planted"] = {name: judged(names, answer["gone"], planted[1]) for name, answer in answers.items()}
    found["kernel"] = kernel_mb_s(texts[:4000], 3 if quick else 7)
    found["growing"] = growing(scratch, texts, (10, 20, 40) if quick else (100, 200, 400))
    found["incremental"] = incremental(scratch, texts, 44 if quick else 220)
    return found


def told(found: dict[str, Any], absent: dict[str, str]) -> None:
    times, planted, recalls = found["times"], found.get("planted", {}), found["recall"]
    ours, size = times["stemma"]["seconds"], found["bytes"] / 1e6
    rows = []
    for name, one in times.items():
        at = planted.get(name, {})
        rows.append([
            name, f"{one['seconds']:.2f}", f"{size / one['seconds']:.1f}", f"{one['seconds'] / ours:.1f}x",
            len(one["gone"]), *(recalls[name][str(wanted)] for wanted in BINS),
            at.get("recall_planted_08", ""), at.get("precision", ""), f"{one.get('resident', 0) / 1e6:.0f}",
        ])  # fmt: skip
    rows.append(["theory", *[""] * 4, *recalls["theory"].values(), "", "", ""])
    rows += [[name, why, *[""] * (len(rows[0]) - 2)] for name, why in absent.items()]
    rows += [[f"{step}, in memory", "", f"{speed:.0f}", *[""] * 13] for step, speed in found["kernel"].items()]
    for size_mb, one in found["growing"].items():
        speed = one["bytes"] / 1e6 / one["seconds"]
        resident = f"{one['resident'] / 1e6:.0f}"
        rows.append([f"stemma, {size_mb} MB", f"{one['seconds']:.2f}", f"{speed:.1f}", *[""] * 11, resident])
    rows += [[name, seconds, speed, *[""] * 12] for name, seconds, speed in added_rows(found["incremental"])]
    mine = planted.get("stemma", {})
    report(
        "dedup",
        [row[:15] for row in rows],
        ("", "processor s", "MB/s", "x stemma", "gone", *map(str, BINS), "planted .8", "precision", "resident MB"),
        ratios={name.replace("-", "_"): round(times[name]["seconds"] / ours, 2) for name in times if name != "stemma"},
        mb_s={name: round(size / one["seconds"], 2) for name, one in times.items()},
        recall=recalls,
        recall_error=max(abs(recalls["stemma"][b] - recalls["theory"][b]) for b in recalls["theory"]),
        recall_planted_08=mine.get("recall_planted_08"),
        precision=mine.get("precision"),
        planted=planted,
        kernel_mb_s=found["kernel"],
        resident_mb={f"{size} MB": round(one["resident"] / 1e6) for size, one in found["growing"].items()},
        growing=found["growing"],
        incremental=found["incremental"]["ratio"],
        incremental_run=found["incremental"],
        absent=absent,
        num_bytes=found["bytes"],
        versions=versions("numba", "numpy", "pyarrow", "datasketch"),
    )


def added_rows(added: dict[str, Any]) -> list[list[str]]:
    """Name, seconds and speed of a source that comes last, and of all from nothing."""
    rows = []
    for name, seconds in added["seconds"].items():
        size = added["megabytes"] / (11 if name == "new_source" else 1)
        told_as = f"{size:.0f} MB {'more, one source of 11' if name == 'new_source' else 'anew'}"
        rows.append([f"stemma, {told_as}", f"{seconds:.2f}", f"{size / seconds:.1f}"])
    return rows


def scale(sizes: tuple[int, ...], texts: list[str]) -> None:
    """The cost and the memory of three sizes, Stemma alone."""
    with tempfile.TemporaryDirectory() as scratch:
        found = growing(Path(scratch), texts, sizes)
        added = incremental(Path(scratch), texts, 44 if sizes[0] < 500 else 220)
    speeds = {size: one["bytes"] / 1e6 / one["seconds"] for size, one in found.items()}
    rows = [
        [f"{size} MB", int(one["sources"]), int(one["seen"]), int(one["kept"]), f"{one['seconds']:.1f}",
         f"{speeds[size]:.1f}", f"{one['resident'] / 1e6:.0f}"]
        for size, one in found.items()
    ]  # fmt: skip
    rows += [[name, "", "", "", seconds, speed, ""] for name, seconds, speed in added_rows(added)]
    report(
        "dedup-scale",
        rows,
        ("input", "sources", "documents", "kept", "processor s", "MB/s", "resident MB"),
        ratios={"cost_per_byte_last_to_first": round(speeds[sizes[0]] / speeds[sizes[-1]], 3)},
        mb_s={f"{size} MB": round(speed, 1) for size, speed in speeds.items()},
        resident_mb={f"{size} MB": round(one["resident"] / 1e6) for size, one in found.items()},
        growing=found,
        incremental=added["ratio"],
        incremental_run=added,
        versions=versions("numba", "numpy", "pyarrow", "datasketch"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="10 MB, slow peers once; sizes 10, 20 and 40 MB")
    parser.add_argument("--scale", action="store_true", help="0.5, 1.5 and 5 GB of Stemma alone (quick: a tenth)")
    parser.add_argument("--stages", metavar="STORE", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # one core, inherited by every peer
    os.environ |= {"RAYON_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if asked.stages:
        stages(Path(asked.stages))
        return
    from benchmarks.filters import documents

    if asked.scale:
        scale((50, 150, 500) if asked.quick else (500, 1500, 5000), documents())
        return
    found = pythons()
    script = Path(__file__).with_name("dedup_peer.py")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        peers = {
            name: stack.enter_context(Peer(python, script))
            for name, python in found.items()
            if isinstance(python, Path)
        }
        told(
            measure(Path(scratch), documents(), peers, quick=asked.quick),
            {name: why for name, why in found.items() if isinstance(why, str)},
        )


if __name__ == "__main__":
    main()
