"""Documents keep their names, and none of them is lost between reader and artifact."""

import hashlib

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.documents import Record, doc_id, documents_digest, problem_of


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


def test_reasons_name_the_place_and_never_the_content():
    problem, data = problem_of(Record("a.jsonl", 7, "", text="geheim\0"))
    assert problem == "NUL byte: a.jsonl 7 (character 6 of the text)"
    assert data == b"geheim\0"


@given(
    st.lists(st.tuples(st.binary(min_size=16, max_size=16), st.booleans()), unique_by=lambda row: row[0]), st.randoms()
)
def test_the_logical_digest_forgets_order_and_batches_but_no_row(rows, random):
    def digest(rows, cut):
        ids = [row[0] for row in rows]
        kept = [row[0] for row in rows if row[1]]
        shas = [hashlib.sha256(identity).digest() for identity in kept]
        documents = pa.table({"doc_id": pa.array(kept, pa.binary(16)), "sha256": pa.array(shas, pa.binary(32))})
        fate = pa.array(["kept" if row[1] else "dropped" for row in rows], pa.string())
        settled = pa.table({"doc_id": pa.array(ids, pa.binary(16)), "fate": fate})
        batches = (settled.slice(start, cut) for start in range(0, len(settled), cut))
        return documents_digest(iter([documents]), batches)

    shuffled = random.sample(rows, len(rows))
    assert digest(rows, 1) == digest(shuffled, 3)
    if rows:
        changed = [(rows[0][0], not rows[0][1]), *rows[1:]]
        assert digest(changed, 2) != digest(rows, 2)
        assert digest(rows[1:], 2) != digest(rows, 2)
