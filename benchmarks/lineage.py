"""Step to documents and back, on 10 million synthetic documents in a real store.

The peer is what other trainers keep, or would have to keep, to answer at all: the whole order written down (numpy
arrays of part and sequence for every slot, and their sorted inverse). Both answers are compared for every query.
Queries in process time, medians. The same questions are asked of a run in two phases that packs its documents by best fit, whose
layout is stored; there each answer is held against the opposite direction. The index is what the shards hold beside tokens, measured in their files; building it is opening
the shards, which finds where each record batch lies (it was written with the tokens).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from benchmarks.report import alternating, medians, report, versions
from pipelines.layouts import segments_table
from pipelines.packing import packed
from pipelines.provenance.artifact import Artifact, Draft
from pipelines.provenance.manifest import Key
from pipelines.provenance.memo import build
from pipelines.provenance.plan import Plan, PlanPart, PlanPhase, Segment
from pipelines.provenance.recipe import Recipe
from pipelines.provenance.store import Store
from pipelines.provenance.tables import write_batches
from pipelines.provenance.trace import Tracer
from pipelines.shard_reader import ShardReader

PARTS, LENGTH, BATCH, MEAN_TOKENS = 8, 256, 512, 64


class Nothing(Recipe):
    """The benchmark's artifacts have no choices."""


def made(store: Store, asset: str, inputs: list[Artifact], make, name: str = "bench") -> Artifact:
    return build(store, Key(asset, name), "1", Nothing(), inputs, make).artifact


def shards(draft: Draft, num_docs: int) -> Artifact:
    """``PARTS`` parts of documents with log-normal lengths, in the order of random ids."""
    schema = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(pa.uint16()))])
    parts = []
    for part in range(PARTS):
        generator = np.random.default_rng(part)
        count = num_docs // PARTS

        def write(inner: Draft, generator=generator, count=count) -> Artifact:
            ids = np.sort(np.frombuffer(generator.bytes(16 * count), "S16"))
            sizes = np.maximum(1, generator.lognormal(np.log(MEAN_TOKENS) - 0.5, 1.0, count)).astype(np.int64)
            offsets = np.concatenate([[0], np.cumsum(sizes)])
            tokens = np.zeros(int(offsets[-1]), np.uint16)
            raw = np.frombuffer(ids.tobytes(), np.uint8)
            table = pa.table(
                [
                    pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), count, [None, pa.py_buffer(raw.tobytes())]),
                    pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
                ],
                schema=schema,
            )
            write_batches(inner.path("shard-00000.arrow"), schema, [table])
            return inner.seal(counts={"docs": count, "tokens": len(tokens)})

        parts.append(draft.part(f"part-{part}/1", Nothing(), [], write))
    return draft.seal(parts=parts)


