"""Fates: every document that was seen is accounted for, once, with a reason."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.provenance import fates
from pipelines.provenance.fates import ConservationError, FateRows, all_kept, check_conservation, counted, from_columns


def doc(number: int) -> bytes:
    return number.to_bytes(16, "big")


def five() -> pa.Table:
    rows = FateRows()
    rows.add(doc(1), fates.KEPT)
    rows.add(doc(2), fates.HELD_OUT, "held out group")
    rows.add(doc(3), fates.DROPPED, "too_short", 12.0)
    rows.add(doc(4), fates.MERGED, survivor=doc(1), jaccard=0.91, method="near")
    rows.add(doc(5), fates.QUARANTINED, "invalid UTF-8 at byte 7")
    return rows.table()


def test_the_sum_of_the_fates_is_what_was_seen():
    counts = counted(five())
    assert counts == {"seen": 5, "kept": 1, "held_out": 1, "dropped": 1, "merged": 1, "quarantined": 1}
    check_conservation(counts, 5)


@given(st.lists(st.lists(st.sampled_from(fates.FATES), max_size=20), max_size=4))
def test_counting_tables_one_by_one_counts_them_all(tables):
    made = [from_columns(pa.array(map(doc, range(len(t))), pa.binary(16)), pa.array(t, pa.string())) for t in tables]
    counts = counted(made)
    assert counts["seen"] == sum(map(len, tables))
    assert [counts[name] for name in fates.FATES] == [sum(t.count(name) for t in tables) for name in fates.FATES]
    check_conservation(counts, sum(map(len, tables)))


@pytest.mark.parametrize("fate", fates.FATES)
def test_a_document_that_vanishes_or_appears_is_missed(fate):
    counts = counted(five())
    for change in (-1, 1):
        with pytest.raises(ConservationError, match="5 documents seen, but their fates add up to"):
            check_conservation(counts | {fate: counts[fate] + change})
    with pytest.raises(ConservationError, match="5 documents seen, 6 came in"):
        check_conservation(counts, 6)


def test_reasons_are_counted_largest_first_and_merged_ones_by_method():
    rows = FateRows()
    for number in range(3):
        rows.add(doc(number), fates.DROPPED, "too_short", 3.0)
    assert fates.reasons([five(), rows.table()]) == {
        "dropped: too_short": 4,
        "held_out: held out group": 1,
        "merged: near": 1,
        "quarantined: invalid UTF-8 at byte 7": 1,
    }


def test_a_fate_without_reason_or_method_still_has_a_line():
    table = from_columns(
        pa.array([doc(1), doc(2)], pa.binary(16)),
        pa.array(["dropped", "merged"]),
        reason=pa.array([None, None], pa.string()),
    )
    assert fates.reasons(table) == {"dropped: ": 1, "merged: ": 1}


def test_an_unknown_fate_or_column_is_refused():
    ids = pa.array([doc(1)], pa.binary(16))
    for fate in ("lost", None):
        with pytest.raises(ConservationError, match=f"unknown fate {fate!r}"):
            counted(from_columns(ids, pa.array([fate], pa.string())))
    with pytest.raises(TypeError, match="no column reasons"):
        from_columns(ids, pa.array(["kept"]), reasons=pa.array(["x"]))


def test_all_kept_is_the_table_of_kept_documents_whatever_holds_the_ids():
    ids = [doc(n) for n in range(5)]
    one = all_kept(pa.array(ids, pa.binary(16)))
    assert one == all_kept(pa.chunked_array([ids[:2], ids[2:]], pa.binary(16)))
    assert one.schema == fates.SCHEMA
    assert counted(one)["kept"] == 5
    assert all_kept(pa.array([], pa.binary(16))).num_rows == 0


def test_columns_and_rows_make_the_same_table():
    by_rows = five()
    by_columns = from_columns(
        by_rows["doc_id"], by_rows["fate"].combine_chunks(), reason=by_rows["reason"], value=by_rows["value"],
        survivor=by_rows["survivor"], jaccard=by_rows["jaccard"], method=by_rows["method"],
    )  # fmt: skip
    assert by_columns == by_rows
