"""Trace: step → documents and document → steps give the same account as a walk over every token that was read."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from readings import Written, clean, finetuned, mixture, model, plan_of, raw, shards, trained, training

from pipelines.provenance import tables
from pipelines.provenance.files import StoreError
from pipelines.provenance.manifest import ManifestError
from pipelines.provenance.store import Store
from pipelines.provenance.trace import Read, Tracer


def written(name: str, size: int) -> Written:
    return Written(name, f"text of {name}", [7] * (size - 1) + [0] if size else [])


def said(reads: list[Read]) -> list[tuple[str, int, int]]:
    """(document, first token, tokens)"""
    return [(read.doc_id.rstrip(b"\0").decode(), read.start, read.length) for read in reads]


# -- known answers -----------------------------------------------------------------------------------------------

THREE = [written("a", 3), written("b", 6), written("c", 2)]  # 11 tokens: sequences of 4 are 0…4 and 4…8


def test_a_step_reads_the_documents_under_its_tokens_and_the_last_target_counts(store):
    """Token 4 is the last target of the one sequence and the first input of the other; both have read it."""
    tracer = trained(store, {"s/1": THREE}, 4, [[2]], [(1, 0, 2)])
    by_slot = {slot: said([r for r in tracer.documents(1) if r.slot == slot]) for slot in (0, 1)}
    first = tracer.plan.slots_of(0, 0)[0]
    assert by_slot == {first: [("a", 0, 3), ("b", 0, 2)], 1 - first: [("b", 1, 5)]}


def test_a_document_in_the_tail_was_read_by_no_step(store):
    tracer = trained(store, {"s/1": THREE}, 4, [[6]])
    assert tracer.reads(THREE[2].doc_id) == []
    assert {len(tracer.reads(document.doc_id)) for document in THREE[:2]} == {3, 6}  # three epochs; b is in both


def test_a_document_that_no_part_holds_was_read_by_no_step(store):
    tracer = trained(store, {"s/1": THREE}, 4, [[2]])
    assert tracer.reads(b"\xff" * 16) == tracer.reads(bytes(16)) == []
    with pytest.raises(ValueError, match="a doc_id has 16 bytes, this one has 3"):
        tracer.reads(b"abc")


def test_the_same_document_in_two_parts_is_traced_in_both(store):
    """Two snapshots of one source may both be in a corpus; ids do not know the snapshot."""
    twice = {"s/1": [written("a", 9)], "s/2": [written("a", 9), written("b", 9)]}
    tracer = trained(store, twice, 4, [[2, 4]])
    reads = tracer.reads(twice["s/1"][0].doc_id)
    assert [read.part for read in reads].count("s/1") == 2
    assert [read.step for read in reads] == sorted(read.step for read in reads)
    assert {read.part for read in reads} == {"s/1", "s/2"}


def test_slots_that_were_skipped_were_read_by_no_step(store):
    """After step 2 four slots are left out, as after a loss spike; what they would have read is not claimed."""
    documents = [written(name, 5) for name in "abcdefgh"]
    whole = trained(store, {"s/1": documents}, 4, [[9]], [(1, 0, 1)])
    skipping = Tracer(model(mixture(whole.mixture.input("token_shards"), whole.plan.model_copy(
        update={"segments": plan_of({"s/1": 40}, 4, [[9]], [(1, 0, 1), (3, 6, 1)]).segments}), "skipping"), 5))  # fmt: skip
    assert skipping.plan.num_steps == 5
    for step, same in ((1, 1), (2, 2), (3, 7), (4, 8), (5, 9)):
        assert said(skipping.documents(step)) == said(whole.documents(same))
    every = {(r.step, r.slot) for d in documents for r in skipping.reads(d.doc_id)}
    assert {slot for _, slot in every} == {0, 1, 6, 7, 8}


def test_a_changed_batch_size_moves_documents_to_other_steps_and_to_no_other_slots(store):
    documents = [written(name, 5) for name in "abcdefgh"]
    one = trained(store, {"s/1": documents}, 4, [[9]], [(1, 0, 1)])
    mixed = mixture(one.mixture.input("token_shards"), plan_of({"s/1": 40}, 4, [[9]], [(1, 0, 1), (4, 3, 3)]), "grown")
    grown = Tracer(model(mixed, 5))
    assert [len({r.slot for r in grown.documents(step)}) for step in range(1, 6)] == [1, 1, 1, 3, 3]
    for document in documents:
        slots = [(r.slot, r.start, r.length) for r in one.reads(document.doc_id)]
        assert [(r.slot, r.start, r.length) for r in grown.reads(document.doc_id)] == slots


# -- against a walk over every token -----------------------------------------------------------------------------


@st.composite
def runs(draw):
    """(documents by part, sequence length, slots by phase, segments): empty documents and short parts included."""
    length = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.lists(st.integers(0, 9), max_size=8), min_size=1, max_size=3))
    sizes[0].append(length + 1)
    sources = {f"s{n}/1": [written(f"{n}-{i}", size) for i, size in enumerate(part)] for n, part in enumerate(sizes)}
    used = [name for name, part in sources.items() if sum(len(d.tokens) for d in part) > length]
    phases = draw(st.lists(st.lists(st.integers(0, 9), min_size=len(used), max_size=len(used)), min_size=1, max_size=2))
    phases[0][0] += 1
    batch, skip = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    total = sum(map(sum, phases))
    segments = [(1, 0, batch)] + ([(2, batch + skip, 1)] if batch + skip <= total else [])
    return sources, length, phases, segments


def walked(tracer: Tracer, sources: dict[str, list[Written]]) -> dict[int, list[tuple]]:
    """By step: (slot, part, document, first token, tokens), token by token from the lists of the test."""
    streams = {
        name: [(d.doc_id, place) for d in sorted(documents) for place in range(len(d.tokens))]
        for name, documents in sources.items()
    }
    plan, found = tracer.plan, {}
    for step in range(1, plan.num_steps + 1):
        found[step] = []
        for slot in plan.slots(step):
            parts, sequences = plan.sequences([slot])
            name, first = plan.parts[int(parts[0])].name, int(sequences[0]) * plan.sequence_length
            runs: dict[bytes, list[int]] = {}
            for doc_id, place in streams[name][first : first + plan.sequence_length + 1]:
                runs.setdefault(doc_id, []).append(place)
            found[step] += [(slot, name, doc_id, places[0], len(places)) for doc_id, places in runs.items()]
    return found


@settings(max_examples=20, deadline=None)
@given(runs(), st.integers(1, 3))
def test_both_directions_agree_with_a_walk_over_every_token(tmp_path_factory, run, cuts):
    sources, length, phases, segments = run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_ROWS", 3)
        tracer = trained(Store(tmp_path_factory.mktemp("trace")), sources, length, phases, segments, cuts)
    expected = walked(tracer, sources)
    by_document = defaultdict(list)
    for step, rows in expected.items():
        assert [(r.slot, r.part, r.doc_id, r.start, r.length) for r in tracer.documents(step)] == rows
        assert {r.step for r in tracer.documents(step)} <= {step}
        for slot, name, doc_id, start, size in rows:
            by_document[doc_id].append((step, slot, name, start, size))
    for documents in sources.values():
        for document in documents:
            found = [(r.step, r.slot, r.part, r.start, r.length) for r in tracer.reads(document.doc_id)]
            assert found == sorted(by_document[document.doc_id])


# -- what cannot be asked ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, -1, 4, 10**9])
def test_a_step_that_the_run_never_took_is_refused_with_their_number(store, step):
    tracer = trained(store, {"s/1": THREE}, 4, [[7]], [(1, 0, 2)])  # three batches of two; the seventh slot is left
    with pytest.raises(ValueError, match=rf"pretrained_model\[run\] read steps 1 to 3, not {step}\."):
        tracer.documents(step)


def test_a_milestone_answers_for_its_own_steps_and_no_later_ones(store):
    """A checkpoint at step N has read step N: what the run read afterwards is not in these weights."""
    whole = trained(store, {"s/1": THREE}, 4, [[6]])
    final = model(whole.mixture, 6, milestones=[2])
    early = Tracer(final.part("step-00000002"))
    assert [said(early.documents(step)) for step in (1, 2)] == [said(whole.documents(step)) for step in (1, 2)]
    with pytest.raises(ValueError, match="read steps 1 to 2, not 3"):
        early.documents(3)
    for document in THREE:
        assert early.reads(document.doc_id) == [r for r in whole.reads(document.doc_id) if r.step <= 2]


def test_a_fine_tune_is_refused_with_the_name_of_its_base(store):
    base = trained(store, {"s/1": THREE}, 4, [[2]]).checkpoint
    with pytest.raises(ValueError, match=r"finetuned_model\[topic\] is a fine-tune: .* Its base, .* is run\."):
        Tracer(finetuned(base, "topic"))


def test_an_artifact_that_read_no_mixture_is_refused(store):
    with pytest.raises(StoreError, match=r"raw_documents\[s/1\] was not made from any mixture"):
        Tracer(raw(store, "s/1", THREE))


def test_a_plan_that_names_a_part_without_shards_is_refused_by_name(store):
    source = clean(store, raw(store, "s/1", THREE), THREE)
    tokens = shards(store, training(store, [source]), {d.doc_id: d.tokens for d in THREE})
    tracer = Tracer(model(mixture(tokens, plan_of({"other/1": 11}, 4, [[2]], [(1, 0, 1)])), 2))
    with pytest.raises(ManifestError, match=r"token_shards\[mine\] has no part 'other/1'"):
        tracer.documents(1)


# -- what the documents are --------------------------------------------------------------------------------------


def test_documents_are_described_by_what_their_source_said_and_strangers_are_left_out(store):
    tracer = trained(store, {"s/1": THREE, "t/1": [written("z", 9)]}, 4, [[2, 2]])
    found = tracer.described([THREE[1].doc_id, b"\xff" * 16, b"z".ljust(16, b"\0"), THREE[1].doc_id])
    assert {doc_id.rstrip(b"\0"): (row["uri"], row["licence"], row["part"]) for doc_id, row in found.items()} == {
        b"b": ("test:b", "MIT", "s/1"),
        b"z": ("test:z", "MIT", "t/1"),
    }
    assert tracer.described([]) == {}


def test_a_checkpoint_is_traced_to_the_shards_it_was_made_from_though_newer_ones_are_published(store):
    """The answer is pinned by the manifests: what the names mean today does not enter."""
    before = trained(store, {"s/1": THREE}, 4, [[2]])
    said_before = [said(before.documents(step)) for step in (1, 2)]
    old = before.checkpoint
    newer = [written("b", 2), written("x", 9)]
    again = clean(store, raw(store, "s/1", newer), newer)
    shards(store, training(store, [again]), {d.doc_id: d.tokens for d in newer})
    tracer = Tracer(Store(store.url).artifact(old.key, old.digest))
    assert [said(tracer.documents(step)) for step in (1, 2)] == said_before
    assert tracer.reads(newer[1].doc_id) == []
