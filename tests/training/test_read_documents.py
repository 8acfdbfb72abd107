"""Which documents the trainer really read: a log of what its loader fed, token by token, against what the trace says.

Tokens of the corpus tell where they stand, so that the log needs neither plan nor index.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.consumption import START, extended, recompute_consumption
from pipelines.provenance import tables
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Tracer
from pipelines.shard_reader import ShardReader
from tests.pipelines.tagged import PAD, Doc, Tagged, tagged
from training.batches import Batches, ShardSource, document_numbers


def docs(name: str, sizes, **fields) -> list[Doc]:
    return [Doc(f"{name}{n:03d}", size, **fields) for n, size in enumerate(sizes)]


def small(root, cuts=1) -> Tagged:
    """Documents of no token, of one word, of many sequences, and some tens between."""
    sizes = [int(n) for n in np.random.default_rng(4).lognormal(2, 0.8, 24)]
    return tagged(Store(root), {
        "wiki/1": [*docs("we", [0, 1, 60, *sizes]), *docs("wd", sizes[:9], language="de", score=0.9)],
        "web/1": docs("b", [7] * 12, licence="CC0-1.0", score=None),
        "tiny/1": docs("t", [3, *[1] * 30]),  # tokens of the last ones are above 65,535
    }, cuts=cuts)  # fmt: skip


RECIPES = {
    "as it lies": {},
    "three epochs and a half": {"steps": 90},
    "weights of sources": {"weights": ["wiki=1/3"], "steps": 40},
    "a language twice": {"weights": ["language:de=2"], "steps": 60},
    "bands and epochs": {"weights": ["score>=0.6=3 epochs", "licence:CC0*=1/2"], "steps": 50},
    "phases": {"weights": ["web=0"], "phases": ["0.4: web=3", "0.9: wiki=0"], "steps": 60},
    "phases of languages": {"phases": ["0.5: language:de=4, tiny=0"], "steps": 45, "batch_size": 3},
    "temperature": {"alpha": 0.3, "alpha_over": "licence", "steps": 30},
    "packed": {"packing": "best_fit", "steps": 70},
    "packed in phases of languages": {
        "packing": "best_fit", "phases": ["0.5: language:de=4", "0.8: licence:CC0*=2"], "steps": 60, "max_epochs": 9,
    },
}  # fmt: skip


def fed(corpus: Tagged, tracer: Tracer) -> dict[int, list[tuple]]:
    """By step: (slot, document, first token, tokens) of what the loader put into its tensors."""
    names = [d.doc_id for d in corpus.documents()]
    log: dict[int, list[tuple]] = {}
    slot = 0
    for batch in Batches(tracer.plan, ShardSource(tracer.plan, tracer.readers)).steps(1, tracer.num_steps):
        log[batch.step] = []
        for row in batch.inputs.tokens_BT.tolist():
            runs: dict[int, list[int]] = {}
            for token in row:
                if token != PAD:
                    runs.setdefault(token // 1000 - 1, []).append(token % 1000)
            log[batch.step] += [(slot, names[n], places[0], len(places)) for n, places in runs.items()]
            slot += 1
    return log


def check(corpus: Tagged, tracer: Tracer) -> None:
    log = fed(corpus, tracer)
    by_document = defaultdict(list)
    for step, rows in log.items():
        assert [(r.slot, r.doc_id, r.start, r.length) for r in tracer.documents(step)] == rows
        for row in rows:
            by_document[row[1]].append((step, *row))
    for document in corpus.documents():
        found = [(r.step, r.slot, r.doc_id, r.start, r.length) for r in tracer.reads(document.doc_id)]
        assert found == sorted(by_document[document.doc_id])
    assert {r.part for r in tracer.documents(1)} <= set(corpus.sources)


@pytest.mark.parametrize("cuts", [1, 3])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_trace_is_the_log_of_the_loader_for_every_step_and_document(tmp_path, monkeypatch, recipe, cuts):
    monkeypatch.setattr(tables, "BATCH_ROWS", 5)
    corpus = small(tmp_path, cuts)
    mixed = corpus.mixture(**recipe)
    tracer = Tracer(corpus.model(mixed))
    check(corpus, tracer)
    hashes = [
        h
        for b in Batches(tracer.plan, ShardSource(tracer.plan, tracer.readers)).steps(1, tracer.num_steps)
        for h in b.hashes
    ]
    assert len(hashes) == sum(row["slots"] for row in mixed.table("sources.arrow").to_pylist())


@st.composite
def recipes(draw) -> dict:
    """Any mixture that a person might write for the small corpus."""
    entries = st.sampled_from([
        "wiki=2", "web=0.5", "tiny=0", "language:de=3", "language:en=0.5", "licence:CC0*=2", "score>=0.6=2",
        "score<0.6=1.5", "*=2", "web=2 epochs", "tiny=1 epoch",
    ])  # fmt: skip
    lists = st.lists(entries, max_size=3, unique=True)
    starts = sorted(
        draw(st.lists(st.sampled_from(["0.3", "0.5", "31"]), max_size=2, unique=True)), key=lambda s: float(s) % 31 or 1
    )
    return {
        "weights": draw(lists), "phases": [f"{start}: {', '.join(draw(lists))}" for start in starts],
        "steps": draw(st.integers(32, 60)), "batch_size": draw(st.integers(2, 3)), "seed": draw(st.integers(0, 5)),
        "sequence_length": draw(st.sampled_from([4, 7, 16])), "packing": draw(st.sampled_from(["concatenate", "best_fit"])),
        "alpha": draw(st.sampled_from([1.0, 0.5])), "alpha_over": draw(st.sampled_from(["source", "language"])),
    }  # fmt: skip


def possible(corpus: Tagged, recipe: dict) -> Artifact | None:
    """None for a mixture that cannot be, and says why."""
    try:
        return corpus.mixture(**recipe)
    except ValueError as error:
        if not any(said in str(error) for said in ("in epochs ask for", "no other source", "has weight 0")):
            raise
        return None


@settings(max_examples=8, deadline=None)
@given(recipes())
def test_any_mixture_is_traced_as_it_was_fed(tmp_path_factory, recipe):
    corpus = small(tmp_path_factory.mktemp("any"))
    mixed = possible(corpus, recipe)
    if mixed is not None:
        check(corpus, Tracer(corpus.model(mixed)))


@pytest.mark.parametrize("recipe", [RECIPES["phases of languages"], RECIPES["packed in phases of languages"]])
def test_ranks_share_out_phases_and_packed_batches_and_the_chain_is_the_audits(tmp_path, recipe):
    corpus = small(tmp_path)
    tracer = Tracer(corpus.model(corpus.mixture(**{**recipe, "batch_size": 4})))
    source = ShardSource(tracer.plan, tracer.readers)
    state = START
    ranks = [Batches(tracer.plan, source, rank, 2).steps(1, tracer.num_steps) for rank in range(2)]
    for whole, first, second in zip(Batches(tracer.plan, source).steps(1, tracer.num_steps), *ranks, strict=True):
        assert torch.equal(torch.cat([first.inputs.tokens_BT, second.inputs.tokens_BT]), whole.inputs.tokens_BT)
        assert first.total == second.total == whole.total
        state = extended(state, [*first.hashes, *second.hashes])
    assert state.hex() == recompute_consumption(tracer.plan, tracer.readers, tracer.num_steps)


def test_what_only_fills_a_sequence_up_is_not_learned_and_not_counted(tmp_path):
    corpus = tagged(
        Store(tmp_path), {"a/1": docs("a", [6] * 5)}
    )  # nine tokens a sequence: one document and three to fill
    tracer = Tracer(corpus.model(corpus.mixture(packing="best_fit", steps=4)))
    for batch in Batches(tracer.plan, ShardSource(tracer.plan, tracer.readers)).steps(1, 4):
        assert batch.inputs.tokens_BT[:, 6:].unique().tolist() == [PAD]
        assert batch.inputs.weights_BT is not None
        assert batch.inputs.weights_BT.tolist() == [[1.0] * 5 + [0.0] * 3] * 2
        assert batch.total == batch.inputs.weights_BT.sum() == 10


def test_concatenated_sequences_weigh_every_target(tmp_path):
    tracer = Tracer(small(tmp_path).model(small(tmp_path).mixture(weights=["language:de=2"])))
    batch = Batches(tracer.plan, ShardSource(tracer.plan, tracer.readers)).batch(1)
    assert batch.inputs.weights_BT is None
    assert batch.total == 2 * 8


@pytest.mark.parametrize("recipe", [RECIPES["phases"], RECIPES["packed"]])
def test_boundaries_tell_the_documents_of_a_sequence_apart(tmp_path, recipe):
    """For attention inside documents: tokens of one document have one number, filling has none."""
    corpus = small(tmp_path)
    tracer = Tracer(corpus.model(corpus.mixture(**recipe)))
    source = ShardSource(tracer.plan, tracer.readers)
    parts, sequences = tracer.plan.sequences(range(tracer.plan.num_slots))
    rows = source.rows(parts, sequences)
    numbers = document_numbers(source.documents(parts, sequences), *rows.shape)
    for row, told in zip(rows.tolist(), numbers.tolist(), strict=True):
        known: dict[int, int] = {}
        assert told == [-1 if t == PAD else known.setdefault(t // 1000, len(known)) for t in row]


# -- what else may come ------------------------------------------------------------------------------------------


def test_a_document_of_a_hundred_megabytes_is_read_and_found_like_any_other(tmp_path):
    """Thirty million tokens, 29,000 sequences: answered by arrays, not one by one."""
    size = 30_000_000
    schema = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(pa.uint16()))])
    offsets = pa.array([0, 5, size + 5, size + 9], pa.int64())
    values = pa.array((np.arange(size + 9) % 65_521).astype(np.uint16))
    ids = pa.array([b"a" * 16, b"b" * 16, b"c" * 16], pa.binary(16))
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.table([ids, pa.LargeListArray.from_arrays(offsets, values)], schema=schema))
    reader = ShardReader([tmp_path / "s.arrow"])
    assert reader.places(b"b" * 16) == [(5, 0, size)]
    seen = reader.excerpts(np.array([0, 10_000_000, size]), np.array([9, 10_001_025, size + 9]))
    assert (seen.ranges.tolist(), seen.starts.tolist()) == ([0, 0, 1, 2, 2], [0, 0, 9_999_995, size - 5, 0])
    assert reader.rows(np.array([29_998_000]), 1025)[0].tolist() == [i % 65_521 for i in range(29_998_000, 29_999_025)]
