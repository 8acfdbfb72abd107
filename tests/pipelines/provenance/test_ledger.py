"""The ledger: one hash-chained segment for every writer, joined by whoever writes next."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest
from workshop import Workshop

from pipelines.provenance import ledger as ledger_module
from pipelines.provenance.ledger import GENESIS, Entry, Ledger, circumstances, entries, heads, read_entry, segments
from pipelines.provenance.manifest import Key, ManifestError
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.store import Store
from pipelines.provenance.verify import verify_store

KEY = Key("raw", "a/1")


def note(store: Store, ledger: Ledger | None = None, number: int = 0) -> Entry:
    facts = {**circumstances(0.0), "number": number}
    return (ledger or store.ledger).append("noted", KEY, "0" * 64, "0" * 32, facts)


def test_each_entry_names_the_one_before_it(any_store):
    chain = [note(any_store, number=n) for n in range(3)]
    assert [e.previous for e in chain] == [GENESIS, chain[0].digest, chain[1].digest]
    assert [e.number for e in chain] == [1, 2, 3]
    assert entries(any_store.files) == chain
    assert heads(any_store.files) == {chain[0].segment: chain[2].digest}


def test_a_new_writer_joins_the_heads_of_all_segments_it_sees(any_store):
    first = [note(any_store, number=n) for n in range(2)]
    second = note(any_store, Ledger(any_store.files), 3)
    assert second.joins == {first[0].segment: first[1].digest}
    third = note(any_store, Ledger(any_store.files), 4)
    assert third.joins == {first[0].segment: first[1].digest, second.segment: second.digest}


def test_later_entries_join_only_what_is_new(any_store, monkeypatch):
    monkeypatch.setattr(ledger_module, "LOOK_SECONDS", 0.0)
    one, other = Ledger(any_store.files), Ledger(any_store.files)
    first = note(any_store, one)
    assert note(any_store, other, 1).joins == {first.segment: first.digest}
    assert note(any_store, other, 2).joins == {}
    newer = note(any_store, one, 3)
    assert note(any_store, other, 4).joins == {first.segment: newer.digest}


def test_a_writer_does_not_look_around_at_every_entry(any_store):
    one, other = Ledger(any_store.files), Ledger(any_store.files)
    note(any_store, one)
    note(any_store, other, 1)
    note(any_store, one, 2)
    assert note(any_store, other, 3).joins == {}


def write_in_process(root: str, number: int) -> None:
    Workshop(Store(root)).raw(f"s/{number}", f"text {number}")


def test_segments_of_several_processes_are_joined_into_one_account(store):
    context = multiprocessing.get_context("fork")
    for number in range(3):
        process = context.Process(target=write_in_process, args=(store.url, number))
        process.start()
        process.join()
        assert process.exitcode == 0
    last = note(store)
    assert len(segments(store.files)) == 4
    assert set(last.joins) == set(segments(store.files)) - {last.segment}
    assert verify_store(store).problems == []


def test_a_forked_child_begins_a_segment_of_its_own(store):
    first = note(store)
    child = os.fork()
    if child == 0:
        note(store, number=1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    second = note(store, number=2)
    assert (second.segment, second.number) == (first.segment, 2)
    assert len(segments(store.files)) == 2
    assert verify_store(store).problems == []


def test_a_child_forked_while_another_thread_writes_does_not_wait_for_ever(store):
    note(store)
    lock = next(iter(store.ledger._segments.values())).lock
    with lock:
        child = os.fork()
        if child == 0:
            note(store, number=1)
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_threads_share_one_chain(any_store):
    threads = [threading.Thread(target=note, args=(any_store, None, n)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    chain = entries(any_store.files)
    assert [e.number for e in chain] == list(range(1, 17))
    assert len({e.segment for e in chain}) == 1
    assert verify_store(any_store).problems == []


def test_after_a_failed_write_the_account_goes_on_in_a_new_segment(store, monkeypatch):
    first = note(store)
    create = type(store.files).create

    def torn(self, path, data, **options):
        done = create(self, path, data, **options)  # it was put, and yet the writer hears of an error
        if path.startswith("ledger/"):
            raise OSError(5, "Input/output error")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(type(store.files), "create", torn)
        with pytest.raises(OSError, match="Input/output"):
            note(store, number=1)
    after = note(store, number=2)
    assert (after.segment != first.segment, after.number, after.previous) == (True, 1, GENESIS)
    assert len(after.joins) == 1
    assert verify_store(store).problems == []


def test_circumstances_lie_apart_under_their_digest_and_are_no_part_of_what_was_made(store, tmp_path):
    entry = note(store)
    body = store.files.read(f"circumstances/{entry.circumstances}.json")
    assert digest(body) == entry.circumstances
    facts = circumstances(0.0, {"git_commit": "abc"})
    assert {"started", "seconds", "host", "user", "pid", "python", "platform", "libraries"} <= facts.keys()
    assert facts["libraries"]["numpy"]
    assert canonical_json(facts)
    elsewhere = Workshop(Store(tmp_path / "elsewhere")).raw("a/1").artifact
    assert Workshop(store).raw("a/1", circumstance={"by": "hand"}).artifact.digest == elsewhere.digest


def test_an_entry_of_a_newer_schema_is_refused_with_the_advice_to_update(store):
    entry = note(store)
    body = canonical_json({**entry.model_dump(mode="json"), "schema_version": 2, "tomorrow": 1})
    path = f"ledger/{entry.segment}/00000002-{digest(body)}.json"
    store.files.create(path, body)
    with pytest.raises(ManifestError, match="schema version 2 is newer than 1; update Stemma"):
        read_entry(store.files, path)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b"{" * 100_000])
def test_whatever_is_no_entry_is_refused(store, body):
    store.files.create("ledger/s/00000001-x.json", body)
    with pytest.raises(ManifestError, match=r"ledger/s/00000001-x\.json: not a ledger entry"):
        read_entry(store.files, "ledger/s/00000001-x.json")
