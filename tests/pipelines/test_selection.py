"""Selections of a part: any rows in any order, each document beside its text, and the ids that sort them."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from corpora import Corpora, Given, doc_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import doc_ids, selection
from pipelines.parts import rows_of_parts, summed_counts
from pipelines.provenance import tables
from pipelines.provenance.artifact import Artifact
from pipelines.provenance.recipe import canonical_json, digest
from pipelines.provenance.tables import read_batches

IDS = st.binary(min_size=16, max_size=16) | st.builds(lambda b: b.ljust(16, b"\0"), st.binary(max_size=3))


def selected(corpora: Corpora, part: Artifact, rows: list[int], name: str = "x") -> Artifact:
    def make(draft):
        num_bytes, rows_digest = selection.write_rows(part, np.array(rows, np.int64), draft)
        return draft.seal(counts={"bytes": num_bytes}, rows=rows_digest)

    return corpora.run("unique_documents", name, "1", Given(), [part], make, force=True)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=12), min_size=1, max_size=14), st.integers(1, 5), st.integers(1, 5), st.data())
def test_any_rows_in_any_order_come_out_with_their_texts(tmp_path_factory, texts, batch_in, batch_out, data):
    """Rows may repeat and come from many batches; batches of the copy are cut anew."""
    corpora = Corpora(tmp_path_factory.mktemp("c"))
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "BATCH_ROWS", batch_in)
        clean = corpora.clean("a/1", texts)
        patch.setattr(selection, "BATCH_ROWS", batch_out)
        copy = selected(corpora, clean, rows)
    assert copy.table("texts.arrow")["text"].to_pylist() == [texts[row] for row in rows]
    assert copy.table("documents.arrow").equals(clean.table("documents.arrow").take(pa.array(rows, pa.int64())))
    assert copy.counts["bytes"] == sum(len(texts[row].encode()) for row in rows)
    sizes = [[b.num_rows for b in read_batches(copy.local(name))] for name in ("documents.arrow", "texts.arrow")]
    assert sizes[0] == sizes[1]  # rows that are written together can be read together
    assert sizes[0][:-1] == [batch_out] * (len(sizes[0]) - 1)  # full ones, and the rest
    assert max(sizes[0], default=0) <= batch_out


def test_the_digest_is_that_of_the_rows_and_not_of_their_batches(corpora, monkeypatch):
    clean = corpora.clean("a/1", [f"text {n}" for n in range(9)])
    whole = selected(corpora, clean, list(range(9)))
    monkeypatch.setattr(selection, "BATCH_ROWS", 2)
    cut = selected(corpora, clean, list(range(9)))
    assert cut.manifest.rows == whole.manifest.rows
    assert cut.content != whole.content  # the files have other batches, and other bytes
    assert selected(corpora, clean, [1, 0, *range(2, 9)]).manifest.rows != whole.manifest.rows


def test_the_digest_of_the_documents_holds_that_of_every_text(corpora):
    """It covers documents.arrow alone: a changed text shows by its SHA-256 in there."""
    one = corpora.clean("a/1", ["same", "one"])
    other = corpora.clean("b/1", ["same", "two"], names=["a/1:0", "a/1:1"])
    hashes = [
        one.table("documents.arrow")["sha256_out"].to_pylist(),
        other.table("documents.arrow")["sha256_out"].to_pylist(),
    ]
    assert hashes[0][0] == hashes[1][0] == hashlib.sha256(b"same").digest()
    assert selected(corpora, one, [0]).manifest.rows == selected(corpora, other, [0]).manifest.rows
    assert selected(corpora, one, [1]).manifest.rows != selected(corpora, other, [1]).manifest.rows


def test_rows_to_keep_come_in_the_order_of_their_ids(corpora):
    clean = corpora.clean("a/1", [f"text {n}" for n in range(20)])
    keep = np.arange(20) % 3 != 0
    rows = selection.by_doc_id(clean, keep)
    assert sorted(rows.tolist()) == np.flatnonzero(keep).tolist()
    here = [doc_id(f"a/1:{row}") for row in rows]
    assert here == sorted(here)
    assert selection.by_doc_id(clean, np.zeros(20, bool)).tolist() == []


# -- ids ---------------------------------------------------------------------------------------------------------


@given(st.lists(IDS, max_size=12), st.integers(0, 3), st.integers(0, 3))
def test_ids_survive_the_way_to_numpy_and_back_whatever_bytes_end_them(ids, before, behind):
    """numpy cuts zero bytes from the end of a single value; slices of a column have an offset."""
    column = pa.array([b"x" * 16] * before + ids + [b"y" * 16] * behind, pa.binary(16)).slice(before, len(ids))
    array = doc_ids.as_numpy(column)
    assert doc_ids.as_arrow(array).to_pylist() == ids
    assert [doc_ids.as_bytes(array, place) for place in range(len(ids))] == ids
    assert doc_ids.as_numpy(pa.chunked_array([column, column])).tobytes() == b"".join(ids * 2)
    assert doc_ids.as_arrow(array[::-1]).to_pylist() == ids[::-1]


@given(st.lists(IDS, max_size=12))
def test_equal_ids_keep_their_order_and_the_rest_sorts_by_unsigned_bytes(ids):
    order = doc_ids.order(doc_ids.as_numpy(pa.array(ids, pa.binary(16))))
    assert order.tolist() == sorted(range(len(ids)), key=lambda place: (ids[place], place))


def test_the_high_bit_of_a_byte_is_no_sign():
    ids = [b"\x00" * 16, b"\x7f" + b"\xff" * 15, b"\x80" + b"\x00" * 15, b"\xff" * 16]
    array = doc_ids.as_numpy(pa.array(ids[::-1], pa.binary(16)))
    assert doc_ids.order(array).tolist() == [3, 2, 1, 0]
    ordered = array[doc_ids.order(array)]
    assert doc_ids.positions(ordered, array).tolist() == [3, 2, 1, 0]


def test_a_missing_id_is_an_error_and_an_empty_column_none():
    with pytest.raises(ValueError, match="1 of 2 document ids are null"):
        doc_ids.as_numpy(pa.array([b"x" * 16, None], pa.binary(16)))
    for empty in (pa.array([], pa.binary(16)), pa.chunked_array([], pa.binary(16))):
        assert doc_ids.as_numpy(empty).tolist() == []
    nothing = np.zeros(0, "S16")
    assert doc_ids.positions(nothing, np.array([b"x" * 16], "S16")).tolist() == [-1]
    assert doc_ids.positions(np.array([b"x" * 16], "S16"), nothing).tolist() == []


# -- what the whole says of its parts ----------------------------------------------------------------------------


def whole(corpora: Corpora, parts: dict[str, tuple[dict[str, int], str]]) -> Artifact:
    def make(draft):
        made = [
            draft.part(name, Given(), [], lambda d, c=counts, r=rows: d.seal(counts=c, rows=r))
            for name, (counts, rows) in parts.items()
        ]
        return draft.seal(counts=summed_counts(made), rows=rows_of_parts(made), parts=made)

    return corpora.run("unique_documents", "mine", "1", Given(), [], make, force=True)


def test_counts_of_the_whole_are_the_sums_and_its_digest_names_every_part(corpora):
    artifact = whole(corpora, {"a/1": ({"docs": 2, "kept": 1}, "1" * 64), "b/1": ({"docs": 3, "kept": 3}, "2" * 64)})
    assert artifact.counts == {"docs": 5, "kept": 4}
    assert artifact.manifest.rows == digest(canonical_json([["a/1", "1" * 64], ["b/1", "2" * 64]]))
    assert (summed_counts([]), rows_of_parts([])) == ({}, digest(b"[]"))


def test_the_digest_of_the_whole_knows_names_rows_and_order(corpora):
    one, two = ({"docs": 1}, "1" * 64), ({"docs": 1}, "2" * 64)
    worlds = [{"a": one, "b": two}, {"b": two, "a": one}, {"a": two, "b": one}, {"a": one, "c": two}, {"a": one}]
    assert len({whole(corpora, parts).manifest.rows for parts in worlds}) == len(worlds)


def test_parts_that_do_not_count_the_same_things_are_not_summed(corpora):
    with pytest.raises(KeyError, match="kept"):
        whole(corpora, {"a": ({"docs": 1, "kept": 1}, ""), "b": ({"docs": 1}, "")})
