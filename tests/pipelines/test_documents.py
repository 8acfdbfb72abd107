"""Documents keep their names, and none of them is lost between reader and artifact."""

import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.documents import Ids, Record, RecordWriter, doc_id, problem_of, read_documents
from pipelines.provenance import fates
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store


def test_doc_id_is_the_hash_of_four_length_prefixed_fields():
    fields = [b"wiki", b"Q42", "Grüße".encode(), (3).to_bytes(8, "little")]
    expected = hashlib.sha256(b"".join(len(f).to_bytes(8, "little") + f for f in fields)).digest()[:16]
    assert doc_id("wiki", "Q42", "Grüße".encode(), 3) == expected
    assert expected.hex() == "ceafaaed3bc73218835ada28b22521ff"


@given(st.text(), st.text(), st.binary(), st.text(), st.text(), st.binary())
def test_fields_cannot_run_into_each_other(source, key, raw, source2, key2, raw2):
    equal = (source, key, raw) == (source2, key2, raw2)
    try:
        assert (doc_id(source, key, raw, 0) == doc_id(source2, key2, raw2, 0)) is equal
    except UnicodeEncodeError:
        return  # a source name is checked long before


@given(st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=12), st.randoms())
def test_equal_records_get_the_same_set_of_ids_in_any_order(raws, random):
    shuffled = random.sample(raws, len(raws))
    one, other = Ids("s"), Ids("s")
    first = [one.next("", raw) for raw in raws]
    assert len(set(first)) == len(raws)
    assert sorted(first) == sorted(other.next("", raw) for raw in shuffled)


def test_each_record_has_one_fate_and_kept_ones_are_aligned(tmp_path):
    records = [
        Record("f", 1, "f#L1", text="eins"),
        Record("f", 2, "f#L2", text=" \n "),
        Record("f", 3, "f#L3", text="nul\0"),
        Record("f", 4, "f#L4", text="half \ud800"),
        Record("f", 5, "f#L5", problem="not JSON: f line 5", raw=b"{"),
        Record("f", 6, "f#L6", text="eins", group="g"),
    ]
    draft = Store(tmp_path).draft(Key("raw_documents", "s"), "1", {}, [])
    with RecordWriter(draft, "s") as writer:
        for record in records:
            writer.add(record)
    artifact = draft.seal(counts=writer.counts)
    table = artifact.table(fates.FILE)
    assert table["fate"].to_pylist() == ["kept", "dropped", "quarantined", "quarantined", "quarantined", "kept"]
    assert [r.split(":")[0] for r in table["reason"].to_pylist()] == [
        "", "empty", "NUL byte", "lone surrogate", "not JSON", "",
    ]  # fmt: skip
    assert writer.counts == fates.counted(table)
    [(documents, texts)] = read_documents(artifact)
    assert texts["text"].to_pylist() == ["eins", "eins"]
    assert documents["doc_id"].to_pylist()[0] == doc_id("s", "", b"eins", 0)
    assert documents["group"].to_pylist() == [doc_id("s", "", b"eins", 0).hex(), "g"]
    assert documents["num_bytes"].type == pa.int64()


def test_batches_are_cut_by_bytes_so_that_books_do_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.documents.BATCH_BYTES", 100)
    draft = Store(tmp_path).draft(Key("raw_documents", "s"), "1", {}, [])
    with RecordWriter(draft, "s") as writer:
        for number in range(9):
            writer.add(Record("f", number, "", text=f"{number}" * 40))
    batches = list(read_documents(draft.seal()))
    assert [len(d) for d, _ in batches] == [3, 3, 3]


def test_reasons_name_the_place_and_never_the_content():
    problem, data = problem_of(Record("a.jsonl", 7, "", text="geheim\0"))
    assert problem == "NUL byte: a.jsonl 7 (character 6 of the text)"
    assert data == b"geheim\0"