def mixture(draft: Draft, tokens: Artifact) -> Artifact:
    sizes = [PlanPart(name=p.key.part, num_sequences=(p.counts["tokens"] - 1) // LENGTH) for p in tokens.parts()]
    slots = [p.num_sequences * (1 + i % 3) // 2 for i, p in enumerate(sizes)]  # 0.5, 1 and 1.5 epochs
    plan = Plan(
        seed=1,
        sequence_length=LENGTH,
        parts=sizes,
        phases=[PlanPhase(slots=slots)],
        segments=[Segment(first_step=1, first_slot=0, batch_size=BATCH)],
    )
    draft.write_json("plan.json", plan.model_dump(mode="json"))
    return draft.seal()


def packed_mixture(draft: Draft, tokens: Artifact) -> Artifact:
    """Best fit in two phases, epochs going on."""
    planned = []
    for number, part in enumerate(tokens.parts()):
        bounds = ShardReader.open(part).boundaries()
        found = packed(bounds[:-1], np.diff(bounds), LENGTH)
        layout = f"layouts/{number:05d}.arrow"
        draft.write(layout, segments_table(found.starts, found.lengths))
        name = part.key.part
        planned.append(
            PlanPart(name=name, num_sequences=found.num_sequences, source=name, layout=layout, stride=LENGTH + 1)
        )
    phases = [[p.num_sequences * (1 + (i + phase) % 3) // 3 for i, p in enumerate(planned)] for phase in range(2)]
    plan = Plan(
        seed=1,
        sequence_length=LENGTH,
        parts=planned,
        phases=[PlanPhase(slots=slots) for slots in phases],
        segments=[Segment(first_step=1, first_slot=0, batch_size=BATCH)],
        continued=True,
    )
    draft.write_json("plan.json", plan.model_dump(mode="json"))
    return draft.seal()


class Packed(NamedTuple):
    """What is measured of the packed run."""

    forward: float  # ms
    backward: float  # ms
    layout: float  # bytes a document
    docs_s: float  # documents packed and written in a second
    errors: int


def measure_packed(store: Store, tokens: Artifact, documents: list[bytes], generator: np.random.Generator) -> Packed:
    packed(np.arange(2), np.ones(2, np.int64), LENGTH)  # compiles the kernel
    started = time.perf_counter()
    mixed = made(store, "mixture", [tokens], lambda draft: packed_mixture(draft, tokens), "packed")
    taken = time.perf_counter() - started
    tracer = Tracer(made(store, "pretrained_model", [mixed], lambda draft: draft.seal(), "packed"))
    steps = generator.integers(1, tracer.plan.num_steps + 1, 100).tolist()
    shown = {step: tracer.documents(step) for step in steps[:20]}
    errors = 0
    for reads in shown.values():
        errors += sum(read not in tracer.reads(read.doc_id) for read in reads[:10])
    for document in documents[:100]:
        errors += sum(read not in tracer.documents(read.step) for read in tracer.reads(document))
    num_docs = sum(part.counts["docs"] for part in tokens.parts())
    return Packed(
        milliseconds([lambda s=s: tracer.documents(s) for s in steps]),
        milliseconds([lambda d=d: tracer.reads(d) for d in documents]),
        sum(f.bytes for f in mixed.manifest.files if f.path.startswith("layouts/")) / num_docs,
        num_docs / taken,
        errors,
    )


class StoredOrder:
    """The peer: every slot's part and sequence in memory, and the slots sorted by (part, sequence)."""

    def __init__(self, plan: Plan) -> None:
        pieces = [plan.sequences(range(s, min(s + 100_000, plan.num_slots))) for s in range(0, plan.num_slots, 100_000)]
        self.parts = np.concatenate([p for p, _ in pieces]).astype(np.int16)
        self.sequences = np.concatenate([s for _, s in pieces]).astype(np.int32)
        self._key = self.parts.astype(np.int64) << 32 | self.sequences
        self._by_key = np.argsort(self._key, kind="stable")
        self._sorted = self._key[self._by_key]

    def slots_of(self, part: int, sequence: int) -> list[int]:
        low, high = np.searchsorted(self._sorted, [part << 32 | sequence, (part << 32 | sequence) + 1])
        return sorted(self._by_key[low:high].tolist())

    @property
    def num_bytes(self) -> int:
        return self.parts.nbytes + self.sequences.nbytes + self._by_key.nbytes


def milliseconds(calls) -> float:
    """Median process time: one thread, and the machine may be shared."""
    found = []
    for call in calls:
        started = time.process_time()
        call()
        found.append((time.process_time() - started) * 1e3)
    return statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1 million documents")
    num_docs = 1_000_000 if parser.parse_args().quick else 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), num_docs)


def measure(folder: Path, num_docs: int) -> None:
    store = Store(folder)
    tokens = made(store, "token_shards", [], lambda draft: shards(draft, num_docs))
    mixed = made(store, "mixture", [tokens], lambda draft: mixture(draft, tokens))
    model = made(store, "pretrained_model", [mixed], lambda draft: draft.seal())
    tracer, generator = Tracer(model), np.random.default_rng(7)
    plan, stored = tracer.plan, StoredOrder(tracer.plan)
    readers = [ShardReader.open(part) for part in tokens.parts()]
    steps = generator.integers(1, plan.num_steps + 1, 200).tolist()
    picked = [(p, int(t)) for p in range(PARTS) for t in generator.integers(0, readers[p].num_tokens, 50)]
    documents = [readers[p].documents(t, t + 1)[0].doc_id for p, t in picked]
    for step, document in zip(steps[:5], documents[:5], strict=True):  # warm the page cache and the imports
        tracer.documents(step)
        tracer.reads(document)
    forward = milliseconds([lambda s=s: tracer.documents(s) for s in steps])
    backward = milliseconds([lambda d=d: tracer.reads(d) for d in documents])
    errors = sum(not agrees(tracer, stored, step) for step in steps)
    errors += sum(not inverse_agrees(tracer, stored, document) for document in documents)
    peer_forward = milliseconds([lambda s=s: rows_of(tracer, stored, s) for s in steps])
    peer_backward = milliseconds([lambda d=d: peer_reads(tracer, stored, d) for d in documents])
    index, built = index_of(tokens)
    best_fit = measure_packed(store, tokens, documents, generator)
    report(
        "lineage",
        [
            ["step -> documents, ms", f"{forward:.3f}", f"{peer_forward:.3f}"],
            ["document -> steps, ms", f"{backward:.3f}", f"{peer_backward:.3f}"],
            ["index, bytes a document", f"{index:.2f}", f"{index:.2f}"],
            ["index, million documents/s", f"{built / 1e6:,.1f}", ""],
            ["stored order, bytes", 0, f"{stored.num_bytes:,}"],
            ["errors in 600 queries", errors, "reference"],
            ["packed: step -> documents, ms", f"{best_fit.forward:.3f}", ""],
            ["packed: document -> steps, ms", f"{best_fit.backward:.3f}", ""],
            ["packed: layout, bytes a document", f"{best_fit.layout:.2f}", ""],
            ["packed: million documents/s", f"{best_fit.docs_s / 1e6:.2f}", ""],
            ["packed: errors", best_fit.errors, ""],
        ],
        ("", "stemma", "stored order"),
        document_to_steps_ms=round(backward, 4),
        step_to_documents_ms=round(forward, 4),
        bytes_per_document=round(index, 3),
        index_documents_s=round(built),
        time="process",
        errors=errors + best_fit.errors,
        packed={name: round(value, 3) for name, value in best_fit._asdict().items()},
        documents=num_docs,
        steps=plan.num_steps,
        stored_order_bytes=stored.num_bytes,
        ratios={
            "stored_order_step": round(peer_forward / forward, 3),
            "stored_order_document": round(peer_backward / backward, 3),
        },
        versions=versions("numpy", "pyarrow"),
    )


def index_of(tokens: Artifact) -> tuple[float, float]:
    """(bytes a document, documents/s) of opening all parts, median of five."""
    parts = tokens.parts()
    docs, held = sum(p.counts["docs"] for p in parts), sum(2 * p.counts["tokens"] for p in parts)
    size = sum(entry.bytes for p in parts for entry in p.manifest.files if entry.path.startswith("shard-"))
    seconds = alternating(5, opened=lambda: [ShardReader.open(part) for part in parts])
    return (size - held) / docs, docs / medians(seconds)["opened"]


def rows_of(tracer: Tracer, stored: StoredOrder, step: int) -> list[tuple[int, bytes]]:
    slots = np.array(tracer.plan.slots(step))
    parts, firsts = stored.parts[slots], stored.sequences[slots].astype(np.int64) * LENGTH
    found = []
    for part in np.unique(parts).tolist():
        chosen = np.flatnonzero(parts == part)
        seen = tracer.reader(tracer.plan.parts[part].name).excerpts(firsts[chosen], firsts[chosen] + LENGTH + 1)
        found += zip(slots[chosen[seen.ranges]].tolist(), seen.doc_ids(), strict=True)
    return sorted(found, key=lambda row: row[0])


def peer_reads(tracer: Tracer, stored: StoredOrder, document: bytes) -> list[int]:
    slots: list[int] = []
    for index, part in enumerate(tracer.plan.parts):
        for place, _, length in tracer.reader(part.name).places(document):
            first = max(0, -(-(place - LENGTH) // LENGTH))
            last = min(part.num_sequences - 1, (place + length - 1) // LENGTH)
            for sequence in range(first, last + 1):
                slots += stored.slots_of(index, sequence)
    return slots


def agrees(tracer: Tracer, stored: StoredOrder, step: int) -> bool:
    return rows_of(tracer, stored, step) == [(r.slot, r.doc_id) for r in tracer.documents(step)]


def inverse_agrees(tracer: Tracer, stored: StoredOrder, document: bytes) -> bool:
    limit = tracer.plan.num_steps * BATCH
    wanted = sorted(slot for slot in peer_reads(tracer, stored, document) if slot < limit)
    return wanted == sorted(r.slot for r in tracer.reads(document))


if __name__ == "__main__":
    main()
