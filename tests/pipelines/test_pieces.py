"""Pieces: batches of the joined files follow from the rows, and rows that belong together stay together."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.documents import DOCUMENTS, TEXTS, TEXTS_SCHEMA
from pipelines.pieces import TableWriter, aligned, join, join_aligned, rows_of
from pipelines.provenance.manifest import Key
from pipelines.provenance.store import Store
from pipelines.provenance.tables import read_batches

NUMBERS = pa.schema([("doc_id", pa.binary(16)), ("number", pa.int64())])
SCHEMAS = {DOCUMENTS: NUMBERS, TEXTS: TEXTS_SCHEMA}


def rows(numbers, texts):
    ids = pa.array([number.to_bytes(16, "big") for number in numbers], pa.binary(16))
    table = pa.table([ids, pa.array(numbers, pa.int64())], NUMBERS)
    return {DOCUMENTS: table, TEXTS: pa.table([ids, pa.array(texts, pa.large_string())], TEXTS_SCHEMA)}


def written(folder, batches):
    """One piece, in which every pair of (numbers, texts) is a batch."""
    folder.mkdir(parents=True)
    with TableWriter(folder, SCHEMAS) as writer:
        for numbers, texts in batches:
            for name, table in rows(numbers, texts).items():
                writer.write(name, table)
    return folder


def joined(folder, pieces):
    draft = Store(folder).draft(Key("clean_documents", "s/1"), "1", {}, [])
    join_aligned(pieces, SCHEMAS, draft)
    return {name: draft.path(name) for name in SCHEMAS}


def cut(texts, sizes):
    """The same rows as pieces of batches: sizes[i] rows in the i-th batch, two batches a piece."""
    batches, start = [], 0
    for size in [*sizes, len(texts)]:
        stop = min(start + size, len(texts))
        if stop > start:
            batches.append((list(range(start, stop)), texts[start:stop]))
        start = stop
    return [batches[i : i + 2] for i in range(0, len(batches), 2)]


@given(
    st.lists(st.text("aé日", max_size=6), min_size=1, max_size=40),
    st.lists(st.integers(1, 9), max_size=12),
    st.lists(st.integers(1, 9), max_size=12),
)
def test_bytes_do_not_depend_on_how_the_rows_were_cut(tmp_path_factory, texts, one, other):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.pieces.BATCH_BYTES", 20)
        patch.setattr("pipelines.pieces.BATCH_ROWS", 5)
        found = []
        for sizes in (one, other):
            folder = tmp_path_factory.mktemp("p")
            pieces = [written(folder / f"{n}", batches) for n, batches in enumerate(cut(texts, sizes))]
            found.append({name: path.read_bytes() for name, path in joined(folder / "store", pieces).items()})
    assert found[0] == found[1]


def test_a_batch_ends_at_its_bytes_or_rows_and_a_long_text_stands_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.pieces.BATCH_BYTES", 10)
    monkeypatch.setattr("pipelines.pieces.BATCH_ROWS", 3)
    texts = ["aaaa", "bbbb", "cc", "d" * 25, "e", "", "", "", "ffffffffff", "g"]
    files = joined(tmp_path / "s", [written(tmp_path / "0", [(list(range(len(texts))), texts)])])
    batches = [table["text"].to_pylist() for table in read_batches(files[TEXTS])]
    assert batches == [["aaaa", "bbbb", "cc"], ["d" * 25], ["e", "", ""], ["", "ffffffffff"], ["g"]]
    assert [len(table) for table in read_batches(files[DOCUMENTS])] == [len(batch) for batch in batches]


def test_a_document_keeps_its_text_through_the_join(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.pieces.BATCH_BYTES", 7)
    pieces = [written(tmp_path / "a", [([3, 1], ["three", "one"])]), written(tmp_path / "b", [([2], ["two"])])]
    files = joined(tmp_path / "s", pieces)
    pairs = zip(read_batches(files[DOCUMENTS]), read_batches(files[TEXTS]), strict=True)
    found = [pair for d, t in pairs for pair in zip(d["number"].to_pylist(), t["text"].to_pylist(), strict=True)]
    assert found == [(3, "three"), (1, "one"), (2, "two")]


def test_pieces_without_rows_are_no_batches(tmp_path):
    empty, full = written(tmp_path / "a", []), written(tmp_path / "b", [([1], ["x"])])
    files = joined(tmp_path / "s", [empty, full, empty])
    assert [len(table) for table in read_batches(files[TEXTS])] == [1]
    assert list(read_batches(joined(tmp_path / "t", [empty])[TEXTS])) == []


def test_other_files_are_cut_by_rows_alone(tmp_path):
    many = list(range(9000))
    pieces = [
        written(tmp_path / f"{n}", [(part.tolist(), [""] * len(part))])
        for n, part in enumerate(np.split(np.array(many), [10, 8200]))
    ]
    draft = Store(tmp_path / "s").draft(Key("clean_documents", "s/1"), "1", {}, [])
    join(pieces, DOCUMENTS, NUMBERS, draft)
    tables = list(read_batches(draft.path(DOCUMENTS)))
    assert [len(table) for table in tables] == [8192, 808]
    assert [n for table in tables for n in table["number"].to_pylist()] == many
    assert sum(len(table) for table in rows_of(pieces, DOCUMENTS, ["number"])) == 9000


def test_files_that_were_not_written_side_by_side_are_refused(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with TableWriter(folder, SCHEMAS) as writer:
        writer.write(DOCUMENTS, rows([1, 2], ["", ""])[DOCUMENTS])
        writer.write(DOCUMENTS, rows([3], [""])[DOCUMENTS])
        writer.write(TEXTS, rows([1, 2], ["a", "b"])[TEXTS])
    with pytest.raises(ValueError, match="zip"):
        list(aligned(folder, SCHEMAS))


TOKENS = pa.schema([("doc_id", pa.binary(16)), ("tokens", pa.large_list(pa.uint16())), ("text", pa.large_string())])


def table_of(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.arange(offsets[-1]).astype(np.uint16)))
    ids = pa.array([bytes([number] * 16) for number in range(len(lengths))], pa.binary(16))
    return pa.table([ids, tokens, pa.array(["é" * n for n in lengths], pa.large_string())], schema=TOKENS)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 5), st.integers(1, 12))
def test_a_file_does_not_know_whether_its_rows_were_a_slice(tmp_path_factory, lengths, start, size):
    """A slice that ends before empty rows, or holds all rows, or none of the last, gives the bytes of a copy."""
    table = table_of(lengths)
    cut = table.slice(min(start, len(lengths) - 1), size)
    copy = pa.Table.from_pylist(cut.to_pylist(), schema=TOKENS)
    folder = tmp_path_factory.mktemp("slices")
    with TableWriter(folder, {"cut": TOKENS, "copy": TOKENS}) as writer:
        writer.write("cut", cut)
        writer.write("copy", copy)
    assert (folder / "cut").read_bytes() == (folder / "copy").read_bytes()


def test_rows_that_are_nobodys_slice_are_written_without_a_copy(tmp_path, monkeypatch):
    table = table_of([3, 0, 2])
    monkeypatch.setattr("pipelines.pieces.np", None)  # what a copy would need
    with TableWriter(tmp_path, {"whole": pa.schema([TOKENS.field("tokens")])}) as writer:
        writer.write("whole", table.select(["tokens"]))
    assert next(read_batches(tmp_path / "whole")).equals(table.select(["tokens"]))


# -- one batch a call, whatever the rows are a piece of --------------------------------------------------------------------

EVERY = pa.schema([
    ("doc_id", pa.binary(16)), ("text", pa.large_string()), ("reason", pa.string()), ("value", pa.float64()),
    ("count", pa.int64()), ("sure", pa.bool_()), ("links", pa.list_(pa.string())),
    ("tokens", pa.large_list(pa.uint16())), ("signature", pa.list_(pa.uint32(), 2)),
])  # fmt: skip
EVERY_ROW = st.fixed_dictionaries({
    "doc_id": st.binary(min_size=16, max_size=16),
    "text": st.text("aé日", max_size=5),
    "reason": st.none() | st.text("ab", max_size=3),
    "value": st.none() | st.floats(allow_nan=False),
    "count": st.integers(-5, 5),
    "sure": st.none() | st.booleans(),
    "links": st.lists(st.none() | st.text("xy", max_size=3), max_size=3),
    "tokens": st.lists(st.integers(0, 65535), max_size=4),
    "signature": st.lists(st.integers(0, 9), min_size=2, max_size=2),
})  # fmt: skip


def one_batch(folder, table):
    folder.mkdir()
    with TableWriter(folder, {"a": EVERY}) as writer:
        writer.write("a", table)
    return (folder / "a").read_bytes()


@given(
    before=st.lists(EVERY_ROW, max_size=9), wanted=st.lists(EVERY_ROW, min_size=1, max_size=20),
    after=st.lists(EVERY_ROW, max_size=9), cuts=st.lists(st.integers(0, 20), max_size=3),
)  # fmt: skip
def test_a_batch_has_the_same_bytes_whatever_its_rows_were_cut_out_of(tmp_path_factory, before, wanted, after, cuts):
    folder = tmp_path_factory.mktemp("t")
    whole = one_batch(folder / "whole", pa.Table.from_pylist(wanted, EVERY))
    longer = pa.Table.from_pylist([*before, *wanted, *after], EVERY)
    assert one_batch(folder / "slice", longer.slice(len(before), len(wanted))) == whole
    table, bounds = pa.Table.from_pylist(wanted, EVERY), sorted({0, len(wanted), *(min(c, len(wanted)) for c in cuts)})
    chunks = [table.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    assert one_batch(folder / "chunks", pa.concat_tables(chunks)) == whole
    taken = longer.take(pa.array(range(len(before), len(before) + len(wanted))))
    assert one_batch(folder / "taken", taken) == whole
    read = pa.ipc.open_file(pa.memory_map(str(folder / "whole" / "a"))).read_all()
    assert one_batch(folder / "read", read) == whole
    assert read.to_pylist() == wanted


def test_no_rows_make_no_batch(tmp_path):
    one_batch(tmp_path / "none", EVERY.empty_table())
    assert pa.ipc.open_file(pa.memory_map(str(tmp_path / "none" / "a"))).num_record_batches == 0
